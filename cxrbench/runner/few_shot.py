"""Protocols that learn from K training images per class and see nothing but vectors and labels."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import FewRowsError
from cxrbench.records.record import ProtocolIdentity, ScoreKind
from cxrbench.runner.checks import short_classes, where
from cxrbench.runner.folds import group_labels
from cxrbench.runner.measure import FoldExtra, fold_scores, measured
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Basis, Cell, FloatArray, Measured, Protocol, Readings
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings
from cxrbench.store import digest
from cxrbench.types import IntArray


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """What a model's text side says of the classes: one vector each (C, D), as it comes, and the factor of its cosine.

    A vector is the plain mean of the unit vectors of its class's prompts, and shorter than 1, where `zs.ensemble` is
    `released`; otherwise it has unit length.
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


class FewShot(Protocol):
    """Base of these protocols: `score_fold` is all that a new one must define.

    `scores` says what the scores are: probabilities can be judged as such, logits go through softmax first.
    """

    fitted = True
    scores: ClassVar[ScoreKind] = "other"

    @abstractmethod
    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """The scores of one fold. Raises FewRowsError for a class without a training image."""

    def recorded(self, settings: Settings, version: str) -> Mapping[str, Any]:
        """Fields of the record's protocol that this one fills."""
        return {"options": dict(self.options(settings)), "solver_version": version or None}

    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[int], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[int | None, PromptSet | None]]:
        """One cell for each number of shots."""
        return [(k, None) for k in shots]

    def measure(self, cell: Cell, basis: Basis, readings: Readings) -> Measured:
        """Each fold fitted to its training images and scored on its test images."""
        assert cell.shots is not None
        settings, fitted_to = basis.settings, cell.model.card.probe.labels
        labels = group_labels(cell.data.task, cell.group, settings)
        tap = cell.model.card.probe_tap(settings.features, cell.shots, cell.group)
        predictions, extras, version = [], [], ""
        for fold in basis.folds:
            train, truth = fold.train[cell.shots]
            seed = f"{cell.data.task.name}/{cell.group}/{fold.fold}"
            fitted = shuffled(truth, seed) if fitted_to == "shuffled" else truth
            arrays = FewShotFold(readings.vectors(tap, train), fitted, readings.vectors(tap, fold.scored), labels)
            try:
                scored = self.score_fold(arrays, settings)
            except FewRowsError as error:
                raise error.named(f"{where(cell)}, fold {fold.fold}, K = {cell.shots}", labels) from error
            predictions.append(fold_scores(cell, fold, scored.scores, len(labels)))
            extras.append(FoldExtra(train, scored.iterations))
            version = scored.version
        protocol = ProtocolIdentity(
            protocol=self.name,
            tap=tap,
            part=basis.part,
            labels=fitted_to,
            shots=cell.shots,
            scores=self.scores,
            short=short_classes((fold.train[cell.shots] for fold in basis.folds), cell.shots, labels),
            **self.recorded(settings, version),
        )
        return measured(cell, settings, protocol, predictions, extras, None)


def shuffled(labels: NDArray[np.int64], seed: str) -> NDArray[np.int64]:
    """The same labels in an order that `seed` alone decides: what a negative control is fitted to."""
    rng = np.random.default_rng(int(digest.of_bytes(seed.encode()), 16))
    return rng.permutation(labels)
