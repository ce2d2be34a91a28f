"""SAT's objective against its authors' own loss: triage, losses and gradients, case by case."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_lessons import small_choices, triage_choices
from made_training import made_loop
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from cxrbench.errors import RunError, SpecError
from cxrbench.pretrain.config import TriageSettings, build_config
from cxrbench.pretrain.log import read_rows
from cxrbench.pretrain.network import Pairs, Tokens, clip_loss, pair_logits
from cxrbench.pretrain.triage import Triaged, direction_loss, held_out_loss, sat_loss, triage

GOLDEN = np.load(Path(__file__).parents[1] / "fixtures/pretrain/sat.npz")
CASES = sorted({name.split("/")[0] for name in GOLDEN.files if name.endswith("/positives")})
RELEASED = build_config(None, {}).triage
TOLERANCE = 1e-5


def leaf(name: str) -> Tensor:
    return torch.from_numpy(np.array(GOLDEN[name])).requires_grad_()


def settings_of(case: str) -> TriageSettings:
    high, low = GOLDEN[f"{case}/thresholds"].tolist()
    weight = float(GOLDEN[f"{case}/alpha"]) if f"{case}/alpha" in GOLDEN else 0.5
    return RELEASED.model_copy(update={"positive": high, "negative": low, "image_weight": weight})


def scores(case: str) -> Tensor:
    return torch.from_numpy(np.array(GOLDEN[f"{case}/scores"]))


def pairs(image: Tensor, text: Tensor) -> Pairs:
    return Pairs(normalize(image, dim=1), normalize(text, dim=1), torch.tensor(1 / RELEASED.temperature))


def agree(found: Tensor, stored: str) -> None:
    assert float(np.abs(found.detach().numpy() - GOLDEN[stored]).max()) < TOLERANCE, stored


def gradients_agree(loss: Tensor, image: Tensor, text: Tensor, stored: str) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None and text.grad is not None
    agree(image.grad, f"{stored}_image")
    agree(text.grad, f"{stored}_text")


def test_every_case_is_here_and_the_released_values_are_the_authors() -> None:
    assert CASES == ["allpos", "asym", "default", "edge", "neutral", "none", "wide", "wide75"]
    told = (RELEASED.positive, RELEASED.negative, RELEASED.image_weight, RELEASED.temperature, RELEASED.factor)
    assert told == (0.98, 0.97, 0.5, 0.1, "code")


@pytest.mark.parametrize("case", CASES)
def test_the_triage_counts_as_the_authors(case: str) -> None:
    found = triage(scores(case), settings_of(case))
    np.testing.assert_array_equal(found.positives.sum(dim=1), GOLDEN[f"{case}/positives"])
    np.testing.assert_array_equal(found.negatives.sum(dim=1), GOLDEN[f"{case}/negatives"])
    shares = {name: float(share) for name, share in found.shares.items()}
    positive, negative = (GOLDEN[f"{case}/{name}"].sum() / 64 for name in ("positives", "negatives"))
    assert shares == pytest.approx({"positive": positive, "neutral": 1 - positive - negative, "negative": negative})


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_authors_of_sat(case: str) -> None:
    image, text, how = leaf("image"), leaf("text"), settings_of(case)
    loss = sat_loss(pairs(image, text), triage(scores(case), how), how)
    agree(loss, f"{case}/loss")
    gradients_agree(loss, image, text, f"{case}/grad")


@pytest.mark.parametrize("case", CASES)
def test_both_directions_equal_the_authors_global_branch(case: str) -> None:
    image, text, how = leaf("image"), leaf("text"), settings_of(case)
    logits, found = pair_logits(pairs(image, text)), triage(scores(case), how)
    there, back = direction_loss(logits, found, "code"), direction_loss(logits.T, found, "code")
    agree(there, f"{case}/gloria_i2t")
    agree(back, f"{case}/gloria_t2i")
    gradients_agree(there + back, image, text, f"{case}/gloria_grad")


def test_the_held_out_loss_equals_the_authors() -> None:
    image, text = leaf("image"), leaf("text")
    loss = held_out_loss(pairs(image, text))
    agree(loss, "plain/loss")
    gradients_agree(loss, image, text, "plain/grad")


def local_logits(image: Tensor, text: Tensor) -> Tensor:
    """GLoRIA's word-and-region scores x 10: of each image (row) and report."""
    regions, lengths = image.flatten(2), GOLDEN["local/lengths"].tolist()
    columns = []
    for report, length in zip(text, lengths, strict=True):
        words = report[:, :length]  # (width, words)
        attention = (torch.einsum("nwr,wk->nkr", regions, words).softmax(dim=1) * 4).softmax(dim=2)
        seen = torch.einsum("nwr,nkr->nkw", regions, attention)
        cosines = torch.cosine_similarity(seen, words.T.expand_as(seen), dim=2)
        columns.append((cosines * 5).exp().sum(dim=1).log())
    return torch.stack(columns, dim=1) * 10


