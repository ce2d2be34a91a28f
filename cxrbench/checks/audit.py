"""Everything that can be found, task by task and then across tasks, on what lies on this disk."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from cxrbench.analysis import contamination
from cxrbench.analysis.against_paper import Finding, counted
from cxrbench.analysis.contamination import unequal_prompts
from cxrbench.checks import overlap
from cxrbench.data.sources.base import LabelledParts, load_partition, source
from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.records.record import Record
from cxrbench.specs.card import ModelCard
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import json_value, read_regular, with_checksum, without_checksum
from cxrbench.types import Partition


@dataclass(frozen=True, slots=True)
class AuditMaterial:
    """What is audited: tasks with their splits, models and records. `data[""]` is the general data root.

    `splits` by task; of the first one parts are also held against other data sets. `own`: cards beside which
    `cxrbench pretrain` left what it trained on; they are among `cards`. `images`: look at pixels too.
    """

    tasks: tuple[TaskSpec, ...]
    splits: Mapping[str, tuple[str, ...]]
    variant: Variant
    cards: tuple[ModelCard, ...] = ()
    own: tuple[ModelCard, ...] = ()
    records: tuple[Record, ...] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    images: bool = False
    workers: int = 1

    def root(self, task: TaskSpec) -> Path:
        """The folder at or below which a task's data set lies; raises DataError when none was named."""
        root = task.data_root(self.data)
        if root is None:
            raise DataError("no folder was named for its label tables: --data-root, or CXRBENCH_DATA")
        return root


def audit(material: AuditMaterial) -> list[Finding]:
    """All findings: within splits, between data sets, in pre-training, in classes, in prompts; then what is not known.

    Facts alone suffice for the rest where a data set is not here: then that is said, and nothing is raised.
    """
    found, traced, seen = list[Finding](), dict[str, overlap.Traced](), dict[str, Seen]()
    for task in material.tasks:
        for place, split in enumerate(material.splits[task.name]):
            found += _split(material, task, split, traced if place == 0 else {}, seen)
        found += contamination.pretrained_on_source(task, material.cards)
        found += contamination.confounded(task)
    found += overlap.between(traced)
    found += overlap.same_collection(material.tasks, traced)
    found += _across(material.tasks, seen)
    found += overlap.in_corpora(material.own, material.splits)
    found += overlap.of_no_card(material.records, material.cards, material.tasks)
    found += unequal_prompts(material.records)
    return sorted(found, key=lambda one: one.kind == "not known")


@dataclass(frozen=True, slots=True)
class Seen:
    """The pictures of a task's first split."""

    pictures: overlap.Prints
    parts: Mapping[str, tuple[str, ...]]


def _split(
    material: AuditMaterial, task: TaskSpec, split: str, traced: dict[str, overlap.Traced], seen: dict[str, Seen]
) -> Iterator[Finding]:
    scope = f"{task.name}, split {split}"
    try:
        root = material.root(task)
        chosen = source(task)
        folder = chosen.locate(root)
        labelled = chosen.tables(folder, task, split)
        partition = load_partition(root, task, split) if material.images else _by_tables(task, split, labelled)
        yield from overlap.within(task, partition, material.variant.settings, labelled.doubtful)
    except CxrBenchError as error:
        yield Finding("not known", scope, f"whether its parts overlap: {error}")
        return
    own = overlap.traced(task, folder, labelled)
    if split == material.splits[task.name][0]:
        yield from overlap.in_training_table(task, labelled)
        if own is not None:
            traced[task.name] = own
    if material.images:
        yield from _copies(material, task, partition, seen)


def _by_tables(task: TaskSpec, split: str, labelled: LabelledParts) -> Partition:
    return Partition(task.name, split, labelled.parts, {})


def _copies(material: AuditMaterial, task: TaskSpec, partition: Partition, seen: dict[str, Seen]) -> Iterator[Finding]:
    """Copies between the parts; of a single part, within it."""
    scope, paths = f"{task.name}, split {partition.split}", partition.paths
    pictures = overlap.prints(paths, material.workers)
    yield from overlap.left_out(scope, pictures, len(partition.findings.missing))
    parts = {name: part.ids for name, part in partition.parts.items()}
    seen.setdefault(task.name, Seen(pictures, parts))
    first = parts.get("train", parts.get("all", ()))
    for name in [name for name in ("valid", "test", "all") if name in parts]:
        second = pictures.of(parts[name])
        found = overlap.copies(pictures.of(first), second)
        between = "train and " + name if "train" in parts else "in " + name
        yield from overlap.told(scope, between, found, len(second.ids))


