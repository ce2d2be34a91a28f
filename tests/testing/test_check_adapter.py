"""`check_adapter`: each broken promise is found by name; tests/bench/test_zoo_run.py checks the adapters of the zoo."""

import made_adapters as made
import pytest
import torch
from made_adapters import Sound, card

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import load_adapter
from cxrbench.testing import AdapterReport, Samples, check_adapter, check_card

BROKEN: dict[type[Sound], set[str]] = {
    made.TrainingNorm: {
        "evaluation mode",
        "batch independence of images",
        "scores of parts",
    },
    made.BatchDependent: {"batch independence of images"},
    made.GradientsOn: {"no gradient", "scores"},
    made.WrongWidth: {"taps"},
    made.RandomDropout: {"determinism of images", "batch independence of images", "one channel is grey"},
    made.HalfPrecision: {"float32"},
    made.NotANumber: {"finite", "batch independence of images", "determinism of images", "one channel is grey"},
    made.WritesPixels: {"inputs untouched"},
    made.TakesAnyPixels: {"wrong pixels refused"},
    made.FirstChannelTwice: {"one channel is grey"},
    made.SeesPadding: {"padding masked"},
    made.ForgetsOrder: {"order of texts"},
    made.TakesAString: {"wrong texts refused"},
    made.NoTexts: {"text side"},
    made.ScoresTogether: {"scores of parts", "scores row by row"},
    made.RanksTexts: {"texts asked alone"},
    made.AnyView: {"unknown view refused"},
    made.AnyClass: {"unknown class refused"},
    made.Falls: {"text side"},
    made.NewDigests: {"interface"},
}


def names(report: AdapterReport) -> set[str]:
    return {finding.name for finding in report.failed}


def figures(report: AdapterReport) -> dict[str, float | None]:
    return {finding.name: finding.figure for finding in report.findings}


def test_a_sound_adapter_passes_and_its_drift_is_stated() -> None:
    report = check_card(card(Sound))
    report.require()
    assert report.passed
    found = figures(report)
    for name in ("drift of pooled", "drift of joint", "drift of scores"):
        drift = found[name]
        assert drift is not None
        assert 0 < drift < 0.05
    assert all(finding.text for finding in report.findings)
    assert len({finding.name for finding in report.findings}) == len(report.findings)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_promise_is_found_by_name(kind: type[Sound]) -> None:
    report = check_adapter(load_adapter(card(kind)))
    assert BROKEN[kind] <= names(report)
    with pytest.raises(IntegrityError, match=f"{kind.__name__.lower()}: the adapter breaks"):
        report.require()


@pytest.mark.parametrize(
    "kind",
    [kind for kind in BROKEN if len(BROKEN[kind]) == 1 and kind not in (made.NoTexts, made.Falls)],
    ids=lambda kind: kind.__name__,
)
def test_nothing_but_what_is_broken_is_found(kind: type[Sound]) -> None:
    assert names(check_adapter(load_adapter(card(kind)))) == BROKEN[kind]


def test_what_an_adapter_raises_is_told() -> None:
    report = check_adapter(load_adapter(card(made.Falls)))
    told = {finding.name: finding.text for finding in report.failed}
    assert "raised KeyError: 'token'" in told["text side"]


def test_a_model_that_only_sees_needs_no_text_side() -> None:
    report = check_card(card(made.NoTexts, zero_shot=None))
    report.require()
    assert "none, and no view" in next(f.text for f in report.findings if f.name == "text side")
    assert "scores of parts" not in figures(report)


def test_without_texts_the_text_side_is_said_to_be_left_out() -> None:
    model = load_adapter(card(Sound))
    report = check_adapter(model, Samples(torch.rand(3, 1, 32, 32)))
    assert next(f for f in report.findings if f.name == "text side").passed is None
    assert report.passed


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(SpecError, match="load it in float32"):
        check_adapter(load_adapter(card(Sound), precision="bfloat16"))
    with pytest.raises(SpecError, match="at least 3 images"):
        Samples(torch.rand(2, 1, 32, 32))
