"""Paths and ids of a table of one's own, met with the files on this disk."""

import posixpath
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cxrbench.data.listing import IMAGE_SUFFIXES, Listing, image_stem, is_file, is_folder, listing
from cxrbench.errors import DataError
from cxrbench.store.folded_names import near

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Places:
    """Where images are looked for: below `images`, where a table's paths may also begin in the folders `bases`."""

    images: Path
    bases: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """The file of each id that has one; `listed` is what was walked, `notes` what to know of how they met."""

    paths: Mapping[str, Path]
    listed: Listing
    notes: tuple[str, ...] = ()


def join(ids: Sequence[str], places: Places, cache: Path | None = None, afresh: bool = False) -> Joined:
    """The files of the ids.

    An id is a path below the folder of images, below one of the other folders, or absolute; else the name of one file,
    with or without its suffix, with as many folders before it as both paths have. Unicode forms of one name are one
    name. Raises DataError for an id that several files may be, and a file that several ids may mean.
    """
    if not is_folder(places.images):
        raise DataError(f"{places.images}: there is no such folder, and the images should lie in it.")
    listed = listing(places.images, cache=cache, afresh=afresh)
    paths, loosely = meet(ids, places, listed)
    if listed.kept and len(paths) < len(ids):
        return join(ids, places, cache, afresh=True)
    if len(set(paths.values())) < len(paths):
        _refuse_shared(paths)
    return Joined(paths, listed, _loose_notes(loosely, places.images))


def _loose_notes(loosely: Mapping[str, str], images: Path) -> tuple[str, ...]:
    if not loosely:
        return ()
    name, file = next(iter(loosely.items()))
    return (
        f"{len(loosely):,} images were found in {images} without the first folders of their paths: {name} is {file}",
    )


def meet(ids: Sequence[str], places: Places, listed: Listing) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of `ids` among those `listed`; and of them, by id, those whose paths are the ends of the ids."""
    files, root = frozenset(listed.files), str(places.images)
    paths, left = dict[str, Path](), list[str]()
    whole = [base for base in (places.images, *places.bases) if base.is_relative_to(places.images)]
    within = [f"{base.relative_to(places.images).as_posix()}/".removeprefix("./") for base in whole]
    above = [
        f"{places.images.relative_to(base).as_posix()}/" for base in places.bases if _is_above(base, places.images)
    ]
    apart = [base for base in places.bases if not base.is_relative_to(places.images)]
    for name in ids:
        plain = _plain(name, root)
        there = (*(start + plain for start in within), *(plain[len(a) :] for a in above if plain.startswith(a)))
        found = {file for file in there if file in files}
        if len(found) > 1:
            raise DataError(f"{name!r} may be {' or '.join(sorted(found))} in {root}: write paths that say which.")
        if found:
            paths[name] = places.images / found.pop()
        else:
            left.append(name)
    index, loosely = _Index(listed.files) if left else None, dict[str, str]()
    for name in left:
        looked_in = (places.images, *places.bases) if name.startswith("../") else apart
        outside = (Path(posixpath.normpath((base / name).as_posix())) for base in looked_in)  # absolute names stay so
        place = next((path for path in outside if is_file(path)), None)
        if place is None and name.startswith("/") and is_file(Path(name)):
            place = Path(name)
        if place is None and index is not None and (file := index.find(name, root)) is not None:
            place = places.images / file
            if name.count("/") > file.count("/"):
                loosely[name] = file
        if place is not None:
            paths[name] = place
    return paths, loosely


def _is_above(base: Path, images: Path) -> bool:
    return base != images and images.is_relative_to(base)


def _plain(name: str, root: str) -> str:
    """The path without steps that lead nowhere, and without the folder of images where it begins with that."""
    return (posixpath.normpath(name) if "./" in name or "//" in name else name).removeprefix(f"{root}/")


@dataclass(slots=True)
class _Index:
    """Files by the stem of their names, in one Unicode form."""

    files: Sequence[str]
    by_stem: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file in self.files:
            stem = image_stem(file.rpartition("/")[2])
            if stem is not None:
                self.by_stem.setdefault(_form(stem), []).append(file)

    def find(self, name: str, root: str) -> str | None:
        """The one file that the id means; None if there is none, DataError if there are several."""
        last = name.rpartition("/")[2]
        keys = dict.fromkeys(_form(stem) for stem in (image_stem(last), last) if stem)
        there = dict.fromkeys(file for key in keys for file in self.by_stem.get(key, ()) if _one_ends_other(name, file))
        if len(there) > 1:
            exact = [file for file in there if _form(file.rpartition("/")[2]) == _form(last)]
            there = dict.fromkeys(exact or there)
        if len(there) > 1:
            shown = ", ".join(list(there)[:_SHOWN])
            raise DataError(
                f"{name!r} may be any of {len(there)} files in {root}: {shown}. Give paths in the table, or a folder "
                "with one file of each name as `images`."
            )
        return next(iter(there), None)


def _form(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _one_ends_other(name: str, file: str) -> bool:
    """Whether the folders of the shorter path are the last folders of the longer one."""
    one, other = _form(name).split("/")[:-1], _form(file).split("/")[:-1]
    length = min(len(one), len(other))
    return one[len(one) - length :] == other[len(other) - length :]


def _refuse_shared(paths: Mapping[str, Path]) -> None:
    first: dict[Path, str] = {}
    for name, path in sorted(paths.items()):
        if first.setdefault(path, name) != name:
            raise DataError(f"{first[path]!r} and {name!r} would both be the file {path}: write paths that say which.")


def extra_files(listed: Listing, known: Iterable[str]) -> tuple[str, ...]:
    """Images in the folder whose name is that of no id, sorted."""
    stems = {_form(image_stem(last) or last) for last in (name.rpartition("/")[2] for name in known)}
    images = (file for file in listed.files if PurePath(file).suffix.casefold() in IMAGE_SUFFIXES)
    return tuple(f for f in images if _form(image_stem(f.rpartition("/")[2]) or f) not in stems)


def near_notes(missing: Sequence[str], listed: Listing) -> tuple[str, ...]:
    """Which missing ids have a file whose name differs in letter case only."""
    by_name = {name.rpartition("/")[2]: name for name in missing}
    files = {file.rpartition("/")[2]: file for file in listed.files}
    stems = {image_stem(last) or last: file for last, file in files.items()}
    there = {**stems, **files}
    close = near(by_name, there)
    told = [f"{by_name[last]} has no file, but {there[name]} is named nearly so" for last, name in close.items()]
    return (*told[:_SHOWN], *((f"{len(told) - _SHOWN} more names differ so",) if len(told) > _SHOWN else ()))
