"""Which network and which functions an object in memory is: a digest of its values, and one of its code.

Python objects are looked into as they are, from networks and functions on to everything that they hold or name: the
bytes of tensors, plain values, attributes, what a closure captured, and globals that a function reads. Code enters by
the bytecode that will run, which needs no source text and knows nothing of an edited file; another version of Python is
therefore another digest. An installed library enters by name and version, cxrbench by its code. What cannot be looked
into is refused by name, as is code that changes a global or imports a module of the user's own as it runs. Names that
are made as the code runs (`getattr` with a computed name, `eval`) are not followed.
"""

import copyreg
import dis
import enum
import functools
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrbench.errors import SpecError
from cxrbench.models.converted import tensor_digests
from cxrbench.store import digest
from cxrbench.system.sources import code_digest

_SIMPLE = frozenset({type(None), bool, int, float, str})  # most of a vocabulary
_READ = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_PLAIN = (type(None), bool, int, float, complex, str, type(Ellipsis), torch.dtype, torch.device, torch.layout)
# Of a network beside its tensors and parts; its hooks enter, without the numbers that torch gave them.
_NO_STATE = {"training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_NO_CODE = {
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__slots__", "_abc_impl",
    "__abstractmethods__", "__firstlineno__", "__static_attributes__", "__dataclass_fields__", "__dataclass_params__",
    "__orig_bases__", "__parameters__", "__annotate__", "__annotate_func__",
}  # fmt: skip


