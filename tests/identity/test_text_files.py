"""The digest of a text side is over every file that decides what a text becomes, and over the length of texts."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from made_weights import TEXT_ENCODER

from cxrbench.errors import IntegrityError
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import FILES, decides, deciding, load_tokenizer
from cxrbench.specs import paths
from cxrbench.specs.card import TextEncoder

FACTS = TextEncoder(hub="a/b", files=("config.json",), revision="0" * 40, max_tokens=16)
VERSIONED = ("tokenizer.4.0.0.json", "tokenizer.model.v3", "tekken.json")
IDLE = (
    "data.json",
    "LICENSE.txt",
    "README.md",
    ".gitattributes",
    "pytorch_model.bin",
    "model.safetensors",
    "training_args.bin",
    "notes.txt",
)
FOLDERS = sorted({path.parents[1].name for path in paths.folder("model_zoo").glob("certificates/*/text/*.json")})

# Reads text sides as adapters do, and prints for each folder the files that were opened of it.
READER = """
import json, sys
from pathlib import Path
opened = {Path(folder).resolve(): set() for folder in sys.argv[1:]}
def look(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = Path(args[0].decode() if isinstance(args[0], bytes) else args[0])
        if path.is_absolute() and path.parent in opened:
            opened[path.parent].add(path.name)
sys.addaudithook(look)
from transformers import AutoConfig, AutoTokenizer
for folder in opened:
    for kind in (AutoTokenizer, AutoConfig):
        try:
            found = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except (ValueError, OSError):
            continue
print(json.dumps({str(folder): sorted(names) for folder, names in opened.items()}))
"""


def opened(*folders: Path) -> list[set[str]]:
    """The names of the files that a process of its own opens of each folder."""
    program = [sys.executable, "-c", READER, *map(str, folders)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout)
    return [{*told[str(folder.resolve())]} for folder in folders]


def folder(place: Path) -> Path:
    return Path(shutil.copytree(TEXT_ENCODER, place / "text"))


@pytest.mark.parametrize("name", (*FILES, *VERSIONED))
def test_each_file_decides_by_its_presence_and_by_its_content(name: str, tmp_path: Path) -> None:
    place = folder(tmp_path)
    digests = [text_files(FACTS, place).digest]
    (place / name).write_bytes(b"first")
    digests.append(text_files(FACTS, place).digest)
    (place / name).write_bytes(b"other")
    digests.append(text_files(FACTS, place).digest)
    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", IDLE)
def test_what_no_tokenizer_reads_decides_nothing(name: str, tmp_path: Path) -> None:
    place = folder(tmp_path)
    before = text_files(FACTS, place).digest
    (place / name).write_bytes(b"first")
    assert text_files(FACTS, place).digest == before


def test_the_length_at_which_texts_are_cut_decides(tmp_path: Path) -> None:
    longer = FACTS.model_copy(update={"max_tokens": 17})
    assert text_files(longer, folder(tmp_path)).digest != text_files(FACTS, tmp_path / "text").digest


def test_every_file_that_a_tokenizer_of_the_library_names_is_known() -> None:
    """Read off the library's sources: what a later version reads more of makes this fail."""
    root, named = Path(transformers.__file__).parent, set[str]()
    for path in root.rglob("*token*.py"):
        text = path.read_text(encoding="utf-8")
        for table in re.findall(r"VOCAB_FILES_NAMES\s*=\s*\{([^}]*)\}", text):
            named.update(re.findall(r":\s*\"([^\"]+)\"", table))
        named.update(re.findall(r"^[A-Z_]*(?:FILE|TEMPLATE)[A-Z_]*\s*=\s*\"([\w.-]+\.\w+)\"", text, re.MULTILINE))
    assert "vocab.txt" in named
    assert named <= {*FILES}


def test_no_file_is_opened_that_the_digest_leaves_out(tmp_path: Path) -> None:
    places = []
    for model in FOLDERS:
        place = paths.folder("model_zoo") / "certificates" / model / "text"
        places.append(Path(shutil.copytree(place, tmp_path / model)))
        for name in (*FILES, *IDLE):
            if not (places[-1] / name).exists():
                (places[-1] / name).write_text("{}" if name.endswith(".json") and "config" in name else "")
    for place, found in zip(places, opened(*places), strict=True):
        assert found, place
        assert found <= {*deciding(place)}, place


def versioned(place: Path, name: str) -> Path:
    """A folder whose settings name the tokenizer's file of a version of the library."""
    mine = folder(place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(mine))
    tokenizer.backend_tokenizer.save(str(mine / name))
    settings = mine / "tokenizer_config.json"
    told = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps({**told, "fast_tokenizer_files": [name]}))
    return mine


