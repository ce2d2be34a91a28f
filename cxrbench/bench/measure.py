"""From stored embeddings to the numbers of one cell."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench import digest
from cxrbench.bench.folds import IdFold, group_labels
from cxrbench.bench.plan import Cell
from cxrbench.bench.predictions import FoldScores
from cxrbench.bench.wording import Wording, wording
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.linear_probe import STRENGTH, fit, probe_scores
from cxrbench.evaluate.metrics import fold_metrics, generalised, harmonic_mean
from cxrbench.evaluate.zero_shot import ClassVectors, class_scores, class_vectors, scores, standardised
from cxrbench.record import FoldResult, PromptIdentity, ProtocolIdentity
from cxrbench.settings import Settings

FloatArray = NDArray[np.float32]
Features = Callable[[str, Sequence[str]], FloatArray]  # tap and image ids to (n, dim)

PROBE_WEIGHT = "balanced"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one cell came to, before it is wrapped into a record."""

    protocol: ProtocolIdentity
    folds: tuple[FoldResult, ...]
    predictions: tuple[FoldScores, ...]
    prompts: PromptIdentity | None
    summary: Mapping[str, Any]
    generalised: Mapping[str, Any] | None


def measure(
    cell: Cell, folds: Sequence[IdFold], part: str, features: Features, left_out: set[str], settings: Settings
) -> Measured:
    """The cell's folds evaluated on the images that could be read; rows of the others are left out of every fold.

    `part` names the part of the split that the folds score. Raises NotApplicableError for classes that the model cannot
    be scored on, DataError for folds that hold too little.
    """
    if cell.shots is not None:
        for fold in folds:  # as drawn: an unreadable image must not end the cell
            _check_shots(fold.train[cell.shots][1], cell.shots)
    kept = [_without(fold, left_out) for fold in folds]
    if cell.protocol == "zero-shot":
        return _zero_shot(cell, kept, part, features, settings)
    return _linear_probe(cell, kept, part, features, settings)


