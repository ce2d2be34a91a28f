"""Checkpoint files as tensors, without ever running what is in them."""

import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cxrbench import digest
from cxrbench.adapters import converted, sharded, torch_file
from cxrbench.adapters.inert import Foreign, HostileNameError
from cxrbench.adapters.pickle_names import foreign_names, pickle_of, start_of
from cxrbench.adapters.stored import StoredTensor
from cxrbench.errors import DataError, IntegrityError

Format = Literal["torch", "safetensors"]
ForeignClasses = Literal["refused", "inert"]

_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # the magic number, pickled
_REFUSED = re.compile(r"GLOBAL (\S+)")  # how torch names the first class that it would not touch
_BROKEN: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of one file, on the CPU, by the names that the file gives them.

    `container` are the keys that were walked down to reach them; `other` names what else the file holds on the way,
    with its Python type (the foreign name, where a file was read with `inert` foreign classes). `sha256` is that of the
    file itself; of a converted one, `published` is the name of the file that it says it was converted from.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    container: tuple[str, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)
    published: str = ""

    @property
    def name(self) -> str:
        """The name of the published file."""
        return self.published or self.path.name


def read_checkpoint(
    path: Path,
    container: Sequence[str] = (),
    *,
    sections: Sequence[str] = (),
    foreign: ForeignClasses = "refused",
) -> Checkpoint:
    """The tensors under the keys `container`; content decides what kind of file it is, not the name.

    `sections`: keys there that hold a state dict each; a tensor's name is then SECTION.NAME. `foreign` classes in a
    pickle are `refused`; `inert` (a fact of the card), they stay names, and reading the file calls nothing.
    Raises DataError if there is no such file, IntegrityError if it is empty, truncated, a web page, a Git LFS pointer,
    no checkpoint at all, or if reading it would need a class other than tensors and plain Python values.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    kind = file_format(path)
    told = converted.origin(path) if kind == "safetensors" else None
    if told is not None:
        return _converted(path, told, tuple(container), tuple(sections))
    content = _content(path, kind, foreign)
    other: dict[str, str] = {}
    for depth, key in enumerate(container):
        if not isinstance(content, Mapping) or key not in content:
            raise IntegrityError(f"{path}: no key {'.'.join(container[: depth + 1])!r}; it holds {_keys(content)}")
        other.update({_name(k): _kind(v) for k, v in content.items() if k != key})
        content = content[key]
    if sections:
        content = _joined(path, content, sections)
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor | StoredTensor) for v in content.values()):
        raise IntegrityError(
            f"{path}: no tensors under {'.'.join(container) or 'its top level'}, which holds {_keys(content)}. "
            "If they lie deeper, name the keys in `container` of the card."
        )
    leaves = {str(k): v for k, v in content.items() if isinstance(v, Tensor | StoredTensor)}
    other.update({_name(k): _kind(v) for k, v in content.items() if not isinstance(v, Tensor | StoredTensor)})
    return Checkpoint(path, digest.of_file(path), _tensors(path, leaves), tuple(container), other)


def _converted(path: Path, told: converted.Origin, container: tuple[str, ...], sections: tuple[str, ...]) -> Checkpoint:
    """The tensors as they were converted: container and sections are behind them, and must be those asked for now."""
    if (told.container, told.sections) != (container, sections):
        raise IntegrityError(
            f"{path}: converted for a card with container {list(told.container)} and sections {list(told.sections)}; "
            f"this one has {list(container)} and {list(sections)}. Convert {told.file} again."
        )
    tensors = _safetensors(path)
    converted.require_faithful(path, told, tensors)
    return Checkpoint(path, digest.of_file(path), tensors, container, told.other, told.file)


def _content(path: Path, kind: Format, foreign: ForeignClasses) -> Any:
    if kind == "safetensors":
        return _safetensors(path)
    return _inert(path) if foreign == "inert" else _torch(path)


def _tensors(path: Path, leaves: Mapping[str, Tensor | StoredTensor]) -> dict[str, Tensor]:
    try:
        return {name: leaf.detach() if isinstance(leaf, Tensor) else leaf.read() for name, leaf in leaves.items()}
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _joined(path: Path, content: object, sections: Sequence[str]) -> dict[str, Any]:
    """Several state dicts as one, beside what else there is; raises IntegrityError where one is not there."""
    found = content if isinstance(content, Mapping) else {}
    lost = [section for section in sections if not isinstance(found.get(section), Mapping)]
    if lost:
        raise IntegrityError(f"{path}: no state dict {' and '.join(map(repr, lost))}; it holds {_keys(content)}")
    rest = {str(key): value for key, value in found.items() if key not in sections}
    return {**rest, **{f"{section}.{name}": v for section in sections for name, v in found[section].items()}}


def file_format(path: Path) -> Format:
    """What the first bytes say; raises IntegrityError for everything that is no checkpoint."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    again = "Download it again from where the model's card says."
    if size == 0:
        raise IntegrityError(f"{path}: the file is empty. {again}")
    if head.startswith(b"version https://git-lfs"):
        raise IntegrityError(f"{path}: a Git LFS pointer, not the file it stands for. Run `git lfs pull`, or: {again}")
    if head.lstrip()[:1] == b"<" and b"\0" not in head[:8]:  # a safetensors file may begin so, but with zeros after
        raise IntegrityError(f"{path}: a web page, not a checkpoint (the download asked for a click). {again}")
    if head.startswith((b"PK\x03\x04", _LEGACY_TORCH)):
        return "torch"
    if len(head) > 8 and head[8:9] == b"{":
        (length,) = struct.unpack("<Q", head[:8])
        if length > size - 8:
            raise IntegrityError(f"{path}: {size} bytes, but its header alone claims {length}: truncated. {again}")
        return "safetensors"
    if head.startswith(b"\x80"):
        named = foreign_names(start_of(path))
        raise IntegrityError(
            f"{path}: a bare pickle, which could run anything when read (it names {named}); nothing was read. "
            "Only files written by torch.save or safetensors are accepted."
        )
    if head.lstrip()[:1] == b"{":
        sharded.refuse_index(path)
    raise IntegrityError(f"{path}: starts with {head[:8]!r}; that is neither a torch nor a safetensors file. {again}")


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{path}: a damaged safetensors file ({error}). Download it again.") from error


