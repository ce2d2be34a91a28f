"""Checkpoint files as tensors, without ever running what is in them."""

import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models import converted, torch_file
from cxrbench.models.container import MOST_TENSORS, StoredTensor, walk
from cxrbench.models.shards import file_digest, is_index, read_index, tied_tensors
from cxrbench.models.torch_file import HostileNameError, foreign_names, start_of
from cxrbench.models.vectors_file import VectorFormat, vector_format
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.sealed import require_regular_file
from cxrbench.system.printable import printable

Format = Literal["torch", "safetensors", "sharded"]
ForeignClasses = Literal["refused", "inert"]
_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # the magic number, pickled
_MOST_BYTES = 64 << 30
_MOST_HEADER = 1 << 25  # of a safetensors file: some hundred bytes a tensor
_MOST_COPIES = 8  # times the size of the file, if tensors that share memory had a copy each
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
    SafetensorError,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of one file, or of the shards of one index, on the CPU, by the names that the file gives them.

    `container` are the keys that were walked down to reach them; `other` names what else the file holds on the way,
    with its Python type (the foreign name, where a file was read with `inert` foreign classes). `sha256` is
    `shards.file_digest`; of a converted file, `published` is the name of the one that it says it was converted from.
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
    pickle are `refused`; `inert` (a fact of the card), they stay names, and reading the file calls nothing. An index
    of shards stands for the tensors of all of them; what a safetensors file notes as tied to another tensor is that.
    Raises DataError if there is no such file or shard, SpecError for keys in an index, IntegrityError if it is empty,
    truncated, a web page, a Git LFS pointer, no checkpoint at all, if an index and its shards disagree, or if reading
    it would need a class other than tensors and plain Python values.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    kind = file_format(path)
    if kind == "sharded":
        if container or sections:
            raise SpecError(f"{path}: container and sections name keys within one file, and shards have none")
        return _sharded(path, foreign)
    told = converted.origin(path) if kind == "safetensors" else None
    if told is not None:
        return _converted(path, told, tuple(container), tuple(sections))
    with _content(path, kind, foreign) as content:
        leaves, other = walk(path, content, container, sections)
        tensors = _tensors(path, leaves)
    tied = tied_tensors(_metadata(path), tensors) if kind == "safetensors" else {}
    return Checkpoint(path, digest.of_file(path), _with_tied(tensors, tied), tuple(container), other)


def _sharded(path: Path, foreign: ForeignClasses) -> Checkpoint:
    """The tensors of all shards; raises IntegrityError where one is not what the index says."""
    index = read_index(path)
    index.require_files()
    tensors: dict[str, Tensor] = {}
    other: dict[str, str] = {}
    for file in index.files:
        kind = file_format(file)
        if kind == "sharded":
            raise IntegrityError(f"{file}: is an index itself, and not the shard that {path.name} says it is")
        with _content(file, kind, foreign) as content:
            leaves, more = walk(file, content, (), ())
            index.require_tensors(file, leaves)
            tensors |= _tensors(file, leaves)
            other |= more
    return Checkpoint(path, file_digest(path), _with_tied(tensors, index.tied), (), other)


def _with_tied(tensors: dict[str, Tensor], tied: Mapping[str, str]) -> dict[str, Tensor]:
    return tensors | {name: tensors[kept] for name, kept in tied.items()}


def published_format(path: Path, card: ModelCard) -> Format | VectorFormat:
    """What kind of file it is, among those that the card can mean; raises as `file_format` and `vector_format` do."""
    return vector_format(path) if card.given else file_format(path)


def read_published(path: Path, card: ModelCard) -> Checkpoint:
    """The tensors of a file as the card reads it; a file of vectors has none, and gives its SHA-256 alone.

    Raises what `read_checkpoint` and `published_format` do.
    """
    if card.given:
        published_format(path, card)
        return Checkpoint(path, digest.of_file(path), {})
    facts = card.weights
    return read_checkpoint(path, facts.container, sections=facts.sections, foreign=facts.foreign)


def _converted(
    path: Path, told: converted.ConversionOrigin, container: tuple[str, ...], sections: tuple[str, ...]
) -> Checkpoint:
    """The tensors as they were converted: container and sections are behind them, and must be those asked for now."""
    if (told.container, told.sections) != (container, sections):
        raise IntegrityError(
            f"{path}: converted for a card with container {list(told.container)} and sections {list(told.sections)}; "
            f"this one has {list(container)} and {list(sections)}. Convert {told.file} again."
        )
    tensors = _safetensors(path)
    converted.require_faithful(path, told, tensors)
    return Checkpoint(path, digest.of_file(path), tensors, container, told.other, told.file)


