"""The table of metrics, one row each: value, bounds, what it fits, how sure it is, how it is shown; plug-ins too."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, SpecError
from cxrbench.evaluate.findings import NO_VALIDATION, FindingRows, finding_metrics
from cxrbench.evaluate.metrics import FloatArray, FoldMetrics, fold_metrics
from cxrbench.evaluate.retrieval import QueryRows, hit, precise, recalled
from cxrbench.evaluate.statistics.finding_shares import AnyRows, areas_of_findings, calls, of_kind, precisions
from cxrbench.evaluate.statistics.jackknife import left_out
from cxrbench.evaluate.statistics.shares import (
    ScoredRows,
    Shares,
    agreement,
    alike,
    areas,
    balanced,
    gradient_of_f1,
    gradient_of_kappa,
    hits,
    means,
)
from cxrbench.specs import catalog
from cxrbench.system.contained import PASSING, containing
from cxrbench.types import KINDS, IntArray, TaskKind, own_report

GROUP = "cxrbench.metrics"  # of the entry points of packages that bring metrics
Worth = Callable[[QueryRows, int], NDArray[np.float64]]  # of each query (n,), among the first so many candidates
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How a number is written: in percent or as it is, with so many decimals."""

    percent: bool = True
    decimals: int = 2


def any_classes(labels: Sequence[str]) -> str:
    """What a metric of any single-label task says of its classes (C,): nothing against them."""
    return ""


@dataclass(frozen=True, slots=True)
class OfFindings:
    """A metric of multi-label tasks: its value from one fold's rows, and what each test unit adds to its error.

    `value` is None where it is not defined, for which `undefined` is the reason.
    """

    value: Callable[[FindingRows], float | None]
    shares: Callable[[Sequence[FindingRows]], Shares]
    undefined: str = "no finding has test images in every fold that show it and that do not"


