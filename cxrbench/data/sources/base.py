"""What all data sources share: finding the data set's folder, reading its label tables, joining them with its files."""

import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, cast

from cxrbench.data import phantom_mark, sources, tables
from cxrbench.data.listing import IMAGE_SUFFIXES, Listing, Matches, is_file, listing, matches
from cxrbench.data.search import folders
from cxrbench.data.splits import TooFewError
from cxrbench.errors import DataError, SpecError
from cxrbench.specs import catalog
from cxrbench.specs.task import Reference, SplitSpec, TaskSpec
from cxrbench.store.folded_names import near
from cxrbench.system.contained import containing
from cxrbench.types import Findings, Partition, Table


@dataclass(frozen=True, slots=True)
class Tree:
    """A data set with a folder for each patient, too many folders to be listed for the sake of a few images.

    `below` gives the path of an image from its id (None: the id gives none), below any folder that holds folders
    named like `top`.
    """

    top: re.Pattern[str]
    below: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Layout:
    """How ids and files of a data set meet.

    `key` turns a relative path into a join key (None: no image of this set); `names` gives the join keys under which
    an id may lie; folders in `skip` are not entered; files below a folder in `unlabelled` are no surprise without row.
    With a `tree`, images are first looked for where their ids say. A data set of a few large folders has none: whether
    a kept listing still holds is told by fewer looks than there are images.
    """

    key: Callable[[str], str | None]
    names: Callable[[str], tuple[str, ...]]
    skip: frozenset[str] = frozenset()
    unlabelled: frozenset[str] = frozenset()
    tree: Tree | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a source looks: the user's `root`, the data set's `folder` in it, how ids and files meet there.

    `cache` may keep listings between runs. `survey`: walk the folder, even where every image lies where its id says.
    `listed` is the folder's listing, where the source had to make it.
    """

    root: Path
    folder: Path
    layout: Layout
    cache: Path | None = None
    survey: bool = False
    listed: Listing | None = None

    @property
    def homes(self) -> tuple[Path, ...]:
        """The data set's folder, and the one above it, in which images may lie beside the tables."""
        inside = self.folder != self.root and self.folder.is_relative_to(self.root)
        return (self.folder, self.folder.parent) if inside else (self.folder,)


@dataclass(frozen=True, slots=True)
class Survey:
    """A whole folder: what it holds, and its files by join key."""

    listed: Listing
    found: Matches


@dataclass(frozen=True, slots=True)
class Met:
    """The folder in which images were found, and each id's path relative to it; `survey` is None if none was made.

    `kept`: a listing out of the cache was believed on the way.
    """

    home: Path
    paths: Mapping[str, str]
    survey: Survey | None
    kept: bool = False


def met(wanted: Sequence[str], disk: Disk) -> Met:
    """The files of the wanted ids, at or beside the tables.

    An image lies where its id says, else at the first listed path that has its join key: what else lies in the folder,
    and whether it is surveyed, changes no path. Whatever a kept listing has not is looked for by a walk.
    """
    found = _met(wanted, disk)
    if found.kept and len(found.paths) < len(wanted):
        return _met(wanted, replace(disk, survey=True, listed=None))
    return found


def _met(wanted: Sequence[str], disk: Disk) -> Met:
    for home in disk.homes:
        placed = _placed(wanted, home, disk.layout)
        if wanted and len(placed) == len(wanted):
            return Met(home, placed, _surveyed(home, disk) if disk.survey else None)
    kept = False
    for home in disk.homes:
        survey = _surveyed(home, disk)
        kept |= survey.listed.kept
        paths = _joined(wanted, survey.found.files, disk.layout) | _placed(wanted, home, disk.layout)
        if paths:
            break
    return Met(home, paths, survey, kept)


def _surveyed(home: Path, disk: Disk) -> Survey:
    made = disk.listed if disk.listed and disk.listed.root == home else None
    listed = made or listing(home, disk.layout.skip, disk.cache, afresh=disk.survey)
    return Survey(listed, matches(listed.files, disk.layout.key))


def _joined(wanted: Sequence[str], files: Mapping[str, str], layout: Layout) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name in wanted:
        file = next((files[key] for key in layout.names(name) if key in files), None)
        if file is not None:
            joined[name] = file
    return joined


