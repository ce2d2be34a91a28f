"""The rule for synthetic weights and pictures: the one by which the authors' figures were computed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.models import made

NAMES = (
    "conv1.weight",
    "bn.running_var",
    "bn.running_mean",
    "bn.bias",
    "norm.weight",
    "logit_scale",
    "word_embeddings.weight",
)

KNOWN = [[0.5763957500457764, 0.29384589195251465], [-0.01357039250433445, -0.07623612880706787]]
PICTURE = [147, 201, 189, 111]


def original(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", shared / "parity" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (4, 3, 2, 2)])
def test_values_are_those_of_the_figures(name: str, shape: tuple[int, ...], shared: Path) -> None:
    rule = original(shared)
    for seed in (0, 7):
        assert np.array_equal(made.fill(name, shape, seed=seed), rule.fill(name, shape, seed=seed))
    for integer in ("embeddings.position_ids", "bn.num_batches_tracked"):
        if shape:
            assert np.array_equal(made.fill(integer, shape[:1], "int64"), rule.fill(integer, shape[:1], "int64"))


def test_pictures_are_those_of_the_figures(shared: Path) -> None:
    assert np.array_equal(made.images(2, 320, 260), original(shared).images(2, 320, 260))


def test_known_values() -> None:
    """Written down, so that another generator is noticed where the shared rule is not at hand."""
    assert made.fill("a.weight", (2, 2)).tolist() == KNOWN
    assert made.images(1, 16, 16)[0, 0, :4].tolist() == PICTURE


@given(st.sampled_from(NAMES), st.integers(0, 3), st.integers(1, 4))
def test_a_value_depends_on_name_shape_and_seed_alone(name: str, seed: int, rows: int) -> None:
    first = made.fill(name, (rows, 3), seed=seed)
    made.fill("other", (9,), seed=seed)
    assert np.array_equal(first, made.fill(name, (rows, 3), seed=seed))
    assert first.dtype == np.float32
    assert not np.array_equal(first, made.fill(name, (rows, 3), seed=seed + 1))


def test_more_pictures_begin_with_the_same() -> None:
    assert np.array_equal(made.images(3, 20, 30)[:2], made.images(2, 20, 30))


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.sampled_from([0, 1, 7, 1234, made.SEEDS - 1]), st.integers(2, 6), st.booleans())
def test_made_weights_are_known_and_trained_ones_are_not_taken_for_them(seed: int, side: int, moved: bool) -> None:
    tensors = {name: made.fill(name, (side, side + 1), seed=seed) for name in ("conv1.weight", "fc.weight")}
    tensors["bn.bias"] = np.zeros(2, np.float32)
    if moved:
        tensors["conv1.weight"] = tensors["conv1.weight"] * np.float32(1.001)
    assert made.is_made(tensors) != moved
    assert not made.is_made({"bn.bias": tensors["bn.bias"]})


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (3, 1)])
def test_too_few_values_tell_nothing(shape: tuple[int, int]) -> None:
    if 0 not in shape:
        assert not made.is_made({"small.weight": made.fill("small.weight", shape)})
    trained = {"head.weight": np.ones((8, 8), np.float32), "small.weight": np.zeros(shape, np.float32)}
    assert not made.is_made(trained)
