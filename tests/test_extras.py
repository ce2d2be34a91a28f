"""What is installed without any extra is enough for all but what the extras are for, and that says what to install."""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrbench.cli.main import app
from cxrbench.errors import MissingExtraError, SpecError
from cxrbench.system.extras import from_extra

CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    """The distributions of requirements, as the index spells them."""
    return {canonical(re.split(r"[\[<>=;]", one)[0].strip()) for one in requirements}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


Found = list[tuple[str, str | None]]
CORE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(found) for extra, found in PROJECT["optional-dependencies"].items()}
OF_NO_FILE = {"tensorboard": {"tensorboard"}, "wandb": {"wandb"}, "ray": {"ray"}, "gdcm": {"python-gdcm"}}


def imports(node: ast.AST, within: str | None = None) -> Iterator[tuple[str, str | None]]:
    """(topmost module, extra that is named around it) of every import but those for types alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.With) and (extra := named_extra(node)):
        within = extra
    if isinstance(node, ast.Import):
        yield from ((alias.name.split(".")[0], within) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        tensorboard = node.module == "torch.utils" and any(alias.name == "tensorboard" for alias in node.names)
        yield "tensorboard" if tensorboard else node.module.split(".")[0], within
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):  # where statements are
        children = getattr(node, field, [])
        for child in children if isinstance(children, list) else ():
            yield from imports(child, within)


def named_extra(node: ast.With) -> str | None:
    call = node.items[0].context_expr
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "from_extra":
        assert isinstance(call.args[0], ast.Constant)
        return str(call.args[0].value)
    return None


def undeclared(found_imports: Found, brings: Mapping[str, Sequence[str]]) -> list[str]:
    """Imports of a module that neither the core nor the extra named around them brings."""
    found = []
    for module, extra in found_imports:
        if module in sys.stdlib_module_names or module == "cxrbench":
            continue
        allowed = CORE if extra is None else CORE | EXTRAS[extra]
        owners = {canonical(name) for name in brings.get(module, ())} | OF_NO_FILE.get(module, set())
        if not owners & allowed:
            found.append(module if extra is None else f"{module} (within {extra})")
    return found


@pytest.fixture(scope="module")
def of_package() -> dict[str, Found]:
    """The imports of every file."""
    files = sorted((CHECKOUT / "cxrbench").rglob("*.py"))
    return {str(p.relative_to(CHECKOUT)): list(imports(ast.parse(p.read_text(encoding="utf-8")))) for p in files}


def test_every_import_is_of_the_core_or_within_the_extra_that_brings_it(of_package: dict[str, Found]) -> None:
    brings = packages_distributions()
    assert not {file: wrong for file, found in of_package.items() if (wrong := undeclared(found, brings))}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import matplotlib", ["matplotlib"]),
        ("def f():\n    from lightning_fabric import Fabric", ["lightning_fabric"]),
        ("with from_extra('audit', 'x'):\n    import matplotlib.figure", ["matplotlib (within audit)"]),
        ("from torch.utils import tensorboard", ["tensorboard"]),
        ("with from_extra('figures', 'x'):\n    import matplotlib, numpy", []),
    ],
)
def test_an_import_out_of_place_is_found(source: str, found: list[str]) -> None:
    brings = {"matplotlib": ["matplotlib"], "lightning_fabric": ["lightning-fabric"], "numpy": ["numpy"]}
    assert undeclared(list(imports(ast.parse(source))), brings) == found


def test_every_extra_for_the_program_is_named_by_it(of_package: dict[str, Found]) -> None:
    """`slurm` brings nothing, and `notebook`, `browser`, `docs` and `dev` serve what imports cxrbench."""
    assert {extra for found in of_package.values() for _, extra in found if extra} == {*EXTRAS} - {
        "slurm",
        "notebook",
        "browser",
        "docs",
        "dev",
    }


def test_what_is_installed_for_an_extra_imports() -> None:
    with from_extra("audit", "nothing"):
        assert importlib.import_module("imagehash").phash


def test_a_broken_library_of_an_extra_is_told_as_it_is() -> None:
    told = r"drawing: .*no such symbol.*pip install 'cxrbench\[figures\]'"
    with pytest.raises(MissingExtraError, match=told), from_extra("figures", "drawing"):
        raise ImportError("no such symbol")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a library one that is not installed, and modules of ours forget that they had it."""

    def block(library: str, *ours: str) -> None:
        for name in [*sys.modules]:
            if name == library or name.startswith(f"{library}."):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)
        for name in ours:
            monkeypatch.delitem(sys.modules, name, raising=False)

    return block


@pytest.mark.parametrize(
    ("library", "extra", "words"),
    [
        ("matplotlib", "figures", ["figure", "3"]),
        ("matplotlib", "figures", ["compare", "a", "b", "--figure", "a.svg"]),
        ("matplotlib", "figures", ["calibration", "--figure", "a.pdf"]),
        (
            "lightning_fabric",
            "pretrain",
            ["pretrain", "run", "--corpus", "chexpert", "--data-root", "/", "--out", "run"],
        ),
        ("lightning_fabric", "pretrain", ["demo", "--out", "demo"]),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_command_says_what_to_install(
    library: str,
    extra: str,
    words: list[str],
    without: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    without(library, "cxrbench.pretrain.engine", "cxrbench.pretrain.job", "cxrbench.cli.demonstration")
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, MissingExtraError), done.output
    assert f"{library} is not installed; `pip install 'cxrbench[{extra}]'`" in str(done.exception)
    assert done.exception.exit_code == SpecError.exit_code
    assert [*tmp_path.iterdir()] == []


def test_copies_are_not_looked_for_without_imagehash(without: Callable[..., None]) -> None:
    from cxrbench.checks.overlap import prints

    without("imagehash")
    with pytest.raises(MissingExtraError, match=r"cxrbench\[audit\]"):
        prints({})
