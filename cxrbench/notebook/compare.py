"""Two models side by side, as `cxrbench compare` shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

from cxrbench.analysis.by_setting import by_setting
from cxrbench.analysis.compare import Comparison
from cxrbench.errors import SpecError
from cxrbench.evaluate.metric_table import load_metric
from cxrbench.notebook.records import recorded_variant, sound_records, warn
from cxrbench.records.selection import CellFilter
from cxrbench.reports.comparisons import render, several, shown
from cxrbench.reports.frames import html_table, pair_frame
from cxrbench.runner.options import read_shots

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Compared(Sequence[Comparison]):
    """Two models in every setting in which both were measured, one `Comparison` a setting."""

    settings: tuple[Comparison, ...]

    def __len__(self) -> int:
        return len(self.settings)

    @overload
    def __getitem__(self, place: int) -> Comparison: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Comparison, ...]: ...
    def __getitem__(self, place: int | slice) -> Comparison | tuple[Comparison, ...]:
        return self.settings[place]

    def __repr__(self) -> str:
        return render(self.settings, "terminal")

    def _repr_html_(self) -> str:
        told = [shown(one) for one in self.settings]
        pages = [html_table(f"{one.title}; {one.setting}", one.head, one.rows, one.lines) for one in told]
        return "".join(pages) + (f"<p>{several(len(told))}</p>" if len(told) > 1 else "")

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a setting and task, and one without a task for the mean; see `reports.frames.pair_frame`."""
        return pair_frame(self.settings)


@dataclass(frozen=True, slots=True)
class Question:
    """What is compared, in which settings: None stands for each that was measured."""

    models: tuple[str, str]
    tasks: tuple[str, ...]
    group: str
    protocol: str | None
    shots: int | str | None
    prompts: str | None
    metric: str | None
    variant: str
    choices: Mapping[str, str]
    these_draws: bool
    synthetic: bool


def compare(folder: Path, asked: Question) -> Compared:
    """The comparison from records and predictions below a results folder; warns of settings that allow none.

    Raises what `by_setting` does, and SpecError for words that do not name one model each.
    """
    records = sound_records(folder).records
    variant = recorded_variant(asked.variant, asked.choices, records)
    shots = None if asked.shots is None else read_shots(asked.shots, "shots")
    how = (asked.group, asked.protocol, shots, asked.prompts, asked.synthetic)
    told = by_setting(
        folder,
        records,
        CellFilter(asked.models, variant, asked.tasks, *how),
        None if asked.metric is None else load_metric(asked.metric),
        these_draws=asked.these_draws,
    )
    pairs = tuple(one for one in told.found if isinstance(one, Comparison))
    if len(pairs) < len(told.found):
        raise SpecError(f"{' and '.join(asked.models)} are more than two models; `cxrbench compare` ranks many")
    for reason in told.refused:
        warn(str(reason))
    return Compared(pairs)
