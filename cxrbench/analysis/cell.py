"""One cell: intervals of its metrics, spread over its folds, calibration of its probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.findings import BY, summarised
from cxrbench.evaluate.label_shares import OWN_SHARE
from cxrbench.evaluate.metric_table import Metric
from cxrbench.evaluate.retrieval import QueryRows
from cxrbench.evaluate.statistics.calibration import (
    Calibration,
    ScoreKind,
    calibration,
    calibration_of_findings,
    probabilities,
    probabilities_of_findings,
)
from cxrbench.evaluate.statistics.estimate import Estimate
from cxrbench.evaluate.statistics.finding_shares import areas_of_findings, finding_units
from cxrbench.evaluate.statistics.interval import (
    Covers,
    FoldSpread,
    Interval,
    estimate,
    fold_spread,
    interval,
    sparse,
    still,
    wider,
)
from cxrbench.evaluate.statistics.shares import FEW, ScoredRows, Shares, class_units, hits
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.records.row_order import row_order_note
from cxrbench.records.selection import cell_name
from cxrbench.types import IntArray

FEW_OF_A_KIND = 5  # right, or wrong, rows of a class in a fold, below which F1 and kappa spread too little


@dataclass(frozen=True, slots=True)
class CellNumber:
    """One metric of a record, by its id: the interval and the spread over folds.

    `row_order` says in words what another order of the training images changes; empty where it changes no decision.
    """

    record: str
    interval: Interval
    spread: FoldSpread
    row_order: str = ""


def covered(record: Record, *, these_draws: bool = False) -> Covers:
    """What an interval of a record's numbers speaks of beside other test images.

    Training draws differ where the folds of a probe were fitted to different images; prompt draws where folds were
    scored by different words. Of a protocol that learns from images and words, both may. `these_draws` asks for the
    narrow interval: other test images alone.
    """
    told = None if record.prompts is None or record.prompts.source == "prototypes" else record.prompts
    if record.protocol.shots is not None:
        drawn = len({fold.train for fold in record.folds}) > 1 and _at_random(record)
        if told is not None:
            return _of_both(drawn=drawn, redrawn=told.redrawn, these_draws=these_draws)
        return ("these draws" if these_draws else "draws") if drawn else "one draw"
    if told is None:
        return "images"
    return ("these prompts" if these_draws else "prompt draws") if told.redrawn else "one wording"


def _at_random(record: Record) -> bool:
    """Whether folds differ by a draw of training images: not by other rows of `all`, or of one list for all folds."""
    shots = record.protocol.shots
    return isinstance(shots, int) or (shots != "all" and record.settings.share == OWN_SHARE)


def _of_both(*, drawn: bool, redrawn: bool, these_draws: bool) -> Covers:
    """Of images and words that folds learn from; `drawn` and `redrawn`: these, and those, differ between folds."""
    if these_draws and (drawn or redrawn):
        return "these draws and prompts"
    if drawn:
        return "draws and prompt draws" if redrawn else "draws, one wording"
    return "one draw, prompt draws" if redrawn else "one draw, one wording"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A cell with the shares of one of its metrics, from which its intervals and differences are worked out."""

    cell: ScoredCell
    metric: Metric
    shares: Shares
    covers: Covers

    @property
    def units(self) -> int:
        """How many test patients or images it has."""
        return self.shares.units

    @property
    def estimate(self) -> Estimate:
        """The number with its variance."""
        return estimate(self.shares, self.metric.bounds, self.covers)

    @property
    def interval(self) -> Interval:
        """The 95 % interval; none where no choice of images moves the number."""
        why, found = still(self.cell.folds), self.estimate
        told = why or "; ".join(filter(None, (cautions(self.cell), self._without_threshold(), self._near())))
        if np.isnan(self.shares.value):
            told = "; ".join(filter(None, (self.metric.undefined_in(self.cell.kind), told)))
        return interval(found.fixed() if why else found, self.cell.over, self.units, (self.covers,), told)

    def _near(self) -> str:
        """A warning of a metric without floors where a class is nearly all right or wrong; empty for others."""
        if self.shares.floored:
            return ""
        if self.cell.kind == "multi-label":
            return self._few_findings()
        folds = self.cell.classes_of
        right = sum(np.bincount(f.labels[f.predictions == f.labels], minlength=f.scores.shape[1]) for f in folds)
        rows = sum(np.bincount(f.labels, minlength=f.scores.shape[1]) for f in folds)
        near = bool(np.any(np.minimum(right, rows - right) < FEW_OF_A_KIND * len(folds)))
        name = self.metric.title
        return (
            f"a class is nearly all right or all wrong, which {name} makes no allowance for: too short" if near else ""
        )

    def _without_threshold(self) -> str:
        """The findings that a number at thresholds leaves out, since the validation part has none for them."""
        by = next((one for one in BY if self.metric.name == f"macro_{one}"), None)
        told = [] if by is None else [fold.thresholds.get(by) for fold in self.cell.findings_of]
        labels = self.cell.record.data.labels
        lost = [label for place, label in enumerate(labels) if any(own and own[place] is None for own in told)]
        text = "not in it, as all or no validation images show it, so that there is no threshold:"
        return f"{text} {', '.join(lost)}" if lost else ""

    def _few_findings(self) -> str:
        """A warning of a metric without floors where a finding has few images on either side; empty for others."""
        units = finding_units(self.cell.findings_of).min(axis=1)
        few = bool(((units > 0) & (units < FEW)).any())
        return f"{self.metric.title} makes no allowance for findings of few images: too short" if few else ""

    @property
    def number(self) -> CellNumber:
        """The interval with the spread over folds."""
        return CellNumber(self.cell.record.id, self.interval, self.spread, row_order_note(self.cell.record))

    @property
    def spread(self) -> FoldSpread:
        """The spread over the folds of the record, of the values that it holds where it holds the metric."""
        if self.metric.name in summarised(self.cell.kind, self.cell.record.data.group):
            values = [fold.metrics[self.metric.name] for fold in self.cell.record.folds]
        else:
            values = [None if np.isnan(value) else value for value in self.shares.values.tolist()]
        return fold_spread(values, self.cell.image)

    def minus(self, other: "Measurement") -> Estimate:
        """The paired difference from another model's measurement of the same images, fold by fold.

        It speaks of what `wider` says. Raises DataError for one of other images.
        """
        covers = wider(self.covers, other.covers)
        return estimate(self.shares.minus(other.shares), self.metric.difference_bounds, covers)


