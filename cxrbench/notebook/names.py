"""Models and tasks by name, each with one line about it."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, overload

from cxrbench.models.glance import ModelLine, model_lines
from cxrbench.reports.comparisons import grid
from cxrbench.reports.frames import column_types, frame, html_table
from cxrbench.specs.catalog import task_lines

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Names(Sequence[str]):
    """Names in order, each with its facts under `columns`."""

    title: str
    columns: dict[str, type]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        return [row[0] for row in self.rows][place]

    def __repr__(self) -> str:
        return grid(self._shown(), self._head(), "terminal")

    def _repr_html_(self) -> str:
        return html_table(self.title, self._head(), self._shown())

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a name."""
        return frame(self.rows, self.columns)

    def _head(self) -> list[str]:
        return [name.replace("_", " ") for name in self.columns]

    def _shown(self) -> list[list[str]]:
        return [
            [{True: "yes", False: ""}.get(v, "") if isinstance(v, bool) else str(v) for v in row] for row in self.rows
        ]


def models() -> Names:
    """The models by family and year, as `cxrbench models` lists them, those last that cannot be run."""
    rows = tuple(astuple(line) for line in model_lines())
    about = "trained on: C CheXpert, M MIMIC-CXR, P PadChest, C14 NIH ChestX-ray14"
    return Names(f"{len(rows)} models; {about}", column_types(ModelLine), rows)


def tasks() -> Names:
    """The tasks, in the paper's order."""
    rows = tuple((line.name, line.title, line.groups_told) for line in task_lines())
    return Names(
        f"{len(rows)} tasks; groups with their number of classes", {"name": str, "title": str, "groups": str}, rows
    )