def _across(tasks: Sequence[TaskSpec], seen: Mapping[str, Seen]) -> Iterator[Finding]:
    """Copies between the scored part of one task and all parts of another."""
    looked_at = [task.name for task in tasks if task.name in seen]
    for one in looked_at:
        for other in (name for name in looked_at if name != one):
            parts = seen[one].parts
            scored = seen[one].pictures.of(parts.get("test", parts.get("all", ())))
            found = overlap.copies(seen[other].pictures, scored)
            yield from overlap.told(f"{one} and {other}", f"images of {one} that {other} has", found, len(scored.ids))


class _Told(Spec):
    """One finding as the file has it: with the share, which follows from the counts."""

    kind: str
    scope: str
    text: str
    count: int | None
    total: int | None
    source: str
    share: float | None


class _File(Spec):
    findings: tuple[_Told, ...]


def read_findings(path: Path) -> list[Finding]:
    """The findings of a file.

    Raises DataError where there is none, SpecError where it is another file, DamagedError where it was changed.
    """
    try:
        value = json_value(path, read_regular(path))
        if not isinstance(value, dict) or "findings" not in value:
            raise SpecError(f"{path}: holds no findings of `cxrbench audit`")
        told = _File.model_validate(without_checksum(path, value, f"`cxrbench audit --report {path}` writes it anew."))
        return [TypeAdapter(Finding).validate_python(found.model_dump(exclude={"share"})) for found in told.findings]
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; `cxrbench audit --report {path}` writes it") from error
    except ValidationError as error:
        raise SpecError(f"{path}: holds no findings of `cxrbench audit`: {complaints(error)}") from error


Format = Literal["table", "markdown", "json"]
BY_SUFFIX: dict[str, Format] = {".txt": "table", ".md": "markdown", ".json": "json"}
HEAD = ("kind", "where", "count", "of", "share", "what")
WIDTH = 90  # characters of the last column of a table


def render(findings: Sequence[Finding], form: Format) -> str:
    """All findings in one of the formats, ending in a line feed; what counts nothing is left to JSON."""
    if form == "json":
        return as_json(findings)
    told, unknown = counted(findings), [found for found in findings if found.kind == "not known"]
    title = f"{len(told)} findings, {len(unknown)} questions that this data cannot answer"
    blocks = [title, *(_grid(part, form) for part in (told, unknown) if part)]
    return "\n\n".join(blocks) + "\n"


def write(path: Path, findings: Sequence[Finding]) -> None:
    """The findings as a file whose suffix says the format; raises SpecError for another suffix."""
    if path.suffix not in BY_SUFFIX:
        raise SpecError(f"--report {path}: the name must end in {', '.join(BY_SUFFIX)}")
    write_atomically(path, render(findings, BY_SUFFIX[path.suffix]).encode())


def _grid(findings: Sequence[Finding], form: Format) -> str:
    from tabulate import tabulate

    rows = [
        (
            found.kind,
            found.scope,
            "" if found.count is None else str(found.count),
            "" if found.total is None else str(found.total),
            "" if found.share is None else f"{100 * found.share:.1f} %",
            found.text + (f" ({found.source})" if found.source else ""),
        )
        for found in findings
    ]
    aligned = ("left", "left", "right", "right", "right", "left")
    if form == "markdown":
        return tabulate(rows, HEAD, tablefmt="github", disable_numparse=True, colalign=aligned)
    widths = [None] * 5 + [WIDTH]
    return tabulate(rows, HEAD, tablefmt="simple", disable_numparse=True, colalign=aligned, maxcolwidths=widths)


def as_json(findings: Sequence[Finding]) -> str:
    """Every finding, also those that count nothing, with its share."""
    body = with_checksum({"findings": [asdict(found) | {"share": found.share} for found in findings]})
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
