"""Student's t for AUROC: the degrees of freedom by hand, by DeLong and beside SciPy."""

import math

import numpy as np
import pytest
from made_scores import Wards, two_normals
from scipy import stats

from cxrbench.evaluate.statistics.freedom import area_shares, freedom, quantile, two_sided_p
from cxrbench.evaluate.statistics.interval import area_interval, interval
from cxrbench.evaluate.statistics.paired import Pair, difference
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, strata


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def area(positive: int, negative: int, seed: int = 1) -> Interval:
    return interval("macro_auroc", two_normals(positive, negative, 0.8).draw(rng(seed)), "image", rng(), 2000)


def test_freedom_is_that_of_brunner_and_munzels_test() -> None:
    """SciPy's test has no public degrees of freedom, but its p follows from them and its statistic."""
    one, rest = rng(1).normal(0.4, 1, 12).round(1), rng(2).normal(0, 1, 40).round(1)
    scores, labels = np.concatenate([rest, one]), np.repeat([0, 1], [40, 12])
    fold = ScoredRows(np.arange(52), labels, np.stack([-scores, scores], axis=1))
    found = freedom(area_shares([fold], 52), strata([fold]))
    theirs = stats.brunnermunzel(rest, one)
    assert two_sided_p(theirs.statistic, found) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_shares_make_up_the_bootstraps_error_patients_and_folds_included() -> None:
    folds = Wards(200, 3, folds=3, share=0.5).draw(rng(3))
    stratum = strata(folds)
    shares = area_shares(folds, len(stratum))
    own = [shares[stratum == number] for number in range(3)]
    error = math.sqrt(sum(len(part) * part.var(ddof=1) for part in own))
    assert interval("macro_auroc", folds, "patient", rng(), 6000).error == pytest.approx(error, rel=0.04)


def test_few_images_of_a_class_widen_the_interval_and_are_told() -> None:
    few, many = area(12, 400), area(300, 400)
    assert few.error is not None and few.estimate is not None and few.high is not None and few.low is not None
    reach = (math.log(few.high / (1 - few.high)) - math.log(few.low / (1 - few.low))) / 2
    errors = reach * few.estimate * (1 - few.estimate) / few.error
    assert 2.1 < errors < stats.t.ppf(0.975, 11)
    assert "its error rests on about 1" in few.reason and "likely too short" in few.reason
    assert many.reason == ""


def test_a_difference_of_areas_has_a_p_that_goes_with_its_interval() -> None:
    """Few positives: the p is Student's too, and larger than the normal law's."""
    labels = np.repeat([0, 1], [200, 8])
    a, b = (rng(seed).normal(size=208) + gain * labels for seed, gain in ((4, 2.0), (5, 0.8)))
    pair = Pair(*([ScoredRows(np.arange(208), labels, np.stack([-s, s], axis=1))] for s in (a, b)), "image")
    found = difference("macro_auroc", pair, rng(), 4000)
    assert found.interval.error is not None and found.interval.estimate is not None
    errors = found.interval.estimate / found.interval.error
    assert 1.05 * 2 * stats.norm.sf(abs(errors)) < found.p < 2 * stats.t.sf(abs(errors), 6)


def test_without_limit_the_normal_law_is_met() -> None:
    assert quantile(0.95, math.inf) == pytest.approx(1.959964, abs=1e-6)
    assert quantile(0.95, 10) == pytest.approx(stats.t.ppf(0.975, 10))
    assert two_sided_p(-1.959964, math.inf) == pytest.approx(0.05, abs=1e-6)
    assert freedom(np.zeros(4), np.array([0, 0, 1, 1])) == math.inf


def test_an_absent_class_has_no_share() -> None:
    fold = ScoredRows(np.arange(4), np.array([0, 0, 1, 1]), rng().normal(size=(4, 3)))
    assert np.isnan(area_shares([fold], 4)).all()


@pytest.mark.parametrize(
    "folds",
    [
        Wards(200, 3, folds=3, share=0.5).draw(rng(3)),
        two_normals(60, 300, 0.85).draw(rng(4)),
        two_normals(12, 300, 0.8).draw(rng(5)),
    ],
    ids=["patients, three folds", "images", "few of a class"],
)
def test_the_interval_without_resamples_is_that_with_them(folds: list[ScoredRows]) -> None:
    found, drawn = area_interval(folds, "patient"), interval("macro_auroc", folds, "patient", rng(), 8000)
    assert found.estimate == pytest.approx(drawn.estimate, abs=1e-12)
    assert found.error == pytest.approx(drawn.error, rel=0.04)
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.006)
    assert (found.units, found.over, found.reason, found.resamples) == (drawn.units, drawn.over, drawn.reason, 0)


def test_an_area_without_an_interval_says_why() -> None:
    labels = np.repeat([0, 1], 20)
    perfect, blind = (ScoredRows(np.arange(40), labels, s) for s in (np.eye(2)[labels], np.full((40, 2), 0.5)))
    lonely = ScoredRows(np.arange(21), np.repeat([0, 1], [20, 1]), rng().normal(size=(21, 2)))
    absent = ScoredRows(np.arange(20), np.zeros(20, dtype=int), rng().normal(size=(20, 2)))
    for fold in (perfect, blind, lonely, absent):
        found, drawn = area_interval([fold], "image"), interval("macro_auroc", [fold], "image", rng(), 200)
        assert found.low is None and found.reason == drawn.reason
        assert found.estimate == drawn.estimate
