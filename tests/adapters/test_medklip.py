"""What MedKLIP's adapter promises beside parity: its files, its closed vocabulary, its texts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_queries import Tensors, prompts, tensors, text_encoder
from made_weights import zoo_card

from cxrbench.errors import CxrBenchError, DataError, IntegrityError, NotApplicableError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.entities import Entities
from cxrbench.models.features import ImageFeatures
from cxrbench.models.medklip import MedKLIP
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.schema import read_toml

CARD = zoo_card("medklip")
WORDS = read_toml(paths.folder("model_zoo") / "medklip_vocabulary.toml", Entities)
BOOK = "observation explanation.json"
PIXELS = torch.rand((3, 1, 64, 96), generator=torch.Generator().manual_seed(1))
CPU = Runtime(torch.device("cpu"))


@pytest.fixture(scope="module")
def made() -> Tensors:
    return tensors("medklip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoder("medklip", tmp_path_factory.mktemp("medklip") / "text")


def loaded(made: Tensors, folder: Path | None, card: ModelCard = CARD, runtime: Runtime = CPU) -> MedKLIP:
    return MedKLIP.load(card, Checkpoint(Path("a.pth"), "", made), folder, runtime)


@pytest.fixture(scope="module")
def model(made: Tensors, folder: Path) -> MedKLIP:
    return loaded(made, folder)


def test_the_layout_is_used_whole_but_for_the_location_loss(model: MedKLIP, made: Tensors) -> None:
    assert model.coverage.complete
    assert set(model.coverage.ignored) == {"module.cl_fc.weight", "module.cl_fc.bias"}
    assert len(model.coverage.used) == len(made) - 2


CHANGES: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "one missing": (
        lambda t: {n: v for n, v in t.items() if n != "module.classifier.bias"},
        "1 missing: module.classifier.bias",
    ),
    "one renamed": (
        lambda t: {n.replace("decoder.norm.bias", "decoder_norm.bias"): v for n, v in t.items()},
        "1 missing: module.decoder.norm.bias; 1 left over: module.decoder_norm.bias",
    ),
    "one reshaped": (
        lambda t: {**t, "module.res_l2.bias": torch.zeros(9)},
        r"module.res_l2.bias \(9,\) instead of \(256,\)",
    ),
    "one more": (lambda t: {**t, "module.extra": torch.zeros(1)}, "1 left over: module.extra"),
    "a layer less": (
        lambda t: {n: v for n, v in t.items() if not n.startswith("module.res_features.6.5.")},
        "18 missing: module.res_features.6.5",
    ),
    "without its prefix": (lambda t: {n.removeprefix("module."): v for n, v in t.items()}, "no matrix res_l1.weight"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_the_layout_is_refused(change: str, made: Tensors) -> None:
    alter, says = CHANGES[change]
    with pytest.raises(IntegrityError, match=says):
        loaded(alter(made), None)


def test_vectors_of_another_width_than_the_card_says(made: Tensors) -> None:
    with pytest.raises(IntegrityError, match="'pooled': 1024"):
        loaded(made, None, CARD.model_copy(update={"taps": {"pooled": 2048}}))


def test_text_weights_are_covered_like_the_checkpoint(made: Tensors, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = torch.load(folder / "pytorch_model.bin", weights_only=True)
    path = tmp_path / "pytorch_model.bin"
    torch.save({n: v for n, v in text.items() if n != "bert.encoder.layer.1.output.dense.bias"}, path)
    with pytest.raises(IntegrityError, match=r"text encoder of medklip: 1 missing: bert\.encoder\.layer\.1\.output"):
        loaded(made, tmp_path).encode_text(["edema"])
    path.unlink()
    with pytest.raises(DataError, match=r"pytorch_model\.bin or model\.safetensors.*--text-encoder"):
        loaded(made, tmp_path).encode_text(["edema"])


def test_scores_of_a_batch_are_those_of_its_images(model: MedKLIP) -> None:
    texts = model.encode_text(prompts("medklip"))
    whole = model.score(model.encode_image(PIXELS), texts)
    parts = torch.cat([model.score(model.encode_image(image[None]), texts) for image in PIXELS])
    assert torch.allclose(whole, parts, rtol=0, atol=1e-5)
    assert torch.equal(whole, model.score(model.encode_image(PIXELS.repeat(1, 3, 1, 1)), texts))
    assert not whole.requires_grad


def test_a_score_depends_on_the_set_asked_but_a_text_on_itself_alone(model: MedKLIP) -> None:
    texts, images = prompts("medklip"), model.encode_image(PIXELS)
    first, all_ = model.encode_text(texts[:1]), model.encode_text(texts)
    assert torch.allclose(first.joint[0], all_.joint[0], atol=1e-5)
    assert (model.score(images, first)[:, 0] - model.score(images, all_)[:, 0]).abs().min() > 1e-2
    assert torch.equal(model.encode_text(texts, "masked").joint, all_.joint)


def test_lower_precision_is_near_and_plain_memory_equal(model: MedKLIP, made: Tensors, folder: Path) -> None:
    texts = prompts("medklip")
    wanted = model.score(model.encode_image(PIXELS), model.encode_text(texts))
    low = loaded(made, folder, runtime=Runtime(torch.device("cpu"), "bfloat16"))
    found = low.score(low.encode_image(PIXELS), low.encode_text(texts))
    assert found.dtype == torch.float32
    assert 1e-5 < float((found - wanted).abs().max()) < 0.1
    plain = loaded(made, folder, runtime=Runtime(torch.device("cpu"), memory_format="contiguous"))
    assert (plain.engine.memory_format, dict(plain.engine.differences)) == ("contiguous", {})
    same = plain.score(plain.encode_image(PIXELS), plain.encode_text(texts))
    assert torch.allclose(same, wanted, rtol=0, atol=1e-4)


def test_the_vocabulary_is_the_authors(shared: Path) -> None:
    told = json.loads((shared / "parity" / "medklip" / "prompt_terms.json").read_text())
    assert list(WORDS.entities) == told["entities"]
    chestxray14 = told["chestxray14"]
    assert WORDS.columns(list(chestxray14)) == tuple(WORDS.entities.index(e) for e in chestxray14.values())


def test_the_vocabulary_is_whole() -> None:
    assert len(set(WORDS.entities)) == len(WORDS.entities) == 75
    assert WORDS.entities[20] == "pneumonia"
    assert WORDS.columns(["Pleural_Thickening", "tail_abnorm_obs", "Pleural Effusion"]) == (43, 73, 8)


def test_a_class_outside_the_vocabulary_is_an_error_that_lists_it() -> None:
    listed = r"no entity for 'COVID', 'cardiac arrest'; .*normal, clear, .*excluded_obs"
    with pytest.raises(NotApplicableError, match=listed):
        MedKLIP.entity_queries(CARD, ["Edema", "COVID", "cardiac arrest"], None)


def book(folder: Path, content: object) -> Path:
    (folder / BOOK).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def test_the_set_of_queries_is_all_entities_in_the_order_of_the_file(tmp_path: Path) -> None:
    texts = [f"sign number {number}" for number in range(75)]
    keys = [*WORDS.entities[:20], "eumonia", *WORDS.entities[21:]]
    for told in (dict(zip(keys, texts, strict=True)), "{" + ",".join(f'"twice": "{t}"' for t in texts) + "}"):
        found = MedKLIP.entity_queries(CARD, ["Pneumonia", "Edema", "Fibrosis"], book(tmp_path, told))
        assert found.descriptions.texts == tuple(texts)
        assert found.entities == WORDS.entities
        assert [found.entities[column] for column in found.columns] == ["pneumonia", "edema", "tail_abnorm_obs"]
        assert found.descriptions.edition == "none that the card knows"


def test_an_edition_of_the_descriptions_is_named(tmp_path: Path) -> None:
    import hashlib

    place = book(tmp_path, {name: name for name in WORDS.entities})
    known = hashlib.md5((place / BOOK).read_bytes(), usedforsecurity=False).hexdigest()
    vocabulary = (paths.folder("model_zoo") / "medklip_vocabulary.toml").read_text()
    (tmp_path / "own.toml").write_text(vocabulary + f'"{known}" = "ours"\n')
    card = CARD.model_copy(update={"options": {**CARD.options, "vocabulary": "own.toml"}})
    card._home = tmp_path
    assert MedKLIP.entity_queries(card, ["edema"], place).descriptions.edition == "ours"
    assert MedKLIP.options_digest(card) != MedKLIP.options_digest(CARD)


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (None, DataError, "observation explanation.json.*MediaBrain-SJTU/MedKLIP"),
        ({"normal": "x"}, IntegrityError, "object of 75 texts; it holds 1 entries"),
        (["x"] * 75, IntegrityError, "it holds 0 entries"),
        ({str(i): i for i in range(75)}, IntegrityError, "object of 75 texts"),
        ("{not json", IntegrityError, "is no JSON"),
    ],
)
def test_descriptions_that_cannot_be_used(
    content: object, kind: type[CxrBenchError], says: str, tmp_path: Path
) -> None:
    if content is not None:
        book(tmp_path, content)
    with pytest.raises(kind, match=says):
        MedKLIP.entity_queries(CARD, ["edema"], tmp_path)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda m: m.encode_image(PIXELS[0]), "pixels are"),
        (lambda m: m.encode_text([]), "at least one text"),
        (lambda m: m.encode_text("edema"), "list of"),
        (lambda m: m.logit_scale("other"), "no view 'other'; known: prompts"),
        (lambda m: m.prototypes(["edema"]), "no class vectors"),
        (lambda m: m.score(ImageFeatures(torch.zeros(1, 1024)), m.encode_text(["edema"])), "these features have none"),
    ],
)
def test_wrong_questions_are_refused(ask: Callable[[MedKLIP], object], says: str, model: MedKLIP) -> None:
    with pytest.raises(SpecError, match=says):
        ask(model)


def test_no_temperature_takes_part(model: MedKLIP) -> None:
    assert model.logit_scale("prompts") == 1.0
    assert len(MedKLIP.options_digest(CARD)) == len(digest.of_json(None))


def test_options_that_do_not_exist() -> None:
    with pytest.raises(SpecError, match="options: stages"):
        MedKLIP.options_digest(CARD.model_copy(update={"options": {**CARD.options, "stages": 3}}))
