"""The paper's number for a measured cell, and what forbids to compare the two."""

from collections.abc import Sequence

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


def why_not(record: Record) -> tuple[str, ...]:
    """Reasons against comparing a record with a published number, none if there is none."""
    data = record.data
    checks: Sequence[tuple[bool, str]] = (
        (record.model.synthetic, "the weights are made"),
        (data.synthetic, "the images are made"),
        (record.variant != "paper-code", f"the variant is {record.variant}"),
        (data.reference == "differs", f"the split is not the known {data.split}: its digest differs"),
        (data.missing > 0, f"{data.missing} images have no file"),
        (bool(data.left_out), f"{len(data.left_out)} images could not be read"),
    )
    return tuple(reason for holds, reason in checks if holds)
