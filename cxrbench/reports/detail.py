"""One record as a person reads it: what made the number, every fold, and what the paper says."""

from collections.abc import Iterator

from cxrbench.analysis.cell import cell_interval, harmonic_interval
from cxrbench.evaluate.statistics.uncertainty import Interval, covering
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import Record
from cxrbench.records.validity import why_not
from cxrbench.reports.comparisons import interval_text

_JOINT = ("base", "new", "harmonic_mean")


def detail(record: Record, cell: ScoredCell) -> str:
    """The record in lines with intervals from its predictions, the cell.

    Metrics are rendered as its variant rounds them (setting `metrics.rounding`).
    """
    return "\n".join([*_identity(record), *_intervals(cell), *_folds(record), *_published(record)]) + "\n"


def _intervals(cell: ScoredCell) -> Iterator[str]:
    told: dict[str, Interval | None] = {
        "balanced accuracy": cell_interval(cell, "balanced_accuracy"),
        "macro AUROC": cell_interval(cell, "macro_auroc"),
        "harmonic mean of base and new classes": harmonic_interval(cell),
    }
    known = [(name, found) for name, found in told.items() if found is not None]
    yield f"95 % intervals in percent: {covering([(cell.record.data.task, found) for _, found in known])}"
    yield from (f"  {name} {interval_text(found)}" for name, found in known)
    yield from (f"  {reason}" for reason in dict.fromkeys(found.reason for _, found in known if found.reason))


def _identity(record: Record) -> Iterator[str]:
    model, data, how = record.model, record.data, record.protocol
    yield f"{model.name} on {data.task}, group {data.group}: {how.protocol}" + (
        f", K = {how.shots}" if how.shots else ""
    )
    if record.synthetic:
        yield "MADE images or weights: no result"
    yield f"weights      {model.weights_file} sha256 {model.weights_sha256} tensors {model.weights_tensors}"
    if model.weights_claimed is not None:
        yield f"             converted from a file with sha256 {model.weights_claimed}, as its header alone says"
    yield f"adapter      {model.adapter} code {model.code}, tap {how.tap}"
    yield f"split        {data.split} digest {data.partition_digest} ({data.reference} to the reference)"
    yield f"recipe       {record.preprocessing.name} digest {record.preprocessing.digest}"
    if record.prompts is not None:
        yield f"prompts      {record.prompts.set} digest {record.prompts.digest}"
    if how.solver is not None:
        yield f"solver       {how.solver} {how.solver_version}, C = {how.C}, class weight {how.class_weight}"
    if how.short:
        few = ", ".join(f"{label} {images}" for label, images in how.short.items())
        yield f"few images   {few}, for K = {how.shots}"
    yield f"variant      {record.variant} version {record.variant_version} digest {record.variant_digest}"
    yield f"code         {record.code.version} sources {record.code.sources} commit {record.code.commit or 'unknown'}"
    yield from (f"  vectors made {by}" for by in record.other_engines)
    yield f"left out     {len(data.left_out)} unreadable, {data.missing} missing images"
    yield from (f"  {image}: {reason}" for image, reason in data.left_out.items())


def _folds(record: Record) -> Iterator[str]:
    if record.settings.rounding == "released":
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
    from cxrbench.evaluate.released_rounding import official_rounding

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
