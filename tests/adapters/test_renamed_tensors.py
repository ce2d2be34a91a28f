"""Checkpoints of training frameworks: what their refusal says to put on the card makes them load, tensor for tensor."""

import re
import tomllib
from pathlib import Path
from typing import Any

import made_hub
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import IntegrityError
from cxrbench.models import coverage
from cxrbench.models.base import Adapter, load_adapter
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.fit import load_as_float32
from cxrbench.models.renaming import rename
from cxrbench.models.weights.identity import convert, weights_identity
from cxrbench.specs.card import ModelCard, Weights

WORDS = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
CONFIG = {"embed_dim": 12, "vision_cfg": VIT, "text_cfg": WORDS}
TENSORS = made_hub.tensors(made_hub.drawn(open_clip.CLIP(**CONFIG)))
LINE = re.compile(r"((?:container|rename) = [\[{].*?[\]}])(?= |$)")
MOMENTS = {"state": {0: {"step": 5, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}


def within(prefix: str, **beside: Any) -> dict[str, Any]:
    named = {prefix + name: tensor for name, tensor in TENSORS.items()}
    return {**beside, "state_dict": named} if beside else named


FILES = {
    "DistributedDataParallel": within("module."),
    "torch.compile": within("_orig_mod."),
    "a compiled model in a distributed module": within("module.model._orig_mod."),
    "Lightning": within("model.", epoch=3, global_step=9, optimizer_states=[MOMENTS], loops={"fit_loop": {}}),
    "open_clip's training": within("module.", epoch=3, name="run", optimizer=MOMENTS, scaler={"scale": 1.0}),
}


def card(**weights: Any) -> ModelCard:
    told = {"files": ["tiny.pt"], "where": "nowhere", **weights}
    return made_hub.card("open_clip:OpenCLIP", {"config": CONFIG}, {"pooled": 32, "joint": 12}, weights=told)


def obeying(path: Path) -> tuple[ModelCard, Adapter]:
    """The card, and its model, after putting on it whatever line a refusal says, three times at most."""
    lines: dict[str, Any] = {}
    for _ in range(3):
        try:
            return card(**lines), load_adapter(card(**lines), path)
        except IntegrityError as refusal:
            found = LINE.search(str(refusal))
            assert found, refusal
            lines |= tomllib.loads(found[1])
    raise AssertionError(lines)


@pytest.fixture(autouse=True)
def no_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals look for the zoo's cards that a file does fit, and so build each; that is tested elsewhere."""
    monkeypatch.setattr(coverage, "card_files", lambda folder: ())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Adapter]:
    path = tmp_path_factory.mktemp("plain") / "tiny.pt"
    torch.save(TENSORS, path)
    return path, load_adapter(card(), path)


@pytest.mark.parametrize("kind", FILES)
def test_the_lines_of_the_refusal_make_a_training_checkpoint_the_plain_file(
    kind: str, plain: tuple[Path, Adapter], tmp_path: Path
) -> None:
    path = tmp_path / "tiny.pt"
    torch.save(FILES[kind], path)
    told, found = obeying(path)
    pixels = made_hub.pixels(32)
    ours, wanted = found.encode_image(pixels), plain[1].encode_image(pixels)
    assert torch.equal(ours.pooled, wanted.pooled) and torch.equal(ours.joint, wanted.joint)  # type: ignore[arg-type]
    assert torch.equal(found.encode_text(["edema"]).joint, plain[1].encode_text(["edema"]).joint)
    same = [weights_identity(at, one, tmp_path / "cache") for at, one in ((path, told), (plain[0], card()))]
    assert same[0].tensors == same[1].tensors and same[0].sha256 != same[1].sha256
    converted = convert(path, told, tmp_path / "cache")
    assert converted.tensors == same[1].tensors
    assert torch.equal(load_adapter(told, converted.file).encode_image(pixels).pooled, wanted.pooled)


def test_a_prefix_is_named_with_what_else_is_amiss() -> None:
    made = within("module.", more=torch.zeros(2))["state_dict"] | {"module.ema": torch.zeros(2)}
    with pytest.raises(IntegrityError, match=r'rename = \{ "module\." = "" \} What is amiss.* 1 left over: ema\.'):
        made_hub.load(card(), made)
    with pytest.raises(IntegrityError, match=r"1 left over: module\.ema\.") as refusal:
        made_hub.load(card(), {**TENSORS, "module.ema": torch.zeros(2)})
    assert "rename" not in str(refusal.value)
    whole = made_hub.load(card(rename={"module.": ""}, ignored={"ema": "an average"}), made)
    assert whole.coverage is not None and list(whole.coverage.ignored) == ["ema"]


def test_the_line_keeps_what_the_card_renames() -> None:
    tower = {"module.image." + name.removeprefix("visual."): t for name, t in TENSORS.items() if "visual." in name}
    rest = {"module." + name: tensor for name, tensor in TENSORS.items() if "visual." not in name}
    with pytest.raises(IntegrityError) as refusal:
        made_hub.load(card(rename={"image.": "visual."}), tower | rest)
    line = 'rename = { "module." = "", "module.image." = "visual." }'
    assert str(refusal.value).endswith(line)
    made_hub.load(card(**tomllib.loads(line)), tower | rest)


def test_a_prefix_that_the_file_lacks_is_added_by_the_line() -> None:
    def load(found: Checkpoint) -> list[str]:
        if not all(name.startswith("model.") for name in found.tensors):
            raise IntegrityError("not the tensors of this model")
        return list(found.tensors)

    found = Checkpoint(Path("tiny.pt"), "0" * 64, {"a.weight": torch.zeros(2), "b": torch.zeros(2)})
    with pytest.raises(IntegrityError, match=r'lack the prefix .* rename = \{ "" = "model\." \}$') as refusal:
        load_as_float32(found, load, card(), own=True)
    line = LINE.search(str(refusal.value))
    assert line
    told = card(**tomllib.loads(line[1]))
    assert load_as_float32(found, load, told, own=True) == ["model.a.weight", "model.b"]


@pytest.mark.parametrize("prefix", ["net.", "my.own.trunk."])
def test_a_prefix_of_the_adapters_own_that_the_file_lacks_is_added_by_the_line(prefix: str) -> None:
    wanted = {prefix + name: torch.zeros(2) for name in ("a.weight", "a.bias", "b")}

    def load(found: Checkpoint) -> list[str]:
        told = coverage.coverage(found.tensors, wanted, {"fc.*": "a classifier"})
        coverage.require_complete(told, found.path, "mine")
        return list(told.used)

    found = Checkpoint(Path("tiny.pt"), "0" * 64, {name.removeprefix(prefix): wanted[name] for name in wanted})
    with pytest.raises(IntegrityError, match=f'rename = {{ "" = "{prefix}" }}$') as refusal:
        load_as_float32(found, load, card(), own=False)
    line = LINE.search(str(refusal.value))
    assert line
    assert load_as_float32(found, load, card(**tomllib.loads(line[1])), own=False) == list(wanted)
    more = Checkpoint(found.path, found.sha256, {**found.tensors, "fc.weight": torch.zeros(2)})
    with pytest.raises(IntegrityError, match=rf'"" = "{prefix}" }} What is amiss with it: .*1 left over: {prefix}fc'):
        load_as_float32(more, load, card(), own=False)


NAMES = st.text("ab.", min_size=1, max_size=6)


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.dictionaries(st.text("ab.", max_size=3), NAMES))
def test_names_go_by_their_longest_prefix_and_none_is_lost(names: list[str], prefixes: dict[str, str]) -> None:
    prefixes = Weights(files=("a",), where="b", rename=prefixes).rename  # type: ignore[assignment]
    wanted = []
    for name in names:
        fits = [old for old in prefixes if name.startswith(old)]
        old = max(fits, key=len) if fits else ""
        wanted.append(prefixes[old] + name[len(old) :] if fits else name)
    if len(set(wanted)) < len(wanted):
        with pytest.raises(IntegrityError, match=r"two of its tensors would be called .* weights\.rename"):
            rename(dict.fromkeys(names, 0), prefixes, Path("a.pt"))
    else:
        assert list(rename(dict.fromkeys(names, 0), prefixes, Path("a.pt"))) == wanted
