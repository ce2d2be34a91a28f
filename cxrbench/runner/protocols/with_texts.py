"""What protocols that start at a model's class vectors have in common."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from cxrbench.errors import FewRowsError
from cxrbench.evaluate.cosine_head import Task, logits_of_fits, trained, trained_together, two_orders
from cxrbench.evaluate.vectors import Float64Array, FloatArray
from cxrbench.runner.few_shot import ClassTexts, FewShot, FewShotFold, Scored, Tests
from cxrbench.specs.settings import Settings


class WithTexts(FewShot):
    """Learns from K images per class and from the texts or prototypes that stand for the classes."""

    worded = True
    kinds = ("single-label",)
    scores = "logits"

    @staticmethod
    def texts(fold: FewShotFold) -> ClassTexts:
        """The class vectors, which a worded protocol is given."""
        assert fold.texts is not None
        return fold.texts


class HeadFit(WithTexts):
    """Trains a cosine head (`evaluate.cosine_head`), a second time with the rows in another order."""

    @abstractmethod
    def task(self, fold: FewShotFold) -> Task:
        """What the head is trained on. Raises FewRowsError for classes that it cannot do without."""

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Logits (m, C) of the last step."""
        task = self.task(fold)
        return _scored(task, trained(task, two_orders(len(fold.labels), fold.number)), fold.test)

    def score_folds(self, folds: Sequence[FewShotFold], tests: Tests, settings: Settings) -> Iterator[Scored]:
        """All folds are trained together."""
        try:
            tasks = [self.task(fold) for fold in folds]
        except FewRowsError:
            yield from super().score_folds(folds, tests, settings)  # which raises it in that fold's turn
            return
        weights = trained_together(tasks, [two_orders(len(fold.labels), fold.number) for fold in folds])
        for place, (task, own) in enumerate(zip(tasks, weights, strict=True)):
            yield _scored(task, own, tests(place))


def _scored(task: Task, weights: Float64Array, test: FloatArray) -> Scored:
    first, second = logits_of_fits(test, weights, task.scale)
    return Scored(first, len(task.rates), reordered=second)
