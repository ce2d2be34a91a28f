"""The four objectives against the authors' own training step: losses and gradients, case by case."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cxrbench.pretrain.network import (
    Labelled,
    Pairs,
    Targets,
    clip_loss,
    dlilp_loss,
    scale,
    unicl_loss,
    unicl_targets,
    unimodal_loss,
)

GOLDEN = np.load(Path(__file__).parents[1] / "fixtures/pretrain/losses.npz")
CASES = sorted({name.split("/")[0] + "/" + name.split("/")[1] for name in GOLDEN.files if name.endswith("/loss")})
TEMPLATE = "A radiology image of"
TOLERANCE = 1e-5


def leaf(name: str) -> Tensor:
    return torch.from_numpy(np.array(GOLDEN[name])).requires_grad_()


def log_scale(name: str) -> Tensor:
    # The cases `reportsN` do not store their scales; both were 2, which the loss without a contrastive term shows.
    return leaf(name) if name in GOLDEN else torch.tensor(2.0, requires_grad=True)


def inputs(case: str) -> dict[str, Tensor]:
    names = ("image", "text", "image_head2", "prototypes")
    scales = {name: log_scale(f"{case}/{name}_in") for name in ("logit_scale", "logit_scale_head2")}
    return {name: leaf(name) for name in names} | scales


def from_report(case: str) -> Tensor:
    name = f"{case.split('/', maxsplit=1)[0]}/prompts"
    prompts = GOLDEN[name if name in GOLDEN else "prompts"]
    return torch.tensor([TEMPLATE not in prompt for prompt in prompts])


def labelled(t: dict[str, Tensor], image: str, log_scale: str) -> Labelled:
    labels, mask = (torch.from_numpy(GOLDEN[name]).float() for name in ("study_categories", "mask_categories"))
    return Labelled(t[image], t["prototypes"], scale(t[log_scale]), labels, mask)


def loss_of(case: str, t: dict[str, Tensor]) -> Tensor:
    kind = case.split("/")[1]
    if kind == "unimodal":
        return unimodal_loss(labelled(t, "image", "logit_scale"))
    if kind in ("clip", "unicl"):
        pairs = Pairs(t["image"], t["text"], scale(t["logit_scale"]))
        study, sentence = (torch.from_numpy(GOLDEN[n]) for n in ("study_categories", "category_prompt_selected"))
        return clip_loss(pairs) if kind == "clip" else unicl_loss(pairs, unicl_targets(study, sentence))
    rows = from_report(case)
    reports = Pairs(t["image"][rows], t["text"][rows], scale(t["logit_scale"])) if rows.sum() > 1 else None
    return dlilp_loss(
        labelled(t, "image_head2", "logit_scale_head2"), reports, float(kind.removeprefix("dlilp_lambda"))
    )


def relative(found: Tensor, wanted: np.ndarray) -> float:
    scale_of = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found.detach().numpy() - wanted).max()) / scale_of


def test_every_case_of_the_authors_is_here() -> None:
    assert len(CASES) == 28


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_authors(case: str) -> None:
    tensors = inputs(case)
    loss = loss_of(case, tensors)
    loss.backward()  # type: ignore[no-untyped-call]
    assert relative(loss, GOLDEN[f"{case}/loss"]) < TOLERANCE
    for name, tensor in tensors.items():
        stored = f"{case}/grad_{name}"
        if stored in GOLDEN:
            assert tensor.grad is not None, name
            assert relative(tensor.grad, GOLDEN[stored]) < TOLERANCE, name
        else:
            assert tensor.grad is None, name
        if name.startswith("logit_scale") and f"{case}/{name}_after" in GOLDEN:
            assert tensor.item() == GOLDEN[f"{case}/{name}_after"]


def test_soft_targets_equal_the_authors() -> None:
    targets = unicl_targets(*(torch.from_numpy(GOLDEN[n]) for n in ("study_categories", "category_prompt_selected")))
    np.testing.assert_array_equal(targets.image_to_text, GOLDEN["unicl_target_image2text"])
    np.testing.assert_array_equal(targets.text_to_image, GOLDEN["unicl_target_text2image"])


def made(rows: int, seed: int) -> tuple[Labelled, Pairs]:
    rng = torch.Generator().manual_seed(seed)
    image, text, prototypes = (torch.randn((n, 6), generator=rng, dtype=torch.float64) for n in (rows, rows, 5))
    labels, mask = (torch.randint(0, 2, (rows, 5), generator=rng).double() for _ in range(2))
    unit = torch.nn.functional.normalize
    s = torch.tensor(1.7, dtype=torch.float64)
    return Labelled(unit(image), prototypes, s, labels, mask), Pairs(unit(image), unit(text), s)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 9), seed=st.integers(0, 99))
def test_unicl_with_identity_targets_is_clip_and_dlilp_without_weight_is_unimodal(rows: int, seed: int) -> None:
    batch, pairs = made(rows, seed)
    eye = torch.eye(rows, dtype=torch.float64)
    torch.testing.assert_close(unicl_loss(pairs, Targets(eye, eye)), clip_loss(pairs), rtol=1e-12, atol=1e-12)
    apart = unicl_targets(torch.zeros(rows, 5), torch.zeros(rows, 5))
    torch.testing.assert_close(apart.image_to_text, torch.eye(rows))
    assert torch.equal(dlilp_loss(batch, pairs, 0.0), unimodal_loss(batch))
    assert torch.equal(dlilp_loss(batch, None, 0.1), unimodal_loss(batch))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_label_loss_is_the_formula_written_out(rows: int, seed: int) -> None:
    batch, _ = made(rows, seed)
    unit = batch.prototypes / batch.prototypes.norm(dim=1, keepdim=True)
    p = torch.sigmoid(batch.scale * batch.image @ unit.T)
    terms = -(batch.labels * p.log() + (1 - batch.labels) * (1 - p).log()) * batch.mask
    wanted = (
        sum((terms[i].sum() / (batch.mask[i].sum() + 1e-3) for i in range(rows)), torch.zeros((), dtype=torch.float64))
        / rows
    )
    torch.testing.assert_close(unimodal_loss(batch), wanted, rtol=1e-10, atol=1e-12)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def unicl_written_out(pairs: Pairs, image_labels: np.ndarray, text_labels: np.ndarray) -> float:
    logits = float(pairs.scale) * pairs.image.numpy() @ pairs.text.numpy().T
    shared = np.clip(image_labels @ text_labels.T + np.eye(len(logits)), 0, 1)
    there = (shared / shared.sum(axis=1, keepdims=True) * log_softmax(logits)).sum(axis=1).mean()
    back = (shared.T / shared.T.sum(axis=1, keepdims=True) * log_softmax(logits.T)).sum(axis=1).mean()
    return float(-(there + back) / 2)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 12), seed=st.integers(0, 99), density=st.sampled_from([0.0, 0.2, 1.0]))
def test_the_unicl_loss_is_the_formula_written_out(rows: int, seed: int, density: float) -> None:
    """Samples without a label, samples that share all of theirs, and equal texts are among them."""
    _, pairs = made(rows, seed)
    rng = np.random.default_rng(seed)
    image_labels, text_labels = ((rng.random((rows, 5)) < density).astype(np.uint8) for _ in range(2))
    image_labels[-1], text_labels[-1] = image_labels[0], text_labels[0]
    pairs.text[-1] = pairs.text[0]
    image_labels[rows // 2] = text_labels[rows // 3] = 0
    found = unicl_loss(pairs, unicl_targets(torch.from_numpy(image_labels), torch.from_numpy(text_labels)))
    wanted = unicl_written_out(pairs, image_labels.astype(float), text_labels.astype(float))
    assert float(found) == pytest.approx(wanted, rel=1e-6)  # targets are of 32 bits
    if density == 0:
        torch.testing.assert_close(found, clip_loss(pairs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0, 7.5])
@pytest.mark.parametrize("reports", [0, 1, 2, 5])
def test_the_contrastive_term_needs_two_reports(reports: int, weight: float) -> None:
    batch, pairs = made(6, 3)
    image, text = (side[:reports].requires_grad_() for side in (pairs.image, pairs.text))
    chosen = Pairs(image, text, pairs.scale)
    found = dlilp_loss(batch, chosen, weight)
    there = reports >= 2 and weight > 0
    wanted = unimodal_loss(batch) + (weight * clip_loss(chosen) if there else 0.0)
    torch.testing.assert_close(found, wanted)
    assert found.isfinite()
    assert found.requires_grad == there


@pytest.mark.parametrize(("start", "after"), [(-3.0, 0.0), (0.0, 0.0), (2.5, 2.5), (4.6052, 4.6052), (9.0, 4.6052)])
def test_the_log_scale_is_clamped_in_place_and_keeps_its_gradient(start: float, after: float) -> None:
    log_scale = torch.tensor(start, requires_grad=True)
    found = scale(log_scale)
    found.backward()  # type: ignore[no-untyped-call]
    assert log_scale.item() == pytest.approx(after)
    assert log_scale.grad is not None
    assert log_scale.grad.item() == found.item() == pytest.approx(float(np.exp(after)), rel=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_short_vectors_lose_no_more_than_they_had(kind: torch.dtype) -> None:
    """The loss of 16-bit vectors is that of the same values in 32 bits, digit for digit."""
    batch, pairs = made(9, 1)

    def cut(tensor: Tensor) -> Tensor:
        return tensor.to(kind)

    def widened(tensor: Tensor) -> Tensor:
        return cut(tensor).float()

    for losses in (
        [clip_loss(Pairs(f(pairs.image), f(pairs.text), f(pairs.scale))) for f in (cut, widened)],
        [
            unimodal_loss(Labelled(f(batch.image), f(batch.prototypes), f(batch.scale), batch.labels, batch.mask))
            for f in (cut, widened)
        ],
    ):
        assert losses[0].dtype == torch.float32
        assert torch.equal(*losses)


def test_labels_outside_the_mask_are_never_looked_at() -> None:
    batch, _ = made(7, 5)
    strange = torch.where(batch.mask == 0, torch.tensor(-1.0, dtype=torch.float64), batch.labels)
    other = Labelled(batch.image, batch.prototypes, batch.scale, strange, batch.mask)
    assert torch.equal(unimodal_loss(other), unimodal_loss(batch))
