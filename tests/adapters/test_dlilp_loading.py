"""Which files the adapter takes for its checkpoints and text encoders, and what it says of all others."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_weights import (
    TEXT_ENCODER,
    make_checkpoint,
    official_layout,
    small_card,
    small_layout,
    zoo_card,
)
from torch import Tensor

from cxrbench.errors import CxrBenchError, DataError, IntegrityError, SpecError
from cxrbench.models.base import Adapter, adapter_class, find_weights, load_adapter
from cxrbench.models.dlilp import DLILP
from cxrbench.specs import catalog
from cxrbench.specs.card import read_card

Tensors = dict[str, Tensor]
PIXELS = torch.rand((5, 1, 224, 224), generator=torch.Generator().manual_seed(1))


def renamed(tensors: Tensors) -> Tensors:
    return {name.replace("projection_head2", "projection_head_label"): tensor for name, tensor in tensors.items()}


CHANGES: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "one missing": (lambda t: {n: v for n, v in t.items() if n != "logit_scale"}, "1 missing: logit_scale"),
    "text missing": (
        lambda t: {n: v for n, v in t.items() if n != "text_model.model.encoder.layer.1.output.dense.bias"},
        "1 missing: text_model.model.encoder.layer.1.output.dense.bias",
    ),
    "one more": (lambda t: {**t, "vision_model.model.fc.bias": torch.zeros(9)}, "1 left over: vision_model.model.fc"),
    "renamed": (renamed, "1 missing: vision_model.projection_head2.*1 left over: vision_model.projection_head_label"),
    "reshaped": (
        lambda t: {**t, "class_prototypes": t["class_prototypes"][:14]},
        r"class_prototypes \(14, 512\) instead of \(85, 512\)",
    ),
    "doubled": (lambda t: {**t, "logit_scale": t["logit_scale"].double()}, "logit_scale torch.float64"),
    "another trunk": (
        lambda t: {n: v for n, v in t.items() if not n.startswith("vision_model.model.layer4.1.")},
        r"basic blocks \(2, 2, 2, 1\), which is none of: resnet18",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_the_layout_is_refused(change: str, tmp_path: Path) -> None:
    alter, says = CHANGES[change]
    path = tmp_path / "a.pth"
    torch.save(alter(make_checkpoint(small_layout("dlilp"))), path)
    with pytest.raises(IntegrityError, match=says):
        load_adapter(small_card("dlilp_cm"), path, TEXT_ENCODER)


def test_the_cards_that_a_file_does_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "unimodal.pth"
    torch.save(make_checkpoint(official_layout("unimodal")), path)
    with pytest.raises(IntegrityError, match="layout of unimodal_c / unimodal_cm / unimodal_cmp / unimodal_m"):
        load_adapter(zoo_card("dlilp_cm"), path)


def test_pooled_vectors_of_another_width_than_the_card_says(small_file: Path) -> None:
    with pytest.raises(IntegrityError, match="pooled vectors of width 512, the card of dlilp_cm says 2048"):
        load_adapter(zoo_card("dlilp_cm"), small_file, TEXT_ENCODER)


def test_position_ids_are_ignored_by_name(tmp_path: Path, small: Adapter) -> None:
    path, name = tmp_path / "a.pth", "text_model.model.embeddings.position_ids"
    torch.save({**make_checkpoint(small_layout("dlilp")), name: torch.arange(512)[None]}, path)
    found = load_adapter(small_card("dlilp_cm"), path, TEXT_ENCODER)
    assert isinstance(found, DLILP)
    assert name in found.coverage.ignored
    assert torch.equal(found.encode_text(["edema"]).joint, small.encode_text(["edema"]).joint)


def test_weights_are_found_beside_the_card_in_a_folder_or_by_path(tmp_path: Path) -> None:
    card = zoo_card("dlilp_cmp")
    with pytest.raises(DataError, match=r"dlilp_CMP\.pth or dlilp_MCP\.pth.*OneDrive.*--weights"):
        find_weights(card, None)
    (tmp_path / "dlilp_MCP.pth").touch()
    assert find_weights(card, tmp_path) == find_weights(card, tmp_path / "dlilp_MCP.pth")


def test_weights_beside_the_card_are_found_though_a_folder_is_given(tmp_path: Path) -> None:
    home, given, fetched = (tmp_path / name for name in ("card", "given", "fetched"))
    for folder in (home, given, fetched):
        folder.mkdir()
    shutil.copyfile(catalog.card_files()["dlilp_cm"], home / "dlilp_cm.toml")
    card = read_card(home / "dlilp_cm.toml")
    name = card.weights.files[0]
    (fetched / name).touch()
    assert find_weights(card, given, fetched) == fetched / name
    (home / name).touch()
    assert find_weights(card, given, fetched) == home / name
    (given / name).touch()
    assert find_weights(card, given, fetched) == given / name
    with pytest.raises(DataError, match=r"no weights in .*nowhere"):
        find_weights(card, tmp_path / "nowhere", fetched)


def test_weights_of_another_digest_than_the_card_says_are_refused(small_file: Path) -> None:
    card = small_card("dlilp_cm")
    card = card.model_copy(update={"weights": card.weights.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(IntegrityError, match="the card of dlilp_cm says 0000"):
        load_adapter(card, small_file)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"options": {"strategy": "dlip"}}, "options: strategy"),
        ({"options": {"strategy": "dlilp", "depth": 3}}, "options: depth"),
        ({"adapter": "cxrbench.models.none:DLILP"}, "No module named"),
        ({"adapter": "cxrbench.models.dlilp:None_"}, "no such adapter"),
    ],
)
def test_options_and_adapters_that_do_not_exist(changes: dict[str, object], says: str, small_file: Path) -> None:
    with pytest.raises(SpecError, match=says):
        load_adapter(small_card("dlilp_cm").model_copy(update=changes), small_file)


def test_devices_that_do_not_exist(small_file: Path) -> None:
    for device in ("gpu", *(["cuda"] if not torch.cuda.is_available() else [])):
        with pytest.raises(SpecError, match="device"):
            load_adapter(small_card("dlilp_cm"), small_file, device=device)


def test_the_digest_of_options_follows_the_vocabulary(tmp_path: Path) -> None:
    zoo = zoo_card("dlilp_cm")
    for name in ("dlilp_cm.toml", "dlilp_vocabulary.toml"):
        shutil.copy(zoo.home / name, tmp_path / name)
    copy = read_card(tmp_path / "dlilp_cm.toml")
    assert adapter_class(zoo).options_digest(zoo) == DLILP.options_digest(copy)
    words = tmp_path / "dlilp_vocabulary.toml"
    words.write_text(words.read_text().replace('"no covid"', '"covid negative"'))
    assert adapter_class(zoo).options_digest(zoo) != DLILP.options_digest(copy)


def test_text_encoders_that_do_not_fit(small_file: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    shutil.copytree(TEXT_ENCODER, shallow)
    config = shallow / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 4', '"num_hidden_layers": 12'))
    cased = tmp_path / "cased"
    shutil.copytree(TEXT_ENCODER, cased)
    (cased / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    faults: dict[Path, tuple[type[CxrBenchError], str]] = {
        shallow: (IntegrityError, "num_hidden_layers is 12, but the checkpoint's text encoder has 4"),
        cased: (IntegrityError, "keeps capitals"),
        tmp_path / "none": (DataError, r"config\.json and vocab\.txt is missing.*--text-encoder"),
    }
    for folder, (kind, says) in faults.items():
        with pytest.raises(kind, match=says):
            load_adapter(small_card("dlilp_cm"), small_file, folder).encode_text(["edema"])


def test_without_network_and_folder_it_says_what_to_fetch(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(small_file.parent / "hub"))
    found = load_adapter(small_card("dlilp_cm"), small_file)
    assert found.encode_image(PIXELS[:1]).joint.shape == (1, 512)  # a linear probe needs no text encoder
    with pytest.raises(DataError, match=r"Bio_ClinicalBERT.*vocab\.txt.*revision d5892b39.*--text-encoder"):
        found.encode_text(["edema"])


def test_a_text_encoder_in_the_hubs_cache_is_used_without_network(
    small: Adapter, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    card = small_card("dlilp_cm")
    assert card.text_encoder is not None
    snapshots = tmp_path / f"models--{card.text_encoder.hub.replace('/', '--')}" / "snapshots"
    snapshots.mkdir(parents=True)
    place = snapshots / str(card.text_encoder.revision)
    place.mkdir()
    for name in ("config.json", "vocab.txt"):  # all that the hub has
        shutil.copy(TEXT_ENCODER / name, place / name)
    found = load_adapter(card, small_file).encode_text(["A Radiology image of Edema"])
    assert torch.equal(found.joint, small.encode_text(["a radiology image of edema"]).joint)
