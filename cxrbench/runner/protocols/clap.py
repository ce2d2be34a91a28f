"""CLAP as a protocol: a cosine head that its class vectors hold back, class by class or all alike."""

from collections.abc import Mapping

import numpy as np

from cxrbench.errors import FewRowsError
from cxrbench.evaluate.cosine_head import (
    FIRST_RATE,
    MOMENTUM,
    RATE,
    STEPS,
    Task,
    clap_rates,
    own_class_probabilities,
    ss_text_rates,
)
from cxrbench.evaluate.vectors import Float64Array, FloatArray
from cxrbench.runner.few_shot import FewShotFold
from cxrbench.runner.protocols.with_texts import HeadFit
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray


def multipliers(features: FloatArray, labels: IntArray, texts: FloatArray, scale: float) -> Float64Array:
    """How strongly each class is held (C,): the mean zero-shot probability of its own class over its training images.

    NaN for a class without one. Source: few-shot facts, section 3.
    """
    own, counts = own_class_probabilities(features, labels, texts, scale), np.bincount(labels, minlength=len(texts))
    found = np.full(len(texts), np.nan)
    sums = np.bincount(labels, weights=own, minlength=len(texts))
    return np.divide(sums, counts, out=found, where=counts > 0)


class Clap(HeadFit):
    """CLAP by its constraint `l2`: cross-entropy and the mean over classes of a_c |w_c - t_c|^2, on the whole batch.

    The released code takes 256 of 20 augmented copies of each feature at a time; of stored vectors there is one.
    """

    name = "clap"
    source = "CLAP, Silva-Rodríguez et al., CVPR 2024"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Optimiser, schedule and penalty."""
        shared: dict[str, str | int | float] = {"steps": STEPS, "rate": RATE, "momentum": MOMENTUM, "batch": "all"}
        return {**shared, "first_rate": FIRST_RATE, "schedule": "half a cosine to 0", "multipliers": "of each class"}

    def task(self, fold: FewShotFold) -> Task:
        """Raises FewRowsError for a class without a training image, whose multiplier the released code makes NaN."""
        texts = self.texts(fold)
        pull = multipliers(fold.train, fold.labels, texts.vectors, texts.scale)
        if lost := np.flatnonzero(np.isnan(pull)).tolist():
            raise FewRowsError(lost, "has no training image, so that CLAP has no multiplier for it; try clap-shared")
        return Task(fold.train, fold.labels, texts.vectors, texts.scale, clap_rates(), pull=pull)


class ClapShared(HeadFit):
    """CLAP as SS-Text's code has it, where one multiplier, the mean of all, holds every class.

    A class without a training image gets the mean of the others.
    """

    name = "clap-shared"
    source = "SS-Text's code, MICCAI 2025"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Optimiser, schedule and penalty."""
        shared: dict[str, str | int | float] = {"steps": STEPS, "rate": RATE, "momentum": MOMENTUM, "batch": "all"}
        return {**shared, "schedule": "half a cosine to 0", "multipliers": "their mean for all classes"}

    def task(self, fold: FewShotFold) -> Task:
        """See `HeadFit`."""
        texts = self.texts(fold)
        own = multipliers(fold.train, fold.labels, texts.vectors, texts.scale)
        pull = np.full(len(own), np.nanmean(own))
        return Task(fold.train, fold.labels, texts.vectors, texts.scale, ss_text_rates(), pull=pull)
