"""The paper's numbers for a cell."""

from cxrbench.records.record import PublishedCell, prints
from cxrbench.runner.protocol import Cell
from cxrbench.specs.paper import MISSING, published_table


def published_cells(cell: Cell) -> tuple[PublishedCell, ...]:
    """Every printed number of this cell."""
    name = (cell.model.card.name, cell.data.task.name, cell.group)
    prompts = cell.prompts.name if cell.prompts else (None if cell.protocol.fitted else "prototypes")
    return tuple(
        PublishedCell(
            table=number,
            row=f"{row.section} {row.name}".strip(),
            column=column.title,
            value=row.cells[column.id],
        )
        for number in (2, 3, 4)
        for table in (published_table(number),)
        for row in table.rows
        for column in table.columns
        if row.cells[column.id] != MISSING and prints(row, column, name, cell.protocol.name, cell.shots, prompts)
    )
