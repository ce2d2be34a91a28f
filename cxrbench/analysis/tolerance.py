"""How far a repeated number may be from the one before: as far as rows go that scores barely decide."""

import numpy as np
from pydantic import Field

from cxrbench.records.predictions import ScoredCell
from cxrbench.store.schema import Facts

CLOSENESS = 1e-4  # relative: what adapters promise between machines, from the same pixels
ROUNDING = 1e-9  # of the mean itself


class Tolerance(Facts):
    """How far a repeated number may be from the one before, on the same scale, and where that comes from."""

    width: float = Field(ge=0)
    source: str


def numerical(cell: ScoredCell, closeness: float = CLOSENESS) -> Tolerance:
    """What the balanced accuracy of a repeat may differ by, when scores differ by `closeness` of a fold's largest.

    A row whose class is decided by less than that may fall to either side, and moves the mean over folds by one over
    the rows of its class and the number of folds. Everything else stays where it is.
    """
    close, up, down = 0, 0.0, 0.0
    for fold in cell.folds:
        rows = np.arange(len(fold.labels))
        truth = fold.scores[rows, fold.labels]
        others = fold.scores.astype(np.float64).copy()
        others[rows, fold.labels] = -np.inf
        near = np.abs(truth - others.max(axis=1)) <= 2 * closeness * np.abs(fold.scores).max()
        right = fold.predictions == fold.labels
        sizes = np.bincount(fold.labels, minlength=fold.scores.shape[1])
        weight = 1 / (sizes[fold.labels] * fold.scores.shape[1] * len(cell.folds))
        close += int(near.sum())
        up += float(weight[near & ~right].sum())
        down += float(weight[near & right].sum())
    told = f"numerical: {close} rows are decided by less than {closeness:g} of the largest score"
    return Tolerance(width=max(up, down) + ROUNDING, source=told)
