"""From stored embeddings to the numbers of one cell, whatever its protocol."""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.findings import chosen_thresholds, metrics_of, summarised
from cxrbench.evaluate.metrics import generalised, harmonic_mean, mean_and_spread
from cxrbench.records.record import FoldResult, PromptIdentity, ProtocolIdentity, Reordered
from cxrbench.records.scores import FoldScores
from cxrbench.runner.checks import require_sound, where
from cxrbench.runner.folds import IdFold, Rows, group_labels
from cxrbench.runner.protocol import Basis, Cell, Measured, Readings
from cxrbench.specs.settings import Settings
from cxrbench.store import digest


def measure(cell: Cell, basis: Basis, readings: Readings) -> Measured:
    """The cell's folds evaluated on the images that could be read.

    Raises NotApplicableError for classes that the model cannot be scored on, DataError for folds that hold too little,
    IntegrityError for a logit scale and RunError for scores that are not finite.
    """
    cell.model.text_engines.clear()  # the record is to name those of this cell
    kept = replace(basis, folds=[_without(fold, basis.left_out) for fold in basis.folds])
    for fold in kept.folds:
        if not fold.test[0]:
            raise DataError(f"{where(cell)}, fold {fold.fold}: none of its test images could be read")
        if fold.valid is not None and not fold.valid[0]:
            raise DataError(f"{where(cell)}, fold {fold.fold}: none of its validation images could be read")
    return cell.protocol.measure(cell, kept, readings)


def _without(fold: IdFold, left_out: Set[str]) -> IdFold:
    def keep(rows: Rows) -> Rows:
        stay = [i for i, image in enumerate(rows[0]) if image not in left_out]
        return tuple(rows[0][i] for i in stay), rows[1][stay]

    train, valid = {k: keep(rows) for k, rows in fold.train.items()}, None if fold.valid is None else keep(fold.valid)
    return IdFold(fold.fold, train, keep(fold.test), fold.random_state, valid)


@dataclass(frozen=True, slots=True)
class FoldExtra:
    """What a fold's record holds beyond its metrics."""

    train: tuple[str, ...] = ()
    iterations: int | None = None
    reordered: Reordered | None = None


def fold_scores(cell: Cell, fold: IdFold, scores: NDArray[np.floating[Any]], classes: int) -> FoldScores:
    """A fold's scores (n, C) of all images in `fold.scored`: those of test images, with thresholds from the others.

    Raises RunError for scores that are not one finite number for each of these images and each class.
    """
    require_sound(scores, cell, len(fold.scored), classes)
    first = len(fold.test[0])
    thresholds = {} if fold.valid is None else chosen_thresholds(scores[first:], fold.valid[1])
    return FoldScores(fold.fold, *fold.test, scores[:first], thresholds)


def reordered(cell: Cell, first: FoldScores, second: FoldScores) -> Reordered:
    """What a second fit to the same rows in another order decides otherwise on a fold's test images.

    Its metric is the first that records sum up, which is the main one.
    """
    metric, multi_label = summarised(cell.data.task.kind, cell.group)[0], first.labels.ndim == 2
    decided = [_ranks(one.scores) if multi_label else one.scores.argmax(axis=1)[:, None] for one in (first, second)]
    found = asdict(metrics_of(second.scores, second.labels, second.thresholds))
    return Reordered(changed=int((decided[0] != decided[1]).any(axis=1).sum()), metric=metric, value=found[metric])


def _ranks(scores: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The place (n, C) of each image among all, finding by finding, which is all that areas go by."""
    return np.argsort(np.argsort(scores, axis=0, kind="stable"), axis=0)


def measured(
    cell: Cell,
    settings: Settings,
    protocol: ProtocolIdentity,
    predictions: Sequence[FoldScores],
    extras: Sequence[FoldExtra],
    prompts: PromptIdentity | None,
) -> Measured:
    """The metrics of every fold, their means, and base against new classes where the task has both.

    Raises RunError for scores that are not one finite number for each image and class.
    """
    classes = len(group_labels(cell.data.task, cell.group, settings))
    for fold in predictions:
        require_sound(fold.scores, cell, len(fold.ids), classes)
    results = tuple(_fold_result(fold, extra) for fold, extra in zip(predictions, extras, strict=True))
    summary = {
        name: mean_and_spread([fold.metrics[name] for fold in results])
        for name in summarised(cell.data.task.kind, cell.group)
    }
    joint = _generalised(cell, predictions, settings)
    return Measured(protocol, results, tuple(predictions), prompts, summary, joint)


def _fold_result(fold: FoldScores, extra: FoldExtra) -> FoldResult:
    return FoldResult(
        fold=fold.fold,
        train=extra.train,
        test_rows=len(fold.ids),
        test_digest=digest.of_lines(fold.ids),
        iterations=extra.iterations,
        reordered=extra.reordered,
        thresholds=fold.thresholds,
        metrics=asdict(metrics_of(fold.scores, fold.labels, fold.thresholds)),
    )


def _generalised(cell: Cell, predictions: Sequence[FoldScores], settings: Settings) -> dict[str, Any] | None:
    """Base and new balanced accuracy in the joint label space, and their harmonic mean, where a task has both."""
    task = cell.data.task
    if cell.group != "all" or "new" not in task.groups or task.kind == "multi-label":
        return None  # findings do not compete: the groups of their own say all
    labels, new = group_labels(task, "all", settings), set(group_labels(task, "new", settings))
    places = [i for i, label in enumerate(labels) if label in new]
    folds = [generalised(fold.scores, fold.labels, places) for fold in predictions]
    base, fresh = mean_and_spread([f.base for f in folds])["mean"], mean_and_spread([f.new for f in folds])["mean"]
    told = [label for label in labels if label in new]
    return {"base": base, "new": fresh, "harmonic_mean": harmonic_mean(base, fresh), "new_classes": told}
