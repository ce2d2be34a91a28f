"""A number with the parts of its variance, the interval around it, and the p of a difference: one law for all."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80
ROUNDING = 1e-12  # a variance below is that of arithmetic
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Component:
    """An independent part of a variance, and the degrees of freedom that it is known with."""

    variance: float
    freedom: float

    def times(self, factor: float) -> "Component":
        """The part of a variance that is so many times as large, known as well."""
        return Component(factor * self.variance, self.freedom)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number between two bounds and what makes its variance up: units and draws, each in independent parts.

    `twice` is the variance that units and draws both hold: what other units do to one draw alone. It is counted once,
    with the draws, but never so that other units and draws move the number less than other units of these draws would.
    A `cautious` one is judged by Behrens and Fisher at every level (see `beyond`).
    `centre` is the number with one right and one wrong image more in classes that are too sparse to show their spread;
    it is where `units` was found, and no estimate. `value` is NaN where the number is not defined.
    """

    value: float
    centre: float
    units: tuple[Component, ...]
    draws: tuple[Component, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    twice: float = 0.0
    cautious: bool = False

    @property
    def variance(self) -> float:
        """Of the number."""
        units, draws = (sum(part.variance for part in own) for own in (self.units, self.draws))
        return units + max(0.0, draws - self.twice)

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(self.variance)

    def scaled(self, weight: float) -> "Estimate":
        """The number times a weight."""
        units, draws = (tuple(part.times(weight**2) for part in own) for own in (self.units, self.draws))
        ends = sorted(weight * bound for bound in self.bounds)
        value, centre, twice = weight * self.value, weight * self.centre, weight**2 * self.twice
        return Estimate(value, centre, units, draws, (ends[0], ends[1]), twice, self.cautious)

    def fixed(self) -> "Estimate":
        """The same number as one that nothing moves."""
        return replace(self, units=(), draws=(), twice=0.0)

    def beyond(self, far: float) -> float:
        """The probability that units and draws together move the number by more than `far` to one side.

        Either by Student's t with its own degrees of freedom: five draws have four, and one t for the sum would make
        far tails, which Holm asks for, three to ten times too likely. Source: Satterthwaite 1946, for the parts of
        either; Behrens 1929, Fisher 1935, Ghosh and Kim 2001, for their sum.
        """
        law = _behrens_fisher if self.cautious else _beyond
        return max(law(*parts, far) for parts in self._readings())

    def _readings(self) -> list[tuple[Component, Component]]:
        """Units and draws with what both hold in the draws alone, and units of these draws."""
        units, nothing = pooled(self.units), Component(0.0, math.inf)
        if not self.draws:
            return [(units, nothing)]
        apart = Component(max(0.0, units.variance - self.twice), units.freedom)
        return [(apart, pooled(self.draws)), (units, nothing)]

    def reach(self, tail: float) -> float:
        """How far the number is moved beyond with this probability on one side, at most one half."""
        law = _behrens_fisher if self.cautious else _beyond
        return max(_reach(*parts, tail, law) for parts in self._readings())

    def ends(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Both ends of the two-sided interval of this level; None where the variance is zero.

        Wilson's interval with as many trials as have this variance at `centre`. Source: Wilson 1927; Korn and Graubard
        1998.
        """
        if math.isnan(self.value) or self.variance < ROUNDING:
            return None
        share, trials = self._trials()
        squared = self.reach((1 - level) / 2) ** 2 / self.variance
        shrink = 1 + squared / trials
        middle = (share + squared / (2 * trials)) / shrink
        half = math.sqrt(squared * (share * (1 - share) / trials + squared / (2 * trials) ** 2)) / shrink
        low, high = self.bounds
        return low + (high - low) * max(0.0, middle - half), low + (high - low) * min(1.0, middle + half)

    def _trials(self) -> tuple[float, float]:
        """The value and the number of trials, on the scale from 0 to 1."""
        low, high = self.bounds
        share, centre = ((x - low) / (high - low) for x in (self.value, self.centre))
        return min(1.0, max(0.0, share)), centre * (1 - centre) * (high - low) ** 2 / self.variance

    def p(self) -> float | None:
        """Two-sided p that the number is 0: below 0.05 exactly where the interval of 0.95 leaves it out.

        None where the variance is zero. A smaller p than 1e-12 is given as 1e-12.
        """
        if math.isnan(self.value) or self.variance < ROUNDING:
            return None
        share, trials = self._trials()
        at = -self.bounds[0] / (self.bounds[1] - self.bounds[0])
        far = abs(share - at) / math.sqrt(at * (1 - at) / trials) * self.error
        return max(_LEAST, 2 * self.beyond(far))

    def above_p(self) -> float | None:
        """One-sided p that the number is 0 or less, by the same law."""
        both = self.p()
        return None if both is None else both / 2 if self.value > 0 else 1 - both / 2

    def resolvable(self, tests: int = 1) -> float | None:
        """The smallest true value found different from 0 with 80 % power at 5 %, in Holm's first step of `tests`."""
        if self.variance < ROUNDING:
            return None
        return self.reach(ALPHA / (2 * tests)) + self.reach(1 - POWER)


Law = Callable[[Component, Component, float], float]


def _reach(units: Component, draws: Component, tail: float, law: Law) -> float:
    """See `Estimate.reach`."""
    from scipy.optimize import brentq

    if not draws.variance:
        return math.sqrt(units.variance) * quantile(1 - tail, units.freedom)
    most = sum(math.sqrt(own.variance) * quantile(1 - tail / 2, own.freedom) for own in (units, draws))
    return float(brentq(lambda far: law(units, draws, far) - tail, 0, most, xtol=1e-15)) if most else 0.0


def _beyond(one: Component, two: Component, far: float) -> float:
    """See `Estimate.beyond`: by Ghosh and Kim down to 5 % of both sides, by Behrens and Fisher from 0.25 % on.

    The first holds 5 % where the second has half of it; in far tails the second holds what the first has up to twice as
    often. Between, one passes into the other.
    """
    cautious = _behrens_fisher(one, two, far)
    if min(one.freedom, two.freedom) < _FEW:  # two draws: the one law would not pass into the other smoothly
        return cautious
    into = math.log(ALPHA / 2 / cautious) / math.log(ALPHA / _FAR) if 0 < 2 * cautious < ALPHA else 0.0
    if into >= 1 or not cautious:
        return cautious
    return _ghosh_kim(one, two, far) ** (1 - into) * cautious**into


_FEW = 3
_FAR = 0.0025  # Holm's first step over 20 tests


def _ghosh_kim(one: Component, two: Component, far: float) -> float:
    """Their prior is 1 / one + 1 / two (the variances of the parts) times that of Behrens and Fisher.

    To weigh by 1 / variance is to know it with two degrees of freedom more.
    """
    known_one = _behrens_fisher(_better_known(one), two, far)
    known_two = _behrens_fisher(one, _better_known(two), far)
    return (two.variance * known_one + one.variance * known_two) / (one.variance + two.variance)


def _better_known(part: Component) -> Component:
    """The same sum of squares with two degrees of freedom more."""
    if math.isinf(part.freedom):
        return part
    return Component(part.variance * part.freedom / (part.freedom + 2), part.freedom + 2)


def _behrens_fisher(one: Component, two: Component, far: float) -> float:
    """The exact law of the larger part, averaged over that of the smaller."""
    from scipy.special import stdtr

    small, large = sorted((one, two), key=lambda own: own.variance)
    if small.variance < ROUNDING * large.variance:
        return below(-far / math.sqrt(large.variance), large.freedom)
    moved = math.sqrt(small.variance) * _scattered(small.freedom)
    return float(_WEIGHTS @ stdtr(large.freedom, (moved - far) / math.sqrt(large.variance)))


def pooled(parts: Sequence[Component]) -> Component:
    """The sum of independent parts, with Satterthwaite's degrees of freedom; infinite where nothing spreads."""
    variance = sum(part.variance for part in parts)
    known = sum(part.variance**2 / part.freedom for part in parts)
    return Component(variance, variance**2 / known if known > 0 else math.inf)


_PLACES = np.linspace(-8.5, 8.5, 341)  # of a normal law: close enough for p above 1e-6 from five draws or more
_WEIGHTS = np.exp(-(_PLACES**2) / 2) / np.exp(-(_PLACES**2) / 2).sum()


@lru_cache(maxsize=64)
def _scattered(freedom: float) -> NDArray[np.float64]:
    """Student's t at the same quantiles as the places of the normal law."""
    from scipy.special import ndtr, stdtrit

    if math.isinf(freedom):
        return _PLACES
    half: NDArray[np.float64] = stdtrit(freedom, ndtr(_PLACES[_PLACES <= 0]))  # quantiles near 1 have no digits left
    return np.concatenate([half, -half[-2::-1]])


def total(parts: Iterable[Estimate]) -> Estimate:
    """The sum of independent numbers."""
    found = list(parts)
    low, high = (sum(bounds) for bounds in zip(*(one.bounds for one in found), strict=True))
    units = tuple(component for one in found for component in one.units)
    draws = tuple(component for one in found for component in one.draws)
    value, centre, twice = (sum(getattr(one, name) for one in found) for name in ("value", "centre", "twice"))
    return Estimate(value, centre, units, draws, (low, high), twice)


def over_draws(values: Sequence[float]) -> tuple[Component, ...]:
    """What drawing anew adds to the variance of the mean of these values, one a draw; nothing for one draw.

    It holds what test units do to each draw alone, too, as `Shares.twice` says.
    """
    if len(values) < 2 or any(math.isnan(value) for value in values):
        return ()
    mean = sum(values) / len(values)
    squares = sum((value - mean) ** 2 for value in values)  # not by `statistics`, whose fractions take far longer
    return (Component(squares / (len(values) - 1) / len(values), len(values) - 1),)


def quantile(share: float, freedom: float) -> float:
    """The quantile of Student's t, or of the normal law where the freedom is infinite."""
    from scipy.special import stdtrit

    return statistics.NormalDist().inv_cdf(share) if math.isinf(freedom) else float(stdtrit(freedom, share))


def below(value: float, freedom: float) -> float:
    """The share of Student's t, or of the normal law, below a value."""
    from scipy.special import stdtr

    return statistics.NormalDist().cdf(value) if math.isinf(freedom) else float(stdtr(freedom, value))
