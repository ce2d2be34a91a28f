"""Which image files a folder holds: one sorted walk, and the match of ids with file names."""

import errno
import json
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from cxrbench import digest
from cxrbench.durable import write_atomically

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", ".webp", ".jp2"})
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_SETTLED_NS = 3 * 10**9  # a folder changed just before its listing may change again within the clock's grain


@dataclass(frozen=True, slots=True)
class Listing:
    """All files below `root`, as sorted relative paths with `/`; `unreadable` names folders and links that refused."""

    root: Path
    files: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matches:
    """Join key to relative path, and the keys that several files claim (the first in sorted order is taken)."""

    files: Mapping[str, str]
    duplicates: tuple[str, ...]


def ignored(name: str) -> bool:
    """Whether a name is hidden or left behind by an operating system (`._x`, .DS_Store, Thumbs.db, __MACOSX)."""
    return name.startswith(".") or name.casefold() in _CLUTTER


def image_stem(name: str) -> str | None:
    """The file name without its image suffix; names without a suffix (or a number for one) stay; None otherwise."""
    suffix = PurePosixPath(name).suffix
    stem = name.removesuffix(suffix)
    if suffix.casefold() in IMAGE_SUFFIXES:
        return stem
    return name if not suffix or suffix[1:].isdigit() else None


def stem_key(path: str) -> str | None:
    """Join key of data sets whose files are named by their ids: `image_stem` of the last component."""
    return image_stem(path.rpartition("/")[2])


def listing(root: Path, skip: frozenset[str] = frozenset(), cache: Path | None = None) -> Listing:
    """Walk the folder once; folder names in `skip` (lower case) are left out, links are followed, loops are not.

    With `cache`, the result is kept there and taken again as long as no folder below the root has changed; a listing
    with unreadable folders is not kept.
    """
    if cache is None:
        return _walk(root, skip)[0]
    path = cache / "listings" / f"{digest.of_json([str(root.resolve()), sorted(skip)])}.json"
    kept = _kept(root, path)
    if kept is not None:
        return kept
    started = time.time_ns()
    found, folders = _walk(root, skip)
    if not found.unreadable:
        content = {"started": started, "folders": folders, "files": found.files}
        write_atomically(path, json.dumps(content).encode())
    return found


def _walk(root: Path, skip: frozenset[str]) -> tuple[Listing, dict[str, int]]:
    files: list[str] = []
    unreadable: list[str] = []
    folders: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            inside, below, refused = _entries(root, folder, skip)
        except OSError:
            unreadable.append(folder or ".")
            continue
        folders[folder] = status.st_mtime_ns
        files += inside
        unreadable += refused
        waiting += sorted(below, reverse=True)
    return Listing(root, tuple(sorted(files)), tuple(sorted(unreadable))), folders


def _entries(root: Path, folder: str, skip: frozenset[str]) -> tuple[list[str], list[str], list[str]]:
    """Files, folders, and names of which the system does not say what they are."""
    files: list[str] = []
    folders: list[str] = []
    refused: list[str] = []
    prefix = f"{folder}/" if folder else ""
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if ignored(entry.name):
                continue
            try:
                if is_kind(entry, "file"):
                    files.append(prefix + entry.name)
                elif is_kind(entry, "folder") and entry.name.casefold() not in skip:
                    folders.append(prefix + entry.name)
            except OSError:
                refused.append(prefix + entry.name)
    return files, folders, refused


def is_kind(entry: "os.DirEntry[str]", kind: Literal["file", "folder"]) -> bool:
    """Whether an entry is one, links followed; raises OSError where the system does not say, but not for a loop."""
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _kept(root: Path, path: Path) -> Listing | None:
    """The stored listing if every folder still has the change time it had, well before the walk; else None."""
    try:
        content = json.loads(path.read_bytes())
        for folder, changed in content["folders"].items():
            if (root / folder).stat().st_mtime_ns != changed or changed > content["started"] - _SETTLED_NS:
                return None
        return Listing(root, tuple(content["files"]))
    except (OSError, ValueError, KeyError):
        return None


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


def near(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Wanted keys that are there but for letter case or Unicode form, each with the key there is."""
    wanted = list(wanted)
    folded = {_folded(key): key for key in there} if wanted else {}
    return {key: folded[_folded(key)] for key in wanted if _folded(key) in folded}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
