"""The code that decides a vector or a number is in its key: every module that really runs, whatever imports it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.runner.identity import ENTERING_BY_CONTENT as IDENTITY_BY_CONTENT
from cxrbench.runner.model import ENTERING_BY_CONTENT, PIXEL_CODE, STORED
from cxrbench.specs import catalog
from cxrbench.system.sources import HARMLESS, closure, code_digest, statement_digest

PACKAGE = Path(__file__).resolve().parents[2] / "cxrbench"

# What of images and adapters is in no vector's code, with how it enters instead.
BESIDE = {
    "cxrbench.data.sources.base": "sex, age and view enter a record by their values",
    "cxrbench.images.decoder_check": "chooses between two readers that give the same values",
    "cxrbench.data.manifest": "compares files with a manifest, and makes nothing",
    "cxrbench.store.folded_names": "names files in messages, and makes nothing",
    "cxrbench.data.splits": "draws rows, which enter by their ids",
    "cxrbench.images.radiograph": "reads bytes, which enter by their digest",
    "cxrbench.data.listing": "finds files, which enter by their bytes",
    "cxrbench.data.phantom_mark": "tells synthetic data sets, which a record says",
    "cxrbench.data.search": "finds files, which enter by their bytes",
    "cxrbench.data.tables": "reads label tables, which enter by ids and labels",
    "cxrbench.data.any_table": "likewise",
    "cxrbench.data.reports": "finds the sections of reports, whose texts enter by the split's digest",
    "cxrbench.data.own_labels": "reads label tables, which enter by ids and labels",
    "cxrbench.data.uncertain": "likewise",
    "cxrbench.data.chexpert_labels": "likewise",
    "cxrbench.data.own_split": "draws rows, which enter by their ids",
    "cxrbench.data.joining": "finds files, which enter by their bytes",
    "cxrbench.data.guesses": "guesses what a new task file says, and makes nothing",
    "cxrbench.data.proposal": "likewise",
    "cxrbench.models.certificate": "what a model was proven to give, and makes nothing",
    "cxrbench.models.glance": "lists models, and makes nothing",
    "cxrbench.models.made": "tells synthetic weights, which a record says",
}
# Tables enter by their rows, weights by their tensors.
BESIDE_BELOW = ("cxrbench.data.sources", "cxrbench.models.weights")


def modules(folder: str) -> list[str]:
    return [
        "cxrbench." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        if path.name != "__init__.py"
    ]


def adapters() -> set[str]:
    """Those of the known cards, and those that no card of the zoo names."""
    own = {catalog.load_card(name).adapter.partition(":")[0] for name in catalog.card_files()}
    return {*own, "cxrbench.models.in_memory", "cxrbench.models.vectors"}


@pytest.mark.parametrize("module", [*modules("data"), *modules("images"), *modules("models")])
def test_every_source_of_images_and_adapters_is_in_a_key_or_listed_with_a_reason(module: str) -> None:
    keyed = {name for code in PIXEL_CODE for name in closure(code, STORED)}
    for adapter in adapters():
        keyed |= {*closure(adapter, ENTERING_BY_CONTENT)}
    beside = module in {*BESIDE, *HARMLESS, *ENTERING_BY_CONTENT} or module.startswith(BESIDE_BELOW)
    reads_weights = module in closure("cxrbench.models.checkpoint")  # tensors enter by their digests
    assert (module in keyed) != beside or (reads_weights and not beside)


# Imports each module in a fork of its own, of a process that has of the package nothing and of the libraries the slow.
IMPORTER = """
import importlib, json, os, sys
import torch, torchvision, transformers
assert not [name for name in sys.modules if name.startswith("cxrbench")]
for module in sys.argv[1:]:
    if not os.fork():
        importlib.import_module(module)
        print(json.dumps([module, [name for name in sys.modules if name.startswith("cxrbench")]]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, module
"""


def test_no_module_runs_that_the_imports_do_not_show() -> None:
    """What an import really loads, parents and late imports included, is in the closure or left out by name."""
    asked = ["cxrbench.images.pixels", *sorted(adapters())]
    program = [sys.executable, "-c", IMPORTER, *asked]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120)
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert [*found] == asked
    harmless = {*HARMLESS, *(name.rpartition(".")[0] for name in HARMLESS), *ENTERING_BY_CONTENT}
    harmless |= {*closure("cxrbench.models.checkpoint")}
    harmless.add("cxrbench.specs.recipe")  # imported by the types of cards; a recipe enters by its own digest
    harmless.add("cxrbench.specs.known_answers")  # likewise; they enter nothing
    for module, loaded in found.items():
        assert module in loaded
        assert {*loaded} <= {*closure(module, ENTERING_BY_CONTENT)} | harmless, module


@pytest.mark.parametrize("room", sorted({name.rpartition(".")[0] for name in HARMLESS} - {"", "cxrbench"}))
def test_the_rooms_of_harmless_modules_hold_nothing_but_them(room: str) -> None:
    text = (PACKAGE / room.removeprefix("cxrbench.").replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
    assert len(ast.parse(text).body) == 1 and ast.get_docstring(ast.parse(text))


def test_code_that_only_reads_records_decides_no_records_id() -> None:
    """Else another interval would have every cell measured again."""
    within = closure("cxrbench.runner.measure", IDENTITY_BY_CONTENT)
    assert "cxrbench.records.scores" in within and "cxrbench.evaluate.metrics" in within
    assert not {
        name
        for name in within
        if "statistics" in name or name.startswith(("cxrbench.records.pred", "cxrbench.analysis"))
    }


def package(root: Path) -> Path:
    """A small package of a user's own, with late, relative and name-only imports."""
    files = {
        "heron/__init__.py": "SCALE = 2\n",
        "heron/adapter.py": "from . import net\nfrom heron.words import count\n\n\ndef f(x):\n    return net.g(x)\n",
        "heron/net.py": "def g(x):\n    from .deep.layers import h\n    return h(x)\n",
        "heron/deep/__init__.py": "",
        "heron/deep/layers.py": "import heron.deep.more\n\n\ndef h(x):\n    return x + 1\n",
        "heron/deep/more.py": "A = 1\n",
        "heron/words.py": "def count():\n    return 3\n",
        "heron/unused.py": "B = 1\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def digest_of(root: Path) -> str:
    program = "from cxrbench.system.sources import code_digest; print(code_digest('heron.adapter'))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert not done.returncode, done.stderr
    return done.stdout


def test_every_file_that_an_adapter_of_another_package_uses_decides_and_no_other(tmp_path: Path) -> None:
    root = package(tmp_path / "plain")
    before = digest_of(root)
    used = [path for path in sorted(root.rglob("*.py")) if path.name != "unused.py"]
    for path in used:
        text = path.read_text()
        path.write_text(text + "\nMORE = 1\n")
        assert digest_of(root) != before, path
        path.write_text('"""A docstring."""\n# a remark\n' + text + "\n# another\n")
        assert digest_of(root) == before, path
        path.write_text(text)
    (root / "heron" / "unused.py").write_text("B = 2\n")
    assert digest_of(root) == before


def test_an_adapter_of_another_package_is_named_with_what_it_inherits_here(tmp_path: Path) -> None:
    root = package(tmp_path)
    (root / "heron" / "net.py").write_text("from cxrbench.models.checkpoint_model import CheckpointModel\n")
    program = "from cxrbench.system.sources import closure; print(*closure('heron.adapter'))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(PACKAGE.parent)])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert {"heron.net", "cxrbench.models.checkpoint_model", "cxrbench.models.base"} <= {*done.stdout.split()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("heron/__init__.py", None),  # a namespace package
        ("heron/deep/__init__.py", None),
        ("heron/net.py", b"\xef\xbb\xbfA = 1\n"),
        ("heron/net.py", b"# -*- coding: latin-1 -*-\nA = '\xe9'\n"),
    ],
)
def test_ordinary_packages_are_named_whatever_their_layout(name: str, content: bytes | None, tmp_path: Path) -> None:
    root = package(tmp_path)
    (root / name).unlink()
    if content is not None:
        (root / name).write_bytes(content)
    before = digest_of(root)
    (root / "heron" / "words.py").write_text("def count():\n    return 4\n")
    assert digest_of(root) != before


def test_a_module_that_does_not_parse_is_refused_by_name(tmp_path: Path) -> None:
    root = package(tmp_path)
    (root / "heron" / "deep" / "layers.py").write_text("def f(:\n")
    program = "from cxrbench.system.sources import code_digest; code_digest('heron.adapter')"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(PACKAGE.parent)])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert "SpecError" in done.stderr and "layers.py: cannot be read as Python" in done.stderr


