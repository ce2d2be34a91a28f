"""Folders of text encoders that are damaged, malformed or hostile: refused by name, nothing run, nothing waited for."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrbench.cli.demonstration import write_text_encoder
from cxrbench.errors import CxrBenchError, DataError, IntegrityError, SpecError
from cxrbench.models.bert_words import BertWords
from cxrbench.models.settings_check import network_settings
from cxrbench.models.text import BertText, TextFiles, text_files
from cxrbench.models.transformers_nets import OwnText, text_config, text_network
from cxrbench.specs.card import TextEncoder

WORDS = ["there is edema in the lung", "no finding"]
FACTS = TextEncoder.model_validate({"hub": "text", "revision_reason": "a local folder", "max_tokens": 16})
TENSORS = dict[str, torch.Tensor]


def whole(folder: Path) -> tuple[Path, TENSORS]:
    """A sound folder, and drawn tensors for the BERT that it describes."""
    write_text_encoder(WORDS, folder)
    network = text_network(text_config(TextFiles(folder, "")))
    generator = torch.Generator().manual_seed(0)
    return folder, {n: torch.rand(t.shape, generator=generator) for n, t in network.state_dict().items()}


def encode(kind: type[BertText] | type[OwnText] | type[BertWords], folder: Path, tensors: TENSORS) -> torch.Tensor:
    files, device = text_files(FACTS, folder), torch.device("cpu")
    with torch.inference_mode():
        if kind is BertWords:
            return BertWords(tensors, files, device).states(WORDS, 16).first_token
        assert issubclass(kind, BertText)
        return kind(tensors, files, 16, device).mean_states(WORDS, real_only=True)


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def content(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None  # type: ignore[func-returns-value]


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def large(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).touch()
        os.truncate(folder / name, 8 << 30)

    return change


def folder_instead(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def device(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return change


def without(token: str) -> Callable[[Path], None]:
    """Another token in its place, so that those after it keep their numbers."""

    def change(folder: Path) -> None:
        path = folder / "vocab.txt"
        path.write_text(path.read_text().replace(token, "[ELSE]"))

    return change


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
BROKEN: dict[str, Callable[[Path], None]] = {
    "config cut": cut("config.json"),
    "config empty": content("config.json", b""),
    "config garbled": content("config.json", b"\xff\xfe\x00junk"),
    "config deep": content("config.json", DEEP),
    "config a list": content("config.json", b"[1]"),
    "config missing": lambda folder: (folder / "config.json").unlink(),
    "config a pipe": pipe("config.json"),
    "config a device": device("config.json"),
    "config of gigabytes": large("config.json"),
    "config a huge number": content("config.json", b'{"hidden_size": ' + b"9" * 5000 + b"}"),
    "sizes as text": config(hidden_size="sixty-four", num_attention_heads="4"),
    "sizes as lists": config(hidden_size=[64], num_hidden_layers=[3]),
    "sizes as null": config(hidden_size=None),
    "a negative size": config(hidden_size=-64),
    "heads that do not divide": config(num_attention_heads=7),
    "no heads": config(num_attention_heads=0),
    "ten million layers": config(num_hidden_layers=10**7),
    "a vocabulary of 10^9": config(vocab_size=10**9),
    "a hidden size of 10^9": config(hidden_size=10**9, intermediate_size=10**9),
    "labels of 10^9": config(num_labels=10**9),
    "an unknown activation": config(hidden_act="nobody"),
    "a table where a word belongs": config(hidden_act={"a": 1}),
    "vocabulary missing": lambda folder: (folder / "vocab.txt").unlink(),
    "vocabulary binary": content("vocab.txt", bytes(range(128, 256)) * 20),
    "vocabulary a pipe": pipe("vocab.txt"),
    "vocabulary a folder": folder_instead("vocab.txt"),
    "vocabulary of gigabytes": large("vocab.txt"),
    "tokenizer config cut": cut("tokenizer_config.json"),
    "tokenizer config deep": content("tokenizer_config.json", DEEP),
    "tokenizer config a list": content("tokenizer_config.json", b"[]"),
    "tokenizer config a pipe": pipe("tokenizer_config.json"),
    "tokenizer garbled": content("tokenizer.json", b"{]"),
    "tokenizer deep": content("tokenizer.json", DEEP),
    "tokenizer of nothing": content("tokenizer.json", b"{}"),
    "tokenizer of a pipe": pipe("tokenizer.json"),
    "special tokens a list": content("special_tokens_map.json", b"[[[[1]]]]"),
    "added tokens garbled": content("added_tokens.json", b"\x00\x01"),
}
KINDS = (BertText, OwnText, BertWords)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> TENSORS:
    return whole(tmp_path_factory.mktemp("sound"))[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_by_name_or_not_needed(
    name: str, kind: type[BertText], sound: TENSORS, tmp_path: Path
) -> None:
    folder = write_text_encoder(WORDS, tmp_path / "text")
    wanted = encode(kind, folder, sound)
    BROKEN[name](folder)
    try:
        found = encode(kind, folder, sound)
    except CxrBenchError as error:
        assert str(folder) in str(error) or "transformers has no" in str(error)
        assert len(str(error)) < 1000
    else:
        assert torch.equal(found, wanted), "what broke this file was taken in silence"


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_without_a_token_for_the_unknown_is_refused_before_it_meets_any(
    kind: type[BertText], sound: TENSORS, tmp_path: Path
) -> None:
    folder = write_text_encoder(WORDS, tmp_path / "text")
    without("[UNK]")(folder)
    with pytest.raises(IntegrityError, match=r"no tokenizer can be made of this .*UNK"):
        encode(kind, folder, sound)


CODE = "open('{proof}', 'w').write('run')\nclass Evil: pass\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"},
        ),
        ("tokenizer_config.json", {"tokenizer_class": "Nobody"}),
        ("config.json", {"model_type": "nobody"}),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}),
        ("config.json", {"_attn_implementation": "kernels-community/evil", "attn_implementation": "evil/kernel"}),
        ("config.json", {"_experts_implementation": "evil/kernel", "use_kernels": True}),
    ],
)
def test_code_and_kernels_that_a_folder_names_are_never_run(
    file: str, told: dict[str, Any], kind: type[BertText], sound: TENSORS, tmp_path: Path
) -> None:
    folder, proof = write_text_encoder(WORDS, tmp_path / "text"), tmp_path / "proof"
    wanted = encode(kind, folder, sound)
    (folder / "evil.py").write_text(CODE.format(proof=proof))
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **told}))
    try:
        assert torch.equal(encode(kind, folder, sound), wanted)
    except CxrBenchError as error:
        assert str(folder) in str(error)
    assert not proof.exists()


def test_only_what_says_how_a_network_runs_is_left_out() -> None:
    told = {
        "hidden_size": 8,
        "_attn_implementation": "a/b",
        "text_config": {"attn_implementation": "a/b", "depths": [2, 2]},
    }
    assert network_settings("x", told) == {"hidden_size": 8, "text_config": {"depths": [2, 2]}}


@pytest.mark.parametrize(
    "told",
    [
        {"num_hidden_layers": 10**7},
        {"vision_config": {"depths": [2, 2, 10**7]}},
        {"image_size": 10**12},
        {"hidden_size": -(10**12)},
    ],
)
def test_sizes_that_no_network_has_are_refused_by_name(told: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="no network here has"):
        network_settings("x", told)


def test_a_configuration_that_is_nested_without_end_is_refused() -> None:
    told: dict[str, Any] = {}
    for _ in range(5000):
        told = {"a": told}
    with pytest.raises(SpecError, match="nested more than"):
        network_settings("x", told)


def test_a_folder_beside_the_card_needs_no_hub_and_a_hub_needs_its_reason() -> None:
    told = {"folder": ".", "files": ["tokenizer.json"], "max_tokens": 16}
    own = TextEncoder.model_validate(told)
    assert (own.place, own.beside) == ("the folder .", Path())
    wrong = (
        {"max_tokens": 16},
        {**told, "revision": "1" * 40},
        {**told, "hub": "a/b"},
        {"hub": "a/b", "max_tokens": 16},
    )
    for one in wrong:
        with pytest.raises(ValueError, match=r"name the `folder` beside the card|pin a revision"):
            TextEncoder.model_validate(one)


@pytest.mark.parametrize(
    ("there", "says"),
    [("tokenizer.json", "it holds tokenizer.json: name those"), ("model.safetensors", "it holds no tokenizer")],
)
def test_a_folder_without_a_file_that_its_card_names_says_what_it_holds(
    there: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / there).write_text("{}")
    monkeypatch.chdir(tmp_path)
    facts = TextEncoder.model_validate({"folder": ".", "max_tokens": 16})
    with pytest.raises(DataError, match=f"config.json and vocab.txt is missing.*text_encoder.files.*{says}") as found:
        text_files(facts, None)
    assert "hub" not in str(found.value) and "None" not in str(found.value)