@dataclass(frozen=True, slots=True)
class OfQueries:
    """A metric of retrieval tasks: the mean of what each query (n,), 0 to 1, comes to.

    `own`: of queries that ask for their own counterpart, and not of those that ask for a class.
    """

    worth: Callable[[QueryRows], NDArray[np.float64]]
    own: bool


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; higher is better, so turn an error round.

    - `name`: as `--metric` takes it; `title`: as a reader sees it.
    - `value`: from the scores (n, C), higher is likelier, and the true classes (n,) int64, 0 to C - 1, of one fold, the
      number within `bounds`, or None where it is not defined, for which `undefined` is the reason. It is defined
      wherever every class has a row.
    - `reads`: whether it depends on the scores, or only on which class has the highest; the latter is much quicker.
    - `why_not`: from the class names (C,) of a cell, why the metric does not fit them; empty where it does.
    - `own_shares`: from the folds of a cell, what each test unit adds to the error. Without it each unit is left out in
      turn (`statistics.jackknife`), for which `value` is asked once for every unit, or, where it reads predictions, for
      every pair of true and predicted class.
    - `shown`: in percent or not, with how many decimals.
    - `of_findings`, `of_queries`: the metric for multi-label and for retrieval tasks; it is one of the kinds of tasks
      that it has a value for.

    Raises SpecError for a name of other than lower-case letters, digits and underscores, for no title,
    and for bounds that are not two finite numbers in order.
    """

    name: str
    title: str
    value: Callable[[FloatArray, IntArray], float | None] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    reads: Literal["scores", "predictions"] = "scores"
    why_not: Callable[[Sequence[str]], str] = any_classes
    undefined: str = "a class has no test image in a fold, so the metric is not defined there"
    own_shares: Callable[[Sequence[ScoredRows]], Shares] | None = None
    shown: NumberFormat = NumberFormat()
    of_findings: OfFindings | None = None
    of_queries: OfQueries | None = None

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not _NAME.fullmatch(self.name):
            raise SpecError(f"metric {self.name!r}: a name has lower-case letters, digits and underscores")
        if not self.title or not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SpecError(f"metric {self.name!r}: a title and finite bounds are needed, the lower first")
        if not self.kinds:
            raise SpecError(f"metric {self.name!r}: it needs a value, of classes, of findings or of queries")

    @property
    def kinds(self) -> tuple[TaskKind, ...]:
        """The kinds of tasks that it is a metric of."""
        own = (self.value is not None, self.of_findings is not None, self.of_queries is not None)
        return tuple(kind for kind, there in zip(KINDS, own, strict=True) if there)

    def unfit(self, kind: TaskKind, labels: Sequence[str]) -> str:
        """Why it fits no cell of a task of this kind with these classes (C,); empty where it does.

        A group of a retrieval task has classes where queries ask for one, and none where they ask for their own.
        """
        if kind not in self.kinds:
            return f"it is no metric of {kind} tasks, which have {', '.join(table_of(kind))}"
        if kind == "retrieval" and self.of_queries is not None:
            wanted = "their own report or image" if self.of_queries.own else "a class"
            return f"it is of queries that ask for {wanted}" if self.of_queries.own == bool(labels) else ""
        return self.why_not(labels) if kind == "single-label" else ""

    def undefined_in(self, kind: TaskKind) -> str:
        """Why a cell of such a task may have no number."""
        return self.of_findings.undefined if kind == "multi-label" and self.of_findings is not None else self.undefined

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """Between what the difference of two values lies."""
        low, high = self.bounds
        return low - high, high - low

    def of(self, fold: AnyRows) -> float:
        """The value of one fold, NaN where it is not defined.

        Raises SpecError for what is no number within the bounds, and UnexpectedError that names the metric where its
        function fails.
        """
        with containing(f"metric {self.name!r}"):
            found = self._value(fold)
            value = math.nan if found is None else float(found)
        low, high = self.bounds
        if found is not None and not low - _ROUNDING <= value <= high + _ROUNDING:
            raise SpecError(f"metric {self.name!r}: its value is {value}, which its bounds {low} and {high} leave out")
        return value

    def _value(self, fold: AnyRows) -> float | None:
        if isinstance(fold, FindingRows):
            return None if self.of_findings is None else self.of_findings.value(fold)
        if isinstance(fold, QueryRows):
            return None if self.of_queries is None else float(self.of_queries.worth(fold).mean())
        return None if self.value is None else self.value(fold.scores, fold.labels)

    def shares(self, folds: Sequence[AnyRows]) -> Shares:
        """What each test unit adds to the error of the mean over folds; these are of a kind that the metric fits.

        Raises DataError for folds that do not fit together, and what `of` raises.
        """
        if queries := of_kind(folds, QueryRows):
            assert self.of_queries is not None
            return means([(fold.unit, self.of_queries.worth(fold)) for fold in queries])
        findings, classes = of_kind(folds, FindingRows), of_kind(folds, ScoredRows)
        if findings:
            assert self.of_findings is not None
            return self.of_findings.shares(findings)
        if self.own_shares is not None:
            return self.own_shares(classes)
        try:
            return left_out(classes, self.of, of_predictions=self.reads == "predictions")
        except DataError as error:
            raise DataError(f"metric {self.name!r}: {error}") from error


_ROUNDING = 1e-9  # by how much a sum may leave the bounds


def _recorded(name: str) -> Callable[[FloatArray, IntArray], float | None]:
    """The value that records hold under this name of `FoldMetrics`."""

    def value(scores: FloatArray, labels: IntArray) -> float | None:
        found: FoldMetrics = fold_metrics(scores, labels)
        number: float | None = getattr(found, name)
        return number

    return value


def _of_findings(name: str) -> Callable[[FindingRows], float | None]:
    """The value that records hold under this name of `FindingMetrics`."""

    def value(rows: FindingRows) -> float | None:
        number: float | None = getattr(finding_metrics(rows.scores, rows.labels, rows.thresholds), name)
        return number

    return value


BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    title="balanced accuracy",
    value=_recorded("balanced_accuracy"),
    reads="predictions",
    own_shares=partial(hits, worth=balanced),
)
ACCURACY = Metric(
    name="accuracy",
    title="accuracy",
    value=_recorded("accuracy"),
    reads="predictions",
    own_shares=partial(hits, worth=alike),
)
MACRO_AUROC = Metric(
    name="macro_auroc",
    title="macro AUROC",
    value=_recorded("macro_auroc"),
    own_shares=areas,
    of_findings=OfFindings(_of_findings("macro_auroc"), areas_of_findings),
)
MACRO_AVERAGE_PRECISION = Metric(
    name="macro_average_precision",
    title="macro average precision",
    of_findings=OfFindings(_of_findings("macro_average_precision"), precisions),
)
MACRO_F1 = Metric(
    name="macro_f1",
    title="macro F1",
    value=_recorded("macro_f1"),
    reads="predictions",
    own_shares=partial(agreement, of=gradient_of_f1),
    of_findings=OfFindings(_of_findings("macro_f1"), partial(calls, by="f1"), NO_VALIDATION),
)
MACRO_MCC = Metric(
    name="macro_mcc",
    title="macro MCC",
    bounds=(-1.0, 1.0),
    of_findings=OfFindings(_of_findings("macro_mcc"), partial(calls, by="mcc"), NO_VALIDATION),
    shown=NumberFormat(percent=False, decimals=3),
)
F1_BEST_ON_TEST = Metric(
    name="f1_best_on_test",
    title="macro F1 at the thresholds that are best on the test images",
    of_findings=OfFindings(_of_findings("f1_best_on_test"), partial(calls, by="f1", on_test=True)),
)
KAPPA = Metric(
    name="kappa",
    title="kappa",
    value=_recorded("kappa"),
    bounds=(-1.0, 1.0),
    reads="predictions",
    undefined="all test images of a fold have one class and all predictions are that class",
    own_shares=partial(agreement, of=gradient_of_kappa),
    shown=NumberFormat(percent=False, decimals=3),
)


def _at(what: str, at: int, worth: Worth, *, own: bool = False) -> Metric:
    return Metric(name=f"{what}_at_{at}", title=f"{what}@{at}", of_queries=OfQueries(partial(_worth, worth, at), own))


def _worth(of: Worth, at: int, rows: QueryRows) -> NDArray[np.float64]:
    return of(rows, at)


RECALL_AT_1 = _at("recall", 1, recalled, own=True)
PRECISION_AT_1 = _at("precision", 1, precise)
TABLE: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        BALANCED_ACCURACY,
        ACCURACY,
        MACRO_AUROC,
        MACRO_F1,
        KAPPA,
        MACRO_AVERAGE_PRECISION,
        MACRO_MCC,
        F1_BEST_ON_TEST,
        RECALL_AT_1,
        _at("recall", 5, recalled, own=True),
        _at("recall", 10, recalled, own=True),
        PRECISION_AT_1,
        *(_at("precision", at, precise) for at in (5, 10, 50)),
        *(_at("hit", at, hit) for at in (1, 5, 10)),
    )
}


def main_metric(kind: TaskKind, group: str) -> Metric:
    """What tables, boards and comparisons show of a task's group where nothing else is asked for."""
    if kind == "retrieval":
        return RECALL_AT_1 if own_report(group) else PRECISION_AT_1
    return MACRO_AUROC if kind == "multi-label" else BALANCED_ACCURACY


