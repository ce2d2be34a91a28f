"""Both formats of torch.save, read without torch's reader, which checks no checksum and builds what a file asks for.

Only what is asked for is read: a training checkpoint's optimizer, often twice the size of the model, stays on disk.
"""

import io
import mmap
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch
from torch import Tensor

from cxrbench.models.container import (
    DTYPES,
    MOST_ELEMENTS,
    MOST_TENSORS,
    STORAGE,
    Built,
    Bytes,
    Foreign,
    Storage,
    StoredTensor,
)

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
_MOST_STEPS = 1_000_000  # opcodes and arguments; a checkpoint of a thousand tensors needs some fifty thousand
_MOST_SHOWN = 80  # characters of a name out of a file
_HOSTILE_BUILTINS = {"eval", "exec", "execfile", "compile", "__import__", "open"}


class HostileNameError(Exception):
    """A pickle names something that only a file made to run code would name."""


class _Opcodes(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise pickle.UnpicklingError(f"an opcode {code} that no torch file needs")


class _Counted(_Opcodes):
    """The same opcodes, of which only so many are taken: a few bytes can ask for years of work."""

    left = _MOST_STEPS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.spend(1)
        return super().__getitem__(code)

    def spend(self, steps: int) -> None:
        """Raise UnpicklingError where the file asks for more work than reading tensors ever is."""
        self.left -= steps
        if self.left < 0:
            raise pickle.UnpicklingError(f"a pickle of more than {_MOST_STEPS:,} steps; no checkpoint needs so many")


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
        self.foreign = ""  # the first name that is neither torch's own nor plain Python's
        self._tensors = 0
        self._counted = self.dispatch = _Counted(type(self).dispatch)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Foreign:
        """A name for GLOBAL and STACK_GLOBAL, where an ordinary unpickler would import."""
        builtin = module in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS
        if builtin or module.partition(".")[0] in _HOSTILE_MODULES:
            raise HostileNameError(f"{module}.{name}"[:_MOST_SHOWN])
        found = Foreign(f"{module}.{name}")
        if not self.foreign and not found.own:
            self.foreign = found.name[:_MOST_SHOWN]
        return found

    def persistent_load(self, pid: object) -> Storage | Foreign:
        """A storage, the name of a kind that is not read; raises UnpicklingError for no plain run of numbers."""
        self._counted.spend(len(pid) if isinstance(pid, tuple) else 1)
        match pid:
            case ("storage", Foreign(kind), str(key), _, int(count), *view) if kind in DTYPES and view in ([], [None]):
                storage = Storage(self.file, key, DTYPES[kind], count)
            case ("storage", Foreign(kind), *_) if kind not in DTYPES and STORAGE.fullmatch(kind):
                return Foreign(kind)
            case ("module", Foreign() as module, *_):  # a class of modules, beside its source text, which nobody reads
                return module
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
        self._counted.spend(len(arguments))
        self._counted.spend(sum(len(one) for one in arguments if isinstance(one, list | tuple)))
        build = _BUILT.get(what.name)
        self._tensors += build is _tensor
        if self._tensors > MOST_TENSORS:
            raise pickle.UnpicklingError(f"more than {MOST_TENSORS:,} tensors, which no network here has")
        self.append(_object(what) if build is None else build(*arguments))

    def _call_with_keywords(self) -> None:
        """NEWOBJ_EX: as `_call`, the keywords dropped."""
        self.stack.pop()
        self._call()

    def _take_state(self) -> None:
        """BUILD: of the state that an object would take, the tensors and modules of a pickled module are kept."""
        state = self.stack.pop()
        if self.stack and isinstance(self.stack[-1], Built):
            self.stack[-1].take(state)

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
        pickle.BUILD[0]: _take_state,
        pickle.SETITEM[0]: _put_one,
        pickle.SETITEMS[0]: _put_many,
        pickle.APPEND[0]: _add_one,
        pickle.APPENDS[0]: _add_many,
        pickle.ADDITEMS[0]: _add_many,
        pickle.EMPTY_SET[0]: _set,
        pickle.FROZENSET[0]: _frozen_set,
    }


