"""What lies under the keys that a card names: tensors by their names, and what else the file holds on the way."""

import json
import math
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.system.printable import one_line

DTYPES = {
    f"torch.{kind}Storage": dtype
    for kind, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_MOST_DIMENSIONS = 64
MOST_TENSORS = 100_000  # of one file
MOST_ELEMENTS = 1 << 48  # of a storage; more than any file has, and few enough to reckon with


class Bytes(Protocol):
    """Where the bytes of storages come from; `read` keeps those already read, by key."""

    read: dict[str, Tensor]

    def data(self, storage: "Storage") -> Tensor:
        """All bytes (n,) uint8 of one storage, as many as the file has; raises BadZipFile for damaged ones."""
        ...


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements, by the key that the file gives it."""

    file: Bytes
    key: str
    dtype: torch.dtype
    count: int

    def flat(self) -> Tensor:
        """The elements (count,); raises UnpicklingError if the file has more or fewer."""
        if self.key not in self.file.read:
            self.file.read[self.key] = self.file.data(self)
        data = self.file.read[self.key]
        if len(data) != self.count * self.dtype.itemsize:
            raise pickle.UnpicklingError(f"storage {self.key} has {len(data)} bytes instead of {self.count} elements")
        return data.view(self.dtype)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor; offset, size and stride in elements. `negative`: it is minus what its storage holds."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    negative: bool = False

    @property
    def bytes(self) -> int:
        """How many bytes it has of its own, were it copied; raises UnpicklingError if it leaves its storage."""
        self._require_inside()
        return math.prod(self.size) * self.storage.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor, sharing memory with others of its storage; raises UnpicklingError if it leaves its storage."""
        self._require_inside()
        found = self.storage.flat().as_strided(self.size, self.stride, self.offset)
        return -found if self.negative else found

    def _require_inside(self) -> None:
        count = self.storage.count
        sane = len(self.size) == len(self.stride) <= _MOST_DIMENSIONS
        if not sane or not all(0 <= number < MOST_ELEMENTS for number in (self.offset, *self.size, *self.stride)):
            raise pickle.UnpicklingError(f"a tensor of impossible size in a storage of {count} elements")
        elements = math.prod(self.size)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if elements > count or (elements and last >= count):
            raise pickle.UnpicklingError(
                f"a tensor of size {self.size} in a storage of {count} elements: expanded without copies, or damaged"
            )


# All that torch.save itself names in a file of tensors and plain values.
_OWN = re.compile(
    r"torch\.(\w+Storage|Size|device|Tensor|bool|strided|per_\w+|b?float\d\w*|u?int\d+|complex\d+)|torch\._utils\._rebuild_\w+"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.\w*(Parameter|Buffer)|torch\.storage\.\w+"
    r"|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter)|_codecs\.encode"
    r"|(builtins|__builtin__)\.(set|frozenset|bytearray|complex)"
)
STORAGE = re.compile(r"torch\.\w*Storage")  # of numbers that are not read: complex, quantised, 8-bit floats
_UNREAD = re.compile(r"torch\.(\w*Storage|_utils\._rebuild_\w+|_tensor\._rebuild_\w+)")


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a file calls `name` (module.attribute), or would build of it. Never more than the name."""

    name: str

    @property
    def own(self) -> bool:
        """Whether torch.save itself writes this name into a file of tensors and plain values."""
        return _OWN.fullmatch(self.name) is not None

    @property
    def unread_tensor(self) -> bool:
        """Whether it stands for a tensor of a kind that is not read: sparse, quantised, complex, without values."""
        return _UNREAD.fullmatch(self.name) is not None


_KEPT = ("_parameters", "_buffers", "_modules")  # where a module of torch keeps its tensors and the modules in it
_DEEPEST = 64  # modules within modules


@dataclass(frozen=True, slots=True)
class Built(Foreign):
    """An object that a file would build of a class: its name, and of its state the tensors and modules that it holds.

    `parts` fills while the file is read, by `_parameters`, `_buffers` and `_modules`; nothing of the class is run.
    """

    parts: dict[str, dict[Any, Any]] = field(default_factory=dict, compare=False)

    def take(self, state: object) -> None:
        """Keep what a pickled module's state says of tensors and modules."""
        if isinstance(state, dict):
            self.parts.update({key: state[key] for key in _KEPT if isinstance(state.get(key), dict)})

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by dotted names, as torch names those of a module, in the order of the file.

        Raises UnpicklingError for modules in one another, or for more of them than any network has.
        """
        named = list(_tensors_within(self))
        found = dict(named)
        if len(found) < len(named):
            raise pickle.UnpicklingError("a pickled module with two tensors of one name")
        return found


def _tensors_within(module: Built) -> Iterator[tuple[str, Any]]:
    waiting, left = [("", 0, module)], MOST_TENSORS
    while waiting:
        prefix, depth, one = waiting.pop()
        within = one.parts.get("_modules", {})
        own = [item for part in _KEPT[:2] for item in one.parts.get(part, {}).items()]
        left -= 1 + len(own) + len(within)
        if left < 0 or depth > _DEEPEST:
            raise pickle.UnpicklingError("a pickled module of more parts than any network has, or within itself")
        yield from ((prefix + shown(key), value) for key, value in own if isinstance(value, StoredTensor | Foreign))
        inner = [(f"{prefix}{shown(key)}.", depth + 1, part) for key, part in within.items() if isinstance(part, Built)]
        waiting.extend(reversed(inner))


ValueT = TypeVar("ValueT")
_MOST_SHOWN = 120  # characters of a name out of a file


def walk(
    path: Path, content: object, container: Sequence[str], sections: Sequence[str]
) -> tuple[dict[str, Tensor | StoredTensor], dict[str, str]]:
    """The tensors under the container by name, and the types of what else lies on the way by theirs.

    Raises IntegrityError for a key that is not there, for no tensors, and for those of a kind that is not read.
    """
    other: dict[str, str] = {}
    for depth, key in enumerate(container):
        if not isinstance(content, Mapping) or key not in content:
            raise IntegrityError(f"{path}: no key {'.'.join(container[: depth + 1])!r}; it holds {_keys(content)}")
        other.update({shown(k): _kind(v) for k, v in content.items() if k != key})
        content = content[key]
    if isinstance(content, Built) and content.parts:
        content = content.state_dict()  # a whole module, pickled
    if sections:
        content = _joined(path, content, sections)
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor | StoredTensor) for v in content.values()):
        _refuse_unread(path, content)
        raise IntegrityError(
            f"{path}: no tensors under {'.'.join(container) or 'its top level'}, which holds {_keys(content)}. "
            f"{_deeper(content, container)}"
        )
    _refuse_unread(path, content)
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor | StoredTensor)}
    leaves = _named(path, ((_text(k), tensor) for k, tensor in tensors.items()))
    other.update({shown(k): _kind(v) for k, v in content.items() if not isinstance(v, Tensor | StoredTensor)})
    return leaves, other


def _deeper(content: object, container: Sequence[str]) -> str:
    """Where tensors lie one key further down, as lines for a card."""
    items = content.items() if isinstance(content, Mapping) else ()
    keys = [key for key, value in items if isinstance(key, str) and _holds_tensors(value)][:4]
    if not keys:
        return "If they lie deeper, name the keys in `container` of the card."
    lines = " or ".join(f"container = {json.dumps([*container, shown(key)])}" for key in keys)
    return f"They lie deeper: put this line under [weights] of the card: {lines}"


def _holds_tensors(value: object) -> bool:
    content = value.parts.get("_modules") if isinstance(value, Built) else value
    kinds = (Tensor, StoredTensor, Built)
    return isinstance(content, Mapping) and any(isinstance(one, kinds) for one in content.values())


def _refuse_unread(path: Path, content: object) -> None:
    """Raise IntegrityError for a tensor that is not a plain run of numbers, which would else count as left out."""
    items = content.items() if isinstance(content, Mapping) else ()
    for name, value in items:
        if isinstance(value, Foreign) and value.unread_tensor:
            raise IntegrityError(
                f"{path}: {shown(name)} is no dense tensor of plain numbers (it is built by {value.name}): sparse, "
                "quantised, complex and meta tensors are not read. Save the model's dense float tensors, and use that."
            )


def _joined(path: Path, content: object, sections: Sequence[str]) -> dict[str, Any]:
    """Several state dicts as one, beside what else there is; raises IntegrityError where one is not there."""
    found = content if isinstance(content, Mapping) else {}
    lost = [section for section in sections if not isinstance(found.get(section), Mapping)]
    if lost:
        raise IntegrityError(f"{path}: no state dict {' and '.join(map(repr, lost))}; it holds {_keys(content)}")
    rest = ((_text(key), value) for key, value in found.items() if key not in sections)
    within = (
        (f"{section}.{_text(name)}", v) for section in dict.fromkeys(sections) for name, v in found[section].items()
    )
    return _named(path, chain(rest, within))


def _named(path: Path, items: Iterable[tuple[str, ValueT]]) -> dict[str, ValueT]:
    """The values by name; raises IntegrityError for a tensor whose name something else has, as 1 and "1" have one."""
    named: dict[str, ValueT] = {}
    for name, value in items:
        if name in named and any(isinstance(one, Tensor | StoredTensor) for one in (value, named[name])):
            raise IntegrityError(
                f"{path}: two of its entries are called {shown(name)!r} here, so that one would stand for the other. "
                "Save the tensors under names that differ."
            )
        named[name] = value
    return named


def _keys(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {_kind(content)}"
    names = [f"{shown(key)!r} ({_kind(value)})" for key, value in list(content.items())[:8]]
    return ", ".join(names) + (f" and {len(content) - 8} more" if len(content) > 8 else "")


def shown(key: object) -> str:
    """A key as text; one that is no plain name as its type."""
    match key:
        case Foreign(name) | str(name):
            return one_line(name[:_MOST_SHOWN])
        case None | bool() | int() | float() | bytes():
            return repr(key)[:80] if not isinstance(key, int) or abs(key) < 1 << 64 else "a huge number"
    return f"a {type(key).__name__}"


def _text(key: object) -> str:
    """A key as the name of what it leads to, a text at its full length."""
    return key if isinstance(key, str) else shown(key)


def _kind(value: object) -> str:
    match value:
        case Foreign(name):
            return name[:80]
        case StoredTensor():
            return "Tensor"
    return type(value).__name__


MOST_LAYERS = 128  # a deeper network takes minutes to build, and there is none


def layer_count(names: Iterable[str], prefix: str) -> int:
    """How many different parts follow `prefix` in the names; raises IntegrityError where no network has so many."""
    parts = {name.removeprefix(prefix).split(".", 1)[0] for name in names if name.startswith(prefix)}
    return require_depth(len(parts), prefix)


def require_depth(count: int, prefix: str) -> int:
    """The count itself; raises IntegrityError for more layers than any network has."""
    if count > MOST_LAYERS:
        raise IntegrityError(
            f"the tensors {shown(prefix)}* count {count} layers, more than the {MOST_LAYERS} of any network here. "
            "Their names are damaged, or this is not the model's file."
        )
    return count