def table_of(kind: TaskKind) -> dict[str, Metric]:
    """The built-in metrics of such tasks by name."""
    return {name: metric for name, metric in TABLE.items() if kind in metric.kinds}


def metric_names() -> tuple[str, ...]:
    """Built-in metrics, then those of installed packages by their entry points, of which nothing is imported."""
    return tuple(dict.fromkeys([*TABLE, *sorted(point.name for point in catalog.plugin_points(GROUP))]))


def load_metric(name: str) -> Metric:
    """A metric by name: a row of the table, or what an entry point `NAME = module:OBJECT` of a package names.

    Raises SpecError that names the known ones, the two packages that claim the name, or the package whose metric cannot
    be imported or is none.
    """
    points = [point for point in catalog.plugin_points(GROUP) if point.name == name]
    owners = [*(["cxrbench"] if name in TABLE else []), *map(_package, points)]
    if not owners:
        raise SpecError(f"there is no metric {name!r}; known are: {', '.join(metric_names())}")
    if len(owners) > 1:
        raise SpecError(
            f"two metrics are named {name!r}, of {' and of '.join(owners)}: uninstall one of these packages, or give "
            "its metric another name"
        )
    return TABLE[name] if name in TABLE else _imported(points[0])


def _imported(point: EntryPoint) -> Metric:
    where = f"metric {point.name!r} of {_package(point)} ({point.value})"
    try:
        found = point.load()
    except PASSING:
        raise
    except BaseException as error:  # a package may call `sys.exit()` as it is imported
        told = f"{type(error).__name__}: {error}"
        raise SpecError(f"{where} cannot be imported: {told}. Mend or uninstall the package.") from error
    if not isinstance(found, Metric):
        raise SpecError(f"{where} is no cxrbench.evaluate.metric_table.Metric, but {type(found).__name__}")
    if found.name != point.name:
        raise SpecError(f"{where} calls itself {found.name!r}: its entry point must have the same name")
    return found


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"package {point.dist.name} {point.dist.version}"
