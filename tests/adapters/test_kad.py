"""What KAD's adapter promises beside parity: its sections, its tensors under two names, its editions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_queries import OTHER, Tensors, prompts, tensors, text_folder
from made_weights import zoo_card

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint, read_checkpoint
from cxrbench.models.kad import KAD
from cxrbench.specs.card import ModelCard

CARD = zoo_card("kad_224")
PIXELS = torch.rand((3, 1, 64, 96), generator=torch.Generator().manual_seed(1))
CPU = Runtime(torch.device("cpu"))
POSITIONS = "text_encoder.bert_model.embeddings.position_ids"


@pytest.fixture(scope="module")
def made() -> Tensors:
    return tensors("kad_224")


def loaded(made: Tensors, card: ModelCard = CARD, runtime: Runtime = CPU) -> KAD:
    return KAD.load(card, Checkpoint(Path("best_valid.pt"), "", made), text_folder("kad_224"), runtime)


@pytest.fixture(scope="module")
def model(made: Tensors) -> KAD:
    return loaded(made)


def test_the_layout_is_used_whole(model: KAD, made: Tensors) -> None:
    assert model.coverage.complete
    assert set(model.coverage.ignored) == set(CARD.weights.ignored)
    assert len(model.coverage.used) + len(model.coverage.ignored) == len(made)


def test_position_ids_may_be_absent(model: KAD, made: Tensors) -> None:
    bare = loaded({name: tensor for name, tensor in made.items() if name != POSITIONS})
    assert bare.coverage.complete
    assert torch.equal(bare.encode_text(["edema"]).joint, model.encode_text(["edema"]).joint)


def test_texts_are_lower_cased_whatever_the_folder_says(model: KAD, made: Tensors, tmp_path: Path) -> None:
    """The authors pass `do_lower_case=True` themselves."""
    folder = tmp_path / "text"
    shutil.copytree(text_folder("kad_224"), folder)
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_lower_case": False}))
    cased = KAD.load(CARD, Checkpoint(Path("best_valid.pt"), "", made), folder, CPU)
    assert torch.equal(cased.encode_text(["Pleural EFFUSION"]).joint, model.encode_text(["pleural effusion"]).joint)


def changed(made: Tensors, name: str) -> Tensors:
    return {**made, name: made[name] + 1}


CHANGES: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "one missing": (
        lambda t: {n: v for n, v in t.items() if n != "model.mlp_head.0.bias"},
        "1 missing: model.mlp_head.0.bias",
    ),
    "a second name missing": (
        lambda t: {n: v for n, v in t.items() if n != "model.decoder_norm.bias"},
        "1 missing: model.decoder_norm.bias",
    ),
    "one renamed": (
        lambda t: {n.replace("mlp_embed.2.bias", "mlp_embed.3.bias"): v for n, v in t.items()},
        "1 missing: text_encoder.mlp_embed.2.bias; 1 left over: text_encoder.mlp_embed.3.bias",
    ),
    "one reshaped": (
        lambda t: {**t, "image_encoder.res_l2.bias": torch.zeros(9)},
        r"image_encoder.res_l2.bias \(9,\) instead of \(768,\)",
    ),
    "the probed stage reshaped": (
        lambda t: {**t, "image_encoder.resnet.layer4.0.bn1.bias": torch.zeros(9)},
        r"layer4.0.bn1.bias \(9,\) instead of \(512,\)",
    ),
    "a text layer's part missing": (
        lambda t: {n: v for n, v in t.items() if not n.endswith("layer.1.output.dense.bias")},
        "1 missing: text_encoder.bert_model.encoder.layer.1.output.dense.bias",
    ),
    "two values in the trunk": (
        lambda t: changed(t, "image_encoder.resnet.layer2.0.conv1.weight"),
        "1 tensors .* two values: image_encoder.resnet.layer2.0.conv1.weight and image_encoder.res_features.5.0.conv1",
    ),
    "two values in the norm": (
        lambda t: changed(t, "model.decoder_norm.bias"),
        "model.decoder_norm.bias and model.decoder.norm.bias",
    ),
    "no decoder": (lambda t: {n: v for n, v in t.items() if not n.startswith("model.")}, "no matrix decoder.layers.0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_the_layout_is_refused(change: str, made: Tensors) -> None:
    alter, says = CHANGES[change]
    with pytest.raises(IntegrityError, match=says):
        loaded(alter(made))


def test_the_edition_that_a_file_is_of_is_named(made: Tensors) -> None:
    with pytest.raises(IntegrityError, match=r"not the tensors of kad: .*missing.*It has the layout of kad_224\.$"):
        loaded(made, zoo_card("kad"))


def test_the_probed_stage_does_not_touch_tokens(model: KAD, made: Tensors) -> None:
    other = loaded(changed(made, "image_encoder.resnet.layer4.2.bn3.bias"))
    found, wanted = other.encode_image(PIXELS), model.encode_image(PIXELS)
    assert found.tokens is not None and wanted.tokens is not None
    assert torch.equal(found.tokens, wanted.tokens)
    assert not torch.equal(found.pooled, wanted.pooled)


def test_sections_become_the_first_part_of_a_name(tmp_path: Path) -> None:
    path, vector = tmp_path / "a.pt", torch.arange(3.0)
    torch.save({"model": {"a.b": vector}, "text_encoder": {"a": vector * 2}, **OTHER}, path)
    found = read_checkpoint(path, sections=("model", "text_encoder"))
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        "model.a.b": [0, 1, 2],
        "text_encoder.a": [0, 2, 4],
    }
    assert dict(found.other) == {"optimizer": "dict", "lr_scheduler": "dict", "config": "dict", "epoch": "int"}
    with pytest.raises(IntegrityError, match=r"no state dict 'image_encoder'; it holds 'model' \(dict\)"):
        read_checkpoint(path, sections=CARD.weights.sections)


def test_scores_of_a_batch_are_those_of_its_images(model: KAD) -> None:
    texts = model.encode_text(prompts("kad_224"))
    whole = model.score(model.encode_image(PIXELS), texts)
    parts = torch.cat([model.score(model.encode_image(image[None]), texts) for image in PIXELS])
    assert torch.allclose(whole, parts, rtol=0, atol=1e-5)
    assert torch.equal(whole, model.score(model.encode_image(PIXELS.repeat(1, 3, 1, 1)), texts))


def test_a_score_depends_on_the_set_asked_but_a_text_on_itself_alone(model: KAD) -> None:
    texts, images = prompts("kad_224"), model.encode_image(PIXELS)
    first, all_ = model.encode_text(texts[:1]), model.encode_text(texts)
    assert torch.allclose(first.joint[0], all_.joint[0], atol=1e-5)
    assert (model.score(images, first)[:, 0] - model.score(images, all_)[:, 0]).abs().min() > 1e-2


def test_capitals_make_no_difference(model: KAD) -> None:
    assert torch.equal(model.encode_text(["Pleural EFFUSION"]).joint, model.encode_text(["pleural effusion"]).joint)


def test_lower_precision_is_near(model: KAD, made: Tensors) -> None:
    low = loaded(made, runtime=Runtime(torch.device("cpu"), "bfloat16"))
    found = low.score(low.encode_image(PIXELS), low.encode_text(prompts("kad_224")))
    wanted = model.score(model.encode_image(PIXELS), model.encode_text(prompts("kad_224")))
    assert found.dtype == torch.float32
    assert 1e-5 < float((found - wanted).abs().max()) < 0.1


@pytest.mark.parametrize("options", [{}, {"stages": 2}, {"stages": 3, "size": 224}])
def test_options_that_do_not_exist(options: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="kad_224: options"):
        KAD.options_digest(CARD.model_copy(update={"options": options}))


def test_the_cards_say_what_the_paper_fed_and_what_the_authors_feed() -> None:
    for name, size in (("kad", 512), ("kad_224", 224)):
        card = zoo_card(name)
        assert card.recipe("authors").size == size
        assert card.recipe("reality-check").size == 224
        assert card.zero_shot.views["prompts"].scoring == "interaction"
    assert zoo_card("kad").published == {"table4": "KAD (M)"}
