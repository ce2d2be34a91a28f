"""Which code decides a value: a digest over a module and over everything that it imports within its own package.

What cannot change an outcome is left out: comments, docstrings, annotations of types, white space, what errors say,
imports for type checkers alone, and the modules of `HARMLESS`. Libraries are not looked into; their versions stand in
records.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec, all_suffixes
from pathlib import Path
from types import ModuleType

from cxrbench.errors import SpecError
from cxrbench.store import digest

HARMLESS = {
    "cxrbench.models.hub": "finds files, which enter by their bytes",
    "cxrbench": "hands requests on; nothing in the package imports it for what it does",
    "cxrbench.specs.card": "types of facts, whose values enter by their own digests",
    "cxrbench.system.contained": "how far an error reaches, and how it is reported",
    "cxrbench.store.digest": "another way of naming content names everything anew by itself",
    "cxrbench.store.atomic": "how files are written, not what is in them",
    "cxrbench.runner.options": "what may be asked, which enters by what it leads to",
    "cxrbench.errors": "kinds of errors and their exit codes",
    "cxrbench.specs.paths": "where fact files lie; what is in them enters by their own digests",
    "cxrbench.system.printable": "what of a text is shown",
    "cxrbench.system.progress": "what is shown while waiting",
    "cxrbench.store.schema": "refuses malformed facts, and changes nothing in sound ones",
    "cxrbench.store.sealed": "refuses damaged files, and changes nothing in sound ones",
    "cxrbench.system.sources": "names code, and is none of it",
}


@cache
def code_digest(*modules: str, stop_at: frozenset[str] = frozenset()) -> str:
    """Hex SHA-256 over the code of the modules (dotted names) and of what they import here or in their own packages.

    `stop_at`: modules to stop at, since what they bring is named by a digest of its own. Raises SpecError for a module
    that is not there or does not parse.
    """
    names = {name for module in modules for name in closure(module, stop_at)}
    return digest.of_json(sorted([_placeless(name), _code_of(name)] for name in names))


_BESIDE = "cxrbench_beside_"


def beside(folder: Path, module: str) -> str:
    """The dotted name by which a module of a folder that is not on Python's path can be imported, with its siblings.

    The folder becomes a package of its own, named after its place, so that equal names in two folders stay apart and
    none hides a module of Python. Its code imports its siblings relatively (`from . import layers`).
    """
    name = f"{_BESIDE}{digest.of_bytes(str(folder.resolve()).encode('utf-8', 'surrogateescape'))[:16]}"
    if name not in sys.modules:
        package = ModuleType(name, str(folder))
        package.__spec__ = ModuleSpec(name, None, is_package=True)
        package.__spec__.submodule_search_locations = package.__path__ = [str(folder.resolve())]
        sys.modules[name] = package
    return f"{name}.{module}"


def _placeless(name: str) -> str:
    """A module's name, wherever the folder lies that it was found in by `beside`."""
    top, _, rest = name.partition(".")
    return f"{_BESIDE}.{rest}" if top.startswith(_BESIDE) else name


@cache
def closure(module: str, stop_at: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The module and all that it imports within its topmost package or within cxrbench, late imports included, sorted.

    Those of `HARMLESS` and those in `stop_at` are left out, with what only they import.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in HARMLESS and name not in stop_at:
            found.add(name)
            waiting += [*_imported(name), *_above(name)]
    return tuple(sorted(found))


def _above(name: str) -> list[str]:
    """The packages around a module, whose own code runs before it; folders without `__init__.py` have none."""
    parts = name.split(".")
    around = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return [package for package in around if _file(package) is not None]


def statement_digest(source: str | bytes) -> str:
    """Hex SHA-256 of what a source text does: equal for texts that differ in comments, docstrings or layout alone.

    What an error says is no part of it. Raises SyntaxError.
    """
    return digest.of_json(_plain(ast.parse(source)))


@cache
def _code_of(name: str) -> str:
    path = _file(name)
    if path is None:
        raise SpecError(f"there is no module {name!r}, so nothing can say which code it is")
    if path.suffix != ".py":
        return digest.of_file(path)  # compiled: every byte may matter
    return digest.of_json(_plain(_tree(path)))


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())  # bytes, so that a mark or a line about the encoding is followed
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: cannot be read as Python ({error})") from error


@cache
def _file(name: str) -> Path | None:
    """The file of a module, found without importing anything; None where there is none."""
    top, *inner = name.split(".")
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    if not inner:
        return Path(found.origin) if found.has_location and found.origin else None
    for place in found.submodule_search_locations or ():
        stem = Path(place, *inner)
        for path in (stem / "__init__.py", *(stem.with_name(stem.name + suffix) for suffix in all_suffixes())):
            if path.is_file():
                return path
    return None


@cache
def _imported(name: str) -> tuple[str, ...]:
    """Modules of the same topmost package, or of cxrbench, that a module imports."""
    path = _file(name)
    if path is None or path.suffix != ".py":
        return ()
    tops = {name.partition(".")[0], "cxrbench"}
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    targets = (target for node in _run(_tree(path)) for target in _targets(node, package))
    own = (target for target in targets if target.partition(".")[0] in tops)
    return tuple(target for target in own if _file(target) is not None)  # else a name within a module


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`, which no interpreter reaches."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _targets(node: ast.AST, package: str) -> list[str]:
    """Dotted names that an import statement may load; of `from a import b`, both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


_SILENT = {"annotation", "returns", "type_comment", "type_ignores", "type_params", "ctx", "kind"}


def _plain(node: object) -> object:
    """A syntax tree as lists: equal on every version of Python, without what changes no outcome."""
    if isinstance(node, list):
        return [_plain(inner) for inner in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return ["Raise", _plain(node.exc.func)]  # what kind of error, but not what it says
    if isinstance(node, ast.JoinedStr):  # some versions of Python have empty pieces between others
        node = ast.JoinedStr([piece for piece in node.values if not _is_empty(piece)])
    values = {name: _without_docstring(node, value) for name, value in ast.iter_fields(node) if name not in _SILENT}
    return [type(node).__name__, *([name, _plain(value)] for name, value in values.items() if value not in (None, []))]


def _is_empty(piece: ast.expr) -> bool:
    return isinstance(piece, ast.Constant) and piece.value == ""


def _without_docstring(node: ast.AST, value: object) -> object:
    """The value of a field of a node, less the docstring where it is the body of something that has one."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return value
    return node.body[1:] if value is node.body and ast.get_docstring(node, clean=False) is not None else value
