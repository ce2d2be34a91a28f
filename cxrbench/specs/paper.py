"""The cells of the paper's tables, as printed: `results/published/table2.toml` and its neighbours."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cxrbench.errors import SpecError
from cxrbench.specs import paths
from cxrbench.store.schema import Spec, read_toml

MISSING = "–"


class Column(Spec):
    """One measured column: a task, one of its label groups, and the prompt set where the column decides it."""

    id: str
    title: str
    task: str
    group: str
    prompts: str | None = None


class Average(Spec):
    """One printed average over columns or over other averages, each already rounded as printed."""

    id: str
    title: str
    over: tuple[str, ...]


class Row(Spec):
    """One printed row; `cells` maps column and average ids to the text as printed, `–` where the paper has none."""

    section: str = ""
    name: str
    model: str
    protocol: Literal["zero-shot", "linear-probe"]
    shots: int | None = None
    prompts: str | None = None
    cells: Mapping[str, str]


class PublishedTable(Spec):
    """One table of the paper, with where it stands."""

    table: int
    title: str
    source: str
    notes: tuple[str, ...] = ()
    columns: tuple[Column, ...]
    averages: tuple[Average, ...] = ()
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _complete(self) -> "PublishedTable":
        ids = {c.id for c in self.columns} | {a.id for a in self.averages}
        for row in self.rows:
            if set(row.cells) != ids:
                raise ValueError(f"row {row.name!r} has cells {sorted(set(row.cells) ^ ids)} too many or too few")
        return self


class Table1Row(Spec):
    """Printed sizes of one evaluation set, and why what can be rebuilt differs."""

    task: str
    name: str
    train: int
    test: int
    labels: int
    reason: str


class PretrainingRow(Spec):
    """Printed size of one pre-training set, and why it differs from what can be rebuilt."""

    name: str
    images: int
    labels: int
    reason: str


class Table1(Spec):
    """Table 1 of the paper."""

    source: str
    rows: tuple[Table1Row, ...]
    pretraining: tuple[PretrainingRow, ...] = Field(default=())


def table1() -> Table1:
    """Sizes of the data sets as printed."""
    return read_toml(paths.folder("published") / "table1.toml", Table1)


def published_table(number: int) -> PublishedTable:
    """Table 2, 3 or 4 as printed; raises SpecError for another number."""
    if number not in (2, 3, 4):
        raise SpecError(f"there is no published table {number}; known are 1, 2, 3 and 4")
    return _read_table(paths.folder("published") / f"table{number}.toml")


@cache
def _read_table(path: Path) -> PublishedTable:
    """Read once a process: every cell of a run and of a report looks for its printed number."""
    return read_toml(path, PublishedTable)


def rounded_half_up(value: Decimal, decimals: int = 2) -> Decimal:
    """The value with so many decimals, ties away from zero, as the paper rounds."""
    return value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)


def averages(columns: Mapping[str, Decimal | None], specs: tuple[Average, ...]) -> dict[str, Decimal | None]:
    """Every average from its cells, rounded half up at each step; None as soon as one cell is missing."""
    known: dict[str, Decimal | None] = dict(columns)
    for spec in specs:
        cells = [known[name] for name in spec.over]
        present = [cell for cell in cells if cell is not None]
        complete = len(present) == len(cells)
        known[spec.id] = rounded_half_up(sum(present, Decimal(0)) / len(present)) if complete else None
    return {spec.id: known[spec.id] for spec in specs}
