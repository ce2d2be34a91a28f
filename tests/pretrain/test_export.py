"""A finished run comes back as a model: same vectors, same prototypes, official names, a card that reads."""

from pathlib import Path

import pytest
import torch
from made_lessons import NAMES, made_corpus, made_pixels, made_text_encoder, small_choices, triage_choices
from made_training import made_loop
from safetensors.torch import load_file, save_file
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, NotApplicableError, RunError, SpecError
from cxrbench.models.base import load_adapter
from cxrbench.models.dlilp import DLILP
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.export import Trained, export
from cxrbench.pretrain.loop import Loop
from cxrbench.pretrain.network import Network, Tokens, find_text_encoder, trunk
from cxrbench.specs.card import read_card

ROWS = 30


def finished(folder: Path, synthetic: bool = True, **more: str) -> tuple[Loop, Path]:
    choices = triage_choices if more.get("objective") == "sat" else small_choices
    config = build_config(None, choices(folder.parent / "text", schedule__epochs="1", **more))
    run = made_loop(folder, config, ROWS)
    run.run()
    width = run.engine.network.vision_model.width
    files = run.material.files
    export(Trained(config, run.head, run.material.corpus, files, width, synthetic), folder)
    return run, folder / "card.toml"


def adapter(card: Path) -> DLILP:
    found = load_adapter(read_card(card))
    assert isinstance(found, DLILP)
    return found


@pytest.mark.parametrize("objective", ["clip", "unicl", "unimodal", "dlilp", "sat"])
def test_a_trained_encoder_comes_back_as_it_was(objective: str, tmp_path: Path) -> None:
    assert_same(
        objective, *finished(tmp_path / "Run 1", objective=objective, image__trunk="timm:mobilenetv3_small_050")
    )


def assert_same(objective: str, run: Loop, card: Path) -> None:
    """The model of the card gives what the network that was trained gives."""
    told, network = read_card(card), run.engine.network.eval()
    found = adapter(card)
    assert told.name == "run-1"
    assert (told.synthetic, told.pretraining) == (True, ("C", "M", "P"))
    assert run.material.corpus.digest in told.notes[0]
    pixels = torch.from_numpy(made_pixels(made_corpus(ROWS))[:4])[:, None].float() / 255
    with torch.no_grad():
        joint, label = network.vision_model(pixels.expand(-1, 3, -1, -1))
    vectors = found.encode_image(pixels)
    torch.testing.assert_close(vectors.joint, joint, rtol=1e-4, atol=1e-5)
    assert (vectors.label is None) == (label is None)
    if label is not None:
        torch.testing.assert_close(vectors.label, label, rtol=1e-4, atol=1e-5)
    if objective in ("unimodal", "dlilp"):
        rows = network.prototypes.detach()[[NAMES.index("nodule"), NAMES.index("no finding")]]
        wanted = torch.nn.functional.normalize(rows)
        torch.testing.assert_close(found.prototypes(["Nodule", "Normal"]), wanted, rtol=1e-5, atol=1e-6)
        with pytest.raises(NotApplicableError, match="no prototype for class 'COVID'"):
            found.prototypes(["COVID"])
    if objective != "unimodal":
        texts = ["there is edema in the lung.", "a radiology image of nodule"]
        tokens = _tokens(found, texts)
        with torch.no_grad():
            torch.testing.assert_close(found.encode_text(texts).joint, network.text_model(tokens), rtol=1e-4, atol=1e-5)


def _tokens(found: DLILP, texts: list[str]) -> Tokens:
    batch = found._text.tokens(texts)
    return Tokens(batch["input_ids"], batch["attention_mask"])


def test_the_layout_is_the_official_one(tmp_path: Path) -> None:
    """A ResNet, moreover, is told by its tensors, not by the card."""
    run, card = finished(tmp_path / "Run 1", image__trunk="resnet18")
    assert_same("dlilp", run, card)
    official: dict[str, Tensor] = torch.load(card.parent / "weights.pth", weights_only=True)
    assert list(official)[:3] == ["logit_scale", "logit_scale_head2", "class_prototypes"]
    assert next(iter(list(official)[3:])) == "vision_model.model.conv1.weight"
    assert list(official)[-1] == "text_model.projection_head_text.projection.weight"
    assert {type(tensor) for tensor in official.values()} == {Tensor}
    twin = load_file(card.parent / "weights.safetensors")
    assert twin.keys() == official.keys()
    assert all(torch.equal(twin[name], tensor) for name, tensor in official.items())
    assert adapter(card).coverage.complete


