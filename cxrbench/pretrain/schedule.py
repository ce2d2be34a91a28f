"""The learning rate, step by step: linear warm-up, then a cosine."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """`base` is the highest rate; the cosine ends after `cosine_epochs` epochs, however many are trained.

    As released: warm-up of one epoch and a cosine over 100 epochs, of which 30 are trained, so the rate hardly falls.
    """

    base: float
    steps_per_epoch: int
    warmup_epochs: float = 1
    cosine_epochs: int = 100

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0; W = warm-up steps, T = all steps of the cosine.

        base (t + 1) / W below W: reached at step W - 1, held at step W; then base / 2 (1 + cos(π (t - W) / (T - W))),
        and 0 from T on.
        """
        warm = round(self.warmup_epochs * self.steps_per_epoch)
        if step < warm:
            return self.base * (step + 1) / warm
        length = self.cosine_epochs * self.steps_per_epoch - warm
        if step - warm >= length:
            return 0.0
        return self.base / 2 * (1 + math.cos(math.pi * (step - warm) / length))
