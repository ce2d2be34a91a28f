"""Where a data set lies: a walk that reads few folders, told by signs such as a label table's name."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrbench.data.listing import ignored, is_file, is_folder, is_kind
from cxrbench.errors import DataError
from cxrbench.store.folded_names import folded

SUFFIXES = (".csv", ".csv.gz", ".csv.zip")
_COPY = re.compile(r"[ _-]*(\(\d+\)|copy|copy \(\d+\)|- copy)$")
_ENDINGS = (".csv", ".gz", ".zip", ".tsv", ".txt", ".xlsx", ".xls", ".json", ".parquet", ".crdownload", ".part", ".tmp")


def file_names(stems: Sequence[str]) -> list[str]:
    """The file names under which tables of these stems are looked for, in that order."""
    return [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]


def near_names(stems: Sequence[str], there: Iterable[str]) -> dict[str, str]:
    """Names that are there and look like a table's (`NAME (1).csv`, `NAME.CSV`), each with the name to give it."""
    wanted = {folded(stem): stem for stem in stems}
    exact = set(file_names(stems))
    found = {name: wanted.get(_bare(name)) for name in sorted(there) if name not in exact}
    return {name: f"{stem}{_suffix(name)}" for name, stem in found.items() if stem is not None}


def _bare(name: str) -> str:
    """The name less every ending and mark of a copy, folded."""
    name, before = folded(name), ""
    while name != before:
        before = name
        name = _COPY.sub("", name)
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
    return name


def _suffix(name: str) -> str:
    ending = name.casefold().rpartition(".")[2]
    return f".csv.{ending}" if ending in {"gz", "zip"} else ".csv"


_SHOWN = 3
# folders of a single patient, study or series: CheXpert, MIMIC-CXR, DICOM UIDs
_OF_ONE_PATIENT = re.compile(r"patient\d+|[ps]\d{8}|[0-2](\.\d+){5,}")


@dataclass(frozen=True, slots=True)
class Visited:
    """A folder and the names in it; not `whole`: it is crowded, and only the first names were read.

    `refused` names what could not be read in it, `.` for the folder itself.
    """

    path: Path
    names: frozenset[str]
    whole: bool = True
    refused: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Whether that name is there, whichever names were read; raises DataError where the system does not say."""
        return name in self.names or (not self.whole and is_file(self.path / name))


Sign = Callable[[Visited], bool]


def folders(root: Path, depth: int = 6, crowded: int = 2000) -> Iterator[Visited]:
    """Folders at and below the root, level by level and sorted; links are followed, loops are not.

    What lies below a folder with more than `crowded` entries, or of a single patient, is not visited: images lie
    there. Of crowded folders other than the root only the first names are read.
    """
    level = [root]
    seen: set[tuple[int, int]] = set()
    for _ in range(depth + 1):
        following: list[Path] = []
        for folder in level:
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                visited, below = _visited(folder, crowded, cut=folder != root)
            except OSError:
                yield Visited(folder, frozenset(), refused=(".",))
                continue
            yield visited
            following += [folder / name for name in sorted(below)]
        level = following


def _visited(folder: Path, crowded: int, *, cut: bool) -> tuple[Visited, list[str]]:
    names: set[str] = set()
    below: list[str] = []
    refused: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if ignored(entry.name):
                continue
            if cut and len(names) == crowded:
                return Visited(folder, frozenset(names), whole=False), []
            names.add(entry.name)
            try:
                if not _OF_ONE_PATIENT.fullmatch(entry.name) and is_kind(entry, "folder"):
                    below.append(entry.name)
            except OSError:
                refused.append(entry.name)
    return Visited(folder, frozenset(names), refused=tuple(refused)), below if len(names) <= crowded else []


def located(root: Path, what: str, *signs: Sign, wanted: str, stems: Sequence[str] = ()) -> Path:
    """The first folder, level by level, that shows the first sign; else the second, and so on; else DataError.

    The error also names folders that could not be read: what is wanted may lie there. It names tables whose names come
    near those of `stems`.
    """
    if not is_folder(root):
        raise DataError(f"{root}: there is no such folder. Point --data-root at the folder that holds {what}.")
    visited = []
    for folder in folders(root):
        if signs[0](folder):
            return folder.path
        visited.append(folder)
    for sign in signs[1:]:
        for folder in visited:
            if sign(folder):
                return folder.path
    raise DataError(
        f"{what}: found no {wanted} in {root} or the folders below it ({len(visited)} searched{_refusals(visited)})."
        f"{_near(visited, stems) or _ELSEWHERE}"
    )


_ELSEWHERE = " Point --data-root at the data set's folder, or at one that holds it."


def _near(visited: list[Visited], stems: Sequence[str]) -> str:
    near = [(v.path / name, own) for v in visited for name, own in near_names(stems, v.names).items()]
    return "".join(f" There is {path}: is it the table? Name it {own}." for path, own in near[:_SHOWN])


def _refusals(visited: list[Visited]) -> str:
    refused = [str(folder.path / name) for folder in visited for name in folder.refused]
    more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return f"; not readable: {', '.join(refused[:_SHOWN])}{more}" if refused else ""


def has_table(*stems: str) -> Sign:
    """Whether a folder holds one of these label tables, plain or packed."""
    wanted = file_names(stems)
    return lambda folder: any(folder.holds(name) for name in wanted)