@contextmanager
def _content(path: Path, kind: Format, foreign: ForeignClasses) -> Iterator[Any]:
    """What the file holds, while it is open; raises IntegrityError for one that is damaged, hostile or foreign."""
    if kind == "safetensors":
        yield _safetensors(path)
        return
    try:
        _require_stored(path)
        with torch_file.open_torch_file(path) as content:
            if foreign == "refused" and content.foreign:
                raise _foreign(path, content.foreign)
            yield content.value
    except HostileNameError as error:
        if foreign == "refused":
            raise _foreign(path, str(error)) from error
        raise IntegrityError(
            f"{path}: it names {printable(str(error))}, which no checkpoint needs: the file was made to run code. "
            "Nothing was run. Do not use it; get the file again from where the model's card says."
        ) from error
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _foreign(path: Path, name: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: reading it would need the foreign class {printable(name)}, and could run its code; nothing was run. "
        "Save the tensors alone (`torch.save(model.state_dict(), ...)` or safetensors) and use that file."
    )


def _tensors(path: Path, leaves: Mapping[str, Tensor | StoredTensor]) -> dict[str, Tensor]:
    """The tensors, read; raises IntegrityError where the sizes are those of no network."""
    most = _MOST_COPIES * max(path.stat().st_size, 1 << 20)
    if sum(one.bytes for one in leaves.values() if isinstance(one, StoredTensor)) > most:
        raise IntegrityError(f"{path}: its tensors share memory so often that their copies would need {most:,} bytes")
    return {name: leaf.detach() if isinstance(leaf, Tensor) else leaf.read() for name, leaf in leaves.items()}


def file_format(path: Path) -> Format:
    """What the first bytes say; raises IntegrityError for everything that is no checkpoint.

    A pipe, a device, a folder or a file of more than 64 GB is refused before a byte is read.
    """
    require_regular_file(path, _MOST_BYTES)
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    again = "Download it again from where the model's card says."
    if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
        raise SpecError(f"{path}: its path is no UTF-8, which readers of weights need: rename the folder or the file")
    if size == 0:
        raise IntegrityError(f"{path}: the file is empty. {again}")
    if head.startswith(b"version https://git-lfs"):
        raise IntegrityError(f"{path}: a Git LFS pointer, not the file it stands for. Run `git lfs pull`, or: {again}")
    if head.lstrip()[:1] == b"<" and b"\0" not in head[:8]:  # a safetensors file may begin so, but with zeros after
        raise IntegrityError(f"{path}: a web page, not a checkpoint (the download asked for a click). {again}")
    if head.startswith(b"PK\x03\x04") and not torch_file.is_archive(path):
        raise IntegrityError(f"{path}: an archive without its end: truncated or damaged. {again}")
    if head.startswith((b"PK\x03\x04", _LEGACY_TORCH)):
        return "torch"
    if len(head) > 8 and head[8:9] == b"{":
        (length,) = struct.unpack("<Q", head[:8])
        if length > size - 8:
            raise IntegrityError(f"{path}: {size} bytes, but its header alone claims {length}: truncated. {again}")
        if length > _MOST_HEADER:
            raise IntegrityError(f"{path}: a header of {length:,} bytes, more than the names of tensors ever need")
        return "safetensors"
    if head.startswith(b"\x80"):
        named = foreign_names(start_of(path))
        raise IntegrityError(
            f"{path}: a bare pickle, which could run anything when read (it names {printable(named)[:400]}); nothing "
            "was read. Only files written by torch.save or safetensors are accepted."
        )
    if is_index(path):
        return "sharded"
    raise IntegrityError(f"{path}: starts with {head[:8]!r}; that is neither a torch nor a safetensors file. {again}")


def _safetensors(path: Path) -> Any:
    try:
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
            if len(names) > MOST_TENSORS:
                raise IntegrityError(f"{path}: {len(names):,} tensors; no network here has more than {MOST_TENSORS:,}")
            return {name: stream.get_tensor(name) for name in names}
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _metadata(path: Path) -> Mapping[str, str]:
    with safe_open(path, framework="pt") as stream:
        found: Mapping[str, str] = stream.metadata() or {}
        return found


def _damaged(path: Path, error: Exception) -> IntegrityError:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return IntegrityError(f"{path}: truncated or damaged ({printable(reason)}). Download it again.")


def _require_stored(path: Path) -> None:
    """Raise IntegrityError for an archive that torch did not write: it has a pickle, and stores without compression."""
    if not torch_file.is_archive(path):
        return
    torch_file.require_small_directory(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if not any(name.endswith("/data.pkl") for name in names):
        raise IntegrityError(
            f"{path}: an archive that holds {printable(', '.join(names[:3])[:200])}, not a checkpoint. Unpack it, "
            "give the file within."
        )
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise IntegrityError(f"{path}: {size} bytes, compressed, that unpack to {unpacked}; torch writes no such file")
