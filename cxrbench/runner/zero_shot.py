"""Zero-shot as a protocol: images scored against prompts, or against class vectors of the model's own."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from cxrbench.evaluate.zero_shot import scores
from cxrbench.records.record import PromptIdentity, ProtocolIdentity
from cxrbench.records.scores import FoldScores
from cxrbench.runner.checks import finite_scale
from cxrbench.runner.folds import IdFold, group_labels
from cxrbench.runner.measure import FoldExtra, measured
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Basis, Cell, Measured, Protocol, Readings
from cxrbench.runner.scoring import prompt_scores, single_prompts
from cxrbench.runner.wording import ClassPrompts
from cxrbench.specs.card import ModelCard
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings
from cxrbench.store import digest


class ZeroShot(Protocol):
    """No training image; a model takes part by a text side or by prototypes."""

    name = "zero-shot"
    worded = True

    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[int], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[int | None, PromptSet | None]]:
        """One cell for each prompt set, or one where the view of the group scores by prototypes."""
        if model.card.zero_shot is None:
            return []
        view = model.card.view(group, settings.dlilp_head)
        return [(None, prompts) for prompts in sets] if view.classes == "prompts" else [(None, None)]

    def why_none(self, card: ModelCard) -> str:
        """Without a text or label side there is none; nor without a prompt set that was asked for."""
        none = card.zero_shot is None
        return "neither a text nor a label side" if none else "its card names no prompt set of its authors"

    def drawn_shots(self, shots: Sequence[int]) -> Sequence[int]:
        """The one draw that prompts go on from."""
        return (16,)

    def part(self, cell: Cell, settings: Settings) -> str:
        """`test`, or `train` where the released commands score a model on it."""
        how = cell.model.card.zero_shot
        released = None if how is None else how.released_parts.get(cell.data.task.name)
        return released if released and settings.covid_part == "train" else "test"

    def measure(self, cell: Cell, basis: Basis, readings: Readings) -> Measured:
        """Each fold scored by its words, or by class vectors of the model's own."""
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
            predictions.append(FoldScores(fold.fold, *fold.test, scored))
        worded = any(words is not None for _, words in distinct)
        protocol = ProtocolIdentity(
            protocol=self.name,
            view=name,
            tap=view.tap,
            part=basis.part,
            logit_scale=scale,
            scoring=view.scoring,
            pooling=how.pooling if worded else None,
            standardised=how.standardised and worded,
            scores="other" if (how.standardised and worded) or view.scoring == "interaction" else "logits",
        )
        prompts = _prompt_identity(cell, settings, view.scoring, [words for _, words in distinct])
        worded_folds = [(fold, words) for fold, words in distinct if words is not None]
        found = measured(cell, settings, protocol, predictions, [FoldExtra() for _ in predictions], prompts)
        return replace(found, single_prompts=single_prompts(model, name, worded_folds, readings, settings))


def _distinct(
    folds: Sequence[IdFold], drawn: Sequence[ClassPrompts | None], *, whole: bool
) -> list[tuple[IdFold, ClassPrompts | None]]:
    """Folds that differ in test images or prompts. Equal ones are scored once; disjoint parts are scored together."""
    if len({fold.test[0] for fold in folds}) > 1 and whole and all(words == drawn[0] for words in drawn):
        ids = tuple(image for fold in folds for image in fold.test[0])
        joined = IdFold(0, {}, (ids, np.concatenate([fold.test[1] for fold in folds])), None)
        return [(joined, drawn[0])]
    first = (folds[0].test[0], drawn[0])
    if all((fold.test[0], words) == first for fold, words in zip(folds, drawn, strict=True)):
        return [(folds[0], drawn[0])]
    return list(zip(folds, drawn, strict=True))


def _prompt_identity(
    cell: Cell, settings: Settings, scoring: str, drawn: Sequence[ClassPrompts | None]
) -> PromptIdentity:
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
