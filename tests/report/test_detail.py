"""One record as a person reads it."""

from pathlib import Path
from typing import Any

import numpy as np
from made_predictions import written
from made_records import made_record

from cxrbench.records.predictions import read_cell
from cxrbench.records.scores import FoldScores
from cxrbench.reports.detail import detail


def shown(out: Path, **changes: Any) -> str:
    """A record of six images, of which one is judged wrong, as it is printed."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([[2, 1], [2, 1], [0, 1], [0, 1], [0, 1], [0, 1]], float)
    fold = FoldScores(0, tuple(f"image{place}" for place in range(6)), labels, scores)
    record = written(out, "clip_cm", [fold], **changes)
    return detail(record, read_cell(out, record))


def test_released_rounding_renders_three_decimals_a_fold(tmp_path: Path) -> None:
    text = shown(tmp_path)
    assert "aca: 0.833" in text
    assert "0.8333" not in text.split("fold 0")[1]


def test_unrounded_variant_shows_what_the_record_holds(tmp_path: Path) -> None:
    settings = {**made_record().settings.model_dump(mode="json"), "metrics.rounding": "unrounded"}
    assert "balanced_accuracy: 0.8333333333333333" in shown(tmp_path, settings=settings)


def test_intervals_say_what_they_cover_and_which_classes_are_small(tmp_path: Path) -> None:
    text = shown(tmp_path)
    assert "95 % intervals in percent: other test images, these training images only; no patient ids" in text
    assert "  balanced accuracy 83.33 [" in text and "  macro AUROC 66.67 [" in text
    assert "  few test images: Normal 3, Pneumonia 3. Their scores are hardly known" in text
    assert "harmonic" not in text


def test_the_harmonic_mean_has_an_interval(tmp_path: Path) -> None:
    base, new = 2 / 3, 1.0
    told = {"base": base, "new": new, "harmonic_mean": 0.8, "new_classes": ["Pneumonia"]}
    assert "  harmonic mean of base and new classes 80.00 [" in shown(tmp_path, generalised=told)


def test_identity_and_left_out_images_are_told(tmp_path: Path) -> None:
    text = shown(
        tmp_path, data__left_out={"img1": "cut in the middle"}, data__missing=2, data__partition_digest="e" * 64
    )
    for told in (
        "a" * 64,
        "e" * 64,
        "img1: cut in the middle",
        "1 unreadable, 2 missing",
        "dlilp-detailed-as-published",
    ):
        assert told in text
