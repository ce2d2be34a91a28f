"""How a corpus is made, as named variants: label lists, filters and label cleaning (`tasks/pretraining/`)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import field_validator, model_validator

from cxrbench.errors import SpecError
from cxrbench.specs import paths
from cxrbench.specs.catalog import unknown
from cxrbench.store import digest
from cxrbench.store.schema import Spec, read_toml

SourceName = Literal["CHEXPERT", "MIMIC", "PADCHEST"]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)  # in assembly order
_LISTS, _OVERLAP = "lists", "overlap"  # fact files that are no variants


class CategoryList(Spec):
    """One named list of categories, in lower case."""

    about: str
    names: tuple[str, ...]

    @model_validator(mode="after")
    def _distinct(self) -> "CategoryList":
        if len(set(self.names)) != len(self.names) or any(name != name.strip().lower() for name in self.names):
            raise ValueError("names must be distinct, in lower case and without blanks at their ends")
        return self


class CategoryLists(Spec):
    """`tasks/pretraining/lists.toml`."""

    lists: Mapping[str, CategoryList]

    def names(self, name: str) -> tuple[str, ...]:
        """The names of a list; raises SpecError with the nearest lists."""
        if name not in self.lists:
            raise unknown("category list", name, self.lists)
        return self.lists[name].names


class LabelRule(Spec):
    """One rule of label cleaning: where `search` (a regular expression) fits, the label `becomes` or `adds` a name."""

    search: str
    becomes: str | None = None
    adds: str | None = None

    @field_validator("search")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _one(self) -> "LabelRule":
        if (self.becomes is None) == (self.adds is None):
            raise ValueError("a rule has either `becomes` or `adds`")
        return self


class CheXpertRule(Spec):
    """`tables`: stems of label tables, the first that is there; `positive`: which values count as present."""

    tables: tuple[str, ...]
    positive: tuple[float, ...]


class MimicRule(Spec):
    """`views`: values of ViewPosition; `parts`: official parts whose images are taken; `headings`: of the sections of a
    raw report that are read, by kind.
    """

    views: tuple[str, ...]
    parts: tuple[str, ...]
    headings: Mapping[str, tuple[str, ...]]


class PadChestRule(Spec):
    """`projections`: values of Projection; `ignored`: words in Labels that are no label; `rules`: see `LabelRule`."""

    projections: tuple[str, ...]
    ignored: tuple[str, ...]
    rules: tuple[LabelRule, ...]


class CorpusVariant(Spec):
    """One way of making a corpus. `classes` and `spaces` name lists of `lists.toml`."""

    name: str
    title: str
    classes: str
    spaces: Mapping[SourceName, str]
    chexpert: CheXpertRule
    mimic: MimicRule
    padchest: PadChestRule

    @model_validator(mode="after")
    def _complete(self) -> "CorpusVariant":
        if set(self.spaces) != set(SOURCES):
            raise ValueError(f"[spaces] names a list for each of {', '.join(SOURCES)}")
        return self

    @property
    def digest(self) -> str:
        """Hex SHA-256 over everything but name and title."""
        return digest.of_json(self.model_dump(mode="json", exclude={"name", "title"}))


class SharedPatients(Spec):
    """Whether an evaluation set and a source can show the same patients, and how that is known."""

    kind: Literal["same", "apart", "untold"]
    why: str


class SharedPatientsByTask(Spec):
    """`tasks/pretraining/overlap.toml`."""

    tasks: Mapping[str, Mapping[SourceName, SharedPatients]]

    def of(self, task: str, source: SourceName) -> SharedPatients:
        """What is known of the pair; `untold` for a task that the file does not name."""
        nothing = SharedPatients(kind="untold", why=f"nothing is recorded on where the images of {task} come from")
        return self.tasks.get(task, {}).get(source, nothing)


def shared_patients() -> SharedPatientsByTask:
    """How evaluation sets and sources are related."""
    return read_toml(paths.folder("tasks") / "pretraining" / f"{_OVERLAP}.toml", SharedPatientsByTask)


def lists() -> CategoryLists:
    """The category lists that ship with the package."""
    return read_toml(paths.folder("tasks") / "pretraining" / f"{_LISTS}.toml", CategoryLists)


def variant_files() -> dict[str, Path]:
    """Corpus variants by name."""
    found = sorted((paths.folder("tasks") / "pretraining").glob("*.toml"))
    return {path.stem: path for path in found if path.stem not in {_LISTS, _OVERLAP}}


def corpus_variant(name: str) -> CorpusVariant:
    """A variant by name, or by the path of a TOML file; raises SpecError with the nearest names."""
    files = variant_files()
    path = Path(name) if name.endswith(".toml") else files.get(name)
    if path is None:
        raise unknown("corpus variant", name, files)
    found = read_toml(path, CorpusVariant)
    if found.name != path.stem:
        raise SpecError(f"{path}: is named {found.name!r}; name and file name must agree")
    return found


def label_spaces(variant: CorpusVariant) -> tuple[tuple[str, ...], dict[SourceName, tuple[int, ...]]]:
    """All classes, and the indices (ascending) of each source's label space among them.

    A listed name that is no class, as the fused PadChest pair, has no index. Raises SpecError where nothing is left.
    """
    known = lists()
    classes = known.names(variant.classes)
    index = {name: number for number, name in enumerate(classes)}
    spaces = {}
    for source in SOURCES:
        names = known.names(variant.spaces[source])
        spaces[source] = tuple(sorted(index[name] for name in names if name in index))
        if not spaces[source]:
            raise SpecError(f"variant {variant.name}: no name of {variant.spaces[source]} is in {variant.classes}")
    return classes, spaces