def _placed(wanted: Sequence[str], home: Path, layout: Layout) -> dict[str, str]:
    """Ids whose file lies where the id says; of several such folders the first of the search is taken."""
    if layout.tree is None:
        return {}
    places = _places(home, layout.tree.top, layout.skip | layout.unlabelled)
    placed: dict[str, str] = {}
    for name in wanted:
        below = layout.tree.below(name)
        place = next((p for p in places if below and _seen(home / p / below)), None)
        if place is not None:
            placed[name] = (place / str(below)).as_posix()
    return placed


def _places(home: Path, top: re.Pattern[str], without: frozenset[str]) -> list[Path]:
    """Folders, relative to `home`, that hold folders of patients."""
    holding = (v.path.relative_to(home) for v in folders(home) if any(map(top.fullmatch, v.names)))
    return [place for place in holding if without.isdisjoint(part.casefold() for part in place.parts)]


def _seen(path: Path) -> bool:
    """Whether the file is there; one that cannot be looked at is left to the survey, which names such."""
    try:
        return is_file(path)
    except DataError:
        return False


Attributes = Mapping[str, Mapping[str, str]]  # sex, age, view to image id to value; an image may be in none
_OLDEST = 120  # years; what lies above is a slip of the source


def read(
    path: Path,
    image: str,
    columns: Mapping[str, str],
    name: Callable[[str], str] = str,
    wanted: Collection[str] | None = None,
) -> Attributes:
    """The attributes that the table has: `sex` F or M, `age` in whole years, `view` AP or PA.

    `image` is the column of the images, `name` makes an id of its values, and of `wanted` ids alone anything is told;
    `columns` say which column holds an attribute, and one that is not there is none. Other values (`Unknown`, `LL`,
    155 years) are left out, since nothing is known then. Raises DataError for a table that cannot be read.
    """
    there = set(tables.header(path))
    known = {attribute: column for attribute, column in columns.items() if column in there}
    if not known:
        return {}
    rows = tables.read_table(path, (image, *known.values()))
    ids = [name(value) for value in rows[image]]
    return understood(ids, {attribute: rows[column] for attribute, column in known.items()}, wanted)


def understood(
    ids: Sequence[str], texts: Mapping[str, Iterable[str]], wanted: Collection[str] | None = None
) -> Attributes:
    """Attributes of images from what a table says: `texts` (n,) by attribute, of the images `ids`; see `read`."""
    return {attribute: told(attribute, ids, column, wanted) for attribute, column in texts.items()}


def told(
    attribute: str, ids: Iterable[str], texts: Iterable[str], wanted: Collection[str] | None = None
) -> dict[str, str]:
    """The values of one attribute by image id, as `read` gives them."""
    reader = _READERS[attribute]
    meaning: dict[str, str | None] = {}
    found = {}
    for name, text in zip(ids, texts, strict=True):
        if text not in meaning:
            meaning[text] = reader(text)
        if (value := meaning[text]) is not None and (wanted is None or name in wanted):
            found[name] = value
    return found


def _sex(text: str) -> str | None:
    letter = text[:1].upper()
    return letter if text.upper() in {"F", "M", "FEMALE", "MALE"} else None


def _age(text: str) -> str | None:
    written = re.fullmatch(r"0*(\d{1,3})(?:\.0)?Y?", text)
    return written[1] if written and int(written[1]) <= _OLDEST else None


def _view(text: str) -> str | None:
    return text.upper() if text.upper() in {"AP", "PA"} else None


_READERS: Mapping[str, Callable[[str], str | None]] = {"sex": _sex, "age": _age, "view": _view}
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LabelledParts:
    """What the label tables alone decide: the parts, all ids they name, totals by the names of `TaskSpec.expected`.

    `attributes`: see `cxrbench.data.sources.base`; they decide nothing. `doubtful`: images whose patient is a guess.
    `left_out`: rows of the tables that are in no part, by the reason. `asked` and `about_texts`: see `Partition`.
    """

    parts: Mapping[str, Table]
    known: Collection[str]
    found: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()
    left_out: Mapping[str, int] = field(default_factory=dict)
    asked: Table | None = None
    about_texts: Mapping[str, str | int] = field(default_factory=dict)


class Source(Protocol):
    """A module of `cxrbench.data.sources`, or what an entry point `cxrbench.sources` of a package names."""

    def locate(self, root: Path) -> Path:
        """The data set's folder at or below `root`; raises DataError that says what was looked for."""

    def tables(self, folder: Path, task: TaskSpec, split: str) -> LabelledParts:
        """The parts of a split from the files in `folder`; image files need not be there."""

    def load(
        self, root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False
    ) -> Partition:
        """The parts of a split with the files of their images; `cache` may keep the folder's listing.

        `survey`: also look for extra and double files where that means listing a folder that need not be listed.
        """


