"""What is known of a number's uncertainty; how it is worked out is `interval`'s matter."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cxrbench.evaluate.statistics.units import UnitKind

Covers = Literal["draws", "prompt draws", "one wording", "these draws", "these prompts", "one draw", "images"]

_WORDS: dict[Covers, str] = {
    "draws": " and training images",
    "prompt draws": " and prompts",
    "one wording": ", these prompts only",
    "these draws": ", these training images only",
    "these prompts": ", these prompts only",
    "one draw": ", these training images only",
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
    every, kinds = dict.fromkeys(task for task, _ in told), dict[str, dict[str, None]]()
    for task, one in told:
        kinds.setdefault(one.words, {})[task] = None
    words = [kind if tasks == every else f"{kind} ({', '.join(tasks)})" for kind, tasks in kinds.items()]
    unnamed = dict.fromkeys(task for task, one in told if one.over == "image")
    where = "" if unnamed == every else f" in {', '.join(unnamed)}"
    return "; ".join(
        [*words, *([f"no patient ids{where}: too short where patients have several images"] if unnamed else [])]
    )


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
