"""How far a cell's number would move with other test images and other draws, and how far it moves over its folds."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cxrbench.evaluate.retrieval import QueryRows
from cxrbench.evaluate.statistics.estimate import Estimate, over_draws
from cxrbench.evaluate.statistics.finding_shares import AnyRows
from cxrbench.evaluate.statistics.shares import FEW, Shares, UnitKind
from cxrbench.types import IntArray

Covers = Literal[
    "draws",
    "prompt draws",
    "draws and prompt draws",
    "draws, one wording",
    "one draw, prompt draws",
    "one wording",
    "these draws",
    "these prompts",
    "these draws and prompts",
    "one draw",
    "one draw, one wording",
    "images",
]
_WORDS: dict[Covers, str] = {
    "draws": " and training images",
    "prompt draws": " and prompts",
    "draws and prompt draws": ", training images and prompts",
    "draws, one wording": " and training images, these prompts only",
    "one draw, prompt draws": " and prompts, these training images only",
    "one wording": ", these prompts only",
    "these draws": ", these training images only",
    "these prompts": ", these prompts only",
    "these draws and prompts": ", these training images and prompts only",
    "one draw": ", these training images only",
    "one draw, one wording": ", these training images and prompts only",
    "images": "",
}


def covers_words(covers: Iterable[Covers], over: UnitKind) -> str:
    """What an interval speaks of, such as `other test patients and training images`."""
    return " or ".join(dict.fromkeys(f"other test {over}s{_WORDS[one]}" for one in covers))


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % interval, which speaks of what `covers` says beside other test units.

    `error` is the standard error. `low`, `high` and `error` are None where no interval can be given; `reason` says why,
    or what to beware of in one that is given. Several `covers` are those of the parts of a mean.
    """

    estimate: float | None
    low: float | None
    high: float | None
    error: float | None
    over: UnitKind
    units: int
    covers: tuple[Covers, ...]
    reason: str = ""

    @property
    def words(self) -> str:
        """What it covers, in words."""
        return covers_words(self.covers, self.over)


def covers_short(intervals: Iterable[Interval | None]) -> str:
    """What some intervals speak of in the few words that the head of a row has room for; patients count as images."""
    covers = (one for found in intervals if found is not None for one in found.covers)
    return covers_words(covers, "image").replace("images and training", "and training")


def covering(told: Sequence[tuple[str, Interval]]) -> str:
    """What the intervals of some tasks speak of, and of which patients are not named; tasks only where not all are."""
    return "; ".join(filter(None, (speaking(told), without_patients(told))))


def speaking(told: Sequence[tuple[str, Interval]]) -> str:
    """What intervals speak of; whose they are (a task, a protocol) only where not all speak of the same."""
    every, kinds = dict.fromkeys(name for name, _ in told), dict[str, dict[str, None]]()
    for name, one in told:
        kinds.setdefault(one.words, {})[name] = None
    return "; ".join(kind if names == every else f"{kind} ({', '.join(names)})" for kind, names in kinds.items())


def without_patients(told: Sequence[tuple[str, Interval]]) -> str:
    """The tasks whose patients no id tells apart, not named where these are all; empty where there are none."""
    every = dict.fromkeys(task for task, _ in told)
    unnamed = dict.fromkeys(task for task, one in told if one.over == "image")
    where = "" if unnamed == every else f" in {', '.join(unnamed)}"
    return f"no patient ids{where}: too short where patients have several images" if unnamed else ""


FoldRelation = Literal["one fold", "one test set", "separate test sets", "overlapping test sets"]


@dataclass(frozen=True, slots=True)
class FoldSpread:
    """Standard deviation (ddof 0) of a number over folds; not a standard error of its mean.

    Folds with `one test set` differ in their draws alone; `overlapping test sets` share images, so neither kind is a
    set of independent repetitions.
    """

    std: float | None
    folds: int
    relation: FoldRelation


DRAWN: frozenset[Covers] = frozenset(
    {"draws", "prompt draws", "draws and prompt draws", "draws, one wording", "one draw, prompt draws"}
)  # whose folds say what drawing anew changes


def wider(one: Covers, two: Covers) -> Covers:
    """What the difference of two numbers speaks of: draws as soon as one does, or else what either is bound to."""
    return next((own for own in (one, two) if own in DRAWN), two if one == "images" else one)


def estimate(found: Shares, bounds: tuple[float, float], covers: Covers) -> Estimate:
    """A number with its variance over units and, where `covers` names draws, over these."""
    draws = over_draws(found.values.tolist()) if covers in DRAWN else ()
    twice = found.twice if draws else 0.0
    return Estimate(found.value, found.value + found.shift, found.spread, draws, bounds, twice)


def interval(found: Estimate, over: UnitKind, units: int, covers: tuple[Covers, ...], caution: str = "") -> Interval:
    """The interval of an estimate, with what to beware of; without one, why there is none comes first."""
    if math.isnan(found.value):
        return Interval(None, None, None, None, over, units, covers, _told("not defined in every fold", caution))
    ends = found.ends()
    if ends is None:
        fixed = not found.units and not found.draws and caution  # which says why, then
        return Interval(
            found.value, None, None, None, over, units, covers, fixed or _told(f"no {over} moves it", caution)
        )
    return Interval(found.value, *ends, found.error, over, units, covers, caution)


def _told(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def still(folds: Sequence[AnyRows]) -> str:
    """Why no choice of images moves a number: all images of a fold have the same scores; empty where they differ."""
    scored = [fold.scores for fold in folds if not isinstance(fold, QueryRows)]  # other queries may come to else
    same = bool(scored) and all((scores == scores[0]).all() for scores in scored)
    return "all images have the same scores, and others would change nothing" if same else ""


def sparse(units: Mapping[str, int], over: UnitKind) -> str:
    """A warning that names the classes with few units in a fold, the fewest first; empty where none has."""
    few = sorted((n, label) for label, n in units.items() if n < FEW)
    told = ", ".join(f"{label} {n}" for n, label in few)
    return f"few test {over}s: {told}. Their scores are hardly known" if few else ""


def fold_spread(values: Sequence[float | None], images: Sequence[IntArray]) -> FoldSpread:
    """Spread of a number over folds whose test images are numbered alike; None as soon as one fold has no number."""
    present = [value for value in values if value is not None]
    std = statistics.pstdev(present) if len(present) == len(values) else None
    return FoldSpread(std, len(values), relation(images))


def relation(images: Sequence[IntArray]) -> FoldRelation:
    """How the test sets (image numbers, one array a fold) of a cell's folds relate."""
    sets = [frozenset(fold.tolist()) for fold in images]
    if len(sets) == 1:
        return "one fold"
    if len(set(sets)) == 1:
        return "one test set"
    return "separate test sets" if len(frozenset().union(*sets)) == sum(map(len, sets)) else "overlapping test sets"
