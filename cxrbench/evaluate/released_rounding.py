"""The numbers as the released code prints and averages them (setting `metrics.rounding = released`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import FoldMetrics

Rendered: TypeAlias = "float | list[Rendered] | None"


@dataclass(frozen=True, slots=True)
class ReleasedReport:
    """Rendered metrics, keyed by the released names: one mapping a fold, and `NAME_avg`, `NAME_std` over folds."""

    folds: tuple[dict[str, Rendered], ...]
    average: dict[str, Rendered]


def official_rounding(folds: Sequence[FoldMetrics]) -> ReleasedReport:
    """Every fold to 3 decimals, means over classes of rounded values, mean and std (ddof 0) over folds to 4 decimals.

    `cm_norm` is not rounded in a fold. A value that is undefined in a fold (None) is None in the average too. Raises
    DataError without a fold, or for folds with different numbers of classes.
    Source: protocol facts, section 6.
    """
    if not folds or len({len(f.recall) for f in folds}) != 1:
        raise DataError("rounding needs at least one fold, and the same classes in all of them")
    rendered = tuple(_fold(f) for f in folds)
    average: dict[str, Rendered] = {}
    for name in rendered[0]:
        values = [fold[name] for fold in rendered]
        average[f"{name}_avg"] = _across(np.mean, values)
        average[f"{name}_std"] = _across(np.std, values)
    return ReleasedReport(rendered, average)


def _fold(metrics: FoldMetrics) -> dict[str, Rendered]:
    recall, specificity = _rounded(metrics.recall), _rounded(metrics.specificity)
    auroc, f1 = _rounded(metrics.auroc), _rounded(metrics.f1)
    counts = np.asarray(metrics.confusion)
    rows = [[c / total if total else None for c in row] for row, total in zip(counts, counts.sum(axis=1), strict=True)]
    aca, kappa = _rounded([metrics.balanced_accuracy, metrics.quadratic_kappa])
    return {
        "aca": aca,
        "kappa": kappa,
        "acc_class": [*recall],
        "f1_avg": _mean(f1),
        "auc_avg": _mean(auroc),
        "auc_class": [*auroc],
        "f1_class": [*f1],
        "sensitivity_class": [*recall],
        "sensitivity_avg": _mean(recall),
        "specificity_class": [*specificity],
        "specificity_avg": _mean(specificity),
        "cm": [[float(c) for c in row] for row in counts],
        "cm_norm": [[None if v is None else float(v) for v in row] for row in rows],
    }


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if v is None else float(np.round(v, 3)) for v in values]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if len(present) == len(values) else None


def _across(statistic: Callable[..., np.floating], values: Sequence[Rendered]) -> Rendered:
    """The statistic over folds of every number in equally nested lists, to 4 decimals."""
    if isinstance(values[0], list):
        return [_across(statistic, entries) for entries in zip(*values, strict=True)]
    return None if None in values else float(np.round(statistic(values), 4))