def _object(what: Foreign) -> Foreign:
    """What a call of something foreign stands for."""
    return what if what.own else Built(what.name)


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


def _tensor(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _grad: object = None,
    _hooks: object = None,
    *more: object,
) -> StoredTensor | Foreign:
    match storage, offset, size, stride:
        case Storage(), int(), tuple(), tuple() if all(type(number) is int for number in (*size, *stride)):
            return StoredTensor(storage, offset, size, stride, _negative(more))
        case Foreign(), int(), tuple(), tuple() if storage.unread_tensor:
            return storage
    raise pickle.UnpicklingError("a tensor of something else than a storage and numbers")


def _negative(more: tuple[object, ...]) -> bool:
    """Whether the last argument of a tensor says that it is minus what its storage holds, as a lazy view may be."""
    told = {} if not more or more[0] is None else more[0]
    if len(more) > 1 or not isinstance(told, dict) or not set(told) <= {"neg", "conj"}:
        raise pickle.UnpicklingError("a tensor with properties that are not known here")
    if not all(type(value) is bool for value in told.values()) or told.get("conj", False):
        raise pickle.UnpicklingError("a tensor stored as its conjugate")
    return bool(told.get("neg", False))


def _parameter(data: object, *_: object) -> object:
    return data


_BUILT: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
_MOST = 1 << 18  # bytes; the names stand early, and going through opcodes is slow
_HARMLESS = ("torch.", "collections.OrderedDict", "_codecs.encode")


def start_of(path: Path) -> bytes:
    """The first 256 KB of a file."""
    with path.open("rb") as stream:
        return stream.read(_MOST)


def foreign_names(data: bytes) -> str:
    """The classes and functions beyond torch's own that a pickle names, found without running it."""
    names = dict.fromkeys(name for name in _globals(data) if not name.startswith(_HARMLESS))
    return ", ".join(list(names)[:5])


def _globals(data: bytes) -> Iterator[str]:
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        strings: list[str] = []
        try:
            for code, argument, _ in pickletools.genops(stream):
                if code.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(strings[-2:])
                elif isinstance(argument, str):
                    strings.append(argument)
        except (ValueError, UnicodeDecodeError, struct.error):
            return  # the rest is no pickle: storages of the legacy format, or damage


_VERSION = 1001  # of the format before torch 1.6, the only one there was
_MOST_PICKLED = 1 << 28  # bytes of names and plain values; tensors lie elsewhere
_MOST_DIRECTORY = 1 << 24  # bytes of an archive's directory, some hundred a member
_END, _FAR_END = b"PK\x05\x06", b"PK\x06\x06"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: plain values, `StoredTensor` in place of tensors, `Foreign` in place of all else.

    `foreign`: the first name beyond torch's own and plain Python's, "" where there is none.
    """

    value: object
    foreign: str


@contextmanager
def open_torch_file(path: Path) -> Iterator[Content]:
    """The content of a file, whose tensors can be read while it is open.

    Raises HostileNameError, BadZipFile (a damaged archive or member), and the errors of `inert.Reader`.
    """
    if not is_archive(path):
        yield _Serial(path).content()
        return
    require_small_directory(path)
    with zipfile.ZipFile(path) as archive:
        yield _Zipped(archive).content()


def is_archive(path: Path) -> bool:
    """Whether the file ends as a ZIP archive does, in a way that can be read."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end that speaks of several disks, say
        return False


