"""The same resamples for all cells of a test set: drawn once, and models are compared on them."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cxrbench import digest
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.interval import RESAMPLES, Values, too_few
from cxrbench.evaluate.statistics.resample import Draw, Statistic, draws, values
from cxrbench.evaluate.statistics.units import strata
from cxrbench.index import IntArray
from cxrbench.verdict.kinship import namespace
from cxrbench.verdict.predictions import ScoredCell

FloatArray = NDArray[np.float64]
MOST_KEPT = 200_000_000  # bytes of draws: five test sets of 4,000 images, 10,000 times
_kept: OrderedDict[tuple[str, int], Sequence[Draw]] = OrderedDict()  # by what alone they depend on


def seeded(*words: str) -> np.random.Generator:
    """The generator that the words name: what is drawn and a purpose, so that equal records give equal intervals."""
    return np.random.default_rng(int(digest.of_json(words), 16))


def swaps(ids: Iterable[str], metric: Metric) -> np.random.Generator:
    """The generator of a test that exchanges what these records say, whichever is named first."""
    return seeded("swap", *sorted(ids), metric)


def draw_name(space: str, units: Sequence[str], stratum: IntArray) -> str:
    """What names the resamples of units: their names within a space (see `kinship`) and their strata, no model."""
    names = "".join(f"{name}\n" for name in (space, *units))
    return digest.of_bytes(names.encode() + stratum.astype("<i8").tobytes())


def drawn(cells: Sequence[ScoredCell], metric: Metric, resamples: int = RESAMPLES) -> list[Values]:
    """A metric of every cell, on resamples that cells of one test set share.

    A cell has the same values to the bit whatever others it is drawn with.
    """
    asked = [_asked(cell, metric) for cell in cells]
    found = zip(asked, together(asked, resamples), strict=True)
    return [Values(one.statistics[0].estimate, own[0]) for one, own in found]


@dataclass(frozen=True, slots=True)
class Asked:
    """Statistics (S,) over units in strata (U,), to be drawn with all others of that name; not at all without one."""

    name: str
    stratum: IntArray
    statistics: Sequence[Statistic]


def together(asked: Sequence[Asked], resamples: int = RESAMPLES) -> list[FloatArray]:
    """Values (S, B) of everything asked for, (S, 0) of what has no name; what has one name is drawn once."""
    names: dict[str, list[int]] = {}
    for place, one in enumerate(asked):
        names.setdefault(one.name, []).append(place)
    found = [np.empty((len(one.statistics), 0)) for one in asked]
    for name, places in names.items():
        if name:
            own = [asked[place].statistics for place in places]
            stratum = asked[places[0]].stratum
            every = values(list(chain(*own)), stratum, _draws(name, stratum, resamples))
            parts = np.split(every, np.cumsum([len(statistics) for statistics in own])[:-1])
            for place, part in zip(places, parts, strict=True):
                found[place] = part
    return found


def _draws(name: str, stratum: IntArray, resamples: int) -> Iterable[Draw]:
    """What is drawn under a name: kept as it is, the last ones used, as long as they are not too many."""
    key = name, resamples
    if key not in _kept:
        made = draws(stratum, resamples, seeded("resamples", name))
        if len(stratum) * resamples > MOST_KEPT:
            return made
        _kept[key] = list(made)
        while len(_kept) > 1 and sum(map(_size, _kept.values())) > MOST_KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _size(drawn: Sequence[Draw]) -> int:
    return sum(counts.nbytes for some in drawn for counts in some)


def _asked(cell: ScoredCell, metric: Metric) -> Asked:
    stratum = strata(cell.folds)
    space = namespace(cell.record.data.task, cell.over)
    name = "" if too_few(cell.folds, cell.over) else draw_name(space, cell.units, stratum)
    return Asked(name, stratum, [statistic(metric, cell.folds, len(stratum))])