def test_any_matrix_of_scores_may_be_triaged_as_the_authors_local_branch_does() -> None:
    image, text = leaf("local/image"), leaf("local/text")
    logits, found = local_logits(image, text), triage(scores("local"), settings_of("local"))
    there, back = direction_loss(logits, found, "code"), direction_loss(logits.T, found, "code")
    agree(there, "local/i2t")
    agree(back, "local/t2i")
    gradients_agree(there + back, image, text, "local/grad")
    own = torch.arange(5)
    agree(cross_entropy(logits, own), "local_plain/i2t")
    agree(cross_entropy(logits.T, own), "local_plain/t2i")


def batch(rows: int, seed: int) -> tuple[Pairs, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    image, text, said = (normalize(torch.randn((rows, 6), generator=rng, dtype=torch.float64), dim=1) for _ in range(3))
    return Pairs(image, text, torch.tensor(10.0, dtype=torch.float64)), said @ said.T


def written_out(p: Pairs, found: Triaged, how: TriageSettings) -> float:
    z, total = pair_logits(p).numpy(), 0.0
    for a in range(len(z)):
        chosen, against = (np.flatnonzero(kind[a].numpy()) for kind in (found.positives, found.negatives))
        q = [np.log(1 + sum(np.exp(z[a, c] - z[a, b]) for c in against)) for b in chosen]
        r = [np.log(1 + sum(np.exp(z[c, a] - z[b, a]) for c in against)) for b in chosen]
        told = float(how.image_weight * np.mean(q) + (1 - how.image_weight) * np.mean(r))
        total += told / (1 + len(against)) if how.factor == "code" else told
    return total / len(z)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9),
    seed=st.integers(0, 99),
    thresholds=st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted),
    weight=st.floats(0, 1),
    factor=st.sampled_from(["code", "plain"]),
)
def test_the_sat_loss_is_the_formula_written_out(
    rows: int, seed: int, thresholds: list[float], weight: float, factor: str
) -> None:
    p, similarity = batch(rows, seed)
    told = {"negative": thresholds[0], "positive": thresholds[1], "image_weight": weight, "factor": factor}
    how = RELEASED.model_copy(update=told)
    found = triage(similarity, how)
    assert found.positives.diagonal().all() and not (found.positives & found.negatives).any()
    assert float(sat_loss(p, found, how)) == pytest.approx(written_out(p, found, how), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_with_every_other_pair_negative_and_no_factor_it_is_clips_loss(rows: int) -> None:
    p, _ = batch(rows, 3)
    how = RELEASED.model_copy(update={"factor": "plain"})
    found = triage(torch.full((rows, rows), -1.0), how)
    torch.testing.assert_close(sat_loss(p, found, how), clip_loss(p) if rows > 1 else torch.zeros(()).double())


def test_a_batch_of_one_kind_teaches_nothing_and_has_finite_gradients() -> None:
    p, _ = batch(5, 1)
    image = p.image.requires_grad_()
    loss = sat_loss(p, triage(torch.ones(5, 5), RELEASED), RELEASED)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0 and image.grad is not None and not image.grad.any()


# In a run


def test_a_run_logs_shares_keeps_its_temperature_and_compares_by_an_encoder_that_learns_nothing(tmp_path: Path) -> None:
    choices = triage_choices(tmp_path / "text", schedule__epochs="3")
    config = build_config(None, choices)
    run = made_loop(tmp_path / "run", config, 60)
    reports = run.engine._reports
    assert reports is not None
    words = run.engine.network.text_model.model.state_dict()
    copied = reports._encoder.state_dict()
    assert all(torch.equal(copied[name], tensor) for name, tensor in words.items())
    before = {name: tensor.clone() for name, tensor in copied.items()}
    run.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in copied.items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in words.items())
    rows = read_rows(tmp_path / "run")
    steps = [row for row in rows if row.kind == "step"]
    for row in steps:
        shares = [row.positive, row.neutral, row.negative]
        assert all(share is not None and 0 <= share <= 1 for share in shares)
        assert sum(share or 0 for share in shares) == pytest.approx(1)
        assert row.scale == pytest.approx(10)
        assert 0.05 < (row.positive or 0) < 0.95
    assert all(row.positive is None for row in rows if row.kind == "validation")
    losses = [row.loss or 0 for row in rows if row.kind == "validation"]
    assert losses[-1] < losses[0]
    assert not any(name.startswith("_reports") for name in run.engine.network.state_dict())