def test_another_file_than_the_runs_own_is_refused(tmp_path: Path) -> None:
    _, card = finished(tmp_path / "run", objective="unimodal")
    weights = load_file(tmp_path / "run/weights.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, tmp_path / "run/weights.safetensors")
    with pytest.raises(IntegrityError, match="the card of run says"):
        adapter(card)


def test_kept_weights_that_are_damaged_or_gone_are_not_exported(tmp_path: Path) -> None:
    run, card = finished(tmp_path / "run", objective="unimodal")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in ("card.toml", "weights.safetensors")}
    trained = Trained(run.config, run.head, run.material.corpus, None, run.engine.network.vision_model.width, True)
    best = tmp_path / "run/best.pth"
    data = bytearray(best.read_bytes())
    data[len(data) // 3] ^= 4
    best.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"best\.pth: is damaged.*--set saving\.export=last"):
        export(trained, card.parent)
    best.unlink()
    with pytest.raises(IntegrityError, match=r"best\.pth: is gone.*--set saving\.export=last"):
        export(trained, card.parent)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in before} == before


def test_a_card_or_text_folder_that_changed_is_refused_by_name(tmp_path: Path) -> None:
    _, card = finished(tmp_path / "run")
    words = tmp_path / "run/text/vocab.txt"
    whole = words.read_text()
    words.write_text(whole.replace("lung", "lunk"))
    with pytest.raises(IntegrityError, match=r"vocab\.txt: is missing, or not the file"):
        adapter(card)
    words.write_text(whole)
    adapter(card)
    card.write_text(card.read_text().replace("joint = 16", "joint = 17"))
    with pytest.raises(IntegrityError, match=r"card\.toml: .*if you edited it, remove that line"):
        read_card(card)
    card.write_text(card.read_text().partition("\n")[2])
    assert read_card(card).taps["joint"] == 17, "a person's own card"


def test_the_card_says_what_computed_the_model(tmp_path: Path) -> None:
    run, card = finished(tmp_path / "run", objective="unimodal")
    (by,) = run.history
    told = read_card(card).notes[-1]
    assert f"From step 0 on by code {by.code}" in told and f"torch {torch.__version__}".split("+")[0] in told


def test_a_run_without_a_best_epoch_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"saving\.export=last"):
        finished(tmp_path / "run", objective="unimodal", schedule__first_best="-1.0")
    finished(tmp_path / "more", objective="unimodal", schedule__first_best="-1.0", saving__export="last")


def test_published_trunk_weights_are_used_and_others_refused(tmp_path: Path) -> None:
    import torchvision

    published = torchvision.models.resnet18().state_dict()  # with its classifier, as published
    torch.save(published, tmp_path / "resnet18.pth")
    found = trunk("resnet18", tmp_path / "resnet18.pth")
    assert found.width == 512
    assert torch.equal(found.module.state_dict()["layer4.1.conv2.weight"], published["layer4.1.conv2.weight"])
    with pytest.raises(IntegrityError, match=r"resnet18\.pth: not the weights of resnet34"):
        trunk("resnet34", tmp_path / "resnet18.pth")
    with pytest.raises(IntegrityError, match="are of another network"):
        trunk("shufflenet_v2_x0_5", tmp_path / "resnet18.pth")
    with pytest.raises(SpecError, match="torchvision has no model 'resnet19'"):
        trunk("resnet19", None)
    with pytest.raises(SpecError, match="timm has no model 'resnet19'"):
        trunk("timm:resnet19", None)


def test_a_text_encoder_starts_from_its_own_weights(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = made_text_encoder(tmp_path / "text")
    told = small_choices(folder, text__initial="pretrained", objective="clip")
    with pytest.raises(DataError, match=r"model\.safetensors or pytorch_model\.bin is missing"):
        find_text_encoder(build_config(None, told))
    bert = BertModel(BertConfig.from_pretrained(str(folder)))
    named = {f"bert.{name}": tensor for name, tensor in bert.state_dict().items()}  # as BERTs are published
    torch.save({**named, "cls.predictions.bias": torch.zeros(3)}, folder / "pytorch_model.bin")
    config = build_config(None, told)
    network = Network(config, 5, find_text_encoder(config))
    state = network.text_model.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in bert.state_dict().items())
    lost = {name: tensor for name, tensor in named.items() if "layer.1" not in name}
    torch.save(lost, folder / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="the weights lack 16 tensors"):
        Network(config, 5, find_text_encoder(config))