def test_what_an_error_says_is_no_code_and_its_kind_is() -> None:
    plain = statement_digest("def f(x):\n    raise ValueError(f'{x} is wrong')\n")
    assert statement_digest("def f(x):\n    raise ValueError(f'{x:g} is no good', 1)\n") == plain
    assert statement_digest("def f(x):\n    raise TypeError(f'{x} is wrong')\n") != plain


def test_nothing_of_the_package_is_run_to_name_its_code(tmp_path: Path) -> None:
    root = package(tmp_path)
    for path in root.rglob("*.py"):
        path.write_text(f"{path.read_text()}\nraise SystemExit('it was run')\n")
    digest_of(root)


PIECES = st.sampled_from(
    ["x = 1", "y = [1, 2]", "def f(a, b=2):\n    return a * b", "class C:\n    z = 'text'", "f'{1}x'"]
)


@given(st.lists(PIECES, min_size=1, max_size=4), st.data())
def test_layout_remarks_and_annotations_are_no_code_and_everything_else_is(
    pieces: list[str], data: st.DataObject
) -> None:
    plain = "\n".join(pieces)
    dressed = '"""What it is."""\n\n# a remark\n' + "\n\n\n".join(f"{piece}  # why" for piece in pieces)
    dressed = dressed.replace("def f(a, b=2):", 'def f(a: int, b: int = 2) -> int:  # why\n    """A docstring."""')
    assert statement_digest(plain) == statement_digest(dressed)
    place = data.draw(st.integers(0, len(pieces) - 1))
    other = [
        piece.replace("1", "3").replace("2", "4").replace("text", "word") if i == place else piece
        for i, piece in enumerate(pieces)
    ]
    assert statement_digest("\n".join(other)) != statement_digest(plain)