def _without(fold: IdFold, left_out: set[str]) -> IdFold:
    def keep(rows: tuple[tuple[str, ...], NDArray[np.int64]]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        stay = [i for i, image in enumerate(rows[0]) if image not in left_out]
        return tuple(rows[0][i] for i in stay), rows[1][stay]

    return IdFold(fold.fold, {k: keep(rows) for k, rows in fold.train.items()}, keep(fold.test), fold.random_state)


def _zero_shot(cell: Cell, folds: Sequence[IdFold], part: str, features: Features, settings: Settings) -> Measured:
    model, labels = cell.model, group_labels(cell.data.task, cell.group, settings)
    name = model.card.view_name(cell.group, settings.dlilp_head)
    view = model.card.zero_shot.views[name]
    if view.scoring == "interaction":
        raise NotApplicableError(
            f"{model.card.name} scores tokens of image and text together; such scores are not computed by runs, "
            "only its linear probes are"
        )
    scale = model.logit_scale(name)
    drawn = [wording(cell.prompts, labels, settings, f.random_state) if cell.prompts else None for f in folds]
    distinct = _distinct(folds, drawn, whole=settings.resplit != "released")
    predictions = []
    for fold, words in distinct:
        images = features(view.tap, fold.test[0])
        if words is None:
            found = scores(images, model.prototypes(labels), scale)
        else:
            found = _prompt_scores(cell, images, words, scale, settings)
        predictions.append(FoldScores(fold.fold, *fold.test, found))
    protocol = ProtocolIdentity(protocol="zero-shot", view=name, tap=view.tap, part=part, logit_scale=scale)
    prompts = _prompt_identity(cell, [words for _, words in distinct])
    return _measured(cell, settings, protocol, predictions, [FoldExtra() for _ in predictions], prompts)


def _prompt_scores(
    cell: Cell, images: FloatArray, words: Wording, scale: float, settings: Settings
) -> NDArray[np.floating[Any]]:
    """Scores (n, C) of image vectors against the prompts of each class, pooled and standardised as the card says."""
    pooling = cell.model.card.zero_shot.pooling
    projected = pooling == "projected-embedding"
    rows = [cell.model.prompt_vectors(prompts, settings, projected=projected) for prompts in words.values()]
    vectors, owner = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    if pooling == "mean" or pooling == "max":  # noqa: PLR1714 - a tuple would not narrow the type
        found = class_scores(scores(images, vectors, scale), owner, pooling)
    else:
        how: ClassVectors = "mean" if pooling == "embedding" and settings.ensemble == "released" else "renormalised"
        found = scores(images, class_vectors(vectors, owner, len(rows), how), scale)
    return standardised(found) if cell.model.card.zero_shot.standardised else found


def _distinct(
    folds: Sequence[IdFold], drawn: Sequence[Wording | None], *, whole: bool
) -> list[tuple[IdFold, Wording | None]]:
    """Folds that differ in test images or prompts. Equal ones are scored once; disjoint parts are scored together."""
    if len({fold.test[0] for fold in folds}) > 1 and whole and all(words == drawn[0] for words in drawn):
        ids = tuple(image for fold in folds for image in fold.test[0])
        joined = IdFold(0, {}, (ids, np.concatenate([fold.test[1] for fold in folds])), None)
        return [(joined, drawn[0])]
    first = (folds[0].test[0], drawn[0])
    if all((fold.test[0], words) == first for fold, words in zip(folds, drawn, strict=True)):
        return [(folds[0], drawn[0])]
    return list(zip(folds, drawn, strict=True))


def _prompt_identity(cell: Cell, drawn: Sequence[Wording | None]) -> PromptIdentity:
    if cell.prompts is None:
        return PromptIdentity(set="prototypes", digest=cell.model.card.digest, source="prototypes")
    told = tuple(dict(words) for words in drawn if words is not None)
    shared = told[:1] if all(words == told[0] for words in told) else told
    return PromptIdentity(set=cell.prompts.name, digest=cell.prompts.digest, source="prompts", drawn=shared)


@dataclass(frozen=True, slots=True)
class FoldExtra:
    """What a fold's record holds beyond its metrics."""

    train: tuple[str, ...] = ()
    iterations: int | None = None


def _linear_probe(cell: Cell, folds: Sequence[IdFold], part: str, features: Features, settings: Settings) -> Measured:
    assert cell.shots is not None
    labels = group_labels(cell.data.task, cell.group, settings)
    tap = cell.model.card.probe_tap(settings.features, cell.shots, cell.group)
    predictions, extras, version = [], [], ""
    for fold in folds:
        train, truth = fold.train[cell.shots]
        probe = fit(features(tap, train), truth, len(labels), solver=settings.solver)
        predictions.append(FoldScores(fold.fold, *fold.test, probe_scores(probe, features(tap, fold.test[0]))))
        extras.append(FoldExtra(train, probe.iterations))
        version = probe.version
    protocol = ProtocolIdentity(
        protocol="linear-probe",
        tap=tap,
        part=part,
        shots=cell.shots,
        C=STRENGTH,
        class_weight=PROBE_WEIGHT,
        solver=settings.solver,
        solver_version=version,
    )
    return _measured(cell, settings, protocol, predictions, extras, None)


def _check_shots(labels: NDArray[np.int64], shots: int) -> None:
    """Nothing, or DataError: no class has so many images, so this is no K-shot probe."""
    most = int(np.bincount(labels).max()) if len(labels) else 0
    if most < shots:
        raise DataError(f"K = {shots}: no class of the training part has more than {most} images; ask for fewer shots")


def _measured(
    cell: Cell,
    settings: Settings,
    protocol: ProtocolIdentity,
    predictions: Sequence[FoldScores],
    extras: Sequence[FoldExtra],
    prompts: PromptIdentity | None,
) -> Measured:
    results = tuple(_fold_result(fold, extra) for fold, extra in zip(predictions, extras, strict=True))
    summary = {name: _spread([fold.metrics[name] for fold in results]) for name in _SUMMARISED}
    joint = _generalised(cell, predictions, settings)
    return Measured(protocol, results, tuple(predictions), prompts, summary, joint)


_SUMMARISED = ("balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "kappa")


def _fold_result(fold: FoldScores, extra: FoldExtra) -> FoldResult:
    if not fold.ids:
        raise DataError(f"fold {fold.fold}: none of its test images could be read")
    return FoldResult(
        fold=fold.fold,
        train=extra.train,
        test_rows=len(fold.ids),
        test_digest=digest.of_lines(fold.ids),
        iterations=extra.iterations,
        metrics=asdict(fold_metrics(fold.scores, fold.labels)),
    )


def _spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and spread over folds (ddof 0: the folds are all there are); None as soon as one fold has none."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return {"mean": None, "std": None, "folds": len(values)}
    return {"mean": statistics.fmean(present), "std": statistics.pstdev(present), "folds": len(values)}


def _generalised(cell: Cell, predictions: Sequence[FoldScores], settings: Settings) -> dict[str, Any] | None:
    """Base and new balanced accuracy in the joint label space, and their harmonic mean, where a task has both."""
    task = cell.data.task
    if cell.group != "all" or "new" not in task.groups:
        return None
    labels, new = group_labels(task, "all", settings), set(group_labels(task, "new", settings))
    places = [i for i, label in enumerate(labels) if label in new]
    folds = [generalised(fold.scores, fold.labels, places) for fold in predictions]
    base, fresh = _spread([f.base for f in folds])["mean"], _spread([f.new for f in folds])["mean"]
    return {"base": base, "new": fresh, "harmonic_mean": harmonic_mean(base, fresh)}
