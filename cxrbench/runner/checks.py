"""What no number can be made from, refused by name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, IntegrityError, RunError
from cxrbench.runner.folds import IdFold, Rows, equal_shots, group_labels
from cxrbench.runner.protocol import Cell
from cxrbench.specs.settings import Settings
from cxrbench.types import Shots


def where(cell: Cell) -> str:
    """The cell's task and group, for messages."""
    return f"{cell.data.task.name}, group {cell.group}"


def require_sound(scored: NDArray[np.floating[Any]], cell: Cell, rows: int, classes: int) -> None:
    """Nothing, or RunError: scores are not (rows, classes), are no real numbers, or not all finite."""
    if scored.shape != (rows, classes) or not np.issubdtype(scored.dtype, np.floating):
        raise RunError(
            f"{cell.name}: {cell.protocol.name} gave scores {scored.shape} of {scored.dtype}; {(rows, classes)} of "
            "float32 or float64 are needed, a row an image and a column a class"
        )
    if not np.isfinite(scored).all():
        lost = int((~np.isfinite(scored)).any(axis=1).sum())
        raise RunError(f"{cell.name}: the scores of {lost} of {len(scored)} images are not finite; look at the weights")


def finite_scale(cell: Cell, view: str) -> float:
    """The factor from cosine to logit; raises IntegrityError if it is infinite or not a number."""
    scale = cell.model.logit_scale(view)
    if not np.isfinite(scale):
        raise IntegrityError(
            f"{cell.model.card.name}: the factor from cosine to logit of view {view!r} is {scale}: the logit scale in "
            "the weights is damaged or misread. Linear probes do not need it."
        )
    return scale


def training_images(
    folds: Sequence[Rows], shots: Shots, labels: Sequence[str], settings: Settings
) -> dict[str, dict[str, Any]]:
    """What a record says of the images trained on: `short` of K of each class, `trained` where there is no such K."""
    if isinstance(shots, int) and equal_shots(shots, settings):
        return {"short": short_classes(folds, shots, labels)}
    counts = list(zip(*(_images_of(fold, len(labels)) for fold in folds), strict=True))
    return {"trained": {label: (min(own), max(own)) for label, own in zip(labels, counts, strict=True)}}


def short_classes(folds: Iterable[Rows], shots: int, labels: Sequence[str]) -> dict[str, int]:
    """Labels of which some fold trains on fewer distinct images than `shots`, with the fewest; repeats count once."""
    fewest: dict[str, int] = {}
    for fold in folds:
        for label, images in zip(labels, _images_of(fold, len(labels)), strict=True):
            if images < shots:
                fewest[label] = min(images, fewest.get(label, images))
    return fewest


def _images_of(fold: Rows, classes: int) -> list[int]:
    """How many distinct images show each label."""
    ids, owner = fold
    shown = [owner == number if owner.ndim == 1 else owner[:, number] == 1 for number in range(classes)]
    return [len({ids[row] for row in np.flatnonzero(own)}) for own in shown]


def refuse_short(short: Mapping[str, int], shots: int, where: str) -> None:
    """Raise DataError that names the classes, if there are any."""
    if short:
        told = ", ".join(f"{label} {images}" for label, images in short.items())
        raise DataError(
            f"{where}, K = {shots}: the training part has fewer images of {told}. Ask for fewer shots, or take what "
            "there is by --set fewshot.short=allowed, which the record says."
        )


def require_enough(cell: Cell, folds: Sequence[IdFold], settings: Settings) -> None:
    """Nothing, or DataError: the folds, as drawn from all images of the split, are too small for the cell's shots.

    Shares, and draws that are to give classes unequal numbers, are not: what cannot do with them says so itself.
    """
    if cell.shots is None:
        return
    labels, drawn = group_labels(cell.data.task, cell.group, settings), [fold.train[cell.shots] for fold in folds]
    numbered = cell.shots if isinstance(cell.shots, int) and equal_shots(cell.shots, settings) else 0
    for _, own in drawn:
        require_shots(own, numbered, where(cell))
        if cell.data.task.kind == "multi-label":
            _require_both(own, labels, where(cell))
    if numbered and settings.short_classes == "refused":
        refuse_short(short_classes(drawn, numbered, labels), numbered, where(cell))


def _require_both(labels: NDArray[np.int64], names: Sequence[str], where: str) -> None:
    """Nothing, or DataError: findings that no drawn training image shows, or that all show, can have no probe."""
    for value, word in ((1, "shows"), (0, "is known not to show")):
        if lost := [name for name, there in zip(names, (labels == value).any(axis=0), strict=True) if not there]:
            raise DataError(
                f"{where}: no image that is drawn from the training part {word} {', '.join(lost)}, so no probe can "
                "learn it. Take it out of the task's labels, choose a group without it, or another split."
            )


def require_shots(labels: NDArray[np.int64], shots: int, where: str) -> None:
    """Nothing, or DataError: no class has so many images, so this is no K-shot probe; labels are (n,) or (n, C)."""
    counts = np.bincount(labels) if labels.ndim == 1 else (labels == 1).sum(axis=0)
    most = int(counts.max()) if len(labels) else 0
    if most < shots:
        raise DataError(
            f"{where}, K = {shots}: no class of the training part has more than {most} images; ask for fewer shots"
        )
