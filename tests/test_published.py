"""The paper's cells are complete, and every printed average follows from them."""

from decimal import Decimal

import pytest

from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, averages, published_table, rounded_half_up, table1


@pytest.mark.parametrize("number", [2, 4])
def test_every_printed_average_follows_from_its_cells(number: int) -> None:
    table = published_table(number)
    checked = 0
    for row in table.rows:
        cells = {c.id: None if row.cells[c.id] == MISSING else Decimal(row.cells[c.id]) for c in table.columns}
        for name, mean in averages(cells, table.averages).items():
            assert row.cells[name] == (MISSING if mean is None else str(mean)), (row.name, name)
            checked += 1
    assert checked == {2: 24, 4: 13}[number]


def test_average_over_a_missing_cell_is_missing() -> None:
    table = published_table(4)
    cells = {c.id: Decimal(50) for c in table.columns}
    assert averages(cells, table.averages)["avg"] == Decimal("50.00")
    assert averages({**cells, "rsna": None}, table.averages)["avg"] is None


def test_numbers_of_printed_cells() -> None:
    printed = {n: [cell for row in published_table(n).rows for cell in row.cells.values()] for n in (2, 3, 4)}
    assert {n: len(cells) for n, cells in printed.items()} == {2: 88, 3: 24, 4: 104}
    assert {n: cells.count(MISSING) for n, cells in printed.items()} == {2: 4, 3: 2, 4: 0}


def test_columns_name_tasks_and_groups_that_exist() -> None:
    for number in (2, 3, 4):
        for column in published_table(number).columns:
            assert column.group in catalog.load_task(column.task).groups
            assert column.prompts is None or column.prompts in catalog.prompt_files()
    assert {row.task for row in table1().rows} == set(catalog.PAPERS_TASKS)


@pytest.mark.parametrize(("value", "rounded"), [("64.825", "64.83"), ("64.8249", "64.82"), ("0.005", "0.01")])
def test_halves_are_rounded_up(value: str, rounded: str) -> None:
    assert rounded_half_up(Decimal(value)) == Decimal(rounded)
