"""One record as a person reads it."""

import numpy as np
from made_records import made_record

from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.report.detail import detail


def measured_folds() -> list[dict[str, object]]:
    from dataclasses import asdict

    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([[2, 1], [2, 1], [0, 1], [0, 1], [0, 1], [0, 1]], float)
    metrics = asdict(fold_metrics(scores, labels))
    return [{"fold": 0, "metrics": metrics, "test_rows": 6, "test_digest": "d" * 64}]


def test_released_rounding_renders_three_decimals_a_fold() -> None:
    text = detail(made_record(folds=measured_folds()))
    assert "aca: 0.833" in text
    assert "0.8333" not in text.split("fold 0")[1]


def test_unrounded_variant_shows_what_the_record_holds() -> None:
    settings = {**made_record().settings.model_dump(mode="json"), "metrics.rounding": "unrounded"}
    assert "balanced_accuracy: 0.8333333333333333" in detail(made_record(folds=measured_folds(), settings=settings))


def test_identity_and_left_out_images_are_told() -> None:
    record = made_record(folds=measured_folds(), data__left_out={"img1": "cut in the middle"}, data__missing=2)
    text = detail(record)
    for told in (
        "a" * 64,
        "e" * 64,
        "img1: cut in the middle",
        "1 unreadable, 2 missing",
        "dlilp-detailed-as-published",
    ):
        assert told in text
