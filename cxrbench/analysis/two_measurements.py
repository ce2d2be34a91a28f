"""Two measurements of one number, each with test images and draws of its own: do they agree?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cxrbench.analysis.reproduction import HALF_FOLD, HALF_MEAN
from cxrbench.evaluate.statistics.estimate import ALPHA, Estimate
from cxrbench.evaluate.statistics.paired import holm

# Points. Half of the columns of Table 2 have less than 5.3 between the best and the worst of their models: two numbers
# within 5 do not turn the best into the worst. Test sets of some 1,000 images can show so much.
MARGIN = 5.0

Agreement = Literal["agrees", "differs", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of two measurements; `p` is after Holm's correction, `low` and `high` end the 90 % interval.

    `within`: this interval lies within the margin, which it may do though the two differ.
    """

    verdict: Agreement
    within: bool
    p: float
    low: float
    high: float


def difference(measured: Estimate, printed: float) -> Estimate:
    """Measured minus printed (0 to 1), the printed one as uncertain as the measured one and independent of it.

    The paper tells no error; that of a measurement of the same kind stands for it, with what units and draws both hold
    counted in both, since a false alarm is worse than a missed one. Where both have images or draws in common, they
    differ by less than this says.
    """
    low, high = measured.bounds
    units, draws = (tuple(part.times(2) for part in own) for own in (measured.units, measured.draws))
    found = measured.value - printed
    return Estimate(found, found, units, draws, (low - high, high - low))


def judged(differences: Sequence[Estimate], margin: float = MARGIN) -> list[Judgement]:
    """A verdict on each difference of one check, whose errors are held down over all of them together.

    `differs`: the p is below 5 % after Holm's correction. `agrees`: it is not, and both one-sided tests at 5 % rule out
    a difference of `margin` points, which is so where the 90 % interval lies within the margin. Source: Holm 1979;
    Schuirmann 1987.
    """
    return [_judged(found, p, margin) for found, p in zip(differences, holm([_p(d) for d in differences]), strict=True)]


def _p(found: Estimate) -> float:
    """Two-sided p that there is no difference; where nothing spreads, what exceeds rounding is one."""
    p = found.p()
    return float(abs(found.value) <= HALF_FOLD + HALF_MEAN) if p is None else p


def _judged(found: Estimate, p: float, margin: float) -> Judgement:
    reach = found.reach(ALPHA)
    low, high = found.value - reach, found.value + reach
    within = -margin <= 100 * low and 100 * high <= margin
    verdict: Agreement = "differs" if p < ALPHA else "agrees" if within else "cannot tell"
    return Judgement(verdict, within, p, low, high)
