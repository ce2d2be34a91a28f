"""What a score matrix is worth where labels do not exclude each other: each finding is judged by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import SUMMARISED, FoldMetrics, area, fold_metrics
from cxrbench.evaluate.retrieval import summarised_queries
from cxrbench.types import UNKNOWN, IntArray, TaskKind

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
PerFinding = tuple[float | None, ...]
Chosen = Literal["f1", "mcc"]  # what a threshold was chosen to be best by
BY: tuple[Chosen, ...] = ("f1", "mcc")
NO_THRESHOLDS: Mapping[Chosen, PerFinding] = {}


@dataclass(frozen=True, slots=True)
class FindingRows:
    """One fold's test rows: unit (n,) numbers the patient or image of each row, labels and scores are (n, C).

    A label is 1, 0 or UNKNOWN, whose row is then left out of this finding alone. Scores are higher for likelier
    findings. `thresholds` were chosen on a validation part, None for a finding that has none there. A unit has the same
    number in every fold.
    """

    unit: IntArray
    labels: IntArray
    scores: FloatArray
    thresholds: Mapping[Chosen, PerFinding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked(self.scores, self.labels)
        if self.unit.shape != (len(self.labels),) or self.unit.min() < 0:
            raise DataError(f"units {self.unit.shape} do not number the {len(self.labels)} rows from 0 on")
        for name in ("unit", "labels", "scores"):  # a metric that writes into them would spoil those after it
            held = getattr(self, name).view()
            held.setflags(write=False)
            object.__setattr__(self, name, held)

    def at(self, rows: IntArray | BoolArray) -> "FindingRows":
        """Some of the rows."""
        return FindingRows(self.unit[rows], self.labels[rows], self.scores[rows], self.thresholds)

    def finding(self, number: int) -> "OneFinding":
        """The rows in which a finding is known."""
        known = self.labels[:, number] != UNKNOWN
        return OneFinding(self.unit[known], self.labels[known, number] == 1, self.scores[known, number])


@dataclass(frozen=True, slots=True)
class OneFinding:
    """One finding's rows: unit (n,), whether it holds (n,), score (n,)."""

    unit: IntArray
    holds: BoolArray
    score: FloatArray

    @property
    def defined(self) -> bool:
        """Whether some rows have it and some have not."""
        return bool(self.holds.any() and not self.holds.all())


@dataclass(frozen=True, slots=True)
class FindingMetrics:
    """Metrics of one fold on the 0..1 scale (MCC: -1..1), unrounded; None where undefined, `reasons` says why.

    A macro number is the mean over the findings that have it: those with a test row that shows them and one that does
    not, and for `macro_f1` and `macro_mcc` with both in the validation part, where their thresholds were chosen.
    `f1_best_on_test` takes for each finding the threshold that is best on the test rows themselves, as several papers
    do: no number of a model that could be used. `positives` and `negatives` count rows.
    """

    macro_auroc: float | None
    macro_average_precision: float | None
    macro_f1: float | None
    macro_mcc: float | None
    f1_best_on_test: float | None
    auroc: PerFinding
    average_precision: PerFinding
    f1: PerFinding
    mcc: PerFinding
    best_f1: PerFinding
    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)  # field name to why it, or one of its findings, is None


def finding_metrics(
    scores: FloatArray, labels: IntArray, thresholds: Mapping[Chosen, PerFinding] = NO_THRESHOLDS
) -> FindingMetrics:
    """Metrics of scores (N, C) against labels (N, C) of 1, 0 and UNKNOWN.

    Raises DataError for shapes that do not fit, other labels, scores that are not finite, or no row at all.
    """
    rows = FindingRows(np.arange(len(labels)), labels, scores, thresholds)
    found = [rows.finding(c) for c in range(labels.shape[1])]
    each: dict[str, PerFinding] = {
        "auroc": tuple(_if_defined(area, one) for one in found),
        "average_precision": tuple(_if_defined(average_precision, one) for one in found),
        "f1": tuple(_at(f1, one, level) for one, level in zip(found, levels(rows, "f1"), strict=True)),
        "mcc": tuple(_at(mcc, one, level) for one, level in zip(found, levels(rows, "mcc"), strict=True)),
        "best_f1": tuple(_if_defined(best_f1, one) for one in found),
    }
    macros = {macro: mean_of_defined(each[name]) for macro, name in _MACRO_OF.items()}
    values: dict[str, Any] = {**macros, **each}
    return FindingMetrics(
        **values,
        positives=tuple(int(one.holds.sum()) for one in found),
        negatives=tuple(int((~one.holds).sum()) for one in found),
        reasons={name: _reason(name, found, thresholds) for name, value in values.items() if _holds_none(value)},
    )


_MACRO_OF = {
    "macro_auroc": "auroc",
    "macro_average_precision": "average_precision",
    "macro_f1": "f1",
    "macro_mcc": "mcc",
    "f1_best_on_test": "best_f1",
}
# What records of multi-label tasks hold the mean and spread of.
SUMMARISED_FINDINGS = tuple(_MACRO_OF)


def metrics_of(
    scores: FloatArray, labels: IntArray, thresholds: Mapping[Chosen, PerFinding] = NO_THRESHOLDS
) -> FoldMetrics | FindingMetrics:
    """Metrics of one fold, whose labels are class numbers (N,), or (N, C) in a multi-label task."""
    return fold_metrics(scores, labels) if labels.ndim == 1 else finding_metrics(scores, labels, thresholds)


def summarised(kind: TaskKind, group: str) -> tuple[str, ...]:
    """The metrics of which records of such tasks and groups hold mean and spread."""
    if kind == "retrieval":
        return summarised_queries(group)
    return SUMMARISED if kind == "single-label" else SUMMARISED_FINDINGS


