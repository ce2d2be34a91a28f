"""Ranks and precisions: the authors' figures, ties, blocks, and their metrics by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate import retrieval
from cxrbench.evaluate.metric_table import load_metric, main_metric, table_of
from cxrbench.evaluate.retrieval import (
    OF_CLASS,
    OF_OWN,
    OwnMetrics,
    QueryRows,
    own_ranks,
    precisions,
    query_metrics,
    similarities,
)

FIXTURE = Path(__file__).parent.parent / "fixtures" / "protocols" / "multilabel.npz"


@pytest.fixture(scope="module")
def golden() -> Mapping[str, NDArray[Any]]:
    with np.load(FIXTURE) as held:
        return {name.removeprefix("retrieval/"): held[name] for name in held.files if name.startswith("retrieval/")}


def merged(golden: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The distinct texts in the order of their first occurrence, and the number of each."""
    ids = golden["text_id"]
    first = np.sort(np.unique(ids, return_index=True)[1])
    return golden["text"][first], ids[first]


def told(found: retrieval.Found) -> dict[str, Any]:
    rows = QueryRows(np.arange(len(found.values)), found.names, found.values)
    metrics = query_metrics(rows)
    return {name: getattr(metrics, name) for name in metrics.__dataclass_fields__}


def test_recalls_and_mean_rank_are_those_of_cxr_clip(golden: Mapping[str, NDArray[Any]]) -> None:
    texts, numbers = merged(golden)
    found = told(own_ranks(golden["image"], golden["text_id"], texts, numbers))
    ours = [found[name] for name in ("recall_at_1", "recall_at_5", "recall_at_10", "mean_rank")]
    np.testing.assert_allclose(ours, golden["cxr_clip_recall_1_5_10_meanrank"], rtol=0, atol=1e-12)


def test_hits_and_precisions_are_those_of_benchx(golden: Mapping[str, NDArray[Any]]) -> None:
    classes = golden["class"]
    found = told(precisions(golden["image"], golden["text_untied"], lambda part: classes[part, None] == classes[None]))
    for what in ("hit", "precision"):
        ours = [found[f"{what}_at_{k}"] for k in (1, 5, 10)]
        np.testing.assert_allclose(ours, golden[f"benchx_{what}_1_5_10"], rtol=0, atol=1e-12)


def sorted_rank(similar: NDArray[Any], own: int) -> int:
    """Number of texts less the place in the ascending sort, as CXR-CLIP has it: among equal ones the order decides."""
    return len(similar) - int(np.flatnonzero(np.argsort(similar, kind="stable") == own)[0])


