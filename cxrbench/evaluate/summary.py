"""Five folds as one number with its spread."""

from collections.abc import Sequence
from statistics import fmean, pstdev

SUMMARISED = ("balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "kappa")


def mean_and_spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and spread over folds (ddof 0: the folds are all there are); None as soon as one fold has none."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return {"mean": None, "std": None, "folds": len(values)}
    return {"mean": fmean(present), "std": pstdev(present), "folds": len(values)}