def test_a_changed_canvas_makes_other_keys_and_no_network_or_reader_of_weights_does(tmp_path: Path) -> None:
    """On a copy of the package: each file changed in what it does, then in a remark alone."""
    shutil.copytree(PACKAGE, tmp_path / "cxrbench", ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        f"from cxrbench.system.sources import code_digest\nstop_at = frozenset({sorted(ENTERING_BY_CONTENT)})\n"
        "print(code_digest('cxrbench.images.pixels'), code_digest('cxrbench.models.gloria', stop_at=stop_at))"
    )

    def digests() -> list[str]:
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120
        )
        assert not done.returncode, done.stderr
        return done.stdout.split()

    before = digests()
    for name, moved in (
        ("images/pixels.py", [True, False]),
        ("models/gloria.py", [False, True]),
        ("models/torch_file.py", [False, False]),
        ("errors.py", [False, False]),
    ):
        path = tmp_path / "cxrbench" / name
        text = path.read_text()
        path.write_text(text + "\nMORE = 1\n")
        assert [a != b for a, b in zip(before, digests(), strict=True)] == moved, name
        path.write_text(text + "\n# a remark\n")
        assert digests() == before, name
        path.write_text(text)


def test_modules_that_are_there_already_or_never_met_change_no_digest() -> None:
    assert code_digest("cxrbench.images.pixels") == code_digest(
        "cxrbench.images.pixels", stop_at=frozenset({"cxrbench.cli"})
    )
