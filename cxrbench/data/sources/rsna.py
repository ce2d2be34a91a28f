"""RSNA Pneumonia Detection Challenge 2018, in the layouts of Kaggle, of PNG and JPEG copies, and of MD.ai."""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import is_file, stem_key
from cxrbench.data.search import has_table, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, class_numbers, partition, rule_of
from cxrbench.data.splits import (
    HashQuotas,
    ThreeParts,
    TooFewError,
    by_hash,
    from_the_top,
    random_pair,
    share,
    table,
    three_parts,
)
from cxrbench.errors import DataError
from cxrbench.specs.task import SplitSpec, TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import IntArray, Partition

FILE = "pneumonia-challenge-dataset-mappings_2018.json"
_TABLE, _ERROR = "rsna_to_nih", "mse"
DOUBTFUL = 10.0  # mean squared error of small grey squares: about 1.2 of one picture, above 30 of unrelated ones


@dataclass(frozen=True, slots=True)
class Mapped:
    """Image id to NIH file name, and, where the file gives them, to the SOP instance UID of the MD.ai export.

    `doubtful`: images that a table of matched pictures gives with an error above `DOUBTFUL`.
    """

    path: Path
    nih: Mapping[str, str]
    uids: Mapping[str, str] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()

    def patient(self, image: str) -> str:
        """The NIH patient (first eight characters); an image that is not mapped is a patient of its own."""
        return self.nih[image][:8] if image in self.nih else f"image:{image}"


def mapping(folder: Path) -> Mapped | None:
    """RSNA's own mapping file, or a table `rsna_to_nih.csv` (patientId, nih_image_index; mse too where pictures were
    matched); None if neither is there.

    Raises DataError if the file is not what its name says, or if there is only one of nearly that name.
    """
    path = folder / FILE
    if is_file(path):
        return _from_json(path)
    table = csv_tables.named(folder, _TABLE)
    if table is None:
        if hint := csv_tables.near_hint(folder, _TABLE):
            raise DataError(f"{folder}: there is no {_TABLE}.csv.{hint}")
        return None
    matched = _ERROR in csv_tables.header(table)
    rows = csv_tables.read_table(table, ("patientId", "nih_image_index", *([_ERROR] if matched else ())))
    csv_tables.distinct(table, rows, "patientId")
    ids = csv_tables.bare_ids(table, rows, "patientId")[0]
    nih = dict(zip(ids, rows["nih_image_index"], strict=True))
    return Mapped(table, nih, doubtful=_doubtful(table, ids, rows[_ERROR]) if matched else frozenset())


def _doubtful(path: Path, images: Iterable[str], errors: Iterable[str]) -> frozenset[str]:
    try:
        return frozenset(image for image, error in zip(images, errors, strict=True) if not float(error) <= DOUBTFUL)
    except ValueError as fault:
        raise DataError(f"{path}: column {_ERROR} holds what is no number: {fault}") from fault


def _from_json(path: Path) -> Mapped:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        entries = json.loads(data)
        if not isinstance(entries, list) or not entries:
            raise ValueError("no list, or an empty one")
        nih = {str(entry["subset_img_id"]): str(entry["img_id"]) for entry in entries}
        uids = {str(e["subset_img_id"]): str(e["SOPInstanceUID"]) for e in entries if e.get("SOPInstanceUID")}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: is no list of entries with subset_img_id and img_id ({error}). Download it again."
        ) from error
    return Mapped(path, nih, uids)


_NORMAL, _OPACITY, _OTHER = "Normal", "Lung Opacity", "No Lung Opacity / Not Normal"
_CLASSES = (_NORMAL, _OPACITY)  # 0 and 1 of every index here; without boxes and with, where targets are read


@dataclass(frozen=True, slots=True)
class RsnaRows:
    """Rows of one label table; `index` (n,) is 0 or 1, or -1 for a row of neither class; `found` are its totals."""

    path: Path
    ids: tuple[str, ...]
    index: IntArray
    found: Mapping[str, int]
    notes: tuple[str, ...] = ()


def targets(path: Path) -> RsnaRows:
    """`stage_2_train_labels.csv`: a row a box, 1 with a box and 0 without; raises DataError on contradictions."""
    rows = csv_tables.read_table(path, ("patientId", "Target"))
    ids, notes = csv_tables.bare_ids(path, rows, "patientId")
    index = csv_tables.labels(path, rows, "Target")
    csv_tables.agreeing(path, ids, index.tolist(), "Target")
    positive = {name for name, value in zip(ids, index, strict=True) if value == 1}
    images = len(set(ids))
    found = {
        "train_images": images,
        "label_rows": len(ids),
        "target_1_images": len(positive),
        "target_0_images": images - len(positive),
    }
    return RsnaRows(path, ids, index, found, notes)


