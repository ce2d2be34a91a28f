"""Two measurements of one number: differs, agrees within a margin, or cannot be told."""

import pytest

from cxrbench.analysis.against_paper import difference, judged
from cxrbench.evaluate.statistics.estimate import Component, Estimate

FAR = 1e6  # degrees of freedom at which Student's t is the normal law


def moved(by: float, error: float, freedom: float = FAR) -> Estimate:
    """A difference of so many points, where each of the two numbers has this standard error."""
    own = Estimate(0.5 + by / 100, 0.5 + by / 100, (Component((error / 100) ** 2, freedom),))
    return difference(own, 0.5)


def verdict(by: float, error: float, margin: float = 5) -> str:
    (found,) = judged([moved(by, error)], margin)
    return found.verdict


def test_the_error_of_a_difference_is_that_of_two_numbers_of_one_kind() -> None:
    found = moved(3, 2)
    assert found.value == pytest.approx(0.03)
    assert found.error == pytest.approx(0.02 * 2**0.5)
    assert [part.freedom for part in found.units] == [FAR] and not found.draws
    assert found.bounds == (-1, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_beyond_its_error_differs(sign: int) -> None:
    assert verdict(sign * 1.97, 1 / 2**0.5, margin=1) == "differs"
    assert verdict(sign * 1.95, 1 / 2**0.5, margin=1) == "cannot tell"


@pytest.mark.parametrize("sign", [1, -1])
def test_agreement_needs_the_whole_interval_of_90_percent_within_the_margin(sign: int) -> None:
    reach = 1.6449  # of a standard error of 1 point
    assert verdict(sign * (5 - reach - 0.02), 1 / 2**0.5, margin=5) == "differs"  # 3.3 standard errors from 0
    assert verdict(sign * 0.5, 1 / 2**0.5, margin=0.5 + reach + 0.02) == "agrees"
    assert verdict(sign * 0.5, 1 / 2**0.5, margin=0.5 + reach - 0.02) == "cannot tell"


def test_a_small_difference_that_is_shown_differs_and_is_told_to_lie_within_the_margin() -> None:
    (found,) = judged([moved(2, 0.3)], 5)
    assert (found.verdict, found.within) == ("differs", True)


def test_few_draws_make_a_difference_harder_to_show() -> None:
    many, few = moved(3, 1), moved(3, 1, freedom=4)
    assert [found.verdict for found in judged([many], 1)] == ["differs"]
    assert [found.verdict for found in judged([few], 1)] == ["cannot tell"]


def test_all_cells_of_a_check_are_corrected_together() -> None:
    one, *_ = judged([moved(2, 0.6), *(moved(0, 0.6) for _ in range(9))], 1)
    (alone,) = judged([moved(2, 0.6)], 1)
    assert one.p == pytest.approx(10 * alone.p)
    assert (alone.verdict, one.verdict) == ("differs", "cannot tell")


def test_of_numbers_that_nothing_moves_only_rounding_is_forgiven() -> None:
    found = judged([difference(Estimate(0.5, 0.5, ()), printed) for printed in (0.50005, 0.502)], 5)
    assert [one.verdict for one in found] == ["agrees", "differs"]


def test_nothing_to_judge_is_no_error() -> None:
    assert judged([]) == []
