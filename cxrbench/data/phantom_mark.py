"""The note that lies in the folder of every drawn data set, by which it is told from a real one."""
# Text, not Path: some data sets have hundreds of thousands of folders.
# ruff: noqa: PTH100, PTH114, PTH118, PTH120

import os
from collections.abc import Iterable
from pathlib import Path

from cxrbench.data.listing import is_file

NAME = "PHANTOM.json"


def drawn(tables: Path, files: Iterable[Path] = ()) -> bool:
    """Whether the tables' folder, that of a file, or a folder above one of them holds the note.

    A folder or file that is a link is looked at in both places, where it is named and where it leads. Raises DataError
    if one cannot be looked at.
    """
    return any(is_file(Path(place, NAME)) for place in _places(tables, files))


def _places(tables: Path, files: Iterable[Path]) -> dict[str, None]:
    """Every folder that counts, as text."""
    known: dict[str, str] = {}
    folders = {os.path.abspath(tables): None}
    for file in map(os.path.abspath, files):
        folders[os.path.dirname(file)] = None
        if os.path.islink(file):
            folders[os.path.dirname(os.path.realpath(file))] = None
    places: dict[str, None] = {}
    for folder in folders:
        for place in (folder, _real(folder, known)):
            above = place
            while above not in places:
                places[above] = None
                above = os.path.dirname(above)
    return places


def _real(folder: str, known: dict[str, str]) -> str:
    """Where a folder lies, links followed, with one look at each folder."""
    if folder not in known:
        parent, name = os.path.split(folder)
        inside = os.path.join(_real(parent, known), name) if name else folder
        known[folder] = os.path.realpath(inside) if os.path.islink(inside) else inside
    return known[folder]