def test_the_tokenizer_that_settings_name_for_a_version_decides(tmp_path: Path) -> None:
    mine = versioned(tmp_path, "tokenizer.4.0.0.json")
    before = text_files(FACTS, mine).digest
    (found,) = opened(mine)
    assert "tokenizer.4.0.0.json" in found  # or this test would hold nothing
    assert found <= {*deciding(mine)}
    assert load_tokenizer("AutoTokenizer", mine)("edema").input_ids
    (mine / "tokenizer.4.0.0.json").write_text((mine / "tokenizer.4.0.0.json").read_text() + " ")
    assert text_files(FACTS, mine).digest != before


@pytest.mark.parametrize(
    ("file", "key", "name"),
    [
        ("tokenizer_config.json", "fast_tokenizer_files", ["other/tokenizer.4.0.0.json"]),
        ("tokenizer_config.json", "fast_tokenizer_files", ["x-tokenizer.4.0.0.json"]),
        ("tokenizer_config.json", "vocab_file", "{outside}"),
        ("tokenizer_config.json", "init_inputs", ["{outside}"]),
        ("special_tokens_map.json", "tokenizer_file", "{outside}"),
        ("tokenizer_config.json", "vocab_file", "{inside}"),
    ],
)
def test_settings_that_name_a_file_that_does_not_decide_are_refused(
    file: str, key: str, name: str | list[str], tmp_path: Path
) -> None:
    mine = folder(tmp_path)
    for path in (tmp_path / "words.txt", mine / "notes.txt"):
        path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    told = json.dumps({key: name})
    told = told.replace("{outside}", str(tmp_path / "words.txt")).replace("{inside}", str(mine / "notes.txt"))
    (mine / file).write_text(told)
    with pytest.raises(IntegrityError, match=f"{key} names .*none of the files of this folder that decide"):
        load_tokenizer("AutoTokenizer", mine)


@pytest.mark.parametrize("name", ["/root/.cache/nobody/vocab.txt", "vocab-of-another-machine.txt", "{own}", None])
def test_settings_that_name_what_is_not_here_or_its_own_file_are_idle(name: str | None, tmp_path: Path) -> None:
    mine = folder(tmp_path)
    wanted = load_tokenizer("AutoTokenizer", mine)("edema").input_ids
    path = mine / "tokenizer_config.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**told, "vocab_file": name and name.replace("{own}", str(mine / "vocab.txt"))}))
    assert load_tokenizer("AutoTokenizer", mine)("edema").input_ids == wanted


def test_files_that_nobody_reads_need_no_sound_content(tmp_path: Path) -> None:
    mine = folder(tmp_path)
    before = text_files(FACTS, mine).digest
    (mine / "LICENSE.txt").write_bytes("Universität".encode("latin-1"))
    (mine / "data.json").touch()
    os.truncate(mine / "data.json", 8 << 30)
    (mine / "notes.json").write_bytes(b"{]")
    assert text_files(FACTS, mine).digest == before
    assert load_tokenizer("AutoTokenizer", mine)("edema").input_ids


def test_what_decides_by_its_name_is_what_is_found(tmp_path: Path) -> None:
    for name in (*FILES, *VERSIONED, *IDLE):
        (tmp_path / name).touch()
    assert {path.name for path in tmp_path.iterdir() if decides(path.name)} == {*deciding(tmp_path)}
    assert deciding(tmp_path, ["README.md"]) == [*deciding(tmp_path), "README.md"]
