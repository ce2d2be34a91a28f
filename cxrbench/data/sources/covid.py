"""COVID-19 Radiography Database: the class is the file's name, and there are no label tables."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import Listing, image_stem, listing
from cxrbench.data.search import Visited, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import from_the_top, ranked, table
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import IntArray, Partition, Table

_NAME = re.compile(r"^(covid(?:-19)?|lung[ _]?opacity|normal|viral ?pneumonia)[ -]+\(?(\d+)\)?$", re.IGNORECASE)
_SKIP = frozenset({"masks"})
_LISTS = ("covid_train", "covid_test")


class Sequenced(Spec):
    """Rows class after class in the order of `order`; of each class, sorted by file name, the first images go to the
    first part of `quotas` (part to class to images), the next to the second.

    `salt`: sorted by SHA-256 of `salt:file name` instead.
    """

    order: tuple[str, ...]
    quotas: Mapping[str, Mapping[str, int]]
    salt: str = ""


class Listed(Spec):
    """The two tables that the user supplies; ids are the paths as they stand there."""


def image_id(path: str, task: TaskSpec) -> str | None:
    """`COVID/images/COVID-1.png` from any path or old name of that image; None if the name is none of a class."""
    stem = image_stem(path.rpartition("/")[2])
    found = _NAME.match(stem) if stem else None
    if found is None:
        return None
    wanted = _plain(found[1]).removesuffix("19")
    column = next(column for column in task.columns if _plain(column) == wanted)
    return f"{column}/images/{column}-{int(found[2])}.png"


def locate(root: Path) -> Path:
    """The folder with the class folders COVID, Normal and Viral Pneumonia or Lung_Opacity, however spelt."""

    def sign(folder: Visited) -> bool:
        plain = {_plain(name).removesuffix("19") for name in folder.names}
        return {"covid", "normal"} <= plain and bool({"viralpneumonia", "lungopacity"} & plain)

    return located(root, "COVID-19 Radiography Database", sign, wanted="class folders COVID, Normal, Viral Pneumonia")


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split from the names of the files in the folder; see `Source.tables`."""
    return labelled(folder, _ids(listing(folder, _SKIP), task), task, split)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    listed = listing(folder, _SKIP, cache, afresh=survey)
    layout = Layout(
        key=lambda path: image_id(path, task),
        names=lambda image: (image_id(image, task) or image,),
        skip=_SKIP,
    )
    disk = Disk(root, folder, layout, cache, survey, listed)
    return partition(task, split, labelled(folder, _ids(listed, task), task, split), disk)


def labelled(folder: Path, ids: Sequence[str], task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split out of these ids; `folder` may hold the author's lists."""
    spec = rule_of(task, split, ("author-list", "sequenced"))
    index = np.array([_class_of(name, task) for name in ids], dtype=np.int64)
    found = {label.name: int((index == number).sum()) for number, label in enumerate(task.labels)}
    found["all"] = len(ids)
    if spec.rule == "author-list":
        spec.parameters(Listed)
        parts = {name.removeprefix("covid_"): _author(folder, name, task, split) for name in _LISTS}
        return LabelledParts(parts, {*ids, *(name for part in parts.values() for name in part.ids)}, found)
    return _sequenced(ids, index, task, spec.parameters(Sequenced), found)


def _sequenced(
    ids: Sequence[str], index: IntArray, task: TaskSpec, rule: Sequenced, found: dict[str, int]
) -> LabelledParts:
    position = {name: row for row, name in enumerate(ids)}
    rows: dict[str, list[int]] = {}
    for name in rule.order:
        own = [ids[row] for row in np.flatnonzero(index == task.classes.index(name)).tolist()]
        quotas = {part: sizes[name] for part, sizes in rule.quotas.items()}
        taken = from_the_top([[position[image] for image in _arranged(own, rule.salt)]], quotas, [name])
        for part, numbers in taken.items():
            rows.setdefault(part, []).extend(numbers.tolist())
    parts = {part: table(ids, index, np.array(rows[part]), task.classes) for part in sorted(rows, reverse=True)}
    return LabelledParts(parts, ids, found)


def _arranged(ids: Sequence[str], salt: str) -> list[str]:
    if not salt:
        return sorted(ids)
    by_name = {name.rpartition("/")[2]: name for name in ids}
    return [by_name[name] for name in ranked(salt, by_name)]


def _author(folder: Path, stem: str, task: TaskSpec, split: str) -> Table:
    path = csv_tables.named(folder, stem)
    if path is None:
        raise DataError(
            f"{folder}: split {split} is the paper author's own choice of files, which no rule gives. Put the "
            "partition files covid_train.csv and covid_test.csv of the DLILP repository there, or choose the split "
            "dlilp-sorted (the same counts, from sorted names) or cxrbench-v1." + csv_tables.near_hint(folder, stem)
        )
    rows = csv_tables.read_table(path, ("Path", *task.classes))
    ids = [spelling.replace("\\", "/") for spelling in rows["Path"]]
    for number, name in enumerate(ids, start=1):
        if image_id(name, task) is None:
            raise DataError(f"{path}: data row {number}: {name!r} is no image name of this data set.")
    labels = np.stack([csv_tables.labels(path, rows, name) for name in task.classes], axis=1)
    return Table(tuple(ids), labels.astype(np.int8), task.classes)


def _ids(listed: Listing, task: TaskSpec) -> list[str]:
    found = (image_id(file, task) for file in listed.files)
    return sorted({name for name in found if name is not None})


def _class_of(image: str, task: TaskSpec) -> int:
    return task.columns.index(image.rpartition("/")[2].rpartition("-")[0])


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())