def source(task: TaskSpec) -> Source:
    """The source of a task; raises SpecError if there is none of that name, or an error that names what cannot be had.

    Those of `cxrbench.data.sources` come first, then those of installed packages.
    """
    name = f"cxrbench.data.sources.{task.source}"
    if find_spec(name) is not None:
        if task.source in catalog.source_points():
            raise SpecError(f"a package has a data source {task.source!r}, as cxrbench has: let it have another name")
        return cast(Source, import_module(name))
    points = catalog.source_points().get(task.source, ())
    if not points:
        names = [module.name for module in pkgutil.iter_modules(sources.__path__) if module.name != "base"]
        raise catalog.unknown(f"data source (task {task.name})", task.source, [*names, *catalog.source_points()])
    if len(points) > 1:
        values = " and ".join(point.value for point in points)
        raise SpecError(f"two data sources are called {task.source}: {values}; remove one of the packages")
    with containing(f"data source {task.source}: loading {points[0].value}"):
        found = points[0].load()
        if lacking := [name for name in ("locate", "tables", "load") if not callable(getattr(found, name, None))]:
            raise SpecError(f"data source {task.source}: {points[0].value} has no {', '.join(lacking)}")
        return cast(Source, found)


def load_partition(
    root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False
) -> Partition:
    """One split of a task's data set as it lies at or below `root`; see `Source.load`.

    A DataError or SpecError names the task and the split, and the way out where the data set is a drawn one that is
    too small for the split.
    """
    chosen = source(task)
    try:
        return chosen.load(root, task, split, cache, survey)
    except TooFewError as error:
        raise TooFewError(_named(str(error), task, split) + _hint(chosen, root, task, split)) from error
    except (DataError, SpecError) as error:
        raise type(error)(_named(str(error), task, split)) from error


def _named(message: str, task: TaskSpec, split: str) -> str:
    """The message, with the task and the split before it unless it names the task (as a word, not within a path)."""
    if re.search(rf"(?<![\w/\\.-]){re.escape(task.name)}(?![\w/\\.-])", message):
        return message
    return f"task {task.name}, split {split}: {message}"


def _hint(chosen: Source, root: Path, task: TaskSpec, split: str) -> str:
    if split == "phantom" or not phantom_mark.drawn(chosen.locate(root)):
        return ""
    choice = f"--variant phantom (or --set {task.name}.split=phantom)"
    return f" {phantom_mark.NAME} says that these images are drawn: use {choice}."


def rule_of(task: TaskSpec, split: str, rules: Collection[str]) -> SplitSpec:
    """The split's specification; raises SpecError if the source does not know its rule."""
    spec = task.split(split)
    if spec.rule not in rules:
        raise SpecError(f"task {task.name}, split {split}: unknown rule {spec.rule!r}; known: {', '.join(rules)}")
    return spec


def class_numbers(task: TaskSpec, columns: Sequence[str]) -> tuple[int, ...]:
    """Which class of the tables each label of the task is: the place (C,) of its column in `columns`.

    Raises SpecError for a label of another column.
    """
    if strange := [label.column for label in task.labels if label.column not in columns]:
        known = ", ".join(map(repr, columns))
        raise SpecError(f"task {task.name}: {strange[0]!r} is the column of no label here; known are {known}")
    return tuple(map(list(columns).index, task.columns))


def partition(task: TaskSpec, split: str, labelled: LabelledParts, disk: Disk) -> Partition:
    """Join the parts with the files on this disk, and say what does not meet.

    Raises DataError if no image of the split is there.
    """
    wanted = list(dict.fromkeys(name for part in labelled.parts.values() for name in part.ids))
    found = met(wanted, disk)
    if wanted and not found.paths:
        raise DataError(
            f"{task.name}: none of the {len(wanted)} images of split {split} lies under {found.home}; the first would "
            f"be {' or '.join(disk.layout.names(wanted[0]))}. {task.get}"
        )
    missing = sorted(set(wanted) - found.paths.keys())
    surveyed = _findings(labelled, missing, found.survey, disk.layout) if found.survey else _unsurveyed(found.home)
    paths = {name: found.home / file for name, file in found.paths.items()}
    return assembled(task, split, labelled, paths, surveyed, disk.folder)