def test_where_cosines_are_equal_the_authors_go_by_order_and_a_tie_counts_against_the_query_here() -> None:
    image = np.array([[1.0, 0.0]])
    texts = np.array([[0.6, 0.8], [0.6, 0.8], [0.0, 1.0]])
    ours = [own_ranks(image, np.array([own]), texts, np.arange(3)).values[0, 0] for own in range(3)]
    authors = [sorted_rank(texts @ image[0], own) for own in range(3)]
    assert (ours, authors) == ([2, 2, 3], [2, 1, 3])
    untied = np.array([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
    ours = [own_ranks(image, np.array([own]), untied, np.arange(3)).values[0, 0] for own in range(3)]
    assert ours == [sorted_rank(untied @ image[0], own) for own in range(3)] == [2, 1, 3]


def test_of_equal_candidates_the_wrong_come_first() -> None:
    pool = np.vstack([np.tile([1.0, 0.0], (60, 1)), np.tile([0.0, 1.0], (5, 1))])
    right = np.zeros((1, 65), dtype=np.bool_)
    right[0, :40] = True  # 20 equal ones are wrong
    found = precisions(np.array([[1.0, 0.0]]), pool, lambda part: right[part])
    assert found.values[0].tolist() == [0, 0, 0, 30 / 50, 0]
    assert found.right.tolist() == [40]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_blocks_of_any_size_give_the_same_ranks(seed: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    queries, pool = (rng.normal(size=(n, 3)).astype(np.float32).round(1) for n in (12, 9))
    owner, wanted = np.arange(9) % 4, rng.integers(0, 4, 12)
    whole = own_ranks(queries, wanted, pool, owner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_CELLS", cells)
        patch.setattr(retrieval, "_COLUMNS", 2)
        parts = own_ranks(queries, wanted, pool, owner)
        sizes = [len(found) for _, found in similarities(queries, pool)]
    assert max(sizes) <= max(1, cells // 9)
    np.testing.assert_array_equal(whole.values[:, 0], parts.values[:, 0])
    np.testing.assert_allclose(whole.values[:, 1], parts.values[:, 1], atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_the_margin_is_above_zero_exactly_where_the_first_candidate_is_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, pool = rng.normal(size=(8, 2)).round(1), rng.normal(size=(60, 2)).round(1)
    classes, own = np.arange(60) % 5, np.arange(8) % 5
    ranked = own_ranks(queries, own, pool, classes)
    shares = precisions(queries, pool, lambda part: own[part, None] == classes[None])
    for found, first in ((ranked, ranked.values[:, 0] == 1), (shares, shares.values[:, 0] == 1)):
        np.testing.assert_array_equal(found.values[:, -1] > 0, first)


def test_metrics_by_hand() -> None:
    ranks = np.array([[1, 0.1], [3, -0.2], [7, -0.3], [40, -0.4]])
    assert query_metrics(QueryRows(np.arange(4), OF_OWN, ranks)) == OwnMetrics(0.25, 0.5, 0.75, 5.0, 12.75)
    shares = np.array([[1, 0.4, 0.3, 0.2, 0.1], [0, 0.2, 0.1, 0.06, -0.1], [0, 0, 0.1, 0.02, -0.2]])
    found = query_metrics(QueryRows(np.arange(3), OF_CLASS, shares))
    assert [getattr(found, f"hit_at_{k}") for k in (1, 5, 10)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [getattr(found, f"precision_at_{k}") for k in (5, 50)] == pytest.approx([0.2, 0.28 / 3])
    for name in ("precision_at_10", "hit_at_5"):
        assert load_metric(name).of(QueryRows(np.arange(3), OF_CLASS, shares)) == pytest.approx(getattr(found, name))


def test_metrics_fit_the_form_that_they_are_of() -> None:
    assert main_metric("retrieval", "c-image-to-report").name == "recall_at_1"
    assert main_metric("retrieval", "b-image-to-report").name == main_metric("retrieval", "a-text-to-image").name
    own, of_class = (
        {name for name, m in table_of("retrieval").items() if not m.unfit("retrieval", of)} for of in ([], ["x"])
    )
    assert own == {"recall_at_1", "recall_at_5", "recall_at_10"} and not own & of_class
    assert own | of_class == set(table_of("retrieval"))
    assert "retrieval tasks" in load_metric("kappa").unfit("retrieval", ["x"])
    assert "no metric of single-label tasks" in load_metric("recall_at_1").unfit("single-label", ["x", "y"])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([[0.0, 0.1]], OF_OWN),
        ([[1.0, np.nan]], OF_OWN),
        ([[1.2, 0, 0, 0, 0]], OF_CLASS),
        ([[1.0, 0.1]], OF_CLASS),
        ([[1.0, 0.1]], ("rank", "other")),
    ],
)
def test_what_no_query_comes_to_is_refused(values: list[list[float]], names: tuple[str, ...]) -> None:
    with pytest.raises(DataError):
        QueryRows(np.arange(1), names, np.array(values))


def test_a_query_that_can_be_answered_by_nothing_or_by_all_is_refused() -> None:
    for owner in (np.ones(3, int), np.zeros(3, int)):
        with pytest.raises(DataError, match="can be asked nothing"):
            own_ranks(np.eye(2)[:1], np.array([0]), np.ones((3, 2)), owner)
    with pytest.raises(DataError, match="cannot be ranked to the 50th"):
        precisions(np.eye(2)[:1], np.ones((3, 2)), lambda part: np.ones((1, 3), dtype=np.bool_))
