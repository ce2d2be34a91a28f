"""Protocols that learn from training images, such as K per class, and see vectors and labels, of classes too."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import FewRowsError
from cxrbench.records.record import ProtocolIdentity, ScoreKind
from cxrbench.runner.checks import finite_scale, training_images, where
from cxrbench.runner.class_vectors import prompt_identity, text_vectors, vector_pooling
from cxrbench.runner.folds import group_labels
from cxrbench.runner.measure import FoldExtra, fold_scores, measured, reordered
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Basis, Cell, FloatArray, Measured, Protocol, Readings
from cxrbench.specs.card import ModelCard
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings
from cxrbench.store import digest
from cxrbench.types import IntArray, Shots, shots_in_words


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """What a model's text side says of the classes: one vector each (C, D), as it comes, and the factor of its cosine.

    A vector is what the model's own zero-shot takes (`class_vectors.vector_pooling`): mostly the plain mean of the unit
    vectors of its class's prompts, and shorter than 1, where `zs.ensemble` is `released`; otherwise of unit length.
    """

    vectors: FloatArray
    scale: float


@dataclass(frozen=True, slots=True)
class FewShotFold:
    """One fold: vectors (n, D) float32 of the training images, their labels (n,) 0 to C - 1, vectors (m, D) to score.

    Labels of a multi-label task are (n, C) of 1, 0 and UNKNOWN. A training image may occur twice where a class has
    fewer than K. `texts` are there for protocols that are `worded`. `number`: the fold's, which seeds what is drawn.
    """

    train: FloatArray
    labels: IntArray
    test: FloatArray
    classes: tuple[str, ...]
    texts: ClassTexts | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores (m, C) of a fold's test images, higher is likelier, and what the record says of the fit.

    `reordered`: the scores of a second fit, to the same training images in another order, of a protocol whose outcome
    may hang on rounding.
    """

    scores: NDArray[np.floating[Any]]
    iterations: int | None = None
    version: str = ""
    reordered: NDArray[np.floating[Any]] | None = None


Tests = Callable[[int], FloatArray]  # from the place of a fold to the vectors (m, D) of the images that it scores