def kinds(path: Path) -> RsnaRows:
    """`stage_2_detailed_class_info.csv`: a row a box, Normal 0, Lung Opacity 1, the third kind -1."""
    rows = csv_tables.read_table(path, ("patientId", "class"))
    csv_tables.one_of(path, rows, "class", (_NORMAL, _OPACITY, _OTHER))
    ids, notes = csv_tables.bare_ids(path, rows, "patientId")
    names = rows["class"].tolist()
    csv_tables.agreeing(path, ids, names, "class")
    by_image = list(dict(zip(ids, names, strict=True)).values())
    found = {
        "train_images": len(by_image),
        "label_rows": len(ids),
        "class_Normal": by_image.count(_NORMAL),
        "class_Lung_Opacity": by_image.count(_OPACITY),
        "class_No_Lung_Opacity_Not_Normal": by_image.count(_OTHER),
    }
    number = {_NORMAL: 0, _OPACITY: 1, _OTHER: -1}
    return RsnaRows(path, ids, np.array([number[name] for name in names], dtype=np.int64), found, notes)


def of_the_two_classes(rows: RsnaRows) -> RsnaRows:
    """The rows that belong to a class, in table order."""
    keep = np.flatnonzero(rows.index >= 0)
    return replace(rows, ids=tuple(rows.ids[row] for row in keep), index=rows.index[keep])