class Visible:
    """What is seen of named objects; raises SpecError for what cannot be.

    `state`: hex SHA-256 of tensors (names, dtypes, shapes, bytes) and of all other values; `code`: of the code;
    `tensors`: all that were met; `networks`: every network, each part of one too.
    """

    def __init__(self, roots: Mapping[str, object]) -> None:
        self.networks: list[nn.Module] = []
        self.tensors: list[Tensor] = []
        self._codes: list[object] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []  # so that no id is given twice
        self._within: set[object] = set()  # containers and modules that are being looked into
        try:
            found = [[name, self._seen(value, name)] for name, value in roots.items()]
        except RecursionError as error:
            raise SpecError(f"{next(iter(roots))}: its objects are nested too deeply to be looked into") from error
        self.state = digest.of_json(found)
        self.code = digest.of_json(self._codes)

    def _seen(self, value: Any, place: str) -> object:
        if type(value) in _SIMPLE:
            return f"{type(value).__name__} {value!r}"
        told = _plain(value)
        told = self._composed(value, place) if told is None else told
        return self._once(value, place) if told is None else told

    def _composed(self, value: Any, place: str) -> object:
        """What is told again wherever it is met; None for everything else."""
        if isinstance(value, Tensor):
            return self._tensor(value, place)
        if type(value) in (list, tuple, dict, set, frozenset, torch.Size):
            return self._container(value, place)
        if isinstance(value, BuiltinFunctionType):
            return ["method", self._seen(value.__self__, place), value.__name__]
        if isinstance(value, MethodType):
            return ["method", self._seen(value.__self__, place), self._seen(value.__func__, place)]
        return ["member", self._seen(type(value), place), value.name] if isinstance(value, enum.Enum) else None

    def _once(self, value: Any, place: str) -> object:
        """What is told where it is met first, and is known by a number afterwards."""
        if (number := self._numbers.get(id(value))) is not None:
            return ["again", number]
        self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        if isinstance(value, nn.Module):
            return self._network(value, place)
        if isinstance(value, FunctionType):
            return self._function(value, place)
        return self._class(value, place) if isinstance(value, type) else self._object(value, place)

    def _tensor(self, value: Tensor, place: str) -> object:
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise SpecError(f"{place}: is a sparse, quantised or meta tensor, whose values cannot be digested")
        self.tensors.append(value)
        return ["tensor", *tensor_digests({"": value.detach().cpu().resolve_conj().resolve_neg()}).values()]

    def _container(self, value: Any, place: str) -> object:
        if id(value) in self._within:
            return ["around"]
        self._within.add(id(value))
        try:
            if isinstance(value, dict):
                items = value.items()
                inner: list[Any] = [[self._seen(k, place), self._inner(v, place, k)] for k, v in items]
            else:
                inner = [self._inner(one, place, n) for n, one in enumerate(value)]
        finally:
            self._within.discard(id(value))
        ordered = sorted(inner, key=digest.of_json) if isinstance(value, set | frozenset) else inner
        return [type(value).__name__, ordered]

    def _inner(self, value: Any, place: str, at: object) -> object:
        return self._seen(value, place if type(value) in _SIMPLE else f"{place}[{at!r}]")

    def _network(self, value: nn.Module, place: str) -> object:
        if hasattr(value, "_orig_mod") or isinstance(value, torch.jit.ScriptModule):
            raise SpecError(f"{place}: is compiled, and its code cannot be seen; give the network that it was made of")
        self.networks.append(value)
        own = {name: one for name, one in vars(value).items() if name not in _NO_STATE and not _of_torch(name)}
        hooks = {name: list(vars(value)[name].values()) for name in _HOOKS}
        tensors = {**value._parameters, **value._buffers}
        told = {"class": type(value), **own, **{name: found for name, found in hooks.items() if found}}
        parts = {**tensors, **value._modules}
        return ["network", *([name, self._seen(one, f"{place}.{name}")] for name, one in {**told, **parts}.items())]

    def _function(self, value: FunctionType, place: str) -> object:
        place = f"{place}: {value.__qualname__}"
        captured = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        values: dict[str, object] = {name: _held(cell) for name, cell in captured}
        known = _library(value.__globals__.get("__name__"))
        self._codes.append([value.__qualname__, known or _bytecode(value.__code__, value.__doc__)])
        if known is None:
            values |= {"defaults": value.__defaults__, "keywords": value.__kwdefaults__, "own": dict(vars(value))}
            values |= _globals(value, place)
        found = [[name, self._named(one, value.__code__, f"{place}: {name}")] for name, one in values.items()]
        return ["function", *found]

    def _named(self, value: object, code: CodeType, place: str) -> object:
        """A value that code reads; of a module of the user's own, what the code takes out of it by name."""
        if not isinstance(value, ModuleType) or _library(value.__name__) is not None:
            return self._seen(value, place)
        if (value.__name__, code) in self._within:
            return ["around", value.__name__]
        self._within.add((value.__name__, code))
        taken = {name: getattr(value, name) for name in sorted(_names(code)) if hasattr(value, name)}
        return [value.__name__, *([name, self._named(one, code, f"{place}.{name}")] for name, one in taken.items())]

    def _class(self, value: type, place: str) -> object:
        found: list[object] = []
        for kind in value.__mro__:
            known = _library(kind.__module__)
            self._codes.append([kind.__qualname__, known])
            own = {name: one for name, one in vars(kind).items() if name not in _NO_CODE}
            if known is not None:  # but for methods that were put in place of a library's
                own = {name: one for name, one in own.items() if isinstance(one, FunctionType) and _is_own(one)}
            if own:
                found += [[name, self._attribute(one, f"{kind.__qualname__}.{name}")] for name, one in own.items()]
        return ["class", *found]

    def _attribute(self, value: object, place: str) -> object:
        if isinstance(value, GetSetDescriptorType | MemberDescriptorType):
            return ["slot"]
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self._seen(value.__func__, place)]
        if isinstance(value, property):
            return ["property", *(self._seen(one, place) for one in (value.fget, value.fset, value.fdel))]
        if isinstance(value, functools.cached_property):
            return ["cached", self._seen(value.func, place)]
        return self._seen(value, place)

    def _object(self, value: Any, place: str) -> object:
        """Any other object, as pickling it would see it: its class and its state."""
        if (wrapped := getattr(value, "__wrapped__", None)) is not None:
            return ["around", type(value).__qualname__, self._seen(wrapped, place)]
        try:
            known = copyreg.dispatch_table.get(type(value))
            told = value.__reduce_ex__(4) if known is None else known(value)
        except Exception as error:
            raise _unseen(place, value, str(error)[:120]) from error
        if isinstance(told, str):
            if _library(getattr(value, "__module__", None) or type(value).__module__) is None:
                raise _unseen(place, value, f"pickle knows it by its name {told} alone")
            return ["named", type(value).__qualname__, told]
        make, arguments, *rest = told
        items = [list(one) if isinstance(one, Iterator) else one for one in rest]
        self._kept.append((arguments, items))
        return ["object", self._seen(make, place), self._seen(tuple(arguments), place), self._seen(items, place)]


