"""SIIM-ACR Pneumothorax 2019: run-length tables with a row for each mask, or the PNG repackaging's image tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import image_stem, stem_key
from cxrbench.data.search import has_table, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, class_numbers, partition, rule_of
from cxrbench.data.splits import HashQuotas, Quotas, ThreeParts, by_hash, from_the_top, random_pair, table, three_parts
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import IntArray, Partition, Table

_STAGE_1, _STAGE_2 = "train-rle", "stage_2_train"
_PNG_TRAIN, _PNG_TEST = "stage_1_train_images", "stage_1_test_images"
_NAMES = ("Normal", "Pneumothorax")
_COLUMNS = ("-1", "EncodedPixels")  # of the labels 0 and 1: what stands in the column, and the column of masks


@dataclass(frozen=True, slots=True)
class SiimRows:
    """Rows in table order; `index` (n,) is 1 with a pneumothorax; `names` gives an image's stem in the repackaging."""

    path: Path
    ids: tuple[str, ...]
    index: IntArray
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class StageQuotas(HashQuotas):
    """As HashQuotas, over the images of stage 1's training set or of both stages."""

    stage: Literal[1, 2]


class AsMany(Spec):
    """Train and valid are drawn, stratified with `seed`, from stage 1's training images; valid is as large as test."""

    seed: int


def masks(path: Path) -> SiimRows:
    """A run-length table: a row a mask, `-1` (with or without a blank) for none.

    Raises DataError if an image is both, or if no row says `-1`: then the table is not the one it should be.
    """
    rows = csv_tables.read_table(path, ("ImageId", "EncodedPixels"))
    ids, notes = csv_tables.bare_ids(path, rows, "ImageId")
    if blank := [name for name, text in zip(ids, rows["EncodedPixels"], strict=True) if not text]:
        raise DataError(f"{path}: {blank[0]} has neither a mask nor -1.")
    index = (rows["EncodedPixels"] != "-1").to_numpy().astype(np.int64)
    csv_tables.agreeing(path, ids, index.tolist(), "pneumothorax")
    if index.all():
        raise DataError(f"{path}: no image is negative (-1). Is this the table of positive images only?")
    return SiimRows(path, ids, index, notes=notes)


def repackaged(path: Path) -> SiimRows:
    """A table of the PNG repackaging: a row an image, with the name of its file."""
    rows = csv_tables.read_table(path, ("new_filename", "ImageId", "has_pneumo"))
    csv_tables.distinct(path, rows, "ImageId")
    csv_tables.distinct(path, rows, "new_filename")
    ids, notes = csv_tables.bare_ids(path, rows, "ImageId")
    names = {i: image_stem(n) or n for i, n in zip(ids, rows["new_filename"], strict=True)}
    return SiimRows(path, ids, csv_tables.labels(path, rows, "has_pneumo"), names, notes)


def locate(root: Path) -> Path:
    """The folder that holds a run-length table, or the repackaging's image tables."""
    stems = (_STAGE_2, _STAGE_1, _PNG_TRAIN)
    return located(
        root,
        "SIIM-ACR",
        has_table(*stems),
        wanted="train-rle.csv, stage_2_train.csv, stage_1_train_images.csv",
        stems=stems,
    )


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split, patients unknown; see `Source.tables`."""
    spec = rule_of(task, split, ("first-rows", "thirds", "as-many", "hash-rank"))
    if spec.rule == "as-many":
        return _as_many(folder, task, spec.parameters(AsMany))
    if spec.rule == "hash-rank":
        rule = spec.parameters(StageQuotas)
        rows = _images(_of_stage(folder, rule.stage))
        parts = by_hash(rows.ids, rows.index, rule, _NAMES)
    else:
        rows = masks(csv_tables.required(folder, _STAGE_1, _STAGE_2, why=f"Split {split} is drawn from its rows."))
        parts = (
            _first_rows(rows, spec.parameters(Quotas))
            if spec.rule == "first-rows"
            else three_parts(rows.index, spec.parameters(ThreeParts))
        )
    return LabelledParts(
        {name: _table(rows, part, task) for name, part in parts.items()},
        set(rows.ids),
        _totals(rows, by_mask=spec.rule != "hash-rank"),
        (f"rows of {rows.path.name}", *rows.notes),
    )


def _table(rows: SiimRows, chosen: IntArray, task: TaskSpec) -> Table:
    return table(rows.ids, rows.index, chosen, task.classes, numbers=class_numbers(task, _COLUMNS))


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`. Files are named by ImageId, or as the repackaging's tables say."""
    folder = locate(root)
    names = _file_names(folder)
    layout = Layout(
        key=stem_key,
        names=lambda image: (image, names[image]) if image in names else (image,),
        skip=frozenset({"masks", "png_masks"}),
        unlabelled=frozenset({"stage_2_images", "dicom-images-test"}),
    )
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, layout, cache, survey))


