"""Zero-shot scores against the released ones, and the arithmetic of pooling."""

from typing import Any

import numpy as np
import pytest

from cxrbench.errors import RunError, SpecError
from cxrbench.evaluate.zero_shot import class_scores, class_vectors, scores, standardised


def test_scores_from_class_vectors_are_the_released_ones(experiment):
    for run, printed in experiment.zero_shot_runs():
        images = experiment.features.get(run.split("/")[1])
        if images is None:  # a trimmed fixture without this strategy's projected features
            continue
        for f, fold in enumerate(experiment.facts["folds"]):
            recorded = experiment.arrays[f"{run}/f{f}/scores"]
            text = experiment.arrays.get(f"{run}/f{f}/text", experiment.arrays[f"{run}/f0/text"])
            got = scores(images[fold["test"]], text, printed["scale"])
            assert got.dtype == np.float32
            assert np.abs(got - recorded).max() <= 1e-4 * np.abs(recorded).max(), (run, f)


def test_mean_is_not_brought_back_to_unit_length_unless_asked():
    prompts = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    owner = np.array([0, 0, 1])
    np.testing.assert_allclose(class_vectors(prompts, owner, 2, "mean"), [[0.5, 0.5], [0, 1]])
    root = np.sqrt(0.5)
    np.testing.assert_allclose(class_vectors(prompts, owner, 2, "renormalised"), [[root, root], [0, 1]], rtol=1e-6)


def test_prompts_may_come_in_any_order():
    rng = np.random.default_rng(0)
    prompts, owner = rng.standard_normal((12, 8)).astype(np.float32), np.arange(12) % 3
    mixed = rng.permutation(12)
    for how in ("mean", "renormalised"):
        again = class_vectors(prompts[mixed], owner[mixed], 3, how)
        np.testing.assert_allclose(again, class_vectors(prompts, owner, 3, how), rtol=1e-5, atol=1e-7)


def test_a_class_without_a_prompt_is_refused():
    with pytest.raises(SpecError, match=r"\[1\]"):
        class_vectors(np.eye(2), np.array([0, 2]), 3, "mean")
    with pytest.raises(SpecError, match="owners"):
        class_vectors(np.eye(2), np.array([1]), 2, "mean")


def test_prompt_scores_are_pooled_by_mean_or_max():
    by_prompt = np.array([[1, 3, 5], [4, 2, -1]], dtype=np.float32)
    owner = np.array([0, 0, 1])
    assert class_scores(by_prompt, owner, "mean").tolist() == [[2, 5], [3, -1]]
    assert class_scores(by_prompt, owner, "max").tolist() == [[3, 5], [4, -1]]
    with pytest.raises(SpecError, match="class"):
        class_scores(np.eye(2), np.array([1, 1]), "mean")


def test_pooling_vectors_and_pooling_scores_agree_where_scores_are_dot_products():
    rng = np.random.default_rng(1)
    images, prompts, owner = rng.standard_normal((5, 16)), rng.standard_normal((7, 16)), np.array([0, 0, 1, 1, 1, 2, 2])
    pooled = class_scores(scores(images, prompts, 3.0), owner, "mean")
    from_vectors = scores(images, class_vectors(prompts, owner, 3, "mean"), 3.0)
    np.testing.assert_allclose(pooled, from_vectors, rtol=1e-4, atol=1e-5)


def test_standardised_scores_have_no_mean_and_unit_spread_in_every_class():
    found = standardised(np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]]), ("a", "b"))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), 1)
    assert standardised(np.array([[1.0, 2.0]]), ("a", "b")).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e-30])
def test_a_class_with_one_score_for_all_images_is_named(value: float, kind: type[np.floating[Any]]) -> None:
    """Its mean may be off by a rounding step, so the deviation is not always exactly 0 and no infinity would tell."""
    rows = np.stack([np.full(7, value), np.arange(7)], axis=1).astype(kind)
    with pytest.raises(RunError, match=r"class Edema: all 7 test images have the same score.*standardised = false"):
        standardised(rows, ("Edema", "Normal"))
