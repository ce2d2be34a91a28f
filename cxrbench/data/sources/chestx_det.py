"""ChestX-Det10: boxes of ten findings on ChestX-ray14 pictures, one JSON list a part."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrbench.data.listing import image_stem, is_file, stem_key
from cxrbench.data.search import Visited, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import Shares, holding, ranked
from cxrbench.errors import DataError, UnreadableError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.store.sealed import DamagedError, opened_regular, read_regular
from cxrbench.types import Partition, Table

PARTS = ("train", "test")
# Of ChestX-Det, the later edition with 13 findings and outlines: its files have the same names.
_LATER = frozenset({"Cardiomegaly", "Diffuse Nodule", "Pleural Thickening"})
_AGAIN = "Download it again from the data set's repository."
_MOST_BYTES, _HEAD = 1 << 26, 1 << 16

LAYOUT = Layout(key=stem_key, names=lambda image: (image_stem(image) or image,))


class Files(Spec):
    """The official parts, each in file order."""


class FilesAndRest(Shares):
    """The official test part in file order, the official train part cut and ordered by the hash rank of the image."""


@dataclass(frozen=True, slots=True)
class Boxed:
    """One file: images in file order, and which findings have a box on them."""

    ids: tuple[str, ...]
    found: tuple[frozenset[str], ...]
    notes: tuple[str, ...] = ()


def locate(root: Path) -> Path:
    """The folder that holds `train.json` and `test.json`, first one whose files speak of findings: others have both."""
    return located(root, "ChestX-Det10", _of_findings, _both, wanted="folder with train.json and test.json")


def _both(folder: Visited) -> bool:
    return all(folder.holds(f"{part}.json") for part in PARTS)


def _of_findings(folder: Visited) -> bool:
    if not _both(folder):
        return False
    try:
        with opened_regular(folder.path / "test.json", _MOST_BYTES) as file:
            return b'"syms"' in file.read(_HEAD)
    except (OSError, UnreadableError, DamagedError):
        return False  # it is taken where no other is there, and reading it says why


def boxed(path: Path, columns: Sequence[str]) -> Boxed:
    """The images of one file; `columns` are the findings that are asked for.

    Raises DataError for what is no such list, with the entry, and for the file of another edition.
    """
    entries = _entries(path)
    found = [_findings(path, number, entry) for number, entry in enumerate(entries, start=1)]
    strange: frozenset[str] = frozenset().union(*found) - set(columns)
    if strange & _LATER:
        raise DataError(
            f"{path}: names {', '.join(sorted(strange & _LATER))}: this is ChestX-Det, with 13 findings, which has "
            "other images and labels. Download ChestX-Det10-Dataset."
        )
    ids = [str(entry["file_name"]) for entry in entries]
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise DataError(f"{path}: {twice[0]} stands in more than one entry. {_AGAIN}")
    notes = (f"{path.name}: findings that are none of the task's: {', '.join(sorted(strange))}",) if strange else ()
    return Boxed(tuple(ids), tuple(found), notes)


def _entries(path: Path) -> list[dict[str, Any]]:
    if not is_file(path):
        raise DataError(f"{path.parent}: there is no {path.name}. Download it from the data set's repository.")
    try:
        value = json.loads(read_regular(path, _MOST_BYTES))
    except (UnreadableError, DamagedError) as error:
        raise DataError(f"{path}: {error.reason}. {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON, or cut ({error}). {_AGAIN}") from error
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"{path}: is no list of images with file_name, syms and boxes. {_AGAIN}")
    return value


def _findings(path: Path, number: int, entry: dict[str, Any]) -> frozenset[str]:
    """The findings of one image; one stands in `syms` as often as it has boxes."""
    name, syms, boxes = (entry.get(key) for key in ("file_name", "syms", "boxes"))
    if not isinstance(name, str) or not name:
        raise DataError(f"{path}: entry {number} has no file_name. {_AGAIN}")
    if not isinstance(syms, list) or not all(isinstance(sym, str) for sym in syms):
        raise DataError(f"{path}: entry {number} ({name}): syms is no list of findings. {_AGAIN}")
    if not isinstance(boxes, list) or len(boxes) != len(syms):
        raise DataError(f"{path}: entry {number} ({name}): there is not one box for each of its syms. {_AGAIN}")
    return frozenset(sym.strip() for sym in syms)


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split, patients unknown; a label holds where it has a box; see `Source.tables`."""
    spec = rule_of(task, split, ("files", "files-and-rest"))
    cut = spec.parameters(FilesAndRest) if spec.rule == "files-and-rest" else None
    if cut is None:
        spec.parameters(Files)
    read = {part: boxed(folder / f"{part}.json", task.columns) for part in PARTS}
    if both := sorted(set(read["train"].ids) & set(read["test"].ids)):
        raise DataError(f"{folder}: {both[0]} stands in train.json and in test.json. {_AGAIN}")
    chosen = {part: list(of.ids) for part, of in read.items()}
    if cut:
        official = ranked(cut.salt, chosen.pop("train"))
        chosen = {part: [i for i in official if cut.part_of(i) == part] for part in cut.shares} | chosen
    found = {image: names for of in read.values() for image, names in zip(of.ids, of.found, strict=True)}
    parts = {
        part: Table(tuple(ids), holding([found[image] for image in ids], task.columns), task.classes)
        for part, ids in chosen.items()
    }
    notes = tuple(note for of in read.values() for note in of.notes)
    return LabelledParts(parts, frozenset(found), {part: len(of.ids) for part, of in read.items()}, notes)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))
