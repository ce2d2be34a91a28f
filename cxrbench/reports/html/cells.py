"""One cell as the report opens it: its number and what surrounds it, per class, in confusion, and where it is from."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import get_args

from cxrbench.analysis.cell import (
    Measurement,
    cell_calibration,
    cell_interval,
    covered,
    finding_intervals,
    harmonic_interval,
    measurement,
    pooled_calibration,
)
from cxrbench.analysis.subgroups import By, Subgroups, subgroups
from cxrbench.errors import CxrBenchError
from cxrbench.evaluate.metric_table import MACRO_AUROC, TABLE, Metric
from cxrbench.evaluate.statistics.calibration import Calibration
from cxrbench.evaluate.statistics.estimate import Estimate
from cxrbench.evaluate.statistics.interval import FoldSpread, Interval
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import Record
from cxrbench.records.row_order import row_order_note
from cxrbench.records.selection import Setting, setting_of
from cxrbench.records.validity import flaws, has_known_card, overlap_doubt
from cxrbench.reports.html.operating import Operating, operating
from cxrbench.specs import catalog
from cxrbench.specs.settings import Variant
from cxrbench.specs.transfer import read_mapping


def command(record: Record) -> str:
    """The line for a shell; folders of data and weights come from CXRBENCH_DATA and CXRBENCH_WEIGHTS.

    What was read from a file of the user's own stands as `NAME.toml`: a record does not keep its place.
    """
    return shlex.join(["cxrbench", "run", *_words(record)])


def own_files(record: Record) -> tuple[str, ...]:
    """What the command takes from files that this installation does not have, each in words."""
    own = own_names(record).items()
    told = {what: f"{what} is a file of its own: put its path in place of {word}" for what, word in own}
    if record.model.in_memory:
        told["the card"] = "the model was in memory: give it to cxrbench.run, which takes the same options"
    return tuple(told.values())


def own_names(record: Record) -> dict[str, str]:
    """What of a record this installation does not have, such as `the card`, and the name of its file."""
    return dict(_own(record))


def _words(record: Record) -> Iterator[str]:
    own = own_names(record)
    yield from ("--model", own.get("the card", record.model.name), "--task", own.get("the task", record.data.task))
    yield from ("--protocol", record.protocol.protocol)
    if record.protocol.shots is not None:
        yield from ("--shots", str(record.protocol.shots))
    if (other := record.data.trained_on) is None:
        yield from ("--group", record.data.group)
    else:
        yield from ("--trained-on", own.get("the task to train on", other.task))
        yield from () if other.mapping is None else ("--mapping", own.get("the mapping", other.mapping))
    yield from _variant_words(record, own)
    if record.prompts is not None and record.prompts.source == "prompts":
        yield from ("--prompts", own.get("the prompt set", record.prompts.set))
    if record.runtime.precision != "float32":
        yield from ("--precision", record.runtime.precision)
    if record.data.missing:
        yield "--allow-missing"
    yield "--no-resume"


def _own(record: Record) -> Iterator[tuple[str, str]]:
    if not has_known_card(record):
        yield "the card", f"{record.model.name}.toml"
    if record.data.task not in _tasks():
        yield "the task", f"{record.data.task}.toml"
    told, other = record.prompts, record.data.trained_on
    if other is not None and other.task not in _tasks():
        yield "the task to train on", f"{other.task}.toml"
    if other is not None and other.mapping is not None and other.mapping not in _mappings():
        yield "the mapping", f"{other.mapping}.toml"
    if told is not None and told.source == "prompts" and told.digest != _prompts(told.set):
        yield "the prompt set", f"{told.set}.toml"
    if _choices(record) is None:
        yield "the variant", f"{record.variant.partition('+')[0]}.toml"


def _variant_words(record: Record, own: dict[str, str]) -> Iterator[str]:
    yield from ("--variant", own.get("the variant", record.variant.partition("+")[0]))
    for name, choice in sorted((_choices(record) or {}).items()):
        yield from ("--set", f"{name}={choice}")


def _choices(record: Record) -> dict[str, str] | None:
    """What was chosen over the built-in bundle that the variant is named after; None where there is no such bundle."""
    base = _variant(record.variant.partition("+")[0])
    if base is None:
        return None
    before = base.settings.model_dump(mode="json") | {f"{task}.split": name for task, name in base.splits.items()}
    after = record.settings.model_dump(mode="json") | {f"{task}.split": name for task, name in record.splits.items()}
    chosen = {name: str(choice) for name, choice in after.items() if before.get(name) != choice}
    rebuilt = base.with_choices(chosen, record.splits)
    return chosen if rebuilt.digest == record.variant_digest else None


@cache
def _mappings() -> frozenset[str]:
    return frozenset(read_mapping().choices)


@cache
def _tasks() -> frozenset[str]:
    return frozenset(catalog.task_files())


@cache
def _variant(name: str) -> Variant | None:
    return catalog.load_variant(name) if name in catalog.variant_files() else None


@cache
def _prompts(name: str) -> str | None:
    files = catalog.prompt_files() | catalog.author_prompt_files()
    return catalog.load_prompts(name).digest if name in files else None


@dataclass(frozen=True, slots=True)
class Further:
    """A metric that was asked for by name, with its interval, or the reason why the cell has none."""

    metric: Metric
    interval: Interval | None
    reason: str = ""


ATTRIBUTES: tuple[By, ...] = get_args(By)


@dataclass(frozen=True, slots=True)
class ClassLine:
    """One class: means over folds on the 0..1 scale, None where a fold has none; `rows` in the first fold.

    `recall` is None for a finding, which has an `average_precision` instead, and in detail an interval of its AUROC.
    """

    label: str
    rows: int
    recall: float | None
    auroc: float | None
    f1: float | None
    average_precision: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class CellPage:
    """Everything the report tells of one record. `confusion` (C, C) counts rows of all folds, truth down.

    Findings exclude nothing, so multi-label tasks have none of it. `interval` is of the main metric, and `estimate` the
    same number with its error, which other draws are part of whatever the interval speaks of; `area` is of macro AUROC
    (of a retrieval task that of its main metric),
    `harmonic` of the harmonic mean of base and new classes where a record has both. `calibration` is one a fold; there
    is none where `uncalibrated` says why. On pages in detail there are `pooled`, that of all rows, and `subgroups` for
    the attributes that are known of an image. `cautions` say what keeps the number from being the one asked for,
    `row_order` what another order of the training images changes (≈), `doubt` why training images may show what is
    scored (§). `further` metrics were asked for by name.
    """

    record: Record
    marked: bool
    interval: Interval
    estimate: Estimate
    area: Interval
    harmonic: Interval | None
    spread: FoldSpread
    classes: tuple[ClassLine, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[Calibration, ...]
    pooled: Calibration | None
    uncalibrated: str
    subgroups: tuple[Subgroups, ...]
    operating: Operating | None
    command: str
    own_files: tuple[str, ...]
    cautions: tuple[str, ...]
    row_order: str
    doubt: str
    further: tuple[Further, ...]

    @property
    def setting(self) -> Setting:
        """What it was measured in."""
        return setting_of(self.record)

    @property
    def anchor(self) -> str:
        """The fragment that the cell is found by."""
        return f"r{self.record.id}"

    @property
    def ece(self) -> float | None:
        """Expected calibration error over bins of equal width, mean over folds."""
        return fmean(c.ece for c in self.calibration) if self.calibration else None

    @property
    def adaptive_ece(self) -> float | None:
        """The same over bins of equal numbers of rows."""
        return fmean(c.adaptive_ece for c in self.calibration) if self.calibration else None

    @property
    def brier(self) -> float | None:
        """Brier score, mean over folds."""
        return fmean(c.brier for c in self.calibration) if self.calibration else None

    @property
    def shares(self) -> list[tuple[str, float]]:
        """The shares that a record of a retrieval task holds beside the main one, with their titles."""
        told = [(name, metric.title) for name, metric in TABLE.items() if name in self.record.summary]
        return [(title, self.record.summary[name]["mean"]) for name, title in told[1:]]

    def metric(self, name: str) -> float | None:
        """Mean of a metric over folds, unrounded."""
        value = self.record.summary.get(name, {}).get("mean")
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class CellAsked:
    """How to make a page: `marked` by the dagger, in `detail` with more, with intervals for `these_draws` alone.

    `metrics` are shown beside the usual ones.
    """

    marked: bool
    detail: bool
    these_draws: bool
    metrics: tuple[Metric, ...] = ()


def cell_page(measured: Measurement, asked: CellAsked) -> CellPage:
    """The page of a sound record, whose main metric was measured."""
    cell, narrow = measured.cell, asked.these_draws
    record = cell.record
    judged, pooled, why_not = tuple[Calibration, ...](), None, ""
    try:
        judged, pooled = cell_calibration(cell), pooled_calibration(cell) if asked.detail else None
    except CxrBenchError as error:  # also scores that are not the probabilities that the record says
        why_not = str(error)
    return CellPage(
        record=record,
        marked=asked.marked,
        interval=measured.interval,
        estimate=replace(measured, covers=covered(record)).estimate,
        area=cell_interval(cell, MACRO_AUROC, these_draws=narrow) if cell.kind == "single-label" else measured.interval,
        harmonic=harmonic_interval(cell, these_draws=narrow),
        spread=measured.spread,
        classes=_of_classes(cell, asked),
        confusion=_confusion(record),
        calibration=judged,
        pooled=pooled,
        uncalibrated=why_not,
        subgroups=_subgroups(cell, these_draws=narrow) if asked.detail else (),
        operating=operating(cell) if asked.detail else None,
        command=command(record),
        own_files=own_files(record),
        cautions=flaws(record),
        row_order=row_order_note(record),
        doubt=overlap_doubt(record),
        further=tuple(_further(cell, metric, these_draws=narrow) for metric in asked.metrics),
    )


def _of_classes(cell: ScoredCell, asked: CellAsked) -> tuple[ClassLine, ...]:
    """The classes or findings; none of a retrieval task, whose queries have no class of their own."""
    if cell.queries_of:
        return ()
    return _findings(cell, asked) if cell.findings_of else _classes(cell.record)


def _further(cell: ScoredCell, metric: Metric, *, these_draws: bool) -> Further:
    """A metric of the cell; one that does not fit, or fails, ends only itself."""
    try:
        return Further(metric, measurement(cell, metric, these_draws=these_draws).interval)
    except CxrBenchError as error:
        return Further(metric, None, str(error))


def _subgroups(cell: ScoredCell, *, these_draws: bool) -> tuple[Subgroups, ...]:
    """Subgroups by every attribute that is known of an image."""
    known = [by for by in ATTRIBUTES if any(value is not None for value in cell.about.get(by, ()))]
    return tuple(subgroups(cell, by, these_draws=these_draws) for by in known)


def _classes(record: Record) -> tuple[ClassLine, ...]:
    rows = [sum(line) for line in record.folds[0].metrics["confusion"]]
    columns = {name: _means([fold.metrics[name] for fold in record.folds]) for name in ("recall", "auroc", "f1")}
    return tuple(
        ClassLine(label, rows[place], columns["recall"][place], columns["auroc"][place], columns["f1"][place])
        for place, label in enumerate(record.data.labels)
    )


def _findings(cell: ScoredCell, asked: CellAsked) -> tuple[ClassLine, ...]:
    """The findings of a multi-label task; `rows` are those that show one. Intervals are for pages in detail."""
    record = cell.record
    intervals = finding_intervals(cell, these_draws=asked.these_draws) if asked.detail else {}
    shown = record.folds[0].metrics["positives"]
    auroc, precision, f1 = (
        _means([fold.metrics[name] for fold in record.folds]) for name in ("auroc", "average_precision", "f1")
    )
    return tuple(
        ClassLine(label, shown[place], None, auroc[place], f1[place], precision[place], intervals.get(label))
        for place, label in enumerate(record.data.labels)
    )


def _means(folds: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Mean of each class over folds, None as soon as one fold has no number."""
    found = list[float | None]()
    for values in zip(*folds, strict=True):
        present = [value for value in values if value is not None]
        found.append(fmean(present) if len(present) == len(values) else None)
    return found


def _confusion(record: Record) -> tuple[tuple[int, ...], ...]:
    folds = [fold.metrics.get("confusion", ()) for fold in record.folds]
    return tuple(tuple(map(sum, zip(*rows, strict=True))) for rows in zip(*folds, strict=True))