def assembled(
    task: TaskSpec, split: str, labelled: LabelledParts, paths: Mapping[str, Path], found: Findings, folder: Path
) -> Partition:
    """The partition of parts whose images have been looked for; what is known of all of them joins what was `found`.

    `folder`: that of the tables, whose note tells a drawn data set.
    """
    spec = task.split(split)
    notes = (
        *labelled.notes,
        *found.notes,
        *(total_notes(task, labelled.found) if spec.complete else ()),
        *reference_notes(spec, labelled.parts),
    )
    wanted = dict.fromkeys(name for part in labelled.parts.values() for name in part.ids)
    known = {a: {i: values[i] for i in wanted if i in values} for a, values in labelled.attributes.items()}
    drawn = phantom_mark.drawn(folder, paths.values())
    findings = replace(found, notes=notes, left_out=labelled.left_out)
    texts = (labelled.asked, labelled.about_texts)
    return Partition(task.name, split, labelled.parts, paths, findings, drawn, known, *texts)


def _findings(labelled: LabelledParts, missing: Sequence[str], survey: Survey, layout: Layout) -> Findings:
    keys = {key: name for name in labelled.known for key in layout.names(name)}
    return Findings(
        missing=tuple(missing),
        extra=_extra(survey.found.files, keys, layout),
        duplicate=tuple(sorted({keys[key] for key in survey.found.duplicates if key in keys})),
        notes=(
            *_near_notes(missing, layout, survey.found.files),
            *(f"{name}: this could not be read" for name in survey.listed.unreadable),
        ),
    )


def _unsurveyed(home: Path) -> Findings:
    return Findings(notes=(f"{home}: not surveyed for extra and double files, as every image lies where its id says",))


def _extra(files: Mapping[str, str], keys: Mapping[str, str], layout: Layout) -> tuple[str, ...]:
    extra = (file for key, file in files.items() if key not in keys and Path(file).suffix.casefold() in IMAGE_SUFFIXES)
    return tuple(sorted(f for f in extra if layout.unlabelled.isdisjoint(f.casefold().split("/")[:-1])))


def _near_notes(missing: Sequence[str], layout: Layout, files: Mapping[str, str]) -> list[str]:
    by_key = {key: name for name in missing for key in layout.names(name)}
    close = near(by_key, files)
    notes = [
        f"{by_key[key]} has no file, but {files[there]} differs only in letter case or Unicode form: rename it"
        for key, there in sorted(close.items())[:_SHOWN]
    ]
    return notes + ([f"{len(close) - _SHOWN} more names differ only so"] if len(close) > _SHOWN else [])


def total_notes(task: TaskSpec, found: Mapping[str, int]) -> list[str]:
    """One line for each total that differs from what the documentation of a complete download counts."""
    return [
        f"{name}: {count:,} here, a complete download has {task.expected[name]:,}"
        for name, count in found.items()
        if name in task.expected and task.expected[name] != count
    ]


def reference_notes(spec: SplitSpec, parts: Mapping[str, Table]) -> list[str]:
    """One line for each part that is not row for row, and label for label, the one drawn from the official tables."""
    notes = []
    for name, reference in spec.reference.items():
        if parts[name].digest != reference.rows_sha256:
            same = (
                "the same images in another order" if parts[name].set_digest == reference.set_sha256 else "other images"
            )
            notes.append(f"part {name}: {same} than the reference, which was drawn from {spec.reference_of}")
        if other := _other_counts(parts[name], reference):
            told = ", ".join(f"{count} with {label} where it has {wanted}" for label, count, wanted in other)
            notes.append(f"part {name}: other labels than the reference: {told}")
    return notes


def _other_counts(part: Table, reference: Reference) -> list[tuple[str, int, int]]:
    """Classes of which the part has not as many rows as the reference, with both numbers."""
    counts = part.counts
    return [(label, counts[label], wanted) for label, wanted in reference.counts.items() if counts[label] != wanted]


def reference_verdict(spec: SplitSpec, parts: Mapping[str, Table]) -> Literal["match", "differs", "unknown"]:
    """Whether every part whose digest the task file gives came out row for row, with as many rows a class."""
    if not spec.reference:
        return "unknown"
    same = all(
        parts[name].digest == reference.rows_sha256 and not _other_counts(parts[name], reference)
        for name, reference in spec.reference.items()
    )
    return "match" if same else "differs"
