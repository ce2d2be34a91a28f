"""Data of one's own, as a task file describes it: a table of labels, or a folder for each class; and what may be left
out of such a file.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cxrbench.store.schema import Spec

Drop = Literal["blank", "uncertain", "other", "none", "several", "patient"]
PARTS = ("train", "valid", "test")
ANY = "*"  # in a list of values: every other one


class CsvData(Spec):
    """`[csv]`: a table (CSV, TSV or Parquet) with a row an image.

    `table` and `test_table`, whose rows are the part `test`, lie below the data root, as do the `images`. `image` is
    the column with a path (relative to the table, to `images` or to the data root, or absolute) or an id that is the
    file's name. Labels stand in the column `label`, one word or several with a `separator` between them; without it
    each label of the task has a column of 0 and 1. `spellings` replaces whole words of the table, `ignore` are words
    that count as no label (`*`: all others). `uncertain` is a rule of `cxrbench.data.uncertain` for -1 and blank.
    `drop` says which rows are left out, with a count, instead of refused: labels that are blank, uncertain (-1) or
    none of the task's (`other`), rows where none or several of a single-label task's labels hold, or without a
    patient.
    """

    table: str
    test_table: str | None = None
    image: str
    images: str = "."
    label: str | None = None
    separator: str | None = Field(None, min_length=1)
    spellings: Mapping[str, str] = Field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    uncertain: str = "refuse"
    drop: tuple[Drop, ...] = ()
    patient: str | None = None
    sex: str | None = None
    age: str | None = None
    view: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.label is None and (self.separator is not None or self.ignore):
            raise ValueError("separator and ignore belong to a column `label`, and there is none")
        return self


class FolderData(Spec):
    """`[folder]`: a folder a class, at the data root or in folders train, valid and test there.

    Folders beside those of the classes are refused unless `ignore` names them (`*`: all); folders named in `skip` are
    not entered, wherever they lie.
    """

    ignore: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


class RatioSplit(Spec):
    """Shares of the images, or of the patients where they are known, by hash rank; see `data.own_split`."""

    seed: int = 0
    train: float = Field(0.7, ge=0, le=1)
    valid: float = Field(0.0, ge=0, le=1)
    test: float = Field(0.3, ge=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.valid + self.test - 1) > 1e-9:
            raise ValueError("train, valid and test must add up to 1")
        return self


class ColumnSplit(Spec):
    """A column says the part: which of its values mean which, `*` every other one; rows of `leave_out` are left out."""

    column: str
    train: tuple[str, ...] = ("train",)
    valid: tuple[str, ...] = ("valid", "val")
    test: tuple[str, ...] = ("test",)
    leave_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        values = [*self.train, *self.valid, *self.test, *self.leave_out]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"{twice[0]!r} stands for two parts")
        return self


RULES: Mapping[str, Mapping[str, type[Spec]]] = {
    "csv": {"ratios": RatioSplit, "column": ColumnSplit},
    "folder": {"folders": RatioSplit},
}


def with_defaults(facts: Any) -> Any:
    """A task's facts with what its file may leave out: all but name, source and labels for data of one's own."""
    if not isinstance(facts, Mapping) or not isinstance(facts.get("labels"), list | tuple):
        return facts
    labels = [{"name": one, "column": one} if isinstance(one, str) else one for one in facts["labels"]]
    filled = {**_told(facts), **facts, "labels": labels}
    if "groups" not in facts:
        filled["groups"] = {"all": [name for one in labels if (name := _name(one)) is not None]}
    if facts.get("source") in RULES and "splits" not in facts:
        filled["splits"] = {"own": _split(facts)}
    return filled


def _name(label: Any) -> Any:
    return label.get("name") if isinstance(label, Mapping) else getattr(label, "name", None)


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    name = facts.get("name", "")
    table = facts.get("csv")
    column = table.get("patient") if isinstance(table, Mapping) else getattr(table, "patient", None)
    known = {"kind": "patient", "rule": f"column {column} of the table"}
    return {
        "title": name,
        "data_set": facts.get("title", name),
        "licence": "not stated",
        "get": "Its task file says where it lies.",
        "pool": "not stated",
        "patients": known if column else {"kind": "image", "rule": "none recorded, so patients cannot be kept apart"},
        "folds": "external-test",
    }


def _split(facts: Mapping[str, Any]) -> dict[str, Any]:
    if facts["source"] == "folder":
        return {"title": "the folders train, valid and test; without them, by hash rank", "rule": "folders"}
    table, valid = facts.get("csv"), 0.1 if facts.get("kind") == "multi-label" else 0.0
    two = isinstance(table, Mapping) and table.get("test_table") is not None
    test = 0.0 if two else 0.3
    shares = {"train": round(1 - valid - test, 3), "valid": valid, "test": test}
    title = "the table for tests is the part test" if two else "by hash rank, patients together where they are known"
    return {"title": title, "rule": "ratios", "params": shares}
