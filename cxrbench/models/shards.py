"""Checkpoints in several files, as libraries save them: an index beside the shards says which of them holds what."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cxrbench.errors import DataError, IntegrityError
from cxrbench.models.container import MOST_TENSORS, shown
from cxrbench.store import digest
from cxrbench.store.schema import LocalPath
from cxrbench.store.sealed import DamagedError, json_value, read_regular

SUFFIX = ".index.json"
_MOST_BYTES = 1 << 25  # of an index: some hundred bytes a tensor
_MOST_SHARDS = 4096
_NUMBERED = re.compile(r"(.+)-\d+-of-\d+(\.\w+)")
_AGAIN = "Save the model again, or fetch all its files again."


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """`shards`: the tensors that each file beside the index must hold, by the file's name.

    `tied`: tensors that were left out because they are others that are there, by name.
    """

    path: Path
    shards: Mapping[str, frozenset[str]]
    tied: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """Where the shards are, in the order of their names."""
        return tuple(self.path.parent / name for name in sorted(self.shards))

    def require_files(self) -> None:
        """Raise DataError for a shard that is not there, IntegrityError for one that is and is not in the index."""
        lost = [name for name in sorted(self.shards) if not (self.path.parent / name).exists()]
        if lost:
            raise DataError(
                f"{self.path}: an index of {len(self.shards)} shards, of which {len(lost)} "
                f"{'is' if len(lost) == 1 else 'are'} not beside it: {_some(lost)}. Put them there."
            )
        if strangers := self._strangers():
            raise IntegrityError(
                f"{self.path}: {_some(strangers)} beside it is named as its shards are, and it does not name it. If "
                "that is left from another save, remove it; else the index is not that of these files."
            )

    def _strangers(self) -> list[str]:
        """Files that are numbered as the shards are (NAME-1-of-2.safetensors) and that the index does not name."""
        families = {found.groups() for name in self.shards if (found := _NUMBERED.fullmatch(name))}
        folders = {file.parent for file in self.files}
        beside = (file.relative_to(self.path.parent).as_posix() for folder in folders for file in folder.iterdir())
        numbered = ((name, _NUMBERED.fullmatch(name)) for name in beside if name not in self.shards)
        return sorted(name for name, found in numbered if found is not None and found.groups() in families)

    def require_tensors(self, file: Path, found: Iterable[str]) -> None:
        """Raise IntegrityError unless a shard holds the tensors that the index says it holds, and no others."""
        listed, held = self.shards[file.relative_to(self.path.parent).as_posix()], {*found}
        if lost := sorted(listed - held):
            raise IntegrityError(f"{file}: does not hold {_some(lost)}, which {self.path.name} says it does. {_AGAIN}")
        if more := sorted(held - listed):
            raise IntegrityError(f"{file}: holds {_some(more)}, which {self.path.name} does not say. {_AGAIN}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(shown, names[:4])) + more


def is_index(path: Path) -> bool:
    """Whether this is such an index, by its content; a pipe, a device or a folder is none, and is not opened."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            if stream.read(64).lstrip()[:1] != b"{":
                return False
        told = json_value(path, read_regular(path, _MOST_BYTES))
    except (DamagedError, OSError):
        return False
    return isinstance(told, dict) and isinstance(told.get("weight_map"), dict)


def read_index(path: Path) -> ShardIndex:
    """What an index says.

    Raises IntegrityError for one that is damaged, that names no tensor, or a file outside its folder.
    """
    try:
        told: Any = json_value(path, read_regular(path, _MOST_BYTES))
    except DamagedError as error:
        raise IntegrityError(f"{error}. {_AGAIN}") from error
    places = told.get("weight_map") if isinstance(told, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise IntegrityError(f"{path}: an index without a weight_map of tensors to the files that hold them. {_AGAIN}")
    names = sorted(set(places.values()))
    if len(places) > MOST_TENSORS or len(names) > _MOST_SHARDS:
        raise IntegrityError(f"{path}: {len(places):,} tensors in {len(names):,} files, more than any network here has")
    for name in names:
        _require_inside(path, name)
    by_file: dict[str, list[str]] = {name: [] for name in names}
    for tensor, name in places.items():
        by_file[name].append(tensor)
    more = told.get("metadata")
    tied = tied_tensors(more if isinstance(more, dict) else {}, places)
    return ShardIndex(path, {name: frozenset(held) for name, held in by_file.items()}, tied)


def _require_inside(path: Path, name: str) -> None:
    try:
        TypeAdapter(LocalPath).validate_python(name)
    except ValidationError as error:
        raise IntegrityError(
            f"{path}: names the file {json.dumps(shown(name))}, which leads out of its folder; nothing was read. An "
            "index names the shards beside it alone. Do not use it."
        ) from error


def tied_tensors(metadata: Mapping[Any, Any], names: Iterable[str]) -> dict[str, str]:
    """Tensors that were not written because they are one with another, by the name of the one that was.

    So `safetensors.torch.save_model` and `huggingface_hub` note in the metadata what they drop.
    """
    there = {*names}
    noted = ((key, kept) for key, kept in metadata.items() if isinstance(key, str) and isinstance(kept, str))
    return {key: kept for key, kept in noted if key not in there and kept in there}


def file_digest(path: Path, of_one: Callable[[Path], str] = digest.of_file) -> str:
    """Hex SHA-256 of a file; of an index, over its own and that of every shard, by name.

    Raises what `read_index` and `ShardIndex.require_files` do.
    """
    if not is_index(path):
        return of_one(path)
    index = read_index(path)
    index.require_files()
    shards = {file.relative_to(path.parent).as_posix(): of_one(file) for file in index.files}
    return digest.of_json({"index": of_one(path), "shards": shards})


def file_bytes(path: Path) -> int:
    """How many bytes a file has; of an index, with all its shards."""
    files = (path, *read_index(path).files) if is_index(path) else (path,)
    return sum(file.stat().st_size for file in files)
