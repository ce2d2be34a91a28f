"""Zero-shot scores against the released ones, and the arithmetic of pooling."""

import numpy as np
import pytest

from cxrbench.errors import SpecError
from cxrbench.evaluate.zero_shot import class_vectors, scores


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
