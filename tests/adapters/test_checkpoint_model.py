"""Which files CheXzero, MGCA and ConVIRT take, and what they say of all others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_towers import Towers
from made_weights import zoo_card
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import Runtime, adapter_class, checked_options
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import CheckpointModel, covered
from cxrbench.models.fit import in_single_precision

Tensors = dict[str, Tensor]

PUBLISHED = {
    "chexzero": (Towers("chexzero"), 302, None),
    "mgca": (Towers("mgca"), 536, 113_659_840),
    "mgca_vit": (Towers("mgca_vit"), 368, 172_751_616),
    "convirt": (Towers("convirt"), 526, 151_552_192),
}
ONE = {
    "chexzero": "visual.transformer.resblocks.7.attn.in_proj_bias",
    "mgca": "img_encoder_q.global_embed.head.4.running_mean",
    "mgca_vit": "text_encoder_q.model.encoder.layer.5.attention.self.query.bias",
    "convirt": "linguistic.encoder.pooler.dense.bias",
}


def checkpoint(tensors: Tensors) -> Checkpoint:
    return Checkpoint(Path("a.pt"), "0" * 64, tensors)


def load(name: str, tensors: Tensors) -> object:
    card = zoo_card(name)
    return adapter_class(card).load(card, checkpoint(tensors), None, Runtime(torch.device("cpu")))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_layout_is_covered(name: str) -> None:
    towers, count, values = PUBLISHED[name]
    tensors = towers.published()
    assert len(tensors) == count
    assert values in (None, sum(t.numel() for t in tensors.values() if t.dtype == torch.float32))
    card = zoo_card(name)
    kind = adapter_class(card)
    assert issubclass(kind, CheckpointModel)
    found = covered(kind, checkpoint(tensors), card, checked_options(card, kind.options_type))
    assert found.complete
    assert len(found.used) + len(found.ignored) == count
    assert not [n for n in found.ignored if "global_embed" in n or "local_embed" in n or "proj" in n.split(".")[0]]


def test_position_ids_may_be_absent() -> None:
    tensors = PUBLISHED["convirt"][0].published()
    del tensors["linguistic.encoder.embeddings.position_ids"]
    card = zoo_card("convirt")
    kind = adapter_class(card)
    assert issubclass(kind, CheckpointModel)
    assert covered(kind, checkpoint(tensors), card, checked_options(card, kind.options_type)).complete


CHANGES: dict[str, tuple[Callable[[Tensors, str], Tensors], str]] = {
    "dropped": (lambda t, one: {n: v for n, v in t.items() if n != one}, "1 missing: {one}"),
    "renamed": (
        lambda t, one: {n + "_" if n == one else n: v for n, v in t.items()},
        "1 missing: {one}; 1 left over: {one}_",
    ),
    "reshaped": (lambda t, one: {**t, one: t[one][:64]}, "1 of another shape: {one} (64,) instead of "),
    "one more": (lambda t, one: {**t, "fc.weight": t[one]}, "1 left over: fc.weight"),
    "integers": (lambda t, one: {**t, one: t[one].long()}, "1 of another dtype: {one} torch.int64"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_that_is_not_the_layout_is_refused_by_name(name: str, change: str) -> None:
    alter, says = CHANGES[change]
    with pytest.raises(IntegrityError) as refusal:
        load(name, alter(PUBLISHED[name][0].published(), ONE[name]))
    assert says.format(one=ONE[name]) in str(refusal.value)


@pytest.mark.parametrize(("card", "file"), [("mgca", "mgca_vit"), ("mgca_vit", "mgca")])
def test_the_card_that_a_file_does_fit_is_named(card: str, file: str) -> None:
    with pytest.raises(IntegrityError, match=rf"It has the layout of {file}\."):
        load(card, PUBLISHED[file][0].published())


def test_half_precision_is_read_as_float32() -> None:
    tensors = {"a": torch.tensor([0.5], dtype=torch.float16), "n": torch.tensor([1])}
    found = in_single_precision(checkpoint(tensors)).tensors
    assert (found["a"].dtype, found["n"].dtype) == (torch.float32, torch.int64)
    assert found["a"].item() == 0.5


def test_options_that_an_adapter_does_not_know() -> None:
    card = zoo_card("mgca").model_copy(update={"options": {"trunk": "resnet18", "hidden": 2048}})
    with pytest.raises(SpecError, match="options: trunk"):
        adapter_class(card).options_digest(card)


def test_a_text_encoder_that_does_not_fit(tmp_path: Path) -> None:
    towers = Towers("convirt")
    tensors = {n: torch.zeros(tuple(s), dtype=getattr(torch, d)) for n, s, d in towers.entries}
    card = zoo_card("convirt")
    place = torch.device("cpu")

    def model(folder: Path) -> CheckpointModel:
        found = adapter_class(card).load(card, checkpoint(tensors), folder, Runtime(place, memory_format="contiguous"))
        assert isinstance(found, CheckpointModel)
        return found

    with pytest.raises(DataError, match=r"vocab\.json and merges\.txt is missing.*biomed_roberta_base.*--text-encoder"):
        model(tmp_path).encode_text(["edema"])
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(towers.text / name, tmp_path / name)
    words = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**words, "spare": len(words)}))
    with pytest.raises(IntegrityError, match=f"{len(words) + 1} tokens"):
        model(tmp_path).encode_text(["edema"])
    fitting = model(towers.text)
    with pytest.raises(SpecError, match="at least one text"):
        fitting.encode_text([])
    with pytest.raises(SpecError, match="convirt has no label side"):
        fitting.prototypes(["edema"])
    with pytest.raises(SpecError, match="no view 'label'; known: text"):
        fitting.logit_scale("label")
