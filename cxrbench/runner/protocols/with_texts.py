"""What protocols that start at a model's class vectors have in common."""

from abc import abstractmethod

from cxrbench.evaluate.cosine_head import Task, logits_of_fits, trained, two_orders
from cxrbench.runner.few_shot import ClassTexts, FewShot, FewShotFold, Scored
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
        weights = trained(task, two_orders(len(fold.labels), fold.number))
        first, second = logits_of_fits(fold.test, weights, task.scale)
        return Scored(first, len(task.rates), reordered=second)
