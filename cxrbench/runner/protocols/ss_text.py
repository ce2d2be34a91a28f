"""SS-Text and SS-Text+ as protocols: closed forms that lay the drawn images on the class vectors."""

from collections.abc import Mapping

import numpy as np

from cxrbench.evaluate.cosine_head import cosine_logits
from cxrbench.evaluate.vectors import Float64Array, FloatArray, sums_by_class, unit
from cxrbench.runner.few_shot import FewShotFold, Scored
from cxrbench.runner.protocols.with_texts import WithTexts
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray

LEAST = 1e-3  # of the text's weight, which is one over the number of images


def ss_text_weights(features: FloatArray, labels: IntArray, texts: FloatArray, scale: float) -> Float64Array:
    """Weights (C, d): s / (N l) times the sum of the class's images, and its class vector; l is 1 / N, at least 0.001.

    A class without an image keeps its class vector. Source: few-shot facts, section 7.
    """
    n = len(labels)
    return scale / (n * max(1 / n, LEAST)) * sums_by_class(features, labels, len(texts)) + texts


def ss_text_plus_weights(features: FloatArray, labels: IntArray, texts: FloatArray, scale: float) -> Float64Array:
    """The same with l_c one over the class's own images, then repelled: w_c - u(2 w_c - mean over classes of w).

    Source: few-shot facts, section 7.
    """
    counts = np.bincount(labels, minlength=len(texts))
    factors = scale / len(labels) * np.minimum(counts, 1 / LEAST)
    weights = factors[:, None] * sums_by_class(features, labels, len(texts)) + texts
    found: Float64Array = weights - unit(2 * weights - weights.mean(axis=0))
    return found


class SsText(WithTexts):
    """SS-Text: one sum, no iteration, nothing to choose."""

    name = "ss-text"
    source = "SS-Text, Silva-Rodríguez et al., IPMI 2025"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """The least weight of the text."""
        return {"least_text_weight": LEAST}

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Logits (m, C)."""
        texts = self.texts(fold)
        weights = ss_text_weights(fold.train, fold.labels, texts.vectors, texts.scale)
        return Scored(cosine_logits(fold.test, weights, texts.scale))


class SsTextPlus(SsText):
    """SS-Text+, made for shots that are not balanced."""

    name = "ss-text-plus"
    source = "SS-Text+, Silva-Rodríguez et al., MICCAI 2025"

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Logits (m, C)."""
        texts = self.texts(fold)
        weights = ss_text_plus_weights(fold.train, fold.labels, texts.vectors, texts.scale)
        return Scored(cosine_logits(fold.test, weights, texts.scale))
