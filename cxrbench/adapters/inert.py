"""Pickles read as data: every name in them stays a name, nothing is imported, nothing that a file says is called.

The opcodes that make plain values are CPython's own; those that look up, build or fill objects are replaced here, and
all others are unknown. What a file would build of a foreign class becomes a `Foreign`: a name that swallows all else.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from cxrbench.adapters.stored import DTYPES, MOST_ELEMENTS, Bytes, Storage, StoredTensor

_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES
    BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET
    LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID
"""
# Refused although they would stay names: only a file made to run code has them.
_HOSTILE_MODULES = {
    "os",
    "posix",
    "nt",
    "subprocess",
    "commands",
    "sys",
    "importlib",
    "runpy",
    "shutil",
    "socket",
    "ctypes",
    "pty",
}
_HOSTILE_BUILTINS = {"eval", "exec", "execfile", "compile", "__import__", "open"}


class HostileNameError(Exception):
    """A pickle names something that only a file made to run code would name."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a file calls `name` (module.attribute), or would build of it. Never more than the name."""

    name: str


class _Opcodes(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise pickle.UnpicklingError(f"an opcode {code} that no torch file needs")


class Reader(pickle._Unpickler):
    """One pickle of a stream to plain values, `StoredTensor` and `Foreign`; `storages` are those seen, by key.

    Ordered and default dictionaries become plain ones. `load` raises HostileNameError, UnpicklingError and what damaged
    bytes lead to: IndexError, TypeError, ValueError, EOFError, struct.error, AttributeError.
    """

    dispatch = _Opcodes(
        (getattr(pickle, name)[0], pickle._Unpickler.dispatch[getattr(pickle, name)[0]]) for name in _PLAIN.split()
    )

    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: BinaryIO, file: Bytes) -> None:
        super().__init__(stream, encoding="utf-8")
        self.file = file
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Foreign:
        """A name for GLOBAL and STACK_GLOBAL, where an ordinary unpickler would import."""
        builtin = module in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS
        if builtin or module.partition(".")[0] in _HOSTILE_MODULES:
            raise HostileNameError(f"{module}.{name}")
        return Foreign(f"{module}.{name}")

    def persistent_load(self, pid: object) -> Storage:
        """A storage; raises UnpicklingError for one that is no plain run of numbers."""
        match pid:
            case ("storage", Foreign(kind), str(key), _, int(count), *view) if kind in DTYPES and view in ([], [None]):
                storage = Storage(self.file, key, DTYPES[kind], count)
            case _:
                raise pickle.UnpicklingError("a storage of an unknown kind")
        if not 0 <= count < MOST_ELEMENTS or self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {key} is said to have {count} elements")
        return storage

    def _call(self) -> None:
        """REDUCE and NEWOBJ: a name and its arguments, to what they stand for."""
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, Foreign) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError(f"a {type(what).__name__} is called")
        self.append(_BUILT[what.name](*arguments) if what.name in _BUILT else what)

    def _call_with_keywords(self) -> None:
        """NEWOBJ_EX: as `_call`, the keywords dropped."""
        self.stack.pop()
        self._call()

    def _drop_state(self) -> None:
        """BUILD: the state that a class would take; none here does."""
        self.stack.pop()

    def _put_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [key, value])

    def _put_many(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], items)

    def _add_one(self) -> None:
        value = self.stack.pop()
        _add(self.stack[-1], [value])

    def _add_many(self) -> None:
        items = self.pop_mark()
        _add(self.stack[-1], items)

    def _set(self) -> None:
        self.append(Foreign("builtins.set"))

    def _frozen_set(self) -> None:
        self.pop_mark()
        self.append(Foreign("builtins.frozenset"))

    dispatch |= {
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.NEWOBJ_EX[0]: _call_with_keywords,
        pickle.BUILD[0]: _drop_state,
        pickle.SETITEM[0]: _put_one,
        pickle.SETITEMS[0]: _put_many,
        pickle.APPEND[0]: _add_one,
        pickle.APPENDS[0]: _add_many,
        pickle.ADDITEMS[0]: _add_many,
        pickle.EMPTY_SET[0]: _set,
        pickle.FROZENSET[0]: _frozen_set,
    }


def _put(target: object, items: list[Any]) -> None:
    """Keys and values in turn; a key that is neither plain nor a name goes, with its value: no tensor has one."""
    if type(target) is dict:
        pairs = zip(items[::2], items[1::2], strict=True)
        target.update((k, v) for k, v in pairs if isinstance(k, str | bytes | int | float | None | Foreign))
    elif not isinstance(target, Foreign):
        raise pickle.UnpicklingError(f"items are put into a {type(target).__name__}")


def _add(target: object, values: list[Any]) -> None:
    if type(target) is list:
        target.extend(values)
    elif not isinstance(target, Foreign):
        raise pickle.UnpicklingError(f"values are added to a {type(target).__name__}")


def _ordered(pairs: object = ()) -> dict[Any, Any]:
    """OrderedDict, with its pairs where an old pickle gives them at once."""
    made: dict[Any, Any] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise pickle.UnpicklingError("a dictionary of something else than pairs")
        _put(made, list(pair))
    return made


def _default(*_: object) -> dict[Any, Any]:
    """A defaultdict: its factory is no more than a name, its items follow."""
    return {}


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> StoredTensor:
    match storage, offset, size, stride:
        case Storage(), int(), tuple(), tuple() if all(type(number) is int for number in (*size, *stride)):
            return StoredTensor(storage, offset, size, stride)
    raise pickle.UnpicklingError("a tensor of something else than a storage and numbers")


def _parameter(data: object, *_: object) -> object:
    return data


_BUILT: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
