"""What CARZero, RadZero, MAVL and MedImageInsight promise beside parity: whole files, safe reading, their texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_answers import NAMES, Tensors, books, load, text_encoder, told, write
from made_weights import published_tensors, zoo_card

from cxrbench.errors import CxrBenchError, DataError, IntegrityError, NotApplicableError, SpecError
from cxrbench.models.base import Runtime, adapter_class, load_adapter
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.entities import Entities
from cxrbench.models.features import ImageFeatures
from cxrbench.models.mavl import MAVL
from cxrbench.specs import paths
from cxrbench.store.schema import read_toml

CPU = Runtime(torch.device("cpu"))
ENTITIES = read_toml(paths.folder("model_zoo") / "mavl_vocabulary.toml", Entities).entities
SIZES = {"carzero": 224, "radzero": 518, "mavl": 224, "medimageinsight": 480}


@pytest.fixture(scope="module")
def made() -> dict[str, Tensors]:
    return {name: published_tensors(name) for name in NAMES}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    kept: dict[str, Any] = {}
    return lambda name: kept.get(name) or kept.setdefault(name, load(name, tmp_path_factory.mktemp(name)))


def loaded(name: str, tensors: Tensors) -> Any:
    card = zoo_card(name)
    return adapter_class(card).load(card, Checkpoint(Path("made.pt"), "", tensors), None, CPU)


IGNORED = {
    "carzero": {"self_attn", "norm1", "logit_scale", "position_ids"},
    "radzero": {"text_model.pooler"},
    "mavl": {"module.temp", "location_emb"},
    "medimageinsight": set(),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_used_or_ignored_by_name(name: str, made: dict[str, Tensors]) -> None:
    covered = loaded(name, made[name]).coverage
    assert covered.complete
    assert len(covered.used) + len(covered.ignored) == len(made[name])
    assert {part for part in IGNORED[name] if any(part in n for n in covered.ignored)} == IGNORED[name]
    assert all(any(part in n for part in IGNORED[name]) for n in covered.ignored)


SOME = {  # a tensor of each network
    "carzero": [
        "CARZero.img_encoder.model.blocks.3.attn.qkv.bias",
        "CARZero.text_encoder.model.pooler.dense.bias",
        "CARZero.fusion_module.decoder.layers.1.multihead_attn.in_proj_bias",
        "CARZero.fusion_module.decoder.norm.bias",
        "CARZero.fusion_module.mlp_head.9.bias",
    ],
    "radzero": [
        "vision_model.encoder.layer.1.layer_scale1.lambda1",
        "align_transformer.transformer_layers.layer.1.attention.attention.key.bias",
        "text_model.encoder.relative_attention_bias.weight",
        "loss_fns.RadZeroLoss.loss_temperature",
    ],
    "mavl": [
        "module.backbone.6.2.bn1.running_var",
        "module.pool.k_proj.bias",
        "module.res_l1.1.weight",
        "module.decoder.layers.2.self_attn.in_proj_bias",
    ],
    "medimageinsight": [
        "image_encoder.convs.2.norm.bias",
        "image_encoder.blocks.2.1.channel_block.channel_attn.fn.qkv.bias",
        "lang_encoder.resblocks.1.ln_2.bias",
        "logit_scale",
    ],
}


@pytest.mark.parametrize(("name", "tensor"), [(name, tensor) for name in NAMES for tensor in SOME[name]])
def test_a_file_that_lacks_or_reshapes_a_tensor_is_refused(name: str, tensor: str, made: dict[str, Tensors]) -> None:
    without = {key: value for key, value in made[name].items() if key != tensor}
    with pytest.raises(IntegrityError, match=f"1 missing: {tensor}"):
        loaded(name, without)
    with pytest.raises(IntegrityError, match="instead of"):
        loaded(name, {**made[name], tensor: torch.zeros(made[name][tensor].numel() + 1, 2)})


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_too_many_and_another_models_file_are_refused(name: str, made: dict[str, Tensors]) -> None:
    with pytest.raises(IntegrityError, match="1 left over: stranger"):
        loaded(name, {**made[name], "stranger": torch.zeros(2)})
    other = made[NAMES[NAMES.index(name) - 1]]
    with pytest.raises(IntegrityError):
        loaded(name, other)


def test_carzeros_norm_has_one_value_under_its_two_names(made: dict[str, Tensors]) -> None:
    again = "CARZero.fusion_module.decoder.norm.weight"
    changed = {**made["carzero"], again: made["carzero"][again] + 1}
    with pytest.raises(IntegrityError, match=r"two values: .*decoder\.norm\.weight and .*decoder_norm\.weight"):
        loaded("carzero", changed)


def test_carzeros_training_checkpoint_is_refused_where_foreign_classes_are(
    made: dict[str, Tensors], tmp_path: Path
) -> None:
    card = zoo_card("carzero")
    path = write("carzero", made["carzero"], tmp_path / "best.ckpt")
    strict = card.model_copy(update={"weights": card.weights.model_copy(update={"foreign": "refused"})})
    with pytest.raises(IntegrityError, match="foreign class"):
        load_adapter(strict, path)
    load_adapter(card, path)  # and read where they stay mere names


@pytest.mark.parametrize("name", NAMES)
def test_wrong_questions_are_refused(name: str, model: Callable[[str], Any]) -> None:
    with pytest.raises(SpecError, match="alone"):
        model(name).encode_image(torch.zeros(1, 1, 96, 96))
    with pytest.raises(SpecError, match="pixels are"):
        model(name).encode_image(torch.zeros(3, SIZES[name], SIZES[name]))
    texts = model(name).encode_text(told(name)["prompts"][:1])
    with pytest.raises(SpecError, match="none"):
        model(name).score(ImageFeatures(torch.zeros(1, 8)), texts)


def test_a_prompt_of_one_word_is_the_empty_text_to_carzero_alone(model: Callable[[str], Any]) -> None:
    read = model("carzero").encode_text(["Pneumonia", "Edema", "There is Edema"]).joint
    assert torch.equal(read[0], read[1])
    assert not torch.allclose(read[0], read[2])
    words = model("radzero").encode_text(["pneumonia", "effusion"]).joint
    assert not torch.allclose(words[0], words[1])


def test_medimageinsight_mends_texts_as_the_published_code_does(model: Callable[[str], Any]) -> None:
    ids = model("medimageinsight").tokens(["heart’s size &amp; shape", "heart's size & shape"])["input_ids"]
    assert torch.equal(ids[0], ids[1])
    assert ids.shape[1] == 77


def test_a_tokenizer_that_is_not_the_checkpoints_is_refused(made: dict[str, Tensors], tmp_path: Path) -> None:
    place = tmp_path / "text"
    place.mkdir()
    for file in text_encoder("medimageinsight", tmp_path).iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    words = json.loads((place / "vocab.json").read_text())
    (place / "vocab.json").write_text(json.dumps({**words, "stranger": len(words)}))
    card = zoo_card("medimageinsight")
    checkpoint = Checkpoint(Path("made.pt"), "", made["medimageinsight"])
    model = adapter_class(card).load(card, checkpoint, place, CPU)
    with pytest.raises(IntegrityError, match=r"a tokenizer of \d+ tokens"):
        model.encode_text(["edema"])


def test_mavl_reads_nine_lines_a_class(model: Callable[[str], Any]) -> None:
    card = zoo_card("mavl")
    nine = told("mavl")["prompts"]
    MAVL.require_texts(card, nine)
    for text in ("edema", nine[0] + "\nmore"):
        with pytest.raises(NotApplicableError, match=r"reads 9 lines a class.*own set is mavl_entities"):
            MAVL.require_texts(card, [*nine, text])
        with pytest.raises(SpecError, match="reads 9 lines a class"):
            model("mavl").encode_text([text])


def test_mavl_asks_all_its_entities_in_its_own_order(tmp_path: Path) -> None:
    found = MAVL.entity_queries(zoo_card("mavl"), ["Pleural Effusion", "Fibrosis"], books(tmp_path, list(ENTITIES)))
    assert found.entities == ENTITIES
    assert found.columns == (ENTITIES.index("effusion"), ENTITIES.index("tail_abnorm_obs"))
    first = found.descriptions.texts[0].split("\n")
    assert first[:2] == ["a finding that is called normal", "border: that of normal"]
    assert {len(text.split("\n")) for text in found.descriptions.texts} == {9}
    with pytest.raises(NotApplicableError, match="no entity for 'COVID'"):
        MAVL.entity_queries(zoo_card("mavl"), ["COVID"], tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "kind", "says"),
    [
        ("observation explanation.json", None, DataError, "no 'observation explanation.json'"),
        ("gpt4_mimic.json", None, DataError, "no 'gpt4_mimic.json'"),
        ("gpt4_mimic.json", {"normal": ["x"] * 8}, IntegrityError, "it lacks clear, sharp"),
        ("gpt4_mimic.json", dict.fromkeys(ENTITIES, ["x"] * 7), IntegrityError, "wanted a list of 8 texts"),
        ("gpt4_mimic.json", dict.fromkeys(ENTITIES, "x" * 8), IntegrityError, "wanted a list of 8 texts"),
        ("observation explanation.json", dict.fromkeys(ENTITIES, 3), IntegrityError, "wanted one text an entity"),
        ("observation explanation.json", [], IntegrityError, "wanted a JSON object with every entity"),
    ],
)
def test_books_that_cannot_be_used(
    file: str, content: object, kind: type[CxrBenchError], says: str, tmp_path: Path
) -> None:
    books(tmp_path, list(ENTITIES))
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(kind, match=says):
        MAVL.entity_queries(zoo_card("mavl"), ["edema"], tmp_path)


def test_the_vocabulary_of_mavl_is_its_authors(shared: Path) -> None:
    terms = json.loads((shared / "parity" / "mavl" / "prompt_terms.json").read_text())
    words = read_toml(paths.folder("model_zoo") / "mavl_vocabulary.toml", Entities)
    assert list(words.entities) == terms["entities"]
    medklip = json.loads((shared / "parity" / "medklip" / "prompt_terms.json").read_text())["chestxray14"]
    assert words.columns(list(medklip)) == tuple(words.entities.index(e) for e in terms["chestxray14"])
