"""Which image files a folder holds: one sorted walk, and the match of ids with file names."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxrbench.errors import CxrBenchError, DataError
from cxrbench.store import digest
from cxrbench.store.sealed import read_sealed, write_sealed

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def is_file(path: Path) -> bool:
    """Whether a file is there, links followed; raises DataError where the system does not say (permission, disk)."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; raises as `is_file`."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - one call, whatever pathlib makes of its errors
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise DataError(f"{path}: cannot be looked at: {error.strerror}. Mend its permissions, or its disk.") from error


IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", ".webp", ".jp2"})
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_SETTLED_NS = 3 * 10**9  # a folder changed just before its listing may change again within the clock's grain


@dataclass(frozen=True, slots=True)
class Listing:
    """All files below `root`, as sorted relative paths with `/`; `unreadable` names folders and links that refused.

    `kept`: taken from the cache; nothing may be called missing by it before a walk has looked again.
    """

    root: Path
    files: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Matches:
    """Join key to relative path, and the keys that several files claim (the first in sorted order is taken)."""

    files: Mapping[str, str]
    duplicates: tuple[str, ...]


def ignored(name: str) -> bool:
    """Whether a name is hidden or left behind by an operating system (`._x`, .DS_Store, Thumbs.db, __MACOSX)."""
    return name.startswith(".") or name.casefold() in _CLUTTER


def image_stem(name: str) -> str | None:
    """The file name without its image suffix, or several (`id.dcm.png`, as converters leave it).

    Names without a suffix (or a number for one) stay; None otherwise.
    """
    stem, suffix = without_image_suffix(name), _suffix(name)
    return stem if stem != name or not suffix or suffix[1:].isdigit() else None


def without_image_suffix(name: str) -> str:
    """The name less every image suffix at its end."""
    while (suffix := _suffix(name)).casefold() in IMAGE_SUFFIXES:
        name = name[: -len(suffix)]
    return name


def _suffix(name: str) -> str:
    """As `PurePosixPath.suffix`, in a tenth of its time: a million names are looked at several times each."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return last[dot:] if 0 < dot < len(last) - 1 else ""


def stem_key(path: str) -> str | None:
    """Join key of data sets whose files are named by their ids: `image_stem` of the last component."""
    return image_stem(path.rpartition("/")[2])


def listing(root: Path, skip: frozenset[str] = frozenset(), cache: Path | None = None, afresh: bool = False) -> Listing:
    """Walk the folder once; folder names in `skip` (lower case) are left out, links are followed, loops are not.

    With `cache`, the result is kept there and taken again (unless `afresh`) as long as no folder below the root has
    changed and every link to a file still leads to one; a listing with unreadable folders or dead links is not kept.
    """
    if cache is None:
        return _walk(root, skip).listing
    path = cache / "listings" / f"{digest.of_json([str(root.resolve()), sorted(skip)])}.json"
    kept = None if afresh else _kept(root, path)
    if kept is not None:
        return kept
    started = time.time_ns()
    found = _walk(root, skip)
    if not found.listing.unreadable and not found.dead:
        content = {"started": started, "folders": found.folders, "files": found.listing.files, "links": found.links}
        write_sealed(path, content)
    return found.listing


@dataclass(slots=True)
class _Walk:
    """What a walk has seen; `links` are the files that are links, `dead` links that lead nowhere."""

    root: Path
    skip: frozenset[str]
    files: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    folders: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)

    @property
    def listing(self) -> Listing:
        return Listing(self.root, tuple(sorted(self.files)), tuple(sorted(self.unreadable)))


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """What changes with a folder's names: `tar` and `rsync -a` set the first of the times back, not the second."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _walk(root: Path, skip: frozenset[str]) -> _Walk:
    walk = _Walk(root, skip)
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            below = _entries(folder, walk)
        except OSError:
            walk.unreadable.append(folder or ".")
            continue
        walk.folders[folder] = _state(status)
        waiting += sorted(below, reverse=True)
    return walk


def _entries(folder: str, walk: _Walk) -> list[str]:
    """Folders in this one; its files, and what the system says nothing of, join the walk."""
    below: list[str] = []
    prefix = f"{folder}/" if folder else ""
    with os.scandir(walk.root / folder) as entries:
        for entry in entries:
            if ignored(entry.name):
                continue
            name = prefix + entry.name
            try:
                if is_kind(entry, "file"):
                    walk.files.append(name)
                    walk.links += [name] if entry.is_symlink() else []
                elif is_kind(entry, "folder"):
                    below += [name] if entry.name.casefold() not in walk.skip else []
                elif entry.is_symlink():
                    walk.dead.append(name)
            except OSError:
                walk.unreadable.append(name)
    return below


def is_kind(entry: "os.DirEntry[str]", kind: Literal["file", "folder"]) -> bool:
    """Whether an entry is one, links followed; raises OSError where the system does not say, but not for a loop."""
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _kept(root: Path, path: Path) -> Listing | None:
    """The stored listing if it is whole and every folder as it was, last changed well before the walk; else None."""
    try:
        content = read_sealed(path)
        if not _is_listing(content):
            return None
        for folder, state in content["folders"].items():
            if list(_state((root / folder).stat())) != state or max(state[:2]) > content["started"] - _SETTLED_NS:
                return None
        if not all(is_file(root / link) for link in content["links"]):
            return None
    except (OSError, ValueError, CxrBenchError):
        return None
    return Listing(root, tuple(content["files"]), kept=True)


def _is_listing(content: Any) -> bool:
    """Whether a value is what `listing` keeps, of paths below its root alone."""
    if not isinstance(content, dict) or content.keys() != {"started", "folders", "files", "links"}:
        return False
    folders, files, links = content["folders"], content["files"], content["links"]
    return (
        isinstance(content["started"], int)
        and isinstance(folders, dict)
        and isinstance(files, list)
        and isinstance(links, list)
        and "" in folders
        and all(isinstance(s, list) and len(s) == 3 and all(isinstance(n, int) for n in s) for s in folders.values())
        and all(map(_is_below, [*folders, *files, *links]))
    )


def _is_below(name: Any) -> bool:
    return isinstance(name, str) and not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def matches(files: Iterable[str], key: Callable[[str], str | None]) -> Matches:
    """Files by join key; `key` gives None for a file that is no image of the data set."""
    found: dict[str, str] = {}
    duplicates: dict[str, None] = {}
    for file in files:
        name = key(file)
        if name is None:
            continue
        if name in found:
            duplicates[name] = None
        else:
            found[name] = file
    return Matches(found, tuple(sorted(duplicates)))