def measurement(cell: ScoredCell, metric: Metric, *, these_draws: bool = False) -> Measurement:
    """A metric of a cell. Raises DataError for folds that do not fit together.

    Raises NotApplicableError with the reason for classes that the metric does not fit, and what `Metric.of` raises.
    """
    if reason := metric.unfit(cell.kind, cell.record.data.labels):
        raise NotApplicableError(f"{metric.title} does not fit: {reason}")
    return Measurement(cell, metric, metric.shares(cell.folds), covered(cell.record, these_draws=these_draws))


def cautions(cell: ScoredCell) -> str:
    """What to beware of in any number of the cell; empty where there is nothing."""
    labels = cell.record.data.labels
    if cell.kind == "retrieval":
        return _few_queries(cell)
    if cell.kind == "single-label":
        return sparse(dict(zip(labels, class_units(cell.classes_of).tolist(), strict=True)), cell.over)
    units = dict(zip(labels, finding_units(cell.findings_of).min(axis=1).tolist(), strict=True))
    undefined = [label for label, n in units.items() if not n]
    told = f"not in a mean over findings: {', '.join(undefined)}, which all or no test images show" if undefined else ""
    return "; ".join(filter(None, (told, sparse({label: n for label, n in units.items() if n}, cell.over))))


def _few_queries(cell: ScoredCell) -> str:
    units = min(len(np.unique(fold.unit)) for fold in cell.queries_of)
    return f"{units} test {cell.over}s alone: what they show is hardly known" if units < FEW else ""


def cell_interval(cell: ScoredCell, metric: Metric, *, these_draws: bool = False) -> Interval:
    """The 95 % interval of one metric."""
    return measurement(cell, metric, these_draws=these_draws).interval


def finding_intervals(cell: ScoredCell, *, these_draws: bool = False) -> dict[str, Interval]:
    """The 95 % interval of AUROC of each finding of a multi-label task; without a number where it is not defined."""
    covers, found = covered(cell.record, these_draws=these_draws), dict[str, Interval]()
    units = finding_units(cell.findings_of).min(axis=1).tolist()
    for place, label in enumerate(cell.record.data.labels):
        area = areas_of_findings(cell.findings_of, [place])
        few = sparse({label: units[place]}, cell.over) if units[place] else "all or no test images show it"
        found[label] = interval(estimate(area, (0, 1), covers), cell.over, area.units, (covers,), few)
    return found


