"""What all data sources share: finding the data set's folder, and joining its label tables with its files."""

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, cast

from cxrbench.data.listing import IMAGE_SUFFIXES, Listing, Matches, folders, listing, matches, near
from cxrbench.errors import DataError, SpecError
from cxrbench.index import Findings, Partition, Table
from cxrbench.task import SplitSpec, TaskSpec

PHANTOM_NOTE = "PHANTOM.json"  # lies in the folder of every drawn data set
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the label tables alone decide: the parts, all ids they name, totals by the names of `TaskSpec.expected`."""

    parts: Mapping[str, Table]
    known: Collection[str]
    found: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How ids and files of a data set meet.

    `key` turns a relative path into a join key (None: no image of this set); `names` gives the join keys under which
    an id may lie; folders in `skip` are not entered; files below a folder in `unlabelled` are no surprise without row.
    """

    key: Callable[[str], str | None]
    names: Callable[[str], tuple[str, ...]]
    skip: frozenset[str] = frozenset()
    unlabelled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a source looks: the user's `root`, the data set's folder in it as `listed`, how ids and files meet there.

    `cache` may keep listings between runs.
    """

    root: Path
    listed: Listing
    layout: Layout
    cache: Path | None = None


class Source(Protocol):
    """A module of `cxrbench.data.sources`."""

    def locate(self, root: Path) -> Path:
        """The data set's folder at or below `root`; raises DataError that says what was looked for."""

    def tables(self, folder: Path, task: TaskSpec, split: str) -> Labelled:
        """The parts of a split from the files in `folder`; image files need not be there."""

    def load(self, root: Path, task: TaskSpec, split: str, cache: Path | None = None) -> Partition:
        """The parts of a split with the files of their images; `cache` may keep the folder's listing."""