def _first_rows(rows: SiimRows, rule: Quotas) -> dict[str, IntArray]:
    """Positives before negatives, each in table order."""
    classes = [np.flatnonzero(rows.index == number) for number in (1, 0)]
    return from_the_top(classes, rule.parts, _NAMES[::-1])


def _as_many(folder: Path, task: TaskSpec, rule: AsMany) -> LabelledParts:
    why = "This split is drawn by the file names of the PNG repackaging."
    train = _named_order(repackaged(csv_tables.required(folder, _PNG_TRAIN, why=why)), positives_first=True)
    test = _named_order(repackaged(csv_tables.required(folder, _PNG_TEST, why=why)), positives_first=False)
    one, two = random_pair(len(train.ids), len(test.ids), rule.seed, train.index)
    parts = {name: _table(train, part, task) for name, part in (("train", one), ("valid", two))}
    parts["test"] = _table(test, np.arange(len(test.ids)), task)
    both = _joined(train, test)
    return LabelledParts(parts, set(both.ids), _totals(both), both.notes)


def _named_order(rows: SiimRows, *, positives_first: bool) -> SiimRows:
    order = sorted(range(len(rows.ids)), key=lambda row: rows.names[rows.ids[row]] + ".png")
    if positives_first:
        order.sort(key=lambda row: -rows.index[row])
    return replace(rows, ids=tuple(rows.ids[row] for row in order), index=rows.index[order])


def _of_stage(folder: Path, stage: int) -> SiimRows:
    """The table that lists a stage's images; raises DataError that says which would do."""
    own = csv_tables.named(folder, _STAGE_2 if stage == 2 else _STAGE_1)
    if own is not None:
        return masks(own)
    train = csv_tables.named(folder, _PNG_TRAIN)
    test = csv_tables.named(folder, _PNG_TEST)
    if train is not None and stage == 1:
        return repackaged(train)
    if train is not None and test is not None:
        return _joined(repackaged(train), repackaged(test))
    needed = f"{_STAGE_2}.csv, or both {_PNG_TRAIN}.csv and {_PNG_TEST}.csv" if stage == 2 else f"{_STAGE_1}.csv"
    hint = csv_tables.near_hint(folder, _STAGE_1, _STAGE_2, _PNG_TRAIN, _PNG_TEST)
    raise DataError(f"{folder}: this split is drawn from all images of stage {stage} and needs {needed}.{hint}")


def _joined(one: SiimRows, two: SiimRows) -> SiimRows:
    ids, index = one.ids + two.ids, np.concatenate([one.index, two.index])
    csv_tables.agreeing(two.path, ids, index.tolist(), "has_pneumo")
    return SiimRows(one.path, ids, index, {**one.names, **two.names}, (*one.notes, *two.notes))


def _images(rows: SiimRows) -> SiimRows:
    index_of = dict(zip(rows.ids, rows.index.tolist(), strict=True))
    return replace(rows, ids=tuple(index_of), index=np.array(list(index_of.values()), dtype=np.int64))


def _totals(rows: SiimRows, *, by_mask: bool = False) -> dict[str, int]:
    images: NDArray[np.int64] = _images(rows).index
    both = rows.names and len({name.split("_")[1] for name in rows.names.values()}) > 1
    stage = "stage2" if both or rows.path.name.startswith(_STAGE_2) else "stage1"
    totals = {f"{stage}_images": len(images), f"{stage}_positive_images": int(images.sum())}
    return totals | ({f"{stage}_rows": len(rows.ids)} if by_mask else {})


def _file_names(folder: Path) -> dict[str, str]:
    paths = (csv_tables.named(folder, stem) for stem in (_PNG_TRAIN, _PNG_TEST))
    return {image: name for path in paths if path for image, name in repackaged(path).names.items()}
