"""The linear probe that starts at the text, as a protocol: SS-Text's `LP` and its class-weighted form."""

from collections.abc import Mapping

import numpy as np

from cxrbench.errors import FewRowsError
from cxrbench.evaluate.cosine_head import MOMENTUM, RATE, STEPS, Task, balanced_weights, ss_text_rates
from cxrbench.evaluate.vectors import Float64Array
from cxrbench.runner.few_shot import FewShotFold
from cxrbench.runner.protocols.with_texts import HeadFit
from cxrbench.specs.settings import Settings


class ZsLp(HeadFit):
    """A cosine head that starts at the class vectors, trained by cross-entropy over the drawn images.

    A class without a training image takes part in the loss as one of the others' wrong answers. The released code cuts
    more than 5,000 images to a random 5,000 each step; here all are in every step.
    """

    name = "zs-lp"
    source = "CLAP, Silva-Rodríguez et al., CVPR 2024; SS-Text's loop"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Optimiser and schedule."""
        return {"steps": STEPS, "rate": RATE, "schedule": "half a cosine to 0", "momentum": MOMENTUM, "batch": "all"}

    def row_weights(self, fold: FewShotFold) -> Float64Array | None:
        """The weight (n,) of each row in the loss; None for equal ones."""
        return None

    def task(self, fold: FewShotFold) -> Task:
        """See `HeadFit`."""
        texts = self.texts(fold)
        return Task(fold.train, fold.labels, texts.vectors, texts.scale, ss_text_rates(), self.row_weights(fold))


class ZsLpClassWeighted(ZsLp):
    """The same with classes that weigh alike in the loss, as scikit-learn's `balanced` has it."""

    name = "zs-lp-cw"
    source = "SS-Text's code, MICCAI 2025"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Optimiser, schedule and weights."""
        return {**super().options(settings), "class_weight": "balanced"}

    def row_weights(self, fold: FewShotFold) -> Float64Array:
        """Raises FewRowsError for a class without a training image."""
        counts = np.bincount(fold.labels, minlength=len(fold.classes))
        if lost := np.flatnonzero(counts == 0).tolist():
            raise FewRowsError(lost, "has no training image, so that it has no weight")
        return balanced_weights(fold.labels, len(fold.classes))