def _plain(value: Any) -> object:
    """What holds no other object; None for what does."""
    if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
        return [type(value).__name__, repr(value)]
    if isinstance(value, bytes | bytearray):
        return [type(value).__name__, digest.of_bytes(bytes(value))]
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        content = digest.of_bytes(np.ascontiguousarray(value).tobytes())
        return ["array", str(value.dtype), list(value.shape), content]
    if isinstance(value, ModuleType):
        return ["module", _library(value.__name__) or value.__name__]
    if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType | type | None):
        return ["built-in", value.__module__, value.__qualname__]
    return None


def _unseen(place: str, value: object, why: str) -> SpecError:
    return SpecError(
        f"{place}: is a {type(value).__module__}.{type(value).__qualname__}, whose state cannot be seen ({why}), so "
        "nothing could tell two such models apart. Let the network and its functions hold tensors, networks, functions "
        "and plain values alone"
    )


def _of_torch(name: str) -> bool:
    return name.startswith("_") and "hook" in name


def _is_own(function: FunctionType) -> bool:
    return _library(function.__globals__.get("__name__")) is None


def _held(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _codes_within(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes_within(one)


def _names(code: CodeType) -> set[str]:
    return {name for one in _codes_within(code) for name in one.co_names}


def _bytecode(code: CodeType, documented: str | None = None) -> object:
    """What a code object does; names of files, lines, local variables and its docstring do not enter."""
    consts = list(code.co_consts)
    if documented is not None and consts[:1] == [documented]:
        consts[0] = None
    shape = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals, code.co_flags]
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    table = getattr(code, "co_exceptiontable", b"")
    bodies = [code.co_code.hex(), table.hex()]
    return [bodies, shape, list(arguments), list(code.co_names), list(map(_constant, consts)), len(code.co_freevars)]


def _constant(value: object) -> object:
    if isinstance(value, CodeType):
        return _bytecode(value)
    if isinstance(value, tuple | frozenset):
        inner = [_constant(one) for one in value]
        return [type(value).__name__, inner if isinstance(value, tuple) else sorted(inner, key=digest.of_json)]
    return [type(value).__name__, repr(value)]


def _globals(function: FunctionType, place: str) -> dict[str, object]:
    """The globals that a function reads; raises SpecError where it changes one, or imports the user's own."""
    found = dict[str, object]()
    for code in _codes_within(function.__code__):
        for step in dis.get_instructions(code):
            if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                raise SpecError(
                    f"{place}: changes the global {step.argval}, so its vectors may depend on what ran before"
                )
            if step.opname == "IMPORT_NAME" and _library(step.argval) is None:
                raise SpecError(
                    f"{place}: imports {step.argval or 'a module beside it'} as it runs; import it at the top"
                )
            if step.opname in _READ and step.argval in function.__globals__:
                found[step.argval] = function.__globals__[step.argval]
    return dict(sorted(found.items()))


@cache
def _library(module: str | None) -> str | None:
    """Which code a module of a library is, in words; None for one of the user's own."""
    top = (module or "builtins").partition(".")[0]
    if top == "__main__":  # a notebook, a prompt or a script, whatever file started it
        return None
    if top == "cxrbench":
        return f"cxrbench {code_digest(module or top)}"
    loaded = sys.modules.get(top)
    if loaded is None and module and top not in sys.stdlib_module_names:
        return None
    place = getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), None)
    if place is None:
        return top if top in sys.stdlib_module_names or top == "builtins" else None
    if {"site-packages", "dist-packages"} & {*Path(place).parts}:
        return f"{top} {getattr(loaded, '__version__', None) or _version(top)}"
    standard = Path(place).resolve().is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())
    return top if standard and top in sys.stdlib_module_names else None


def _version(top: str) -> str:
    found = metadata.packages_distributions().get(top, ())
    return " ".join(f"{name} {metadata.version(name)}" for name in found) or digest.of_bytes(top.encode())
