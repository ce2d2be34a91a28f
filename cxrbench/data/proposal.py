"""A task file for data of one's own, proposed from what lies there: tried before it is handed over."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrbench.data import any_table, joining
from cxrbench.data.guesses import Guesses, LabelGuess, guess_labels, guess_persons, guess_split
from cxrbench.data.listing import Listing, is_file, is_folder, listing
from cxrbench.data.sources import csv
from cxrbench.data.sources import folder as folders
from cxrbench.data.sources.base import load_partition
from cxrbench.data.tables import SEPARATORS
from cxrbench.errors import DataError, SpecError
from cxrbench.specs.task import TaskSpec, lying_in
from cxrbench.types import Partition, Table

if TYPE_CHECKING:
    import pandas as pd

_LOOKED_AT = 1000  # rows by which the column of the images is found
_LEAST = {"train": 2, "test": 1}  # images of a class; the released draw stops at a single one to train on
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Proposal:
    """The text of a task file, what was guessed and why, in lines, and what the task is on this disk."""

    text: str
    task: TaskSpec
    reasons: tuple[str, ...]
    partition: Partition


def propose_table(
    table: Path, images: Path | None, out: Path, label: str | None = None, image: str | None = None
) -> Proposal:
    """A task from a table of labels whose images lie below `images` (else below the table's folder).

    `label` and `image` are columns that the user names. Raises DataError for a table of which no task comes, with what
    was looked for.
    """
    names = any_table.column_names(table)
    if strange := [name for name in (label, image) if name is not None and name not in names]:
        raise SpecError(f"{table}: has no column {strange[0]!r}; its columns are {', '.join(map(repr, names))}")
    if len(names) == 1 and (mark := next((mark for mark in SEPARATORS if mark in names[0]), None)) is not None:
        raise DataError(
            f"{table}: its columns are separated by {SEPARATORS[mark]}, as a spreadsheet saves them: save the table "
            f"with commas, name it .tsv if these are tabs, or put a first line sep={mark} before it."
        )
    rows = any_table.read_columns(table, names)
    root = (images or table.parent).absolute()
    guesses = Guesses()
    _find_images(table.absolute(), rows, root, image, guesses)
    if label is not None and label in guesses.roles.values():
        raise SpecError(f"{table}: column {label!r} names the images, so it has no labels")
    if label is not None:
        guesses.roles["asked"] = label
    guess_persons(rows, guesses)
    guess_split(rows, guesses)
    labels = guess_labels(rows, guesses, label)
    if not isinstance(labels, LabelGuess):
        told = f"any of {', '.join(map(repr, labels))} may" if labels else "none does, by name or values"
        raise DataError(f"{table}: no telling which column has the labels: {told}. Name it by --label COLUMN.")
    facts = _facts(table.absolute(), root, out, guesses, labels)
    labelled_reasons = [*guesses.reasons, *labels.reasons, *_blank_patients(rows, facts)]
    if labels.kind == "single-label":
        labelled_reasons += _without_rare(facts, root, labels)
    else:
        labelled_reasons += _without_absent(facts, root)
    unused = [name for name in names if name not in (*guesses.roles.values(), *labels.columns)]
    if unused:
        labelled_reasons.append(f"not used: {', '.join(map(repr, unused))}")
    return _tried(facts, root, out, labelled_reasons)


def propose_folder(root: Path, out: Path) -> Proposal:
    """A task from a folder that has a folder for each class, below folders train and test or not.

    Raises DataError for a folder of which no task comes.
    """
    if not is_folder(root):
        why = "is a file, not a folder" if is_file(root) else "there is no such folder"
        raise DataError(f"{root}: {why}. Name the folder that holds one folder a class.")
    root = root.absolute()
    shelf = folders.sort_files(root, listing(root))
    counts = {
        name: {part: len(files) for (part, own), files in shelf.files.items() if own == name} for name in shelf.folders
    }
    least = _LEAST if shelf.parts else {"": 4}
    kept = [name for name, there in counts.items() if all(there.get(part, 0) >= n for part, n in least.items())]
    if len(kept) < 2:
        told = ", ".join(f"{name} {sum(there.values())}" for name, there in counts.items()) or "none"
        raise DataError(
            f"{root}: two classes are needed, each a folder of at least 4 images (or 2 in train and 1 in test); "
            f"folders with images: {told}."
        )
    facts: dict[str, Any] = {"name": out.stem, "source": "folder", "root": _from(out, root)}
    facts["labels"] = [_short({"name": name.replace("_", " "), "column": name}) for name in kept]
    reasons = [f"labels: {len(kept)} folders with images: {', '.join(f'{n} {sum(counts[n].values())}' for n in kept)}"]
    reasons.append(f"parts: the folders {', '.join(shelf.parts)} above the classes" if shelf.parts else _shares(False))
    if ignored := [name for name in counts if name not in kept]:
        facts["folder"] = {"ignore": ignored}
        reasons.append(f"left out: {', '.join(ignored)}, which have too few images")
    return _tried(facts, root, out, reasons)


def _find_images(table: Path, rows: "pd.DataFrame", root: Path, asked: str | None, guesses: Guesses) -> None:
    """The column whose cells name the most files; DataError where none names any."""
    if not is_folder(root):
        raise DataError(f"{root}: there is no such folder with images.")
    listed, places = listing(root), joining.Places(root, (root, table.parent))
    looked = np.unique(np.linspace(0, len(rows) - 1, _LOOKED_AT).astype(int))
    found, refusals = dict[str, int](), dict[str, str]()
    for column in [asked] if asked else rows.columns:
        values = list(dict.fromkeys(value.replace("\\", "/").removeprefix("./") for value in rows[column].iloc[looked]))
        try:
            found[column] = len(joining.meet([value for value in values if value], places, listed)[0])
        except DataError as error:
            refusals[column] = str(error)
    best = max(found, key=found.__getitem__, default=None)
    if best is None or not found[best]:
        raise DataError(
            f"{table}: no column names files in {root} ({_some_files(listed)}). Say where they lie by --images DIR. "
            + next(iter(refusals.values()), "")
        )
    guesses.take("image", best, f"whose cells name files in {root} ({found[best]} of {len(looked)} rows looked at)")


def _some_files(listed: Listing) -> str:
    return f"there are {len(listed.files):,} files" + (f", such as {listed.files[0]}" if listed.files else "")


def _facts(table: Path, root: Path, out: Path, guesses: Guesses, labels: LabelGuess) -> dict[str, Any]:
    told: dict[str, Any] = {
        role: guesses.roles[role] for role in ("image", "patient", "sex", "age", "view") if role in guesses.roles
    }
    within = table.is_relative_to(root)
    described: dict[str, Any] = {
        "table": table.relative_to(root).as_posix() if within else table.as_posix(),
        **told,
        **labels.csv,
    }
    facts: dict[str, Any] = {"name": out.stem, "source": "csv", "root": _from(out, root)}
    if labels.kind == "multi-label":
        facts["kind"] = labels.kind
    facts |= {"labels": [_short(label) for label in labels.labels], "csv": described}
    if guesses.splits:
        facts["splits"] = dict(guesses.splits)
    else:
        guesses.reasons.append(_shares("patient" in guesses.roles, labels.kind == "multi-label"))
    return facts


def _shares(by_patient: bool, multi: bool = False) -> str:
    shares = "60 % train, 10 % valid, 30 % test" if multi else "70 % train, 30 % test"
    who = "patients" if by_patient else "images (no column of patients: one may be on both sides)"
    return f"split: no column or folder says the parts, so {shares} of the {who} by hash rank"


def _blank_patients(rows: "pd.DataFrame", facts: dict[str, Any]) -> list[str]:
    column = facts["csv"].get("patient")
    blank = int((rows[column] == "").sum()) if column else 0
    if blank:
        facts["csv"]["drop"] = [*facts["csv"].get("drop", []), "patient"]
    return [f"patient: {blank:,} rows without one are left out"] if blank else []


def _without_absent(facts: dict[str, Any], root: Path) -> list[str]:
    """Leave findings out that no image to train on, or none to score, shows; DataError where none stays."""
    spec = _spec(facts, root)
    parts = csv.read_parts(root, spec, next(iter(spec.splits))).parts
    counted = {name: {part: parts[part].counts[name] for part in _LEAST if part in parts} for name in spec.classes}
    lost = {name: told for name, told in counted.items() if not all(told.values())}
    facts["labels"] = [one for one in facts["labels"] if (one if isinstance(one, str) else one["name"]) not in lost]
    words = {name: " and ".join(f"{n} images in {part}" for part, n in told.items()) for name, told in lost.items()}
    if not facts["labels"]:
        told = "; ".join(f"{name}: {why}" for name, why in words.items())
        raise DataError(f"{facts['csv']['table']}: no finding is shown by images of both train and test: {told}.")
    return [
        f"left out: label {name}, with {why} that show it; another `seed` may part it" for name, why in words.items()
    ]


def _without_rare(facts: dict[str, Any], root: Path, labels: LabelGuess) -> list[str]:
    """Leave classes out of the facts that some part has too few images of; DataError where fewer than two stay."""
    lost: dict[str, str] = {}
    while True:
        spec = _spec(facts, root)
        parts = csv.read_parts(root, spec, next(iter(spec.splits))).parts
        counted = {name: _too_few(parts, name) for name in spec.classes}
        short = {name: why for name, why in counted.items() if why}
        if not short:
            break
        lost |= short
        kept = [one for one in facts["labels"] if (one if isinstance(one, str) else one["name"]) not in short]
        if len(kept) < 2:
            told = "; ".join(f"{name}: {why}" for name, why in lost.items())
            raise DataError(
                f"{facts['csv']['table']}: two classes are needed with at least 2 images to train on and 1 to score, "
                f"of different patients where they are known; too few: {told}."
            )
        facts["labels"] = kept
        if "label" in facts["csv"]:
            facts["csv"]["drop"] = list(dict.fromkeys([*facts["csv"].get("drop", []), "other"]))
        else:
            facts["csv"]["drop"] = list(dict.fromkeys([*facts["csv"].get("drop", []), "none"]))
    return [f"left out: class {name}, {why}" for name, why in lost.items()]


def _too_few(parts: Mapping[str, Table], name: str) -> str:
    there = {part: parts[part].counts[name] if part in parts else 0 for part in _LEAST}
    if all(there[part] >= least for part, least in _LEAST.items()):
        return ""
    return "with " + " and ".join(f"{images} images in {part}" for part, images in there.items())


def _short(label: Mapping[str, str]) -> Any:
    return label["name"] if label["name"] == label["column"] else dict(label)


def _from(out: Path, root: Path) -> str:
    """The root as the file names it: relative where it lies below the file's folder."""
    home = out.absolute().parent
    return root.relative_to(home).as_posix() if root.is_relative_to(home) else root.as_posix()


def _spec(facts: Mapping[str, Any], root: Path) -> TaskSpec:
    return lying_in(TaskSpec.model_validate({**facts, "root": root.as_posix()}), root)


def _tried(facts: dict[str, Any], root: Path, out: Path, reasons: Sequence[str]) -> Proposal:
    """The proposal, whose first split was laid out on this disk."""
    task = _spec(facts, root)
    partition = load_partition(root, task, next(iter(task.splits)))
    return Proposal(write_toml(facts), task, tuple(reasons), partition)


def write_toml(facts: Mapping[str, Any]) -> str:
    """Facts as TOML, a line each: what lies deeper stands in the line of its key."""
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in facts.items())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
