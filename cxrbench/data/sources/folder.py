"""Data of one's own: a folder for each class, at the data root or in folders train, valid and test there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from cxrbench.data.listing import IMAGE_SUFFIXES, Listing, image_stem, is_folder, listing
from cxrbench.data.own_split import by_shares, order_of
from cxrbench.data.sources.base import LabelledParts, assembled
from cxrbench.data.splits import table
from cxrbench.errors import DataError
from cxrbench.specs.own_data import ANY, PARTS, FolderData, RatioSplit
from cxrbench.specs.task import TaskSpec
from cxrbench.store.folded_names import folded, near
from cxrbench.types import Findings, Partition

_SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of a data set by part ("" where no folder says one) and by folder of a class.

    `loose` files lie in no folder of a class.
    """

    files: Mapping[tuple[str, str], Sequence[str]]
    loose: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that folders say, in their order."""
        return tuple(part for part in PARTS if any(part == own for own, _ in self.files))

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of the folders of classes."""
        return tuple(sorted({name for _, name in self.files}))


def locate(root: Path) -> Path:
    """The data root itself; DataError where there is none."""
    if not is_folder(root):
        raise DataError(
            f"{root}: there is no such folder. Name the one that holds the classes' folders as `root`, or by "
            "--data-root."
        )
    return root


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split from the names of folders and files; rows of a part are in the order of their paths."""
    return _labelled(folder, _listed(folder, task, None, False), task, split)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    listed = _listed(folder, task, cache, survey)
    labelled = _labelled(folder, listed, task, split)
    ids = [name for part in labelled.parts.values() for name in part.ids]
    findings = Findings(notes=tuple(f"{name}: this could not be read" for name in listed.unreadable))
    return assembled(task, split, labelled, {name: folder / name for name in ids}, findings, folder)


def _listed(folder: Path, task: TaskSpec, cache: Path | None, afresh: bool) -> Listing:
    skip = frozenset(name.casefold() for name in _described(task).skip)
    return listing(folder, skip, cache, afresh)


def _described(task: TaskSpec) -> FolderData:
    return task.folder or FolderData()


def sort_files(folder: Path, listed: Listing, columns: Sequence[str] = ()) -> Shelf:
    """The images of a folder by part and class.

    Raises DataError where folders of classes (`columns`) lie beside those of parts.
    """
    images = [file for file in listed.files if _is_image(file)]
    tops = {file.partition("/")[0] for file in images if "/" in file}
    above = {top for top in tops if top.casefold() in _SPELLINGS and top not in columns}
    if above and tops & set(columns):
        raise DataError(
            f"{folder}: has folders of parts ({', '.join(sorted(above))}) beside folders of classes "
            f"({', '.join(sorted(tops & set(columns)))}). Move one of the two elsewhere."
        )
    files: dict[tuple[str, str], list[str]] = {}
    loose = 0
    for file in images:
        steps = file.split("/")
        part = _SPELLINGS[steps.pop(0).casefold()] if steps[0] in above else ""
        if len(steps) < 2 or (above and not part):
            loose += 1
        else:
            files.setdefault((part, steps[0]), []).append(file)
    return Shelf(files, loose)


def _is_image(file: str) -> bool:
    name = file.rpartition("/")[2]
    return PurePath(name).suffix.casefold() in IMAGE_SUFFIXES or image_stem(name) == name


def _labelled(folder: Path, listed: Listing, task: TaskSpec, split: str) -> LabelledParts:
    shelf = sort_files(folder, listed, task.columns)
    left_out = Counter({"the file is in no folder of a class": shelf.loose} if shelf.loose else {})
    ids, index, parts = list[str](), list[int](), list[str]()
    for (part, name), files in shelf.files.items():
        if name in task.columns:
            ids += files
            index += [task.columns.index(name)] * len(files)
            parts += [part] * len(files)
        else:
            _require_ignored(folder, name, task)
            left_out[f"folder {name!r} is no class"] += len(files)
    numbers = np.array(index, dtype=np.int64)
    labels = (numbers[:, None] == np.arange(len(task.classes))).astype(np.int8)
    chosen = np.array(parts, dtype=object)
    if not shelf.parts:
        chosen = by_shares(ids, labels, task.split(split).parameters(RatioSplit))
    order = order_of(ids)
    made = {
        name: table(ids, numbers, rows, task.classes)
        for name in PARTS
        if len(rows := order[chosen[order] == name] if len(order) else order)
    }
    for label in task.labels:
        for part in ("train", "test"):
            if part not in made or not made[part].counts[label.name]:
                _refuse_empty(folder, shelf, part, label.name, label.column)
    return LabelledParts(made, frozenset(listed.files), left_out=dict(left_out))


def _require_ignored(folder: Path, name: str, task: TaskSpec) -> None:
    ignore = _described(task).ignore
    if name in ignore or ANY in ignore:
        return
    close = [column for column in task.columns if folded(column) == folded(name)]
    hint = f" {close[0]!r} differs from it in letter case or Unicode form only." if close else ""
    raise DataError(
        f"{folder}: folder {name!r} is none of the classes {', '.join(task.columns[:_SHOWN])}.{hint} Name it among the "
        "labels, or as `ignore` in the section [folder] of the task."
    )


def _refuse_empty(folder: Path, shelf: Shelf, part: str, name: str, column: str) -> None:
    there = ", ".join(shelf.folders[:_SHOWN]) or "none"
    close = near([column], shelf.folders)
    hint = f" Is {close[column]!r} the one?" if column in close else ""
    where = f"folder {column!r} in a folder {part}" if shelf.parts else f"folder {column!r} (part {part})"
    raise DataError(
        f"{folder}: class {name} has no image: looked for a {where}; folders of classes here: {there}.{hint}"
    )
