"""What a task is: its classes, how it is split, and what is known about its data set (`tasks/NAME.toml`)."""

import difflib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from cxrbench.errors import SpecError
from cxrbench.specs.own_data import RULES, CsvData, FolderData, with_defaults
from cxrbench.store.schema import FactsT, Spec, complaints, read_toml
from cxrbench.types import RETRIEVAL_FORMS, TaskKind, own_report

Digest = Field(pattern="^[0-9a-f]{64}$")
# How many labels a group has at least, and how that is said.
_LEAST: Mapping[TaskKind, tuple[int, str]] = {
    "single-label": (2, "two distinct names"),
    "multi-label": (1, "one name"),
    "retrieval": (0, "names"),
}


class Label(Spec):
    """One class: `name` is its display name and prompt key, `column` its spelling in the data set's own files."""

    name: str
    column: str


class Patients(Spec):
    """What an image can be traced to, and by which rule; `image` means that patients are not known.

    `collection`: whose own ids patients go by, a `pool` of the task's origins. Tasks of one collection name a patient
    alike.
    """

    kind: Literal["patient", "image"]
    rule: str
    collection: str | None = None


class Origin(Spec):
    """Where images of a task come from, for what overlaps with other data sets and with pre-training.

    `pool`: one word for the collection; `images` of the classes `classes` (all where none is named), of the whole data
    set. `letters`: how model cards call the collection as pre-training data. `shares`: the collection's own `images`,
    or no more than the `institution` with it. `known`: how well, by `source`.
    """

    pool: str
    images: int = Field(ge=1)
    classes: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()
    shares: Literal["images", "institution"] = "images"
    known: Literal["recomputed", "published", "assumed"]
    source: str


class Printed(Spec):
    """The row of the paper's Table 1: images (or rows) and classes."""

    train: int
    test: int
    labels: int


class Reference(Spec):
    """One part as it came out of the official label tables: rows, distinct ids, rows per class, and both digests.

    `rows_sha256` is over the ids in row order, `set_sha256` over the sorted distinct ids (see `digest.of_lines`).
    """

    rows: int
    distinct: int
    counts: Mapping[str, int]
    rows_sha256: str = Digest
    set_sha256: str = Digest


class SplitSpec(Spec):
    """One named way of drawing the parts: a rule of the source module and its parameters.

    `decides` names the documented differences between released code and paper that this choice settles; `complete` is
    false where the expected totals of a full download do not apply; `reference_of` says on which files the reference
    parts were computed, and `doubt` why the rows of the paper may yet be others, empty where they are known.
    """

    title: str = ""
    rule: str
    params: Mapping[str, Any] = Field(default_factory=dict)
    decides: tuple[str, ...] = ()
    complete: bool = True
    reference_of: str = ""
    doubt: str = ""
    reference: Mapping[str, Reference] = Field(default_factory=dict)

    def parameters(self, kind: type[FactsT]) -> FactsT:
        """The parameters as the type that the rule takes; raises SpecError for a wrong or unknown one."""
        try:
            return kind.model_validate(dict(self.params))
        except ValidationError as error:
            raise SpecError(f"split rule {self.rule!r}: {complaints(error)}") from error


