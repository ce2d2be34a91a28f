"""Zero-shot accuracy of each class beside how often the class was seen in pre-training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.statistics.paired import PERMUTATIONS, seeded
from cxrbench.records.record import Record

FloatArray = NDArray[np.float64]

FEWEST = 5  # classes: of four, no ranking can be told from chance at 5 %


@dataclass(frozen=True, slots=True)
class ClassPoint:
    """A class: its mean recall over folds (AUROC in a multi-label task) and its share of the pre-training images."""

    label: str
    recall: float
    share: float


@dataclass(frozen=True, slots=True)
class FrequencyView:
    """A cell's classes by falling share, with Spearman's rank correlation over them.

    `p` is two-sided, over permutations of the classes (all of them where there are few). Both are None with fewer than
    five classes, or where all recalls or shares are equal; `reason` says so. `unmatched` are classes that the corpus
    knows nothing of, or that have no test image in a fold.
    """

    record: str
    model: str
    task: str
    group: str
    prompts: str
    points: tuple[ClassPoint, ...]
    rho: float | None
    p: float | None
    reason: str
    unmatched: tuple[str, ...]


def frequency(
    record: Record, shares: Mapping[str, float | None], same: Mapping[str, str] | None = None
) -> FrequencyView:
    """The view of one zero-shot record; `shares` are those of the corpus by finding, None where it labels none.

    A class and a finding are the same where `same` says so (class to finding), or their names are, letter case and
    underscores aside.
    """
    called = {_plain(label): finding for label, finding in (same or {}).items()}
    known = {_plain(name): share for name, share in shares.items()}
    recalls = [fold.metrics["auroc" if record.data.kind == "multi-label" else "recall"] for fold in record.folds]
    points, unmatched = list[ClassPoint](), list[str]()
    for place, label in enumerate(record.data.labels):
        values, share = [fold[place] for fold in recalls], known.get(_plain(called.get(_plain(label), label)))
        if share is None or None in values:
            unmatched.append(label)
        else:
            points.append(ClassPoint(label, fmean(values), share))
    points.sort(key=lambda point: (-point.share, point.label))
    rho, p, reason = _correlation(points, record.id)
    data, words = record.data, record.prompts.set if record.prompts is not None else ""
    told = (record.id, record.model.name, data.task, data.group, words)
    return FrequencyView(*told, tuple(points), rho, p, reason, tuple(unmatched))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _correlation(points: Sequence[ClassPoint], record: str) -> tuple[float | None, float | None, str]:
    if len(points) < FEWEST:
        return None, None, f"{len(points)} classes are known to the corpus, fewer than {FEWEST}"
    recalls, shares = np.array([p.recall for p in points]), np.array([p.share for p in points])
    if np.ptp(recalls) == 0 or np.ptp(shares) == 0:
        return None, None, "all classes are alike: there is no ranking"
    from scipy.stats import permutation_test, rankdata

    ranks = rankdata(shares) - rankdata(shares).mean()

    def spearman(x: FloatArray, axis: int) -> FloatArray:
        own = rankdata(x, axis=axis) - (len(points) + 1) / 2
        return (own * ranks).sum(axis=axis) / np.sqrt((own**2).sum(axis=axis) * (ranks**2).sum())

    rng = seeded(record, "frequency")
    how = {"permutation_type": "pairings", "vectorized": True, "n_resamples": PERMUTATIONS - 1}
    done = permutation_test((recalls,), spearman, rng=rng, **how)
    return float(done.statistic), float(done.pvalue), ""
