"""From stored embeddings to the numbers of one cell."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, FewRowsError
from cxrbench.evaluate.linear_probe import STRENGTH, fit, probe_scores
from cxrbench.evaluate.metrics import SUMMARISED, fold_metrics, generalised, harmonic_mean, mean_and_spread
from cxrbench.evaluate.zero_shot import scores
from cxrbench.records.record import FoldResult, PromptIdentity, ProtocolIdentity
from cxrbench.records.scores import FoldScores
from cxrbench.runner.cells import Cell
from cxrbench.runner.checks import finite, finite_scale, refuse_short, require_shots, short_classes, where
from cxrbench.runner.folds import IdFold, group_labels
from cxrbench.runner.scoring import Readings, prompt_scores, single_prompts
from cxrbench.runner.wording import Wording
from cxrbench.specs.settings import Settings
from cxrbench.store import digest

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
    single_prompts: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Basis:
    """What a cell is measured on: its folds, the words of each (None: probes, prototypes), the part that is scored.

    Rows of images that are `left_out` could not be read, and are in no fold.
    """

    folds: Sequence[IdFold]
    words: Sequence[Wording | None]
    part: str
    left_out: Set[str]
    settings: Settings


def measure(cell: Cell, basis: Basis, readings: Readings) -> Measured:
    """The cell's folds evaluated on the images that could be read.

    Raises NotApplicableError for classes that the model cannot be scored on, DataError for folds that hold too little,
    IntegrityError for a logit scale and RunError for scores that are not finite.
    """
    cell.model.text_engines.clear()  # the record is to name those of this cell
    if cell.shots is not None:
        for fold in basis.folds:  # as drawn: an unreadable image must not end the cell
            require_shots(fold.train[cell.shots][1], cell.shots, where(cell))
        if basis.settings.short_classes == "refused":
            refuse_short(_short(cell, cell.shots, basis), cell.shots, where(cell))
    kept = replace(basis, folds=[_without(fold, basis.left_out) for fold in basis.folds])
    for fold in kept.folds:
        if not fold.test[0]:
            raise DataError(f"{where(cell)}, fold {fold.fold}: none of its test images could be read")
    return _zero_shot(cell, kept, readings) if cell.protocol == "zero-shot" else _linear_probe(cell, kept, readings)


def _short(cell: Cell, shots: int, basis: Basis) -> dict[str, int]:
    labels = group_labels(cell.data.task, cell.group, basis.settings)
    return short_classes((fold.train[shots] for fold in basis.folds), shots, labels)


def _without(fold: IdFold, left_out: Set[str]) -> IdFold:
    def keep(rows: tuple[tuple[str, ...], NDArray[np.int64]]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        stay = [i for i, image in enumerate(rows[0]) if image not in left_out]
        return tuple(rows[0][i] for i in stay), rows[1][stay]

    return IdFold(fold.fold, {k: keep(rows) for k, rows in fold.train.items()}, keep(fold.test), fold.random_state)


def _zero_shot(cell: Cell, basis: Basis, readings: Readings) -> Measured:
    model, settings = cell.model, basis.settings
    labels = group_labels(cell.data.task, cell.group, settings)
    name = model.card.view_name(cell.group, settings.dlilp_head)
    view, how = model.card.views[name], model.card.zero_shot
    assert how is not None  # it has a view
    scale = finite_scale(cell, name)
    distinct = _distinct(basis.folds, basis.words, whole=settings.resplit != "released")
    predictions = []
    for fold, words in distinct:
        if words is None:
            scored = scores(readings.vectors(view.tap, fold.test[0]), model.prototypes(labels), scale)
        else:
            scored = prompt_scores(model, name, fold.test[0], words, readings, settings)
        predictions.append(FoldScores(fold.fold, *fold.test, finite(scored, cell)))
    worded = any(words is not None for _, words in distinct)
    protocol = ProtocolIdentity(
        protocol="zero-shot",
        view=name,
        tap=view.tap,
        part=basis.part,
        logit_scale=scale,
        scoring=view.scoring,
        pooling=how.pooling if worded else None,
        standardised=how.standardised and worded,
    )
    prompts = _prompt_identity(cell, settings, view.scoring, [words for _, words in distinct])
    worded_folds = [(fold, words) for fold, words in distinct if words is not None]
    singles = single_prompts(model, name, worded_folds, readings, settings)
    found = _measured(cell, settings, protocol, predictions, [FoldExtra() for _ in predictions], prompts)
    return replace(found, single_prompts=singles)


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


def _prompt_identity(cell: Cell, settings: Settings, scoring: str, drawn: Sequence[Wording | None]) -> PromptIdentity:
    if cell.prompts is None:
        classes = group_labels(cell.data.task, cell.group, settings)
        return PromptIdentity(set="prototypes", digest=digest.of_json(classes), source="prototypes")
    told = [words for words in drawn if words is not None]
    told = told[:1] if all(words == told[0] for words in told) else told
    return PromptIdentity(
        set=cell.prompts.name,
        digest=cell.prompts.digest,
        source="prompts",
        drawn=tuple(dict(words.prompts) for words in told),
        against=tuple(dict(words.against) for words in told if words.against),
        asked=tuple(words.texts for words in told) if scoring == "interaction" else (),
        edition=told[0].edition,
    )


@dataclass(frozen=True, slots=True)
class FoldExtra:
    """What a fold's record holds beyond its metrics."""

    train: tuple[str, ...] = ()
    iterations: int | None = None


def _linear_probe(cell: Cell, basis: Basis, readings: Readings) -> Measured:
    assert cell.shots is not None
    settings, fitted_to = basis.settings, cell.model.card.probe.labels
    labels = group_labels(cell.data.task, cell.group, settings)
    tap = cell.model.card.probe_tap(settings.features, cell.shots, cell.group)
    predictions, extras, version = [], [], ""
    for fold in basis.folds:
        train, truth = fold.train[cell.shots]
        told = shuffled(truth, f"{cell.data.task.name}/{cell.group}/{fold.fold}") if fitted_to == "shuffled" else truth
        try:
            probe = fit(readings.vectors(tap, train), told, len(labels), solver=settings.solver)
        except FewRowsError as error:
            raise error.named(f"{where(cell)}, fold {fold.fold}, K = {cell.shots}", labels) from error
        scored = probe_scores(probe, readings.vectors(tap, fold.test[0]))
        predictions.append(FoldScores(fold.fold, *fold.test, finite(scored, cell)))
        extras.append(FoldExtra(train, probe.iterations))
        version = probe.version
    protocol = ProtocolIdentity(
        protocol="linear-probe",
        tap=tap,
        part=basis.part,
        labels=fitted_to,
        shots=cell.shots,
        C=STRENGTH,
        class_weight=PROBE_WEIGHT,
        solver=settings.solver,
        solver_version=version,
        short=_short(cell, cell.shots, basis),
    )
    return _measured(cell, settings, protocol, predictions, extras, None)


def shuffled(labels: NDArray[np.int64], seed: str) -> NDArray[np.int64]:
    """The same labels in an order that `seed` alone decides: what a negative control is fitted to."""
    rng = np.random.default_rng(int(digest.of_bytes(seed.encode()), 16))
    return rng.permutation(labels)


def _measured(
    cell: Cell,
    settings: Settings,
    protocol: ProtocolIdentity,
    predictions: Sequence[FoldScores],
    extras: Sequence[FoldExtra],
    prompts: PromptIdentity | None,
) -> Measured:
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