class FewShot(Protocol):
    """Base of these protocols: `score_fold` is all that a new one must define.

    `scores` says what the scores are: probabilities can be judged as such, logits go through softmax first.
    """

    fitted = True
    scores: ClassVar[ScoreKind] = "other"

    @abstractmethod
    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """The scores of one fold. Raises FewRowsError for a class without a training image."""

    def score_folds(self, folds: Sequence[FewShotFold], tests: Tests, settings: Settings) -> Iterator[Scored]:
        """The scores of each fold in turn. `folds` have no image to score: `tests` reads the vectors (m, D) of one's.

        A protocol that is faster so fits all folds here before it scores the first. Raises what `score_fold` does when
        it is that fold's turn.
        """
        for place, fold in enumerate(folds):
            yield self.score_fold(replace(fold, test=tests(place)), settings)

    def recorded(self, settings: Settings, version: str) -> Mapping[str, Any]:
        """Fields of the record's protocol that this one fills."""
        return {"options": dict(self.options(settings)), "solver_version": version or None}

    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[Shots], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[Shots | None, PromptSet | None]]:
        """One cell for each number of shots; of a worded protocol for each prompt set, too, or one by prototypes.

        None where the view of the group has no class vectors: it scores tokens, or there is none.
        """
        if not self.worded:
            return [(k, None) for k in shots]
        if model.card.zero_shot is None:
            return []
        view = model.card.view(group, settings.dlilp_head)
        if view.scoring == "interaction":
            return []
        return [(k, words) for k in shots for words in (sets if view.classes == "prompts" else (None,))]

    def why_none(self, card: ModelCard) -> str:
        """Without class vectors there is none; nor without a prompt set that was asked for."""
        if card.zero_shot is None:
            return "neither a text nor a label side"
        if any(view.scoring == "interaction" for view in card.views.values()):
            return "it scores the tokens of an image against texts, and so has no class vectors to start at"
        return "its card names no prompt set of its authors"

    def measure(self, cell: Cell, basis: Basis, readings: Readings) -> Measured:
        """Each fold fitted to its training images and scored on its test images.

        A worded protocol sees the unit vectors of the view that scores the group zero-shot, and words that were drawn
        for a fold go with the fold of the same number.
        """
        assert cell.shots is not None
        settings, fitted_to = basis.settings, cell.model.card.probe.labels
        labels = group_labels(cell.data.task, cell.group, settings)
        side = _class_side(cell, basis, labels) if self.worded else None
        tap = cell.model.card.probe_tap(settings.features, cell.shots, cell.group) if side is None else side.tap
        predictions, extras, version = [], [], ""
        trains, none = [], np.empty((0, cell.model.card.taps[tap]), np.float32)
        for place, fold in enumerate(basis.folds):
            train, truth = fold.train[cell.shots]
            seed = f"{cell.data.task.name}/{cell.group}/{fold.fold}"
            fitted = shuffled(truth, seed) if fitted_to == "shuffled" else truth
            texts = None if side is None else side.texts[place]
            trains.append(FewShotFold(readings.vectors(tap, train), fitted, none, labels, texts, fold.fold))
        found = self.score_folds(trains, lambda place: readings.vectors(tap, basis.folds[place].scored), settings)
        for fold in basis.folds:
            try:
                scored = next(found)
            except FewRowsError as error:
                raise error.named(f"{where(cell)}, fold {fold.fold}, {shots_in_words(cell.shots)}", labels) from error
            predictions.append(fold_scores(cell, fold, scored.scores, len(labels)))
            again = None if scored.reordered is None else fold_scores(cell, fold, scored.reordered, len(labels))
            told = None if again is None else reordered(cell, predictions[-1], again)
            extras.append(FoldExtra(fold.train[cell.shots][0], scored.iterations, told))
            version = scored.version
        protocol = ProtocolIdentity(
            protocol=self.name,
            tap=tap,
            part=basis.part,
            labels=fitted_to,
            shots=cell.shots,
            scores=self.scores,
            **training_images([fold.train[cell.shots] for fold in basis.folds], cell.shots, labels, settings),
            **({} if side is None else side.recorded),
            **self.recorded(settings, version),
        )
        prompts = None if side is None else prompt_identity(cell, settings, "cosine", basis.words)
        return measured(cell, settings, protocol, predictions, extras, prompts)


@dataclass(frozen=True, slots=True)
class _ClassSide:
    """The tap of the view, the class vectors of each fold, and what the record says of them."""

    tap: str
    texts: Sequence[ClassTexts]
    recorded: Mapping[str, Any]


def _class_side(cell: Cell, basis: Basis, labels: Sequence[str]) -> _ClassSide:
    """What the model's texts or prototypes say of the classes in each fold.

    Raises IntegrityError for a logit scale that is not finite.
    """
    model, settings = cell.model, basis.settings
    name = model.card.view_name(cell.group, settings.dlilp_head)
    scale, how = finite_scale(cell, name), None if cell.prompts is None else vector_pooling(model, settings)
    texts = list[ClassTexts]()
    for place, words in enumerate(basis.words):
        if place and words == basis.words[place - 1]:
            texts.append(texts[-1])
        elif words is None or how is None:
            texts.append(ClassTexts(model.prototypes(labels), scale))
        else:
            texts.append(ClassTexts(text_vectors(model, words.prompts, settings, how), scale))
    told = {"view": name, "logit_scale": scale, "scoring": "cosine", "pooling": how}
    return _ClassSide(model.card.views[name].tap, texts, told)


def shuffled(labels: NDArray[np.int64], seed: str) -> NDArray[np.int64]:
    """The same labels in an order that `seed` alone decides: what a negative control is fitted to."""
    rng = np.random.default_rng(int(digest.of_bytes(seed.encode()), 16))
    return rng.permutation(labels)
