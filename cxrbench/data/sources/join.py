"""How ids and files of a data set meet: by the path that an id gives, or by a listing of the whole folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrbench.data.listing import Listing, Matches, is_file, listing, matches
from cxrbench.data.search import folders
from cxrbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Tree:
    """A data set with a folder for each patient, too many folders to be listed for the sake of a few images.

    `below` gives the path of an image from its id (None: the id gives none), below any folder that holds folders
    named like `top`.
    """

    top: re.Pattern[str]
    below: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Layout:
    """How ids and files of a data set meet.

    `key` turns a relative path into a join key (None: no image of this set); `names` gives the join keys under which
    an id may lie; folders in `skip` are not entered; files below a folder in `unlabelled` are no surprise without row.
    With a `tree`, images are first looked for where their ids say. A data set of a few large folders has none: whether
    a kept listing still holds is told by fewer looks than there are images.
    """

    key: Callable[[str], str | None]
    names: Callable[[str], tuple[str, ...]]
    skip: frozenset[str] = frozenset()
    unlabelled: frozenset[str] = frozenset()
    tree: Tree | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a source looks: the user's `root`, the data set's `folder` in it, how ids and files meet there.

    `cache` may keep listings between runs. `survey`: walk the folder, even where every image lies where its id says.
    `listed` is the folder's listing, where the source had to make it.
    """

    root: Path
    folder: Path
    layout: Layout
    cache: Path | None = None
    survey: bool = False
    listed: Listing | None = None

    @property
    def homes(self) -> tuple[Path, ...]:
        """The data set's folder, and the one above it, in which images may lie beside the tables."""
        inside = self.folder != self.root and self.folder.is_relative_to(self.root)
        return (self.folder, self.folder.parent) if inside else (self.folder,)


@dataclass(frozen=True, slots=True)
class Survey:
    """A whole folder: what it holds, and its files by join key."""

    listed: Listing
    found: Matches


@dataclass(frozen=True, slots=True)
class Met:
    """The folder in which images were found, and each id's path relative to it; `survey` is None if none was made.

    `kept`: a listing out of the cache was believed on the way.
    """

    home: Path
    paths: Mapping[str, str]
    survey: Survey | None
    kept: bool = False


def met(wanted: Sequence[str], disk: Disk) -> Met:
    """The files of the wanted ids, at or beside the tables.

    An image lies where its id says, else at the first listed path that has its join key: what else lies in the folder,
    and whether it is surveyed, changes no path. Whatever a kept listing has not is looked for by a walk.
    """
    found = _met(wanted, disk)
    if found.kept and len(found.paths) < len(wanted):
        return _met(wanted, replace(disk, survey=True, listed=None))
    return found


def _met(wanted: Sequence[str], disk: Disk) -> Met:
    for home in disk.homes:
        placed = _placed(wanted, home, disk.layout)
        if wanted and len(placed) == len(wanted):
            return Met(home, placed, _surveyed(home, disk) if disk.survey else None)
    kept = False
    for home in disk.homes:
        survey = _surveyed(home, disk)
        kept |= survey.listed.kept
        paths = _joined(wanted, survey.found.files, disk.layout) | _placed(wanted, home, disk.layout)
        if paths:
            break
    return Met(home, paths, survey, kept)


def _surveyed(home: Path, disk: Disk) -> Survey:
    made = disk.listed if disk.listed and disk.listed.root == home else None
    listed = made or listing(home, disk.layout.skip, disk.cache, afresh=disk.survey)
    return Survey(listed, matches(listed.files, disk.layout.key))


def _joined(wanted: Sequence[str], files: Mapping[str, str], layout: Layout) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name in wanted:
        file = next((files[key] for key in layout.names(name) if key in files), None)
        if file is not None:
            joined[name] = file
    return joined


def _placed(wanted: Sequence[str], home: Path, layout: Layout) -> dict[str, str]:
    """Ids whose file lies where the id says; of several such folders the first of the search is taken."""
    if layout.tree is None:
        return {}
    places = _places(home, layout.tree.top, layout.skip | layout.unlabelled)
    placed: dict[str, str] = {}
    for name in wanted:
        below = layout.tree.below(name)
        place = next((p for p in places if below and _seen(home / p / below)), None)
        if place is not None:
            placed[name] = (place / str(below)).as_posix()
    return placed


def _places(home: Path, top: re.Pattern[str], without: frozenset[str]) -> list[Path]:
    """Folders, relative to `home`, that hold folders of patients."""
    holding = (v.path.relative_to(home) for v in folders(home) if any(map(top.fullmatch, v.names)))
    return [place for place in holding if without.isdisjoint(part.casefold() for part in place.parts)]


def _seen(path: Path) -> bool:
    """Whether the file is there; one that cannot be looked at is left to the survey, which names such."""
    try:
        return is_file(path)
    except DataError:
        return False
