"""kNN and Tip-Adapter, whose cosines are float32 products, give what float64 gives, however the images come."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrbench.evaluate.vectors import cosines, unit
from cxrbench.runner.protocols.knn import TEMPERATURE, knn_votes
from cxrbench.runner.protocols.tip_adapter import tip_adapter_logits

CLASSES, SHOTS, WIDTH, IMAGES = 5, 8, 512, 600
LABELS = np.arange(CLASSES).repeat(SHOTS)
Array = NDArray[np.float32]


def near_each_other(images: int, seed: int) -> Array:
    """Vectors (n, d) whose cosines are about 0.9, as those of radiographs often are."""
    draw = np.random.default_rng(seed)
    return (3 * draw.standard_normal(WIDTH) + draw.standard_normal((images, WIDTH))).astype(np.float32)


TRAIN, TEST = (near_each_other(len(LABELS) + IMAGES, 0)[part] for part in np.split(np.arange(640), [len(LABELS)]))


def exact_votes(train: Array, test: Array, k: int) -> NDArray[np.float64]:
    """The definition in float64, where equal rows have equal cosines."""
    found, rows = np.zeros((len(test), CLASSES)), unit(train)
    for votes, image in zip(found, unit(test), strict=True):
        near = (rows * image).sum(axis=1)
        for row in sorted(range(len(rows)), key=lambda row: (-near[row], row))[:k]:
            votes[LABELS[row]] += np.exp(near[row] / TEMPERATURE)
    return found


def tip(train: Array, test: Array) -> NDArray[np.float64]:
    return tip_adapter_logits(train, LABELS, test, TRAIN[::SHOTS], 100.0)


SCORES: dict[str, Callable[[Array, Array], NDArray[np.float64]]] = {
    "tip": tip,
    **{
        f"knn {k}": lambda train, test, k=k: knn_votes(train, LABELS, test, CLASSES, k)  # type: ignore[misc]
        for k in (1, 10, 200)
    },
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_do_not_depend_on_how_many_images_there_are(name: str) -> None:
    """But for the rounding of float32 products, which depends on where they stand; votes multiply it by 1 / 0.07."""
    score, tolerance = SCORES[name], 1e-6 if name == "tip" else 6e-6
    whole = score(TRAIN, TEST)
    for cuts in ([1, 2, 5, 13, 300], [256], [599]):
        parts = np.concatenate([score(TRAIN, part) for part in np.split(TEST, cuts)])
        np.testing.assert_allclose(parts, whole, rtol=tolerance)


@pytest.mark.parametrize("k", [1, 3, 10, 39])
def test_nearest_rows_are_those_of_float64(k: int) -> None:
    """Also where float32 cannot tell rows apart: pairs of them differ by a millionth of their length."""
    train = TRAIN.copy()
    train[1::2] = train[::2] * (1 + 1e-6 * np.random.default_rng(1).standard_normal(WIDTH)).astype(np.float32)
    wanted = exact_votes(train, TEST, k)
    gaps = np.sort(cosines(TEST, train), axis=1)
    assert (np.diff(gaps, axis=1)[:, -k] < 1e-7).sum() > (0 if k == 39 else 100 if k % 2 else -1)
    np.testing.assert_allclose(knn_votes(train, LABELS, TEST, CLASSES, k), wanted, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 4, 7, 20])
def test_of_equal_rows_the_first_counts(k: int) -> None:
    """Each image stands three times, in other classes, at places that a product may treat in other ways."""
    train = TRAIN[np.random.default_rng(2).permutation(len(LABELS)) % 13]
    np.testing.assert_allclose(
        knn_votes(train, LABELS, TEST, CLASSES, k), exact_votes(train, TEST, k), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("size", [1e-30, 1e-15, 1e15, 1e30])
def test_lengths_beyond_the_squares_of_float32(name: str, size: float) -> None:
    """Such an image has its scores, and leaves those of others alone; one of zeros has the cosine 0 with all."""
    score = SCORES[name]
    test = TEST.copy()
    test[7] *= np.float32(size)
    np.testing.assert_allclose(score(TRAIN, test), score(TRAIN, TEST), rtol=2e-5)
    test[7] = 0
    found = score(TRAIN, test)
    np.testing.assert_allclose(np.delete(found, 7, axis=0), np.delete(score(TRAIN, TEST), 7, axis=0), rtol=2e-5)
    if name == "tip":
        np.testing.assert_allclose(found[7], SHOTS * np.exp(-1))
    else:
        assert found[7].sum() == min(int(name.split()[1]), len(LABELS))
