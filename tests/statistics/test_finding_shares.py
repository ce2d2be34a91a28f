"""Shares of numbers over findings: derivatives, DeLong's variance, units with several rows, sparse findings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cxrbench.evaluate.findings import FindingRows, chosen_thresholds, finding_metrics
from cxrbench.evaluate.metric_table import TABLE, Metric, main_metric, table_of
from cxrbench.evaluate.statistics.finding_shares import areas_of_findings, finding_units
from cxrbench.evaluate.statistics.interval import estimate
from cxrbench.evaluate.statistics.shares import ScoredRows, areas
from cxrbench.types import UNKNOWN

FINDINGS = list(table_of("multi-label").values())


def rows(seed: int, n: int = 60, findings: int = 3, units: int | None = None, unknown: float = 0.0) -> FindingRows:
    """Scores with ties, findings that go together, both values of each finding in both halves."""
    rng = np.random.default_rng(seed)
    ill = rng.normal(size=(n, 1))
    labels = (ill + rng.normal(size=(n, findings)) > 0.6).astype(np.int64)
    labels[:2], labels[2:4] = 1, 0
    scores = np.round(labels + 0.8 * ill + rng.normal(size=labels.shape), 1)
    hidden = rng.random(labels.shape) < unknown
    hidden[:4] = False
    labels[hidden] = UNKNOWN
    unit = np.arange(n) if units is None else np.concatenate([np.arange(units), rng.integers(0, units, n - units)])
    thresholds = chosen_thresholds(scores[:40], labels[:40])
    return FindingRows(unit, labels, scores, thresholds)


@pytest.mark.parametrize("metric", FINDINGS, ids=lambda metric: metric.name)
def test_a_share_is_what_the_number_changes_by_as_a_unit_counts_for_more(metric: Metric) -> None:
    """Held against the number with each row a thousand times, and one of them once more."""
    fold = rows(3)
    each = metric.shares([fold]).each
    times, whole = 400, metric.of(fold)
    for unit in range(0, len(fold.unit), 7):
        chosen = np.concatenate([np.repeat(np.arange(len(fold.unit)), times), [unit]])
        more = metric.of(fold.at(chosen))
        sides = [(fold.labels[:, c] == fold.labels[unit, c]).sum() for c in range(3)]
        factor = np.sqrt(np.mean([n / (n - 1) for n in sides]))  # each side counts for a little more
        assert times * (more - whole) == pytest.approx(each[unit] / factor, abs=4e-3 * max(1, abs(each).max() * 60))


@pytest.mark.parametrize("metric", FINDINGS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_the_value_is_that_of_the_record_and_shares_add_up_to_nothing(metric: Metric, unknown: float) -> None:
    fold = rows(5, n=90, unknown=unknown)
    found = metric.shares([fold])
    recorded = finding_metrics(fold.scores, fold.labels, fold.thresholds)
    assert found.value == pytest.approx(getattr(recorded, metric.name), abs=1e-14)
    assert abs(found.each.sum()) < 0.02


def test_one_finding_has_delongs_variance() -> None:
    fold = rows(1, n=200, findings=1)
    single = ScoredRows(fold.unit, fold.labels[:, 0], np.stack([-fold.scores[:, 0], fold.scores[:, 0]], axis=1))
    one, other = areas_of_findings([fold]), areas([single])  # of two classes the two areas are the same
    assert one.value == pytest.approx(other.value, abs=1e-14)
    of_one, of_other = (sum(part.variance for part in found.spread) for found in (one, other))
    assert of_one == pytest.approx(of_other, rel=0.02)


@pytest.mark.parametrize("copies", [2, 14, 60])
@pytest.mark.parametrize("strength", [1.0, 9.0])
def test_copies_of_a_finding_have_its_interval(copies: int, strength: float) -> None:
    rng, labels = np.random.default_rng(5), np.zeros((300, 1), np.int64)
    labels[:6] = 1
    scores = rng.normal(size=labels.shape) + strength * labels  # the stronger one is right in all: no spread
    one, many = (
        estimate(
            areas_of_findings([FindingRows(np.arange(300), *(np.repeat(x, n, axis=1) for x in (labels, scores)))]),
            (0, 1),
            "images",
        )
        for n in (1, copies)
    )
    assert many.ends() == pytest.approx(one.ends(), abs=1e-9)


def test_findings_that_go_together_widen_the_interval() -> None:
    fold = rows(2, n=300, findings=1)
    twice = FindingRows(fold.unit, np.repeat(fold.labels, 2, axis=1), np.repeat(fold.scores, 2, axis=1))
    one, two = (sum(part.variance for part in areas_of_findings([f]).spread) for f in (fold, twice))
    assert two == pytest.approx(one)  # were they independent, it would be half


def test_patients_with_the_same_images_twice_change_no_variance() -> None:
    fold = rows(4, n=150)
    doubled = FindingRows(np.tile(fold.unit, 2), np.tile(fold.labels, (2, 1)), np.tile(fold.scores, (2, 1)))
    one, two = (sum(part.variance for part in areas_of_findings([f]).spread) for f in (fold, doubled))
    assert two == pytest.approx(one, rel=0.02)


def test_a_sparse_finding_has_a_floor_and_few_degrees_of_freedom() -> None:
    labels = np.zeros((200, 2), np.int64)
    labels[:3, 0], labels[:100, 1] = 1, 1
    scores = np.random.default_rng(0).normal(size=labels.shape) + 3 * labels
    scores[:3, 0] = 9  # all three above all others: no spread at all
    found = areas_of_findings([FindingRows(np.arange(200), labels, scores)])
    assert found.floors[0].freedom == pytest.approx(4, abs=0.1) and found.floors[0].variance > sum(
        v.variance for v in found.over_units(1.0)
    )
    assert finding_units([FindingRows(np.arange(200), labels, scores)]).tolist() == [[3, 197], [100, 100]]


def test_a_finding_that_no_row_shows_is_left_out_of_the_mean() -> None:
    fold = rows(6)
    labels, scores = np.hstack([fold.labels, np.zeros((60, 1), np.int64)]), np.hstack([fold.scores, fold.scores[:, :1]])
    more = FindingRows(fold.unit, labels, scores)
    assert areas_of_findings([more]).value == areas_of_findings([fold]).value
    told = finding_metrics(scores, labels)
    assert told.auroc[-1] is None and told.reasons["auroc"] == "no test row shows finding 3"
    assert told.macro_f1 is None and "no validation part" in told.reasons["macro_f1"]


def test_without_any_defined_finding_there_is_no_number() -> None:
    labels = np.zeros((5, 2), np.int64)
    fold = FindingRows(np.arange(5), labels, np.zeros((5, 2)))
    assert all(np.isnan(metric.of(fold)) and np.isnan(metric.shares([fold]).value) for metric in FINDINGS)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_average_precision_is_scikit_learns(seed: int) -> None:
    fold = rows(seed, findings=2)
    told = finding_metrics(fold.scores, fold.labels).average_precision
    expected = [average_precision_score(fold.labels[:, c], fold.scores[:, c]) for c in range(2)]
    assert told == pytest.approx(expected, abs=1e-14)


def test_each_kind_of_task_has_its_main_metric() -> None:
    kinds = ("single-label", "multi-label")
    assert [main_metric(kind, "all").name for kind in kinds] == ["balanced_accuracy", "macro_auroc"]
    assert "balanced_accuracy" not in table_of("multi-label") and "f1_best_on_test" not in table_of("single-label")
    assert "multi-label tasks, which have macro_auroc" in TABLE["kappa"].unfit("multi-label", ("a", "b"))
