"""From stored embeddings to the numbers of one cell, whatever its protocol."""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import SUMMARISED, fold_metrics, generalised, harmonic_mean, mean_and_spread
from cxrbench.records.record import FoldResult, PromptIdentity, ProtocolIdentity
from cxrbench.records.scores import FoldScores
from cxrbench.runner.checks import require_sound, where
from cxrbench.runner.folds import IdFold, group_labels
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
    return cell.protocol.measure(cell, kept, readings)


def _without(fold: IdFold, left_out: Set[str]) -> IdFold:
    def keep(rows: tuple[tuple[str, ...], NDArray[np.int64]]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        stay = [i for i, image in enumerate(rows[0]) if image not in left_out]
        return tuple(rows[0][i] for i in stay), rows[1][stay]

    return IdFold(fold.fold, {k: keep(rows) for k, rows in fold.train.items()}, keep(fold.test), fold.random_state)


@dataclass(frozen=True, slots=True)
class FoldExtra:
    """What a fold's record holds beyond its metrics."""

    train: tuple[str, ...] = ()
    iterations: int | None = None


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
    summary = {name: mean_and_spread([fold.metrics[name] for fold in results]) for name in SUMMARISED}
    joint = _generalised(cell, predictions, settings)
    return Measured(protocol, results, tuple(predictions), prompts, summary, joint)


def _fold_result(fold: FoldScores, extra: FoldExtra) -> FoldResult:
    return FoldResult(
        fold=fold.fold,
        train=extra.train,
        test_rows=len(fold.ids),
        test_digest=digest.of_lines(fold.ids),
        iterations=extra.iterations,
        metrics=asdict(fold_metrics(fold.scores, fold.labels)),
    )


def _generalised(cell: Cell, predictions: Sequence[FoldScores], settings: Settings) -> dict[str, Any] | None:
    """Base and new balanced accuracy in the joint label space, and their harmonic mean, where a task has both."""
    task = cell.data.task
    if cell.group != "all" or "new" not in task.groups:
        return None
    labels, new = group_labels(task, "all", settings), set(group_labels(task, "new", settings))
    places = [i for i, label in enumerate(labels) if label in new]
    folds = [generalised(fold.scores, fold.labels, places) for fold in predictions]
    base, fresh = mean_and_spread([f.base for f in folds])["mean"], mean_and_spread([f.new for f in folds])["mean"]
    told = [label for label in labels if label in new]
    return {"base": base, "new": fresh, "harmonic_mean": harmonic_mean(base, fresh), "new_classes": told}
