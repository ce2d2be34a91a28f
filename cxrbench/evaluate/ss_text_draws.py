"""The draws of SS-Text: as many images of each class as chance, or the training part, would give C x K images.

Source: FEWSHOT.md, section 2 (`jusiro/SS-Text`, MICCAI 2025). With classes C that the pool has and their shares p, a
class gives round(C K p) images. All are drawn 20 times; folds seed NumPy's older generator anew for every class.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.draws import Draw, Pool
from cxrbench.types import IntArray


class SSTextDraw(Draw):
    """What the three have in common; `least` is the fewest images of a class that the pool has."""

    folds = 20
    least: ClassVar[int] = 0

    def rows(self, pool: Pool, fold: int, shots: Sequence[int]) -> Mapping[int, IntArray]:
        """Class by class in their order, the first of a shuffled list; a class with too few gives all it has."""
        counts = np.bincount(pool.labels, minlength=pool.n_classes)
        classes = np.flatnonzero(counts)
        own = [np.flatnonzero(pool.labels == label) for label in classes]
        for rows in own:
            np.random.RandomState(fold).shuffle(rows)
        wanted = {k: self._wanted(k, counts[classes]) for k in shots}
        return {k: np.concatenate([rows[:n] for rows, n in zip(own, wanted[k], strict=True)]) for k in shots}

    def _wanted(self, k: int, counts: NDArray[np.int64]) -> list[int]:
        """How many images of each class: rounded half to even, then one less of the largest until the sum fits."""
        whole = len(counts) * k
        wanted = [max(self.least, round(whole * share)) for share in self.shares(counts)]
        while sum(wanted) > whole:
            wanted[wanted.index(max(wanted))] -= 1
        return wanted

    def shares(self, counts: NDArray[np.int64]) -> list[float]:
        """The share of each class in what is drawn: that in the pool."""
        return [float(share) for share in counts / counts.sum()]


class Standard(SSTextDraw):
    """K images of each class."""

    name = "standard"

    def shares(self, counts: NDArray[np.int64]) -> list[float]:
        """Equal ones."""
        return [1 / len(counts)] * len(counts)


class Relaxed(SSTextDraw):
    """C x K images by the shares of the training part, at least one of each class."""

    name = "relaxed"
    equal = False
    least = 1


class Realistic(SSTextDraw):
    """C x K images by the shares of the training part; a rare class may have none."""

    name = "realistic"
    equal = False