def _torch(path: Path) -> Any:
    """The content by torch's restricted reader, which knows tensors and plain containers and no other class."""
    try:
        _require_stored(path)
        with path.open("rb") as stream:  # given a path, newer versions of torch go by its suffix
            return torch.load(stream, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        refused = _REFUSED.search(str(error))
        foreign = refused.group(1) if refused else foreign_names(pickle_of(path))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise IntegrityError(
                f"{path}: reading it would need the foreign class {foreign}, and could run its code; nothing was run. "
                "Save the tensors alone (`torch.save(model.state_dict(), ...)` or safetensors) and use that file."
            ) from error
        raise _damaged(path, error) from error


def _inert(path: Path) -> Any:
    """The content with tensors not yet read, and names in place of everything that is no plain value."""
    try:
        _require_stored(path)
        return torch_file.content(path)
    except HostileNameError as error:
        raise IntegrityError(
            f"{path}: it names {error}, which no checkpoint needs: the file was made to run code. Nothing was run. "
            "Do not use it; get the file again from where the model's card says."
        ) from error
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> IntegrityError:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return IntegrityError(f"{path}: truncated or damaged ({reason}). Download it again.")


def _require_stored(path: Path) -> None:
    """Raise IntegrityError for an archive that torch did not write: it has a pickle, and stores without compression."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if not any(name.endswith("/data.pkl") for name in names):
        raise IntegrityError(
            f"{path}: an archive that holds {', '.join(names[:3])}, not a checkpoint. Unpack it, give the file within."
        )
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise IntegrityError(f"{path}: {size} bytes, compressed, that unpack to {unpacked}; torch writes no such file")


def _keys(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {_kind(content)}"
    names = [f"{_name(key)!r} ({_kind(value)})" for key, value in list(content.items())[:8]]
    return ", ".join(names) + (f" and {len(content) - 8} more" if len(content) > 8 else "")


def _name(key: object) -> str:
    return key.name if isinstance(key, Foreign) else str(key)


def _kind(value: object) -> str:
    match value:
        case Foreign(name):
            return name
        case StoredTensor():
            return "Tensor"
    return type(value).__name__