class TaskSpec(Spec):
    """`tasks/NAME.toml`. The order of `labels` and of each group decides class indices and ties.

    `kind`: in a `single-label` task an image has one class, in a `multi-label` task each label holds or not by itself;
    in a `retrieval` task images and texts are found by each other, and a group is one of `RETRIEVAL_FORMS` with the
    labels that decide what is right (none where only a query's own counterpart is).
    `source` is a module of `cxrbench.data.sources`, or of a package's entry point, whose `options` it reads; sources
    `csv` and `folder` are data of one's own, described in the section of that name. A file of these needs no more than
    name, source and labels, a label being its name where files spell it so (see `own_data`). `root`: the folder of the
    data set, relative to the task's file. `pool` says where the images come from, for contamination between
    data sets, and `origins` says it for programs. `folds`: `resplit` draws `test_percent` of the one table anew in
    every fold, `external-test` has fixed train and test parts. `released_polarity`: what the released reader does to
    grey values, whatever the header says. `printed` is there for the tasks of the paper.
    `expected` counts a complete download; a difference is a note, not an error.
    """

    name: str
    title: str
    kind: TaskKind = "single-label"
    data_set: str
    source: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    csv: CsvData | None = None
    folder: FolderData | None = None
    root: str | None = None
    licence: str
    get: str
    pool: str
    origins: tuple[Origin, ...] = ()
    patients: Patients
    folds: Literal["resplit", "external-test"]
    test_percent: int = Field(0, ge=0, le=99)
    released_polarity: Literal["stored", "negated"] = "stored"
    printed: Printed | None = None
    expected: Mapping[str, int] = Field(default_factory=dict)
    labels: tuple[Label, ...]
    groups: Mapping[str, tuple[str, ...]]
    splits: Mapping[str, SplitSpec] = Field(min_length=1)
    _home: Path | None = PrivateAttr(None)
    _file: str | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, facts: Any) -> Any:
        return with_defaults(facts)

    @model_validator(mode="after")
    def _described(self) -> "TaskSpec":
        if (self.source == "csv") != (self.csv is not None):
            raise ValueError("a section [csv] belongs to source = 'csv', and that needs one")
        if self.folder is not None and self.source != "folder":
            raise ValueError("a section [folder] belongs to source = 'folder'")
        if self.source == "folder" and self.kind == "multi-label":
            raise ValueError("a file lies in one folder, so source = 'folder' is for single-label tasks")
        rules = RULES.get(self.source, {})
        for name, split in self.splits.items() if rules else ():
            if split.rule not in rules:
                raise ValueError(f"splits.{name}: unknown rule {split.rule!r}; known: {', '.join(rules)}")
            try:
                split.parameters(rules[split.rule])
            except SpecError as error:
                raise ValueError(f"splits.{name}.params: {error}") from error
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "TaskSpec":
        if (self.folds == "resplit") != (self.test_percent > 0):
            raise ValueError("test_percent belongs to folds = 'resplit', and only there")
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError("two labels have the same name")
        if self.kind == "retrieval":
            self._require_forms()
        elif "all" not in self.groups:
            raise ValueError("there must be a group 'all'")
        if self.patients.collection not in (None, *(origin.pool for origin in self.origins)):
            raise ValueError(f"patients are of {self.patients.collection!r}, which is the pool of no origin")
        if strange := {name for origin in self.origins for name in origin.classes} - set(names):
            raise ValueError(f"origins name classes that there are not: {sorted(strange)}")
        least, told = _LEAST[self.kind]
        for group, members in self.groups.items():
            if len(members) < least or len(set(members)) != len(members) or not set(members) <= set(names):
                raise ValueError(f"group {group!r} needs at least {told} out of {names}, each once")
        if self.kind != "single-label" and self.folds != "external-test":
            raise ValueError(f"a {self.kind} task has a test part of its own: folds = 'external-test'")
        return self

    def _require_forms(self) -> None:
        """Raise ValueError for a group of a retrieval task that is none."""
        if self.source in RULES:
            raise ValueError("data of one's own cannot be a retrieval task: no such source reads texts")
        if not self.groups or not set(self.groups) <= set(RETRIEVAL_FORMS):
            raise ValueError(f"the groups of a retrieval task are of {', '.join(RETRIEVAL_FORMS)}")
        for form, labels in self.groups.items():
            if own_report(form) == bool(labels):
                raise ValueError(f"group {form!r} needs {'no label' if own_report(form) else 'the labels that decide'}")

    @property
    def word(self) -> str:
        """What a command line calls it: its name, or the path that it was asked for by, quoted for a shell."""
        return self.name if self._file is None else shlex.quote(self._file)

    @property
    def classes(self) -> tuple[str, ...]:
        """Display names of all labels, in label order: the classes of every table of this task."""
        return tuple(label.name for label in self.labels)

    @property
    def columns(self) -> tuple[str, ...]:
        """File spellings of all labels, in label order."""
        return tuple(label.column for label in self.labels)

    def data_root(self, places: Mapping[str, Path]) -> Path | None:
        """The folder at or below which the data set lies: the one named for this task, the file's `root`, the general
        one (`places[""]`), or, of one's own data, the folder of the file; None if there is none.
        """
        stated = None if self.root is None else Path(os.path.normpath((self._home or Path()) / self.root))
        return places.get(self.name) or stated or places.get("") or (self._home if self.source in RULES else None)

    def group(self, name: str) -> tuple[str, ...]:
        """The classes of a group in its order; raises SpecError that names the groups there are."""
        return _known(self.groups, name, f"task {self.name} has no group")

    def split(self, name: str) -> SplitSpec:
        """The split of that name; raises SpecError that names the splits there are."""
        return _known(self.splits, name, f"task {self.name} has no split")


def _known(choices: Mapping[str, Any], name: str, complaint: str) -> Any:
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SpecError(f"{complaint} {name!r}; it has: {', '.join(choices)}.{hint}")


def read_task(path: Path, file: str | None = None, *, installed: bool = False) -> TaskSpec:
    """A task from its TOML file, which `file` says was asked for by this path and not by its name.

    `installed`: the file lies in a package, and its data set elsewhere. Raises SpecError that names the file and what
    is wrong in it.
    """
    task = read_toml(path, TaskSpec)
    task._file = file
    if task.name != path.stem:
        raise SpecError(f"{path}: is named {task.name!r}; name and file name must agree")
    return task if installed else lying_in(task, path.absolute().parent)


def lying_in(task: TaskSpec, folder: Path) -> TaskSpec:
    """The task, whose relative paths are relative to that folder."""
    task._home = folder
    return task
