"""One cell: intervals of its metrics, spread over its folds, calibration of its probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.calibration import Calibration, ScoreKind, calibration, probabilities
from cxrbench.evaluate.statistics.counts import METRICS, Metric
from cxrbench.evaluate.statistics.interval import RESAMPLES, fold_spread, interval_of
from cxrbench.evaluate.statistics.uncertainty import FoldSpread, Interval
from cxrbench.verdict.drawn import drawn
from cxrbench.verdict.predictions import ScoredCell


@dataclass(frozen=True, slots=True)
class CellNumber:
    """One metric of a record, by its id: the interval over test units and the spread over folds."""

    record: str
    interval: Interval
    spread: FoldSpread


def cell_numbers(
    cell: ScoredCell, metrics: Sequence[Metric] = METRICS, resamples: int = RESAMPLES
) -> dict[Metric, CellNumber]:
    """Some metrics of a cell; the same for the same record, whatever else is computed."""
    return {metric: cell_number(cell, metric, resamples) for metric in metrics}


def cell_number(cell: ScoredCell, metric: Metric, resamples: int = RESAMPLES) -> CellNumber:
    """One metric of a cell with what surrounds it."""
    return CellNumber(cell.record.id, cell_interval(cell, metric, resamples), spread(cell, metric))


def cell_interval(cell: ScoredCell, metric: Metric, resamples: int = RESAMPLES) -> Interval:
    """The 95 % interval of one metric over test units."""
    return interval_of(metric, cell.folds, cell.over, drawn([cell], metric, resamples)[0])


def spread(cell: ScoredCell, metric: Metric) -> FoldSpread:
    """The spread of one metric over the folds of the record."""
    return fold_spread([fold.metrics[metric] for fold in cell.record.folds], cell.image)


def cell_calibration(cell: ScoredCell) -> tuple[Calibration, ...]:
    """Calibration of every fold: a probe's scores are probabilities, zero-shot ones logits that go through softmax.

    Raises NotApplicableError for scores that are neither: standardised ones, and those of models that fuse tokens.
    """
    kind = _kind(cell)
    return tuple(calibration(probabilities(fold.scores, kind), fold.labels) for fold in cell.folds)


def pooled_calibration(cell: ScoredCell) -> Calibration:
    """Calibration of the rows of all folds together; raises NotApplicableError as `cell_calibration` does."""
    kind = _kind(cell)
    scores = np.concatenate([probabilities(fold.scores, kind) for fold in cell.folds])
    return calibration(scores, np.concatenate([fold.labels for fold in cell.folds]))


def _kind(cell: ScoredCell) -> ScoreKind:
    how = cell.record.protocol
    if how.protocol == "zero-shot" and (how.logit_scale is None or how.standardised or how.scoring == "interaction"):
        raise NotApplicableError(
            f"{cell.record.model.name}, zero-shot on {cell.record.data.task}: its scores are no logits "
            "(standardised, or made from tokens), so there is no probability to judge"
        )
    return "logits" if how.protocol == "zero-shot" else "probabilities"