def test_a_run_that_goes_on_compares_by_the_encoder_that_it_started_with(tmp_path: Path) -> None:
    choices = triage_choices(tmp_path / "text", schedule__epochs="1")
    first = made_loop(tmp_path / "run", build_config(None, choices), 40)
    first.run()
    again = made_loop(tmp_path / "run", build_config(None, choices | {"schedule.epochs": "2"}), 40)
    assert again.resume()
    assert first.engine._reports is not None and again.engine._reports is not None
    started = first.engine._reports._encoder.state_dict()
    assert all(
        torch.equal(tensor, started[name]) for name, tensor in again.engine._reports._encoder.state_dict().items()
    )
    trained = again.engine.network.text_model.model.state_dict()
    assert any(not torch.equal(tensor, started[name]) for name, tensor in trained.items())


def test_a_reports_vector_depends_on_no_padding_and_is_that_of_the_first_real_token(tmp_path: Path) -> None:
    run = made_loop(tmp_path / "run", build_config(None, triage_choices(tmp_path / "text")), 30)
    reports = run.engine._reports
    assert reports is not None
    ids = torch.tensor([[2, 9, 11, 3], [2, 7, 8, 3]])
    short = Tokens(ids, torch.ones_like(ids))
    torch.testing.assert_close(reports.vectors(short.widened(9)), reports.vectors(short), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        states = reports._encoder(input_ids=ids, attention_mask=short.mask).last_hidden_state
        wide = replace(short, left=True).widened(6)
        padded = reports._encoder(input_ids=wide.ids, attention_mask=wide.mask).last_hidden_state
    torch.testing.assert_close(reports.vectors(short), normalize(states[:, 0], dim=1))
    torch.testing.assert_close(reports.vectors(wide), normalize(padded[:, 2], dim=1))


def test_a_run_in_which_no_report_differs_from_another_is_ended(tmp_path: Path) -> None:
    run = made_loop(tmp_path / "run", build_config(None, small_choices(tmp_path / "text", objective="sat")), 40)
    with pytest.raises(RunError, match=r"no two reports of a batch were told apart in epoch 1.*text\.hub"):
        run.run()


def test_thresholds_that_cross_are_refused() -> None:
    with pytest.raises(SpecError, match="negative must not be above positive"):
        build_config(None, {"triage.negative": "0.99"})


def test_a_report_may_be_read_whole(tmp_path: Path) -> None:
    from random import Random

    from cxrbench.pretrain.batches import Wording, described
    from cxrbench.pretrain.corpus.types import Sentence

    said = (Sentence("Small effusion.", (1,)), Sentence("No change.", ()), Sentence("Edema, effusion.", (0, 1)))
    for reads, wanted in (("report", {"small effusion. no change. edema, effusion."}), ("sentence", set())):
        how = Wording(("a", "b"), build_config(None, {"text.reads": reads}).text)
        found = [described(said, (), how, Random(seed)) for seed in range(20)]
        texts = wanted or {one.text.lower() for one in said}
        assert {one.text for one in found} == texts
        assert (reads == "sentence") or {one.categories for one in found} == {(1, 0)}


def test_the_log_of_other_objectives_says_nothing_of_pairs(tmp_path: Path) -> None:
    config = build_config(None, small_choices(tmp_path / "text", objective="clip", schedule__epochs="1"))
    run = made_loop(tmp_path / "run", config, 30)
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert not [line for line in lines if {"positive", "neutral", "negative"} & set(line)]
    assert run.engine._reports is None
