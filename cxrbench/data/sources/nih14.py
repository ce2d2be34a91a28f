"""NIH ChestX-ray14 with every finding of an image: NIH's own lists, and the lists that go back to a copy of CheXNet.

Both have a `test_list.txt`, of other images, so a list is told by what stands in it and by its length.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.search import Visited, folders, has_table, located
from cxrbench.data.sources import base
from cxrbench.data.sources.base import Disk, LabelledParts, partition, rule_of
from cxrbench.data.sources.nih_lt import ATTRIBUTES, ENTRIES, LAYOUT, entries
from cxrbench.data.splits import valid_from
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition, Table

_LINE = re.compile(r"(?:\S*/)?(\d{8}_\d{3}\.png)((?:[ \t]+[01]){14})?")
_NOTHING = "No Finding"
_DEPTH = 4
_ORDER = ("train", "valid", "test")


class Lists(Spec):
    """The parts of a split, each by a list of images; rows in the order of their names.

    `parts`: of train, valid and test, from the longest list to the shortest. `lines`: how many lines the list of each
    part has, which is asked of a real data set. `columns`: the findings of the numbers on a line; empty for lists of
    names alone. `labels`: whether the findings are those on the list's lines, or those of the `table` of all images,
    any edition or that of `2020`. Patients whose rank by `salt` lies in the lowest fraction `valid` leave part train
    for part valid.
    """

    parts: tuple[str, ...]
    lines: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    labels: Literal["table", "table-2020", "list"] = "table"
    salt: str = ""
    valid: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageList:
    """A list of images as it stands in its file; `labels` (n, 14) or, for names alone, (n, 0)."""

    path: Path
    ids: tuple[str, ...]
    labels: NDArray[np.int8]

    @property
    def kind(self) -> str:
        """What stands on a line."""
        return "a name and 14 numbers a line" if self.labels.size else "one name a line"


def patient_of(image: str) -> str:
    """The patient of an image: the first eight characters of its name."""
    return image[:8]


def locate(root: Path) -> Path:
    """The folder with NIH's table of all images, else the one with lists that bring their own labels."""

    def labelled(folder: Visited) -> bool:
        texts = [folder.path / name for name in folder.names if _is_text(name)]
        return any((line := _first_line(path)) and _LINE.fullmatch(line) and " " in line for path in texts)

    return located(root, "NIH ChestX-ray14", has_table(*ENTRIES), labelled, wanted=f"{ENTRIES[0]}.csv", stems=ENTRIES)


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split from the lists at or below the folder, or just above it; see `Source.tables`."""
    rule = rule_of(task, split, ("lists",)).parameters(Lists)
    lists = _chosen(_lists(folder), rule, folder)
    path = _table_for(folder, rule)
    told = _findings(path, task) if path else None
    parts = {name: _part(one, rule, told, task) for name, one in lists.items()}
    if rule.valid:
        parts |= valid_from(parts["train"], rule.salt, rule.valid)
    parts = {name: parts[name] for name in _ORDER if name in parts}
    every = told.row if told else {image for one in lists.values() for image in one.ids}
    attributes = base.read(path, "Image Index", ATTRIBUTES) if path else {}
    notes = [*_notes(path, lists, rule, told, task)]
    return LabelledParts(parts, every, told.counts if told else {}, tuple(notes), attributes)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _is_text(name: str) -> bool:
    return name.casefold().endswith(".txt")


def _first_line(path: Path) -> str | None:
    """The first line, stripped; None for what is no text."""
    try:
        with csv_tables.opened(path, strict=False) as text:
            return text.readline().strip()
    except DataError:
        return None


def _lists(folder: Path) -> Iterator[ImageList]:
    """Every list of images in the folder, below it, and beside it; equal ones once."""
    places = [v.path / name for v in folders(folder, _DEPTH) for name in sorted(v.names) if _is_text(name)]
    beside = sorted(path for path in folder.parent.glob("*.[tT][xX][tT]") if path.is_file())
    seen = set[tuple[tuple[str, ...], bytes]]()
    for path in (*places, *beside):
        line = _first_line(path)
        if line is None or not _LINE.fullmatch(line):
            continue
        found = _read_list(path)
        content = (found.ids, found.labels.tobytes())
        if content not in seen:
            seen.add(content)
            yield found


def _read_list(path: Path) -> ImageList:
    """The list, rows by name; raises DataError with the line that is none of its kind, or that stands there twice."""
    rows: dict[str, list[int]] = {}
    width = 0
    with csv_tables.opened(path) as text:
        for number, line in enumerate(text, start=1):
            if not (stripped := line.strip()):
                continue
            found = _LINE.fullmatch(stripped)
            labels = [int(value) for value in (found[2] or "").split()] if found else []
            width = width if rows else len(labels)
            if found is None or len(labels) != width:
                wanted = "a name and 14 numbers of 0 or 1" if width else "one name"
                raise DataError(f"{path}: line {number} is not {wanted}: {stripped[:80]!r}. Download the list again.")
            if found[1] in rows:
                raise DataError(f"{path}: line {number}: {found[1]} stands in the list twice. Download it again.")
            rows[found[1]] = labels
    ids = tuple(sorted(rows))
    return ImageList(path, ids, np.array([rows[name] for name in ids], dtype=np.int8).reshape(len(ids), width))


def _chosen(found: Iterator[ImageList], rule: Lists, folder: Path) -> dict[str, ImageList]:
    """The list of each part, by what stands on a line and by its length, never by its name."""
    lists = list(found)
    own = sorted((one for one in lists if bool(one.labels.size) == bool(rule.columns)), key=lambda one: -len(one.ids))
    if not rule.lines:
        if len(own) != len(rule.parts) or len({len(one.ids) for one in own}) != len(own):
            raise DataError(f"{folder}: the split wants {len(rule.parts)} lists of different lengths.{_seen(lists)}")
        return dict(zip(rule.parts, own, strict=True))
    return {
        part: _of_length(own, lines, part, lists, folder) for part, lines in zip(rule.parts, rule.lines, strict=True)
    }


def _of_length(own: Sequence[ImageList], lines: int, part: str, lists: Sequence[ImageList], folder: Path) -> ImageList:
    fitting = [one for one in own if len(one.ids) == lines]
    if len(fitting) > 1:
        paths = " and ".join(str(one.path) for one in fitting)
        raise DataError(f"{paths}: both could be the list of part {part}, and they differ. Take the wrong one away.")
    if not fitting:
        raise DataError(
            f"{folder}: part {part} of this split is a list of {lines:,} images, and none is there, below it or beside "
            f"it.{_seen(lists)} Lists of one name are told apart by what stands in them: put the right one there."
        )
    return fitting[0]


def _seen(lists: Sequence[ImageList]) -> str:
    told = "; ".join(f"{one.path} ({len(one.ids):,}, {one.kind})" for one in lists)
    return f" There is {told}." if told else " There is no list of NIH's images."


def _table_for(folder: Path, rule: Lists) -> Path | None:
    """The table of all images; may be absent where the lists bring the labels."""
    if rule.labels == "list":
        return entries(folder)
    wanted = ENTRIES if rule.labels == "table" else ENTRIES[:1]
    path = csv_tables.named(folder, *wanted) or csv_tables.named(folder.parent, *wanted)
    return path or csv_tables.required(folder, *wanted, why="It says what each image shows.")


@dataclass(frozen=True, slots=True)
class _Findings:
    """What the table of all images says: the row of each image, labels (n, C), totals by name."""

    row: Mapping[str, int]
    labels: NDArray[np.int8]
    counts: Mapping[str, int]


def _findings(path: Path, task: TaskSpec) -> _Findings:
    """Raises DataError naming the row of a finding that is no column of the task, or beside `No Finding`."""
    rows = csv_tables.read_table(path, ("Image Index", "Finding Labels"))
    csv_tables.distinct(path, rows, "Image Index")
    meaning: dict[str, list[int]] = {}
    for text in dict.fromkeys(rows["Finding Labels"]):
        names = {name.strip() for name in text.split("|")}
        if not names <= {*task.columns, _NOTHING} or (_NOTHING in names and len(names) > 1):
            where = rows["Finding Labels"].tolist().index(text) + 1
            raise DataError(f"{path}: data row {where}: Finding Labels is {text!r}; known are {_known(task)}.")
        meaning[text] = [int(column in names) for column in task.columns]
    labels = np.array([meaning[text] for text in rows["Finding Labels"]], dtype=np.int8)
    row = {name: number for number, name in enumerate(rows["Image Index"])}
    counts = {"images": len(row), "patients": len(set(map(patient_of, row)))}
    totals = labels.sum(axis=0, dtype=np.int64).tolist()
    return _Findings(row, labels, counts | dict(zip(task.columns, totals, strict=True)))


def _known(task: TaskSpec) -> str:
    return f"{', '.join(task.columns)}, several of them joined by |, or {_NOTHING} alone"


def _part(one: ImageList, rule: Lists, told: _Findings | None, task: TaskSpec) -> Table:
    if rule.labels == "list":
        labels = one.labels[:, [rule.columns.index(column) for column in task.columns]]
    else:
        assert told is not None  # `_table_for` asks for it
        if lost := [name for name in one.ids if name not in told.row]:
            raise DataError(
                f"{one.path}: {len(lost)} images, such as {lost[0]}, have no row in NIH's table of all images. "
                "Are both of one download, and whole?"
            )
        labels = told.labels[[told.row[name] for name in one.ids]]
    return Table(one.ids, labels, task.classes, tuple(map(patient_of, one.ids)))


def _notes(
    path: Path | None, lists: Mapping[str, ImageList], rule: Lists, told: _Findings | None, task: TaskSpec
) -> Iterator[str]:
    if path is None:
        yield f"sex, age and view are not known: there is no {ENTRIES[0]}.csv"
    elif rule.labels == "table" and not path.name.startswith(ENTRIES[0]):
        yield f"labels are those of {path.name}; {ENTRIES[0]}, a later edition, may have others"
    if rule.columns and told is not None and path is not None:
        others = [_differing(one, rule, told, task) for one in lists.values()]
        images = sum(len(one.ids) for one in lists.values())
        if sum(others):
            shown = f"{sum(others):,} of {images:,} images"
            yield f"the lists and {path.name} give {shown} other labels; taken are those of the {rule.labels}"


def _differing(one: ImageList, rule: Lists, told: _Findings, task: TaskSpec) -> int:
    """Images of a list to which the table of all images gives other labels."""
    both = [place for place, name in enumerate(one.ids) if name in told.row]
    order = [rule.columns.index(column) for column in task.columns]
    own = one.labels[np.ix_(both, order)]
    return int((own != told.labels[[told.row[one.ids[place]] for place in both]]).any(axis=1).sum())
