"""Shares of a training part, such as 1 % of its images: our rule, and those of published studies by name.

All are of the rows that a caller gives: those of a task's training part that bear one of the labels, in table order.
The published rules say how their authors took rows from a table of their own. Source: MULTILABEL.md, section 7.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from cxrbench.errors import DataError
from cxrbench.evaluate.draws import N_FOLDS
from cxrbench.types import IntArray, Shots

OWN_SHARE = "hash-rank-v1"  # the one rule that draws, anew for each fold; the published ones are one list
ShareRule = Literal["hash-rank-v1", "mgca", "cxr-clip", "benchx", "mavl"]
ALL = "all"


def share_draws(rule: ShareRule, shots: Shots) -> int:
    """How many draws of a share there are: five of ours, one list of a published rule, and one whole part."""
    return N_FOLDS if rule == OWN_SHARE and shots != ALL else 1


def share_rows(rule: ShareRule, shots: str, ids: Sequence[str], labels: IntArray, *, task: str, fold: int) -> IntArray:
    """The rows (m,) of a share such as `1%` of a training part, or of `all` of it, in fitting order.

    `ids` (n,); `labels` (n,), or (n, C) of 1, 0 and UNKNOWN. `fold` decides what `hash-rank-v1` draws and nothing else.
    Raises DataError where the share comes to no row, or the rule cannot be kept.
    """
    if shots == ALL:
        return np.arange(len(ids), dtype=np.int64)
    share = Fraction(shots.removesuffix("%")) / 100
    if rule == OWN_SHARE:
        return ranked_share(ids, share, task=task, fold=fold)
    rows = _PUBLISHED[rule](labels, share)
    if not len(rows):
        raise DataError(
            f"{task}: {shots} of {len(ids)} training rows is none by the rule {rule}; ask for a larger share, or "
            "choose --set fewshot.share=hash-rank-v1, which always takes one"
        )
    return rows


def ranked_share(ids: Sequence[str], share: Fraction, *, task: str, fold: int) -> IntArray:
    """The images of lowest SHA-256 rank, rounded up (setting `fewshot.share = hash-rank-v1`).

    The rank is the hex digest of `cxrbench:share:v1:<task>:<fold>:<id>`, so a draw depends on ids alone, and a smaller
    share is inside a larger one. An image enters once, by its first row, whatever its labels. Rows come by rank.
    """
    first = {name: row for row, name in reversed(list(enumerate(ids)))}
    ranked = sorted(first, key=lambda name: _rank(f"cxrbench:share:v1:{task}:{fold}:{name}"))
    return np.array([first[name] for name in ranked[: math.ceil(share * len(ranked))]], dtype=np.int64)


def _rank(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sampled(seed: int) -> Callable[[IntArray, Fraction], IntArray]:
    """`DataFrame.sample(frac, random_state=seed)`: not stratified, in the order drawn; pandas rounds the number."""

    def rows(labels: IntArray, share: Fraction) -> IntArray:
        import pandas as pd

        return pd.Series(np.arange(len(labels))).sample(frac=float(share), random_state=seed).to_numpy(np.int64)

    return rows


def _stratified(labels: IntArray, share: Fraction) -> IntArray:
    """`train_test_split(test_size=1 - share, random_state=42)`, stratified by class, or by whether any finding holds.

    Raises DataError where a class has too few rows for both sides.
    """
    from sklearn.model_selection import train_test_split

    strata = labels if labels.ndim == 1 else (labels == 1).any(axis=1)
    try:
        kept, _ = train_test_split(np.arange(len(labels)), test_size=float(1 - share), random_state=42, stratify=strata)
    except ValueError as error:
        raise DataError(
            f"the rule benchx cannot take {float(100 * share):g} % of {len(labels)} training rows class by class: "
            f"{error} Ask for a larger share, or choose another rule by --set fewshot.share"
        ) from error
    return np.asarray(kept, dtype=np.int64)


def _chosen(labels: IntArray, share: Fraction) -> IntArray:
    """`numpy.random.choice` of int(share x n) rows without replacement, after `numpy.random.seed(98)`."""
    n = len(labels)
    return np.random.RandomState(98).choice(n, int(float(share) * n), replace=False).astype(np.int64)


_PUBLISHED: Mapping[ShareRule, Callable[[IntArray, Fraction], IntArray]] = {
    "mgca": _sampled(42),
    "cxr-clip": _sampled(1),
    "benchx": _stratified,
    "mavl": _chosen,
}
