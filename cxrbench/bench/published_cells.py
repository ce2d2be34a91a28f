"""The paper's number for a measured cell, and what forbids to compare the two."""

from cxrbench.comparable import why_not
from cxrbench.published import MISSING, published_table
from cxrbench.record import PublishedCell, Record


def published_cells(record: Record) -> tuple[PublishedCell, ...]:
    """Every printed cell that this record measures; not comparable where variant, split or inputs are others."""
    found = []
    for number in (2, 3, 4):
        table = published_table(number)
        for row in table.rows:
            for column in table.columns:
                if row.cells[column.id] != MISSING and record.measures(row, column):
                    reasons = why_not(record)
                    found.append(
                        PublishedCell(
                            table=number,
                            row=f"{row.section} {row.name}".strip(),
                            column=column.title,
                            value=row.cells[column.id],
                            comparable=not reasons,
                            why_not=reasons,
                        )
                    )
    return tuple(found)