def harmonic_interval(cell: ScoredCell, *, these_draws: bool = False) -> Interval | None:
    """The interval of the harmonic mean of base and new classes' balanced accuracy; None for a record without one.

    To first order it is a mean of recalls, each class weighing as the harmonic mean changes with it at the means over
    folds (delta method).
    """
    told, labels = cell.record.generalised, cell.record.data.labels
    if told is None or told["harmonic_mean"] is None:
        return None
    new, both = np.isin(labels, list(told["new_classes"])), told["base"] + told["new"]
    slopes = [2 * (other / both) ** 2 if both else 0.0 for other in (told["new"], told["base"])]
    weights = np.where(new, slopes[1] / max(1, new.sum()), slopes[0] / max(1, (~new).sum()))

    def worth(fold: ScoredRows) -> NDArray[np.float64]:
        return weights / np.bincount(fold.labels, minlength=len(labels))

    covers = covered(cell.record, these_draws=these_draws)
    recalled = hits(cell.classes_of, worth)
    found = estimate(recalled, (0, 1), covers)
    moved = replace(found, value=told["harmonic_mean"], centre=found.centre - found.value + told["harmonic_mean"])
    if why := still(cell.folds):
        moved = moved.fixed()
    return interval(moved, cell.over, recalled.units, (covers,), why or cautions(cell))


def cell_calibration(cell: ScoredCell) -> tuple[Calibration, ...]:
    """Calibration of every fold: a probe's scores are probabilities, zero-shot ones logits that go through softmax.

    Of a multi-label task each finding's are, or go through the logistic function. Raises NotApplicableError for scores
    that are neither: standardised ones, those of models that fuse tokens, and of a finding without its absence.
    """
    kind = _kind(cell)
    return tuple(_judged(fold.scores, fold.labels, kind) for fold in cell.folds if not isinstance(fold, QueryRows))


def pooled_calibration(cell: ScoredCell) -> Calibration:
    """Calibration of the rows of all folds together; raises NotApplicableError as `cell_calibration` does."""
    scores, labels = (np.concatenate([getattr(fold, name) for fold in cell.folds]) for name in ("scores", "labels"))
    return _judged(scores, labels, _kind(cell))


def _judged(scores: NDArray[np.floating[Any]], labels: IntArray, kind: ScoreKind) -> Calibration:
    if labels.ndim == 1:
        return calibration(probabilities(scores, kind), labels)
    return calibration_of_findings(probabilities_of_findings(scores, kind), labels)


def _kind(cell: ScoredCell) -> ScoreKind:
    how = cell.record.protocol
    if how.scores == "other":
        raise NotApplicableError(
            f"{cell.record.model.name}, {how.protocol} on {cell.record.data.task}: its scores are neither "
            "probabilities nor logits (standardised, made from tokens, of findings without their absence, or of "
            "queries), so there is no probability to judge"
        )
    return how.scores


@dataclass(frozen=True, slots=True)
class CellCalibration:
    """One cell: means over folds of both calibration errors and the Brier score, and the folds themselves.

    `pooled` judges the rows of all folds together: it is what a reliability curve is drawn from, and its errors are
    not those of a fold.
    """

    record: str
    name: str
    ece: float
    adaptive_ece: float
    brier: float
    folds: tuple[Calibration, ...]
    pooled: Calibration


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Cells in the order of the records, and the reasons where scores are no probabilities, by the cell's name."""

    cells: tuple[CellCalibration, ...]
    refused: Mapping[str, str]


def calibrated(out: Path, records: Sequence[Record]) -> Calibrated:
    """Calibration of every record whose scores are probabilities or logits, from the predictions below `out`.

    Raises DataError and IntegrityError for predictions that are gone or changed.
    """
    cells, refused = list[CellCalibration](), dict[str, str]()
    for record in records:
        cell = read_cell(out, record)
        try:
            folds, pooled = cell_calibration(cell), pooled_calibration(cell)
        except NotApplicableError as error:
            refused[cell_name(record)] = str(error)
            continue
        ece, adaptive = fmean(fold.ece for fold in folds), fmean(fold.adaptive_ece for fold in folds)
        brier = fmean(fold.brier for fold in folds)
        cells.append(CellCalibration(record.id, cell_name(record), ece, adaptive, brier, folds, pooled))
    return Calibrated(tuple(cells), refused)