def source(task: TaskSpec) -> Source:
    """The source module of a task; raises SpecError if there is none of that name."""
    name = f"cxrbench.data.sources.{task.source}"
    try:
        return cast(Source, importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise SpecError(f"task {task.name}: there is no data source {task.source!r}") from error


def load_partition(root: Path, task: TaskSpec, split: str, cache: Path | None = None) -> Partition:
    """One split of a task's data set as it lies at or below `root`; see `Source.load`."""
    return source(task).load(root, task, split, cache)


def rule_of(task: TaskSpec, split: str, rules: Collection[str]) -> SplitSpec:
    """The split's specification; raises SpecError if the source does not know its rule."""
    spec = task.split(split)
    if spec.rule not in rules:
        raise SpecError(f"task {task.name}, split {split}: unknown rule {spec.rule!r}; known: {', '.join(rules)}")
    return spec


def located(root: Path, what: str, *signs: Callable[[Path, frozenset[str]], bool], wanted: str) -> Path:
    """The first folder, level by level, that shows the first sign; else the second, and so on; else DataError."""
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. Point --data-root at the folder that holds {what}.")
    visited = []
    for folder, names in folders(root):
        if signs[0](folder, names):
            return folder
        visited.append((folder, names))
    for sign in signs[1:]:
        for folder, names in visited:
            if sign(folder, names):
                return folder
    raise DataError(
        f"{what}: found no {wanted} in {root} or the folders below it ({len(visited)} searched). "
        "Point --data-root at the data set's folder, or at one that holds it."
    )


def has_table(*stems: str) -> Callable[[Path, frozenset[str]], bool]:
    """Whether a folder holds one of these label tables, plain or gzipped."""
    wanted = {f"{stem}{suffix}" for stem in stems for suffix in (".csv", ".csv.gz")}
    return lambda folder, names: not wanted.isdisjoint(names)


def partition(task: TaskSpec, split: str, labelled: Labelled, disk: Disk) -> Partition:
    """Join the parts with the files on this disk, and say what does not meet.

    Raises DataError if no image of the split is there.
    """
    wanted = list(dict.fromkeys(name for part in labelled.parts.values() for name in part.ids))
    disk, found, paths = _met(wanted, disk)
    if wanted and not paths:
        raise DataError(
            f"{task.name}: none of the {len(wanted)} images of split {split} lies under {disk.listed.root}; the first "
            f"would be {' or '.join(disk.layout.names(wanted[0]))}. {task.get}"
        )
    keys = {key: name for name in labelled.known for key in disk.layout.names(name)}
    missing = sorted(set(wanted) - paths.keys())
    spec = task.split(split)
    findings = Findings(
        missing=tuple(missing),
        extra=_extra(found.files, keys, disk.layout),
        duplicate=tuple(sorted({keys[key] for key in found.duplicates if key in keys})),
        notes=(
            *labelled.notes,
            *_near_notes(missing, disk.layout, found.files),
            *(f"{folder}: this folder could not be read" for folder in disk.listed.unreadable),
            *(total_notes(task, labelled.found) if spec.complete else ()),
            *reference_notes(spec, labelled.parts),
        ),
    )
    located_paths = {name: disk.listed.root / file for name, file in paths.items()}
    return Partition(task.name, split, labelled.parts, located_paths, findings, _synthetic(disk))


def _met(wanted: Sequence[str], disk: Disk) -> tuple[Disk, Matches, dict[str, str]]:
    """The files of the wanted ids in the listed folder, or in the one above it where none of them is there."""
    found = matches(disk.listed.files, disk.layout.key)
    paths = _joined(wanted, found.files, disk.layout)
    home = disk.listed.root
    if paths or home == disk.root or not home.is_relative_to(disk.root):
        return disk, found, paths
    above = replace(disk, listed=listing(home.parent, disk.layout.skip, disk.cache))
    found = matches(above.listed.files, disk.layout.key)
    return above, found, _joined(wanted, found.files, disk.layout)


def _synthetic(disk: Disk) -> bool:
    """Whether the folder, or one above it up to the root, holds the note of a drawn data set."""
    home = disk.listed.root
    above = (parent for parent in home.parents if parent.is_relative_to(disk.root))
    return any((place / PHANTOM_NOTE).is_file() for place in (home, *above))


def _joined(wanted: Sequence[str], files: Mapping[str, str], layout: Layout) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name in wanted:
        file = next((files[key] for key in layout.names(name) if key in files), None)
        if file is not None:
            joined[name] = file
    return joined


def _extra(files: Mapping[str, str], keys: Mapping[str, str], layout: Layout) -> tuple[str, ...]:
    extra = (file for key, file in files.items() if key not in keys and Path(file).suffix.casefold() in IMAGE_SUFFIXES)
    return tuple(sorted(f for f in extra if layout.unlabelled.isdisjoint(f.casefold().split("/")[:-1])))


def _near_notes(missing: Sequence[str], layout: Layout, files: Mapping[str, str]) -> list[str]:
    by_key = {key: name for name in missing for key in layout.names(name)}
    close = near(by_key, files)
    notes = [
        f"{by_key[key]} has no file, but {files[there]} differs only in letter case or Unicode form: rename it"
        for key, there in sorted(close.items())[:_SHOWN]
    ]
    return notes + ([f"{len(close) - _SHOWN} more names differ only so"] if len(close) > _SHOWN else [])


def total_notes(task: TaskSpec, found: Mapping[str, int]) -> list[str]:
    """One line for each total that differs from what the documentation of a complete download counts."""
    return [
        f"{name}: {count:,} here, a complete download has {task.expected[name]:,}"
        for name, count in found.items()
        if name in task.expected and task.expected[name] != count
    ]


def reference_notes(spec: SplitSpec, parts: Mapping[str, Table]) -> list[str]:
    """One line for each part that is not row for row the one drawn from the official tables."""
    notes = []
    for name, reference in spec.reference.items():
        if parts[name].digest != reference.rows_sha256:
            same = (
                "the same images in another order" if parts[name].set_digest == reference.set_sha256 else "other images"
            )
            notes.append(f"part {name}: {same} than the reference, which was drawn from {spec.reference_of}")
    return notes


def reference_verdict(spec: SplitSpec, parts: Mapping[str, Table]) -> Literal["match", "differs", "unknown"]:
    """Whether every part whose digest the task file gives came out row for row."""
    if not spec.reference:
        return "unknown"
    same = all(parts[name].digest == reference.rows_sha256 for name, reference in spec.reference.items())
    return "match" if same else "differs"