def require_small_directory(path: Path) -> None:
    """Raise BadZipFile for an archive whose directory is larger than a checkpoint's ever is; a million members hang."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        tail = stream.read()
    at, far = tail.rfind(_END), tail.rfind(_FAR_END)
    size = struct.unpack_from("<I", tail, at + 12)[0] if 0 <= at <= len(tail) - 22 else 0
    if far >= 0 and size == 0xFFFFFFFF:
        size = struct.unpack_from("<Q", tail, far + 40)[0]
    if size > _MOST_DIRECTORY:
        raise zipfile.BadZipFile(f"its directory of members has {size:,} bytes, more than a checkpoint ever has")


class _Zipped:
    """The format since torch 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for every storage."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive, self.read, self.root = archive, dict[str, Tensor](), ""

    def content(self) -> Content:
        names = [name for name in self.archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise pickle.UnpicklingError(f"{len(names)} entries named data.pkl")
        self.root = names[0].removesuffix("data.pkl")
        order = f"{self.root}byteorder"
        if order in self.archive.NameToInfo and self.archive.read(order) != b"little":
            raise pickle.UnpicklingError("its numbers are not little-endian")
        if self.archive.getinfo(names[0]).file_size > _MOST_PICKLED:
            raise pickle.UnpicklingError("its pickle has more bytes than names and plain values ever need")
        reader = Reader(io.BytesIO(self.archive.read(names[0])), self)
        return Content(reader.load(), reader.foreign)

    def data(self, storage: Storage) -> Tensor:
        """All bytes (n,) of a storage; reading to a member's end holds it against its checksum."""
        info = self.archive.getinfo(f"{self.root}data/{storage.key}")
        found = torch.empty(info.file_size, dtype=torch.uint8)
        with self.archive.open(info) as stream:
            _fill(found, stream)
            if stream.read(1):
                raise zipfile.BadZipFile(f"{info.filename} is longer than its directory says")
        return found


class _Serial:
    """The format before: magic number, version, system and content, each pickled; then keys, pickled; then storages.

    It has no checksum: a changed number is noticed by the digest of the file alone.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.read = path, dict[str, Tensor]()
        self.places: dict[str, int] = {}

    def content(self) -> Content:
        # A map, not a stream: asked for more than there is, it gives what there is, and reserves no memory.
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            stream = _Pickled(mapped)
            _, version, system = (Reader(stream, self).load() for _ in range(3))  # type: ignore[arg-type]
            if version != _VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
                raise pickle.UnpicklingError("another version of the format, or numbers that are not little-endian")
            reader = Reader(stream, self)  # type: ignore[arg-type]
            found = reader.load()
            keys = Reader(stream, self).load()  # type: ignore[arg-type]
            if not isinstance(keys, list) or {*filter(_is_key, keys)} != {*reader.storages}:
                raise pickle.UnpicklingError("its list of storages is not that of its tensors")
            self._locate(mapped, [reader.storages[key] for key in keys])
        return Content(found, reader.foreign)

    def _locate(self, stream: mmap.mmap, storages: list[Storage]) -> None:
        place = stream.tell()
        for storage in storages:
            (count,) = struct.unpack("<q", stream[place : place + 8])
            if count != storage.count:
                raise pickle.UnpicklingError(f"storage {storage.key} has {count} elements instead of {storage.count}")
            self.places[storage.key] = place + 8
            place += 8 + count * storage.dtype.itemsize
        if place > len(stream):
            raise pickle.UnpicklingError("it ends within its storages")

    def data(self, storage: Storage) -> Tensor:
        """All bytes (n,) of a storage, of which the file has as many."""
        found = torch.empty(storage.count * storage.dtype.itemsize, dtype=torch.uint8)
        with self.path.open("rb") as stream:
            stream.seek(self.places[storage.key])
            _fill(found, stream)
        return found


class _Pickled:
    """The pickled part of a stream, which ends where it has given more bytes than names and plain values need."""

    def __init__(self, stream: mmap.mmap) -> None:
        self._stream, self._left = stream, _MOST_PICKLED

    def read(self, count: int) -> bytes:
        self._left -= min(count, len(self._stream))
        if self._left < 0:
            raise EOFError("its pickle has more bytes than names and plain values ever need")
        return self._stream.read(count)

    def readline(self) -> bytes:
        found = self._stream.readline()
        self._left -= len(found)
        return found


def _fill(found: Tensor, stream: IO[bytes]) -> None:
    """Read until the bytes (n,) are full; raises EOFError where there are fewer."""
    place, whole = 0, memoryview(found.numpy().data)
    while place < len(whole):
        came = stream.readinto(  # type: ignore[attr-defined]
            whole[place : place + (1 << 24)]
        )
        if not came:
            raise EOFError("it ends within its storages")
        place += came


def _is_key(key: object) -> bool:
    return isinstance(key, str)