def checked(scores: FloatArray, labels: IntArray) -> None:
    """Nothing, or DataError: scores and labels are not both (N, C), or hold what cannot be judged."""
    if scores.ndim != 2 or scores.shape != labels.shape or not scores.shape[1]:
        raise DataError(f"scores {scores.shape} and labels {labels.shape} do not fit: both must be (N, C), C >= 1")
    if not len(labels):
        raise DataError("there are no rows to judge: the test part is empty. Look at the report of `data verify`.")
    if not np.isin(labels, (0, 1, UNKNOWN)).all():
        raise DataError(f"labels of findings are 1, 0 or {UNKNOWN} (unknown); there are others")
    if not np.isfinite(scores).all():
        rows = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        raise DataError(f"{len(rows)} rows have scores that are not finite, the first is row {rows[0]}")


def mean_of_defined(values: PerFinding) -> float | None:
    """The mean of the values that there are, None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def levels(rows: FindingRows, by: Chosen) -> PerFinding:
    """The threshold (C,) of each finding, None where none was chosen."""
    return rows.thresholds.get(by) or (None,) * rows.labels.shape[1]


def _if_defined(of: Callable[[FloatArray, BoolArray], float], one: OneFinding) -> float | None:
    return float(of(one.score, one.holds)) if one.defined else None


def _at(of: "Worth", one: OneFinding, level: float | None) -> float | None:
    if level is None or not one.defined:
        return None
    return float(of(*counts(one.score >= level, one.holds)))


def _holds_none(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and None in value)


def _reason(name: str, found: Sequence[OneFinding], thresholds: Mapping[Chosen, PerFinding]) -> str:
    by = name.removeprefix("macro_")
    if by in BY and by not in thresholds:
        return NO_VALIDATION
    absent = [str(number) for number, one in enumerate(found) if not one.holds.any()]
    always = [str(number) for number, one in enumerate(found) if one.holds.all() and one.holds.any()]
    told = [f"no test row shows finding {', '.join(absent)}"] if absent else []
    told += [f"every test row shows finding {', '.join(always)}"] if always else []
    return "; ".join(told) or "all or no rows of the validation part show a finding, so it has no threshold"


NO_VALIDATION = "the split has no validation part, on which thresholds could be chosen"


@dataclass(frozen=True, slots=True)
class Steps:
    """At each distinct score, the highest first: rows (T,) at or above it that show the finding, and that do not."""

    at: FloatArray
    right: IntArray
    wrong: IntArray


def steps(scores: FloatArray, holds: BoolArray) -> Steps:
    """What is called positive as the threshold falls from score to score."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(order) - 1)
    right = np.cumsum(holds[order])[last]
    return Steps(ordered[last], right, 1 + last - right)


def average_precision(scores: FloatArray, holds: BoolArray) -> float:
    """The mean precision at the scores of the rows that show the finding, tied rows together: no interpolation."""
    met = steps(scores, holds)
    gained = np.diff(met.right, prepend=0)
    return float((gained * met.right / (met.right + met.wrong)).sum() / met.right[-1])


Counts = tuple[Any, Any, Any, Any]  # true and false positives, false and true negatives; numbers or arrays of them


def counts(flagged: BoolArray, holds: BoolArray) -> Counts:
    """True positives, false positives, false negatives and true negatives."""
    return _completed((flagged & holds).sum(), (flagged & ~holds).sum(), holds)


def _completed(right: Any, wrong: Any, holds: BoolArray) -> Counts:
    return right, wrong, holds.sum() - right, (~holds).sum() - wrong


def f1(tp: Any, fp: Any, fn: Any, _: Any) -> Any:
    """2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing was found."""
    below = 2 * tp + fp + fn
    return np.where(below == 0, 1.0, 2 * tp / np.maximum(below, 1))


def mcc(tp: Any, fp: Any, fn: Any, tn: Any) -> Any:
    """Matthews' correlation coefficient; 0 where rows or calls are all of one kind."""
    tp, fp, fn, tn = (np.asarray(n, dtype=np.float64) for n in (tp, fp, fn, tn))
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return np.where(below == 0, 0.0, (tp * tn - fp * fn) / np.sqrt(np.where(below == 0, 1.0, below)))


Worth = Callable[[Any, Any, Any, Any], Any]
_OF: Mapping[Chosen, Worth] = {"f1": f1, "mcc": mcc}


def best_f1(scores: FloatArray, holds: BoolArray) -> float:
    """F1 at the threshold that is best on these very rows."""
    met = steps(scores, holds)
    return float(f1(*_completed(met.right, met.wrong, holds)).max())


def best_level(scores: FloatArray, holds: BoolArray, by: Chosen = "f1") -> float:
    """The score at which calling this and all higher ones positive is best; the lowest of several such."""
    met = steps(scores, holds)
    found = _OF[by](*_completed(met.right, met.wrong, holds))
    return float(met.at[len(found) - 1 - int(np.argmax(found[::-1]))])


def chosen_thresholds(scores: FloatArray, labels: IntArray) -> dict[Chosen, PerFinding]:
    """The thresholds that are best on a validation part of scores (N, C) and labels (N, C), for F1 and for MCC.

    A row is called positive at or above its finding's threshold, which is one of the scores there: of equally good ones
    the lowest. None for a finding that all or none of the known rows show. Raises DataError as `finding_metrics` does.
    Source: the rule of CheXzero's evaluation (MULTILABEL facts, section 6).
    """
    rows = FindingRows(np.arange(len(labels)), labels, scores)
    found = [rows.finding(c) for c in range(labels.shape[1])]
    return {by: tuple(best_level(one.score, one.holds, by) if one.defined else None for one in found) for by in BY}