def images(rows: RsnaRows) -> RsnaRows:
    """One row an image, sorted by id; rows of neither class drop out."""
    index_of = {name: value for name, value in zip(rows.ids, rows.index.tolist(), strict=True) if value >= 0}
    ids = tuple(sorted(index_of))
    return replace(rows, ids=ids, index=np.array([index_of[name] for name in ids], dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Drawn:
    """The rows that a draw speaks of, and the row numbers of each part."""

    rows: RsnaRows
    parts: dict[str, IntArray]


class Sampled(Spec):
    """The first `per_class` positives and as many negatives drawn by Python's random with `sample_seed`; then
    `test_share` of them, drawn with `split_seed`, is test.
    """

    per_class: int
    sample_seed: int
    test_share: float
    split_seed: int


class SampledRows(Sampled):
    """`positions`: the drawn positions count the rows of both classes (`after`), or, as the released code has it, are
    looked up among row numbers from before the third kind was dropped (`before`).
    """

    positions: Literal["before", "after"]


class PatientQuotas(HashQuotas):
    """As HashQuotas; a patient whose share under `patient_salt` is below `test_share` is on the test side."""

    patient_salt: str
    test_share: float


def thirds(rows: RsnaRows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """One row an image, sorted by id: 70 / 15 / 15 %."""
    chosen = images(rows)
    return Drawn(chosen, three_parts(chosen.index, spec.parameters(ThreeParts)))


def sampled_images(rows: RsnaRows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """One row an image, sorted by id; a balanced sample in that order, then train and test."""
    rule = spec.parameters(Sampled)
    chosen = images(rows)
    return Drawn(chosen, _pair(np.sort(_balanced(chosen, rule)), rule))


def sampled_rows(rows: RsnaRows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """Rows of the table (boxes); a balanced sample in table order, then train and test: images can be in both."""
    rule = spec.parameters(SampledRows)
    chosen = of_the_two_classes(rows)
    sample = np.sort(_balanced(chosen, rule))
    if rule.positions == "before":
        numbers_before = np.flatnonzero(rows.index >= 0)
        sample = np.flatnonzero(np.isin(numbers_before, sample))
    return Drawn(chosen, _pair(sample, rule))


def hash_rank(rows: RsnaRows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """One row an image; quotas by hash rank."""
    chosen = images(rows)
    return Drawn(chosen, by_hash(chosen.ids, chosen.index, spec.parameters(HashQuotas), ("Normal", "Pneumonia")))


def hash_rank_by_patient(rows: RsnaRows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """As `hash_rank`, each patient on one side; raises DataError without the mapping to NIH patients."""
    rule = spec.parameters(PatientQuotas)
    chosen = images(rows)
    if mapped is None:
        raise DataError(
            f"{rows.path.parent}: this split keeps patients apart, and RSNA's patientId is only an image id. Put "
            f"RSNA's {FILE} (from the challenge page of rsna.org) or a table rsna_to_nih.csv with the columns "
            "patientId and nih_image_index there, or choose the split cxrbench-v1."
        )
    if unknown := [name for name in chosen.ids if name not in mapped.nih]:
        raise DataError(f"{mapped.path}: gives no NIH image for {len(unknown)} images, such as {unknown[0]}.")
    in_test = np.array([share(rule.patient_salt, mapped.patient(name)) < rule.test_share for name in chosen.ids])
    parts: dict[str, IntArray] = {}
    for part, size in rule.parts.items():
        side = np.flatnonzero(in_test == (part == "test"))
        quota = HashQuotas(salt=rule.salt, parts={part: size})
        ids = [chosen.ids[row] for row in side]
        parts |= {part: side[by_hash(ids, chosen.index[side], quota, ("Normal", "Pneumonia"))[part]]}
    return Drawn(chosen, parts)


DRAWS: dict[str, Callable[[RsnaRows, SplitSpec, Mapped | None], Drawn]] = {
    "thirds": thirds,
    "sampled-images": sampled_images,
    "sampled-rows": sampled_rows,
    "hash-rank": hash_rank,
    "hash-rank-by-patient": hash_rank_by_patient,
}
FROM_TARGETS = frozenset({"thirds", "sampled-images"})


def _balanced(rows: RsnaRows, rule: Sampled) -> IntArray:
    positive, negative = np.flatnonzero(rows.index == 1), np.flatnonzero(rows.index == 0)
    top = from_the_top([positive], {"sample": rule.per_class}, ["Pneumonia"])["sample"]
    if len(negative) < rule.per_class:
        raise TooFewError(f"{rows.path}: {len(negative)} negative rows, the split draws {rule.per_class}.")
    drawn = random.Random(rule.sample_seed).sample(range(len(negative)), rule.per_class)
    return np.concatenate([top, negative[drawn]])


def _pair(sample: IntArray, rule: Sampled) -> dict[str, IntArray]:
    train, test = random_pair(len(sample), rule.test_share, rule.split_seed)
    return {"train": sample[train], "test": sample[test]}


_TARGETS = ("stage_2_train_labels", "stage_1_train_labels")
_KINDS = ("stage_2_detailed_class_info", "stage_1_detailed_class_info")


def locate(root: Path) -> Path:
    """The folder that holds one of the challenge's label tables."""
    return located(
        root,
        "RSNA",
        has_table(*_TARGETS),
        has_table(*_KINDS),
        wanted="stage_2_train_labels.csv",
        stems=(*_TARGETS, *_KINDS),
    )


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split; patients where the mapping to NIH ChestX-ray14 is in the folder; see `Source.tables`."""
    return _tables(folder, task, split, mapping(folder))


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`. Images may also lie under the UIDs of the MD.ai export, if the mapping file gives them."""
    folder = locate(root)
    mapped = mapping(folder)
    uids = mapped.uids if mapped else {}
    layout = Layout(
        key=stem_key,
        names=lambda image: (image, uids[image]) if image in uids else (image,),
        unlabelled=frozenset({"stage_2_test_images", "stage_1_test_images"}),
    )
    labelled = _tables(folder, task, split, mapped)
    return partition(task, split, labelled, Disk(root, folder, layout, cache, survey))


def _tables(folder: Path, task: TaskSpec, split: str, mapped: Mapped | None) -> LabelledParts:
    spec = rule_of(task, split, DRAWS)
    stems, read = (_TARGETS, targets) if spec.rule in FROM_TARGETS else (_KINDS, kinds)
    rows = read(csv_tables.required(folder, *stems, why=f"Split {split} is drawn from it."))
    drawn = DRAWS[spec.rule](rows, spec, mapped)
    ids, index = drawn.rows.ids, drawn.rows.index
    patients = [mapped.patient(name) for name in ids] if mapped else None
    shown = class_numbers(task, _CLASSES)
    parts = {name: table(ids, index, part, task.classes, patients, shown) for name, part in drawn.parts.items()}
    old = () if rows.path.name.startswith("stage_2") else (f"labels of stage 1 ({rows.path.name}), not of stage 2",)
    notes = (*old, *rows.notes)
    return LabelledParts(parts, set(rows.ids), rows.found, notes, doubtful=mapped.doubtful if mapped else frozenset())
