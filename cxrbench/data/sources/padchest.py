"""PadChest: its table of label lists, in its ZIP folders or flat, as PNG or converted."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import image_stem, stem_key
from cxrbench.data.search import has_table, located
from cxrbench.data.sources import base
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import Shares, holding
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition, Table

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19"
METHODS = ("Physician", "RNN_model")  # who labelled a row: a radiologist, or a network that read the report
_SHOWN = 3
_COLUMNS = ("ImageID", "PatientID", "Projection", "MethodLabel", "Labels")
_TOLD = ("PatientSex_DICOM", "StudyDate_DICOM", "PatientBirth")  # not needed, and not in every cut table
Projection = Literal["PA", "L", "AP_horizontal", "AP", "COSTAL", "EXCLUDE", "UNK"]

# Image numbers name an image whatever its folder (0 to 54, images) and suffix (.png, .jpeg) are.
LAYOUT = Layout(key=stem_key, names=lambda image: (image_stem(image) or image,))


class Labelled(Spec):
    """Rows labelled by this method, of these projections (all where none is named), in table order: one part, test."""

    method: Literal["Physician", "RNN_model"]
    projections: tuple[Projection, ...] = ()


class LabelledByPatient(Labelled, Shares):
    """As Labelled, cut into parts by the hash rank of the patient."""


def locate(root: Path) -> Path:
    """The folder that holds PadChest's table; raises DataError."""
    return located(root, "PadChest", has_table(TABLE), wanted=f"{TABLE}.csv[.gz]", stems=(TABLE,))


def entries(text: str, where: str) -> list[str]:
    """The strings of a Python-style list in a table's field; raises DataError for anything else."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise DataError(f"{where}: Labels is {text[:80]!r}, not a list of labels. Download the table again.")
    return found


def label_names(text: str, where: str) -> frozenset[str]:
    """The labels of a list as they are spelt, without blanks at their ends and empty strings; raises as `entries`."""
    return frozenset(entry.strip() for entry in entries(text, where)) - {""}


@dataclass(frozen=True, slots=True)
class PadChestRows:
    """Rows that one method labelled, in table order; `labels` (n,) are spelt as in the table.

    `known` are the ids of the whole table, `found` its totals.
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    projections: tuple[str, ...]
    labels: tuple[frozenset[str], ...]
    attributes: base.Attributes
    known: frozenset[str]
    found: Mapping[str, int]


def labelled_rows(path: Path, method: str) -> PadChestRows:
    """The rows of the table with this `MethodLabel`; raises DataError for a row without patient or label list."""
    asked = tuple(name for name in _TOLD if name in csv_tables.header(path))
    table = csv_tables.read_table(path, (*_COLUMNS, *asked))
    csv_tables.distinct(path, table, "ImageID")
    csv_tables.one_of(path, table, "MethodLabel", METHODS)
    known = frozenset(table["ImageID"])
    places = np.flatnonzero(table["MethodLabel"].to_numpy(str) == method)
    rows = {name: [column[place] for place in places] for name in table.columns for column in [table[name].tolist()]}
    if "" in rows["PatientID"]:
        row = places[rows["PatientID"].index("")] + 1
        raise DataError(f"{path}: data row {row}: PatientID is blank. Download the table again.")
    labels = [
        label_names(text, f"{path}: data row {place + 1}")
        for text, place in zip(rows["Labels"], places.tolist(), strict=True)
    ]
    return PadChestRows(
        tuple(rows["ImageID"]),
        tuple(rows["PatientID"]),
        tuple(rows["Projection"]),
        tuple(labels),
        base.understood(rows["ImageID"], _told(rows)),
        known,
        {"table": len(known), method: len(places), f"{method} patients": len(set(rows["PatientID"]))},
    )


def _told(rows: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Sex, view and age as texts (n,), as far as the table has them; age is the year of study less that of birth."""
    told: dict[str, Sequence[str]] = {"view": rows["Projection"]}
    if "PatientSex_DICOM" in rows:
        told["sex"] = rows["PatientSex_DICOM"]
    if {"StudyDate_DICOM", "PatientBirth"} <= rows.keys():
        told["age"] = [_age(*dates) for dates in zip(rows["StudyDate_DICOM"], rows["PatientBirth"], strict=True)]
    return told


def _age(study: str, birth: str) -> str:
    """Years from `20140915` and `1930.0`; empty where either is no date."""
    years = [text[:4] for text in (study, birth) if text[:4].isdecimal()]
    return str(int(years[0]) - int(years[1])) if len(years) == 2 else ""


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split; a label holds where its own name stands in the list; see `Source.tables`."""
    spec = rule_of(task, split, ("labelled", "labelled-by-patient"))
    cut = spec.parameters(LabelledByPatient) if spec.rule == "labelled-by-patient" else None
    rule = cut or spec.parameters(Labelled)
    rows = labelled_rows(csv_tables.required(folder, TABLE), rule.method)
    parts: dict[str, list[int]] = {part: [] for part in (cut.shares if cut else ("test",))}
    for row, (patient, projection) in enumerate(zip(rows.patients, rows.projections, strict=True)):
        if not rule.projections or projection in rule.projections:
            parts[cut.part_of(patient) if cut else "test"].append(row)
    return LabelledParts(
        {part: _part(rows, chosen, task) for part, chosen in parts.items()},
        rows.known,
        rows.found,
        _strangers(rows, task),
        attributes=rows.attributes,
    )


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _part(rows: PadChestRows, chosen: Sequence[int], task: TaskSpec) -> Table:
    ids, patients = (tuple(values[row] for row in chosen) for values in (rows.ids, rows.patients))
    return Table(ids, holding([rows.labels[row] for row in chosen], task.columns), task.classes, patients)


def _strangers(rows: PadChestRows, task: TaskSpec) -> tuple[str, ...]:
    """A note on labels of the rows that the task does not have."""
    strange = sorted(frozenset().union(*rows.labels) - set(task.columns))
    shown = ", ".join(strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
    return (f"{len(strange)} labels of the table are none of the task's: {shown}",) if strange else ()
