"""One record as a person reads it: what made the number, every fold, and what the paper says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cxrbench.analysis.cell import cell_interval, finding_intervals, harmonic_interval
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import (
    BALANCED_ACCURACY,
    MACRO_AUROC,
    MACRO_AVERAGE_PRECISION,
    MACRO_F1,
    MACRO_MCC,
    Metric,
    table_of,
)
from cxrbench.evaluate.metrics import FoldMetrics
from cxrbench.evaluate.statistics.interval import Interval, covering
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import Record, TrainedOn
from cxrbench.records.row_order import reordered_decisions, row_order_note
from cxrbench.records.validity import why_not
from cxrbench.reports.comparisons import interval_text
from cxrbench.types import TaskKind, shots_in_words

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


_TOLD: Mapping[TaskKind, tuple[Metric, ...]] = {
    "single-label": (BALANCED_ACCURACY, MACRO_AUROC),
    "multi-label": (MACRO_AUROC, MACRO_AVERAGE_PRECISION, MACRO_F1, MACRO_MCC),
    "retrieval": tuple(table_of("retrieval").values()),
}
_JOINT = ("base", "new", "harmonic_mean")


def detail(record: Record, cell: ScoredCell) -> str:
    """The record in lines with intervals from its predictions, the cell.

    Metrics are rendered as its variant rounds them (setting `metrics.rounding`).
    """
    return "\n".join([*_identity(record), *_intervals(cell), *_folds(record), *_published(record)]) + "\n"


def _intervals(cell: ScoredCell) -> Iterator[str]:
    told: dict[str, Interval | None] = {
        **{metric.title: cell_interval(cell, metric) for metric in _fitting(cell)},
        **({f"AUROC of {name}": one for name, one in finding_intervals(cell).items()} if cell.findings_of else {}),
        "harmonic mean of base and new classes": harmonic_interval(cell),
    }
    known = [(name, found) for name, found in told.items() if found is not None]
    yield f"95 % intervals in percent: {covering([(cell.record.data.task, found) for _, found in known])}"
    yield from (f"  {name} {interval_text(found)}" for name, found in known)
    yield from (f"  {reason}" for reason in dict.fromkeys(found.reason for _, found in known if found.reason))


def _span(fewest: int, most: int) -> str:
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


def _fitting(cell: ScoredCell) -> Iterator[Metric]:
    """The metrics that are told of such a cell."""
    yield from (metric for metric in _TOLD[cell.kind] if not metric.unfit(cell.kind, cell.record.data.labels))


def _identity(record: Record) -> Iterator[str]:
    model, data, how = record.model, record.data, record.protocol
    shots = "" if how.shots is None else f", {shots_in_words(how.shots)}"
    yield f"{model.name} on {data.task}, group {data.group}: {how.protocol}{shots}"
    if record.synthetic:
        yield "SYNTHETIC images or weights: no result"
    yield f"weights      {model.weights_file} sha256 {model.weights_sha256} tensors {model.weights_tensors}"
    if model.weights_claimed is not None:
        yield f"             converted from a file with sha256 {model.weights_claimed}, as its header alone says"
    if record.given:
        yield "             vectors that were computed elsewhere: of which pixels, and by what, is not known here"
    yield f"adapter      {model.adapter} code {model.code}, tap {how.tap}"
    yield f"split        {data.split} digest {data.partition_digest} ({data.reference} to the reference)"
    if data.trained_on is not None:
        yield from _trained_on(data.trained_on, data.labels)
    yield f"recipe       {record.preprocessing.name} digest {record.preprocessing.digest}"
    if record.prompts is not None:
        yield f"prompts      {record.prompts.set} digest {record.prompts.digest}"
    if how.solver is not None:
        yield f"solver       {how.solver} {how.solver_version}, C = {how.C}, class weight {how.class_weight}"
    if how.view is not None and how.shots:
        yield f"class side   view {how.view}, {how.pooling or 'prototypes'}, logit scale {how.logit_scale}"
    yield from (f"{name.replace('_', ' ') + ' ':<13}{value}" for name, value in how.options.items())
    if reordered_decisions(record) is not None:
        settled = "another order of the training images changes no decision of this program, in float64"
        yield f"row order    {row_order_note(record) or settled}"
    if how.short:
        few = ", ".join(f"{label} {images}" for label, images in how.short.items())
        yield f"few images   {few}, for K = {how.shots}"
    if how.trained:
        yield f"trained on   {', '.join(f'{label} {_span(*own)}' for label, own in how.trained.items())} images a fold"
    yield f"variant      {record.variant} version {record.variant_version} digest {record.variant_digest}"
    yield f"code         {record.code.version} sources {record.code.sources} commit {record.code.commit or 'unknown'}"
    yield from (f"  vectors made {by}" for by in record.other_engines)
    if data.shared_patients:
        yield f"patients     {data.shared_patients} of the test images' patients gave training images, too"
    yield f"left out     {len(data.left_out)} unreadable, {data.missing} missing images"
    yield from (f"  {image}: {reason}" for image, reason in data.left_out.items())
    yield from (f"  {rows} rows of the label tables: {reason}" for reason, rows in data.rows_left_out.items())


def _trained_on(other: TrainedOn, labels: Sequence[str]) -> Iterator[str]:
    """The task whose training images were fitted to, the labels as either spells them, and what keeps them apart."""
    how = "the strict mapping" if other.mapping is None else f"the mapping {other.mapping}"
    yield f"trained on   {other.task}, split {other.split}, part {other.part}, digest {other.partition_digest}"
    yield f"             ({other.reference} to the reference), recipe digest {other.recipe}"
    told = (one if one == own else f"{one} as {own}" for one, own in zip(other.labels, labels, strict=True))
    yield f"             {len(labels)} shared labels by {how}: {', '.join(told)}"
    yield f"             rows that may be drawn: {', '.join(f'{n} {c}' for n, c in other.rows_per_label.items())}"
    yield from (f"             left out: {rows} rows {why}" for why, rows in other.left_out.items())
    apart = {"patients": "no patient is on both sides", "collections": "of another collection"}
    yield f"             {apart.get(other.apart, f'not known to be apart: {other.doubt}')}"


def _folds(record: Record) -> Iterator[str]:
    if record.settings.rounding == "released" and record.data.kind == "single-label":
        yield from _released(record)
        return
    for name, spread in record.summary.items():
        yield f"{name}: mean {spread['mean']} std {spread['std']} over {spread['folds']} folds"
    for fold in record.folds:
        yield f"fold {fold.fold}, {fold.test_rows} test rows"
        yield from (f"  {name}: {value}" for name, value in fold.metrics.items() if value not in (None, {}))


def _released(record: Record) -> Iterator[str]:
    """Metrics by the released names, rounded as the released code rounds them."""
    from cxrbench.evaluate.metrics import FoldMetrics

    report = official_rounding([FoldMetrics(**fold.metrics) for fold in record.folds])
    for name in (name for name in report.average if name.endswith("_avg")):
        spread = report.average[f"{name.removesuffix('_avg')}_std"]
        yield f"{name.removesuffix('_avg')}: {report.average[name]} (std {spread})"
    for fold, rendered in zip(record.folds, report.folds, strict=True):
        yield f"fold {fold.fold}, {fold.test_rows} test rows"
        yield from (f"  {name}: {value}" for name, value in rendered.items())


def _published(record: Record) -> Iterator[str]:
    if record.generalised is not None:
        yield "joint label space: " + ", ".join(f"{name} {record.generalised[name]}" for name in _JOINT)
    reasons = why_not(record)
    verdict = f"not comparable: {'; '.join(reasons)}" if reasons else "comparable"
    for cell in record.published:
        yield f"paper, Table {cell.table}, {cell.row}, {cell.column}: {cell.value} ({verdict})"
