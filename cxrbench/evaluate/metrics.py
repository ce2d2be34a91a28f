"""What a score matrix is worth: unrounded metrics of one fold, and base against new classes in one label space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.types import IntArray

FloatArray = NDArray[np.floating[Any]]
PerClass = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class FoldMetrics:
    """Metrics of one fold on the 0..1 scale (kappas: -1..1), unrounded; None where undefined, `reasons` says why.

    `balanced_accuracy` is the mean of per-class recalls, the paper's ACA. `auroc` is one class against the rest, from
    ranks with ties halved; `confusion` (C, C) counts rows of the test part, truth down, prediction across.
    """

    balanced_accuracy: float | None
    accuracy: float
    macro_auroc: float | None
    macro_f1: float | None
    kappa: float | None
    quadratic_kappa: float | None
    recall: PerClass
    specificity: PerClass
    auroc: PerClass
    f1: PerClass
    confusion: tuple[tuple[int, ...], ...]
    reasons: Mapping[str, str] = field(default_factory=dict)  # field name to why it, or one of its classes, is None


@dataclass(frozen=True, slots=True)
class Generalised:
    """Balanced accuracy of base and of new classes when every image may be given any class of the joint space."""

    base: float | None
    new: float | None
    harmonic_mean: float | None


def fold_metrics(scores: FloatArray, labels: IntArray) -> FoldMetrics:
    """Metrics of scores (N, C), higher is likelier, against class indices (N,); the first of equal scores wins.

    Raises DataError for shapes that do not fit, labels outside 0..C-1, scores that are not finite, or no row at all.
    """
    checked(scores, labels)
    confusion = confusion_matrix(scores.argmax(axis=1), labels, scores.shape[1])
    auroc = one_vs_rest_auroc(scores, labels)
    recall, specificity, f1 = _rates(confusion)
    absent = [str(c) for c in np.flatnonzero(confusion.sum(axis=1) == 0)]
    kappas = {"kappa": cohens_kappa(confusion), "quadratic_kappa": cohens_kappa(confusion, quadratic=True)}
    values: dict[str, Any] = {
        "balanced_accuracy": None if absent else float(recall.mean()),
        "macro_auroc": None if absent else _or_none(auroc.mean()),
        "macro_f1": None if absent else float(f1.mean()),
        "recall": _per_class(recall),
        "specificity": _per_class(specificity),
        "auroc": _per_class(auroc),
        "f1": _per_class(f1),
        **kappas,
    }
    return FoldMetrics(
        accuracy=float(np.trace(confusion) / confusion.sum()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        reasons={name: _reason(name, absent) for name, value in values.items() if _holds_none(value)},
        **values,
    )


def balanced_accuracy(scores: FloatArray, labels: IntArray) -> float | None:
    """Mean recall over the classes, as in `fold_metrics`, which tells what is raised; None if a class is absent."""
    checked(scores, labels)
    recall, _, _ = _rates(confusion_matrix(scores.argmax(axis=1), labels, scores.shape[1]))
    return _or_none(recall.mean())


def checked(scores: FloatArray, labels: IntArray) -> None:
    """Nothing, or DataError: scores (N, C) and labels (N,) do not fit together, or hold what cannot be judged."""
    if scores.ndim != 2 or scores.shape[1] < 2 or labels.shape != (len(scores),):
        raise DataError(
            f"scores {scores.shape} and labels {labels.shape} do not fit: (N, C) with C >= 2 and (N,) needed"
        )
    if not len(labels):
        raise DataError("there are no rows to judge: the test part is empty. Look at the report of `data verify`.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, the scores have {scores.shape[1]} classes")
    if not np.isfinite(scores).all():
        rows = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        raise DataError(f"{len(rows)} rows have scores that are not finite, the first is row {rows[0]}")


def confusion_matrix(predictions: IntArray, labels: IntArray, n_classes: int) -> IntArray:
    """Counts (C, C) int64: truth down, prediction across."""
    return np.bincount(labels * n_classes + predictions, minlength=n_classes**2).reshape(n_classes, n_classes)


def one_vs_rest_auroc(scores: FloatArray, labels: IntArray) -> FloatArray:
    """Area under the ROC curve (C,) of every class against all others; NaN where one side has no row."""
    return np.array([area(scores[:, c], labels == c) for c in range(scores.shape[1])])


def area(scores: FloatArray, positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve, NaN where one side has no row: trapezoids, collinear points dropped.

    The order of operations is scikit-learn's: an area at the half of a rounding step must fall to the released side.
    """
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    above = np.cumsum(positive[order])[last_of_ties]
    corners = np.stack([above, 1 + last_of_ties - above])  # true and false positives (2, T)
    bends = (np.diff(corners, 2) != 0).any(axis=0)
    corners = corners[:, np.concatenate([[True], bends, [True]])] if corners.shape[1] > 2 else corners
    tpr, fpr = np.insert(corners, 0, 0, axis=1) / [[n_pos], [n_neg]]
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())


def cohens_kappa(confusion: IntArray, quadratic: bool = False) -> float | None:
    """Agreement beyond chance, with unit or squared-distance penalties; None where chance alone agrees fully."""
    classes = np.arange(len(confusion))
    penalty = (classes[:, None] - classes) ** 2 if quadratic else (classes[:, None] != classes).astype(np.int64)
    expected = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / confusion.sum()
    by_chance = float((penalty * expected).sum())
    return None if by_chance == 0 else 1.0 - float((penalty * confusion).sum()) / by_chance


def harmonic_mean(base: float | None, new: float | None) -> float | None:
    """2 base new / (base + new); 0 if both are 0, None if one is missing."""
    if base is None or new is None:
        return None
    return 2 * base * new / (base + new) if base + new else 0.0


def generalised(scores: FloatArray, labels: IntArray, new_classes: Sequence[int]) -> Generalised:
    """Base and new balanced accuracy from joint scores (N, C): each group's rows, predictions over all C classes.

    None for a group that has no class, or a class without rows. Raises DataError as `fold_metrics` does.
    """
    checked(scores, labels)
    confusion = confusion_matrix(scores.argmax(axis=1), labels, scores.shape[1])
    recall = _ratio(np.diag(confusion), confusion.sum(axis=1))
    is_new = np.isin(np.arange(scores.shape[1]), list(new_classes))
    base, new = (_or_none(recall[group].mean()) if group.any() else None for group in (~is_new, is_new))
    return Generalised(base, new, harmonic_mean(base, new))


def _rates(confusion: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Recall, specificity and F1 (C,) each; NaN for 0 / 0."""
    hits, truths, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    others = confusion.sum() - truths
    return (
        _ratio(hits, truths),
        _ratio(others - (predicted - hits), others),
        _ratio(2 * hits, truths + predicted),
    )


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> FloatArray:
    out = np.full(len(above), np.nan)
    return np.divide(above, below, out=out, where=below != 0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _per_class(values: FloatArray) -> PerClass:
    return tuple(_or_none(v) for v in values)


def _holds_none(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and None in value)


def _reason(name: str, absent: Sequence[str]) -> str:
    if name.endswith("kappa"):
        return "all rows have one class and all predictions are that class: chance alone agrees fully"
    return f"no test row of class {', '.join(absent)}" if absent else "all test rows have one class"


# What records hold the mean and spread of. Further metrics of `metric_table` are computed from predictions: one more
# here would have every cell measured again.
SUMMARISED = ("balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "kappa")


def mean_and_spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and spread over folds (ddof 0: the folds are all there are); None as soon as one fold has none."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return {"mean": None, "std": None, "folds": len(values)}
    return {"mean": fmean(present), "std": pstdev(present), "folds": len(values)}
