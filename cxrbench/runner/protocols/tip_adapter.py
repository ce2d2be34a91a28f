"""Tip-Adapter as a protocol: zero-shot logits and a cache of the drawn images, without training."""

from collections.abc import Mapping

import numpy as np

from cxrbench.evaluate.vectors import ROWS, Float64Array, FloatArray, cosine_blocks32
from cxrbench.runner.few_shot import FewShotFold, Scored
from cxrbench.runner.protocols.with_texts import WithTexts
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray

ALPHA, BETA = 1.0, 1.0
FACTOR = 100.0  # of the cosine with the text in the released code, whatever the model's own scale


def tip_adapter_logits(
    train: FloatArray, labels: IntArray, test: FloatArray, texts: FloatArray, factor: float
) -> Float64Array:
    """Logits (m, C): factor u(x) . u(t_c), and alpha times the sum of exp(-beta (1 - u(x) . u(x_i))) over class c.

    u(v) = v / |v|, alpha = beta = 1; a class without an image has the first part alone. Cosines are float32 products,
    the rest is float64. Source: few-shot facts, section 4.
    """
    classes, found, space = len(texts), np.empty((len(test), len(texts))), np.empty((ROWS, len(labels)))
    member = (labels[:, None] == np.arange(classes)).astype(np.float64)
    for rows, near in cosine_blocks32(test, np.vstack([texts, train])):
        cache = space[: len(near)]
        np.subtract(near[:, classes:], 1, out=cache)
        cache *= BETA
        np.exp(cache, out=cache)
        np.multiply(near[:, :classes], factor, out=found[rows], dtype=np.float64)
        found[rows] += ALPHA * (cache @ member)
    return found


class TipAdapter(WithTexts):
    """Tip-Adapter at alpha = beta = 1 with the released factor 100.

    The released code searches alpha and beta by accuracy, on ImageNet on the test images: that is left out, and with it
    Tip-Adapter-F, which keeps the epoch that is best on them.
    """

    name = "tip-adapter"
    source = "Tip-Adapter, Zhang et al., ECCV 2022"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """The constants, and the factor of the cosine with the text."""
        return {"alpha": ALPHA, "beta": BETA, "factor": FACTOR}

    def factor(self, scale: float) -> float:
        """The factor of the cosine with the text."""
        return FACTOR

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Logits (m, C)."""
        texts = self.texts(fold)
        factor = self.factor(texts.scale)
        return Scored(tip_adapter_logits(fold.train, fold.labels, fold.test, texts.vectors, factor))


class TipAdapterOwnScale(TipAdapter):
    """The same with the model's own scale as the factor."""

    name = "tip-adapter-own-scale"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """The constants; the factor is the record's logit scale."""
        return {"alpha": ALPHA, "beta": BETA, "factor": "logit scale of the model"}

    def factor(self, scale: float) -> float:
        """The model's own."""
        return scale
