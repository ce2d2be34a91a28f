"""The digest of a text side is over every file that decides what a text becomes, and over the length of texts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from made_weights import TEXT_ENCODER

from cxrbench import facts
from cxrbench.adapters.text import FILES, text_files
from cxrbench.card import TextEncoder

FACTS = TextEncoder(hub="a/b", files=("config.json",), revision="0" * 40, max_tokens=16)
IDLE = ("README.md", ".gitattributes", "pytorch_model.bin", "model.safetensors", "training_args.bin", "notes.txt")
FOLDERS = sorted({path.parents[1].name for path in facts.folder("model_zoo").glob("certificates/*/text/*.json")})

# Reads a text side as adapters do, and prints the files of its folder that were opened.
READER = """
import sys
from pathlib import Path
folder, opened = Path(sys.argv[1]).resolve(), set()
def look(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = Path(args[0].decode() if isinstance(args[0], bytes) else args[0])
        if path.is_absolute() and path.parent == folder:
            opened.add(path.name)
sys.addaudithook(look)
from transformers import AutoConfig, AutoTokenizer
for kind in (AutoTokenizer, AutoConfig):
    try:
        found = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError):
        continue
print("\\n".join(sorted(opened)))
"""


def folder(place: Path) -> Path:
    return Path(shutil.copytree(TEXT_ENCODER, place / "text"))


@pytest.mark.parametrize("name", FILES)
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


@pytest.mark.parametrize("model", [FOLDERS[0], *(pytest.param(f, marks=pytest.mark.slow) for f in FOLDERS[1:])])
def test_no_file_is_opened_that_the_digest_leaves_out(model: str, tmp_path: Path) -> None:
    place = facts.folder("model_zoo") / "certificates" / model / "text"
    mine = Path(shutil.copytree(place, tmp_path / "text"))
    for name in (*FILES, *IDLE):
        if not (mine / name).exists():
            (mine / name).write_text("{}" if name.endswith(".json") and "config" in name else "")
    done = subprocess.run([sys.executable, "-c", READER, str(mine)], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    opened = {*done.stdout.split()}
    assert opened
    assert opened <= {*FILES}
