"""Which labels of two tasks are one finding: the mapping of `tasks/transfer.toml`, its named choices, and one's own."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from cxrbench.errors import SpecError
from cxrbench.specs import catalog, paths
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec, read_toml

Concepts = Mapping[str, Mapping[str, str]]  # concept to task to the label that it is there
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class MappingChoice(Spec):
    """Concepts that a command adds to the strict mapping; a file of one's own is one, too."""

    title: str = ""
    why: str = ""
    concepts: Concepts


class MappingFacts(Spec):
    """`tasks/transfer.toml`: the strict mapping, and choices that a command names."""

    concepts: Concepts
    choices: Mapping[str, MappingChoice] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SharedLabel:
    """One finding that two tasks have, and how each spells it."""

    concept: str
    trained: str
    scored: str


@dataclass(frozen=True, slots=True)
class LabelMapping:
    """Concepts by task and label. `name`: of the choice or file that adds `added` to the strict mapping, if any."""

    strict: Concepts
    added: Concepts
    name: str | None = None

    def shared(self, source: TaskSpec, target: TaskSpec, labels: Iterable[str]) -> tuple[SharedLabel, ...]:
        """The findings that both tasks have out of the target's `labels`, in their order."""
        return _shared(joined(self.strict, self.added), source, target, labels)

    def adds_to(self, source: TaskSpec, target: TaskSpec, labels: Iterable[str]) -> bool:
        """Whether the two share other findings than by the strict mapping alone."""
        own = tuple(labels)
        return _shared(self.strict, source, target, own) != self.shared(source, target, own)

    def known(self, task: str) -> dict[str, str]:
        """The concept of each label of a task that has one."""
        return _by_label(joined(self.strict, self.added), task)


def joined(strict: Concepts, added: Concepts) -> dict[str, dict[str, str]]:
    """Both mappings in one; what is added to a concept stands beside what it has."""
    return {name: {**strict.get(name, {}), **added.get(name, {})} for name in dict.fromkeys([*strict, *added])}


def _by_label(concepts: Concepts, task: str) -> dict[str, str]:
    return {tasks[task]: concept for concept, tasks in concepts.items() if task in tasks}


def _shared(concepts: Concepts, source: TaskSpec, target: TaskSpec, labels: Iterable[str]) -> tuple[SharedLabel, ...]:
    found = _by_label(concepts, target.name)
    trained = {concept: tasks[source.name] for concept, tasks in concepts.items() if source.name in tasks}
    named = ((found.get(label), label) for label in labels)
    return tuple(
        SharedLabel(concept, trained[concept], label) for concept, label in named if concept and concept in trained
    )


def label_mapping(word: str | None, tasks: Iterable[TaskSpec] = ()) -> LabelMapping:
    """The strict mapping, with the choice of that name or the TOML file of one's own at that path.

    `tasks` are those of the command, which a file of one's own may name beside the built-in ones. Raises SpecError for
    a choice that does not exist, for tasks and labels that there are not, and for a label under two concepts.
    """
    facts = read_mapping()
    if word is None:
        return LabelMapping(facts.concepts, {})
    if not word.endswith(".toml"):
        if word not in facts.choices:
            raise catalog.unknown("mapping", word, facts.choices)
        return LabelMapping(facts.concepts, facts.choices[word].concepts, word)
    path = Path(word)
    own = read_toml(path, MappingChoice)
    if path.stem in facts.choices or not _NAME.fullmatch(path.stem):
        raise SpecError(
            f"{path}: {path.stem!r} is {'a built-in choice' if path.stem in facts.choices else 'no name'}; call the "
            "file by another name of lower-case letters, digits, - and _: groups of cells end in it"
        )
    check(own.concepts, facts.concepts, {task.name: task for task in tasks}, str(path))
    return LabelMapping(facts.concepts, own.concepts, path.stem)


def read_mapping() -> MappingFacts:
    """`tasks/transfer.toml`; raises SpecError for tasks and labels that there are not, and for a label under two."""
    return _read(paths.folder("tasks") / "transfer.toml")


@cache
def _read(path: Path) -> MappingFacts:
    facts = read_toml(path, MappingFacts)
    check(facts.concepts, {}, {}, str(path))
    for name, choice in facts.choices.items():
        check(choice.concepts, facts.concepts, {}, f"{path}, choice {name}")
    return facts


def check(added: Concepts, strict: Concepts, own: Mapping[str, TaskSpec], where: str) -> None:
    """Nothing, or SpecError: concepts name tasks or labels that there are not, or contradict others or `strict`.

    `own`: tasks by name beside the built-in ones, and before them.
    """
    names = dict.fromkeys(name for tasks in added.values() for name in tasks)
    named = {name: _task(name, own, where) for name in names}
    for concept, tasks in added.items():
        for name, label in tasks.items():
            _require_label(named[name], label, f"{where}: {concept}")
            if (other := strict.get(concept, {}).get(name, label)) != label:
                raise SpecError(f"{where}: {concept} of {name} is {other!r} in the strict mapping, and {label!r} here")
    _require_once(added, strict, where)


def _task(name: str, own: Mapping[str, TaskSpec], where: str) -> TaskSpec:
    if name in own:
        return own[name]
    if name in catalog.task_files():
        return catalog.load_task(name)
    hint = str(catalog.unknown("task", name, [*catalog.task_files(), *own]))
    raise SpecError(f"{where}: {hint}; a task of your own must be named in the command, by --trained-on or --task")


def _require_label(task: TaskSpec, label: str, where: str) -> None:
    if label not in task.classes:
        raise SpecError(f"{where}: {catalog.unknown(f'label of {task.name}', label, task.classes)}")


def _require_once(added: Concepts, strict: Concepts, where: str) -> None:
    """Each label of a task stands for one concept."""
    seen: dict[tuple[str, str], str] = {}
    for concepts in (strict, added):
        for concept, tasks in concepts.items():
            for name, label in tasks.items():
                if (first := seen.setdefault((name, label), concept)) != concept:
                    raise SpecError(
                        f"{where}: {label} of {name} is under two concepts, {first} and {concept}; a label stands for "
                        "one finding"
                    )


def group_name(source: TaskSpec, mapping: LabelMapping, *, named: bool) -> str:
    """The group of cells that are trained on a task; `named`: with the mapping's name, which changes its labels."""
    return f"{FROM}{source.name}" + (f"+{mapping.name}" if named and mapping.name else "")


FROM = "from-"  # how such groups begin


def why_apart(source: TaskSpec, target: TaskSpec, shared: tuple[SharedLabel, ...], mapping: LabelMapping) -> str:
    """Why two tasks share too few findings, empty where they share enough: one, or two classes that exclude each other.

    Names what either has, and the choice by which they would meet.
    """
    least = 1 if target.kind == "multi-label" else 2
    if len(shared) >= least:
        return ""
    told = f"{', '.join(one.concept for one in shared)} alone" if shared else "no label"
    return (
        f"both have {told} by the mapping{f' {mapping.name}' if mapping.name else ''}, and {_needed(least)}; "
        f"{source.name} has {_spelt(source, mapping)}; {target.name} has {_spelt(target, mapping)}"
        f"{_way_out(source, target, mapping, least)}"
    )


def _needed(least: int) -> str:
    return "one is needed" if least == 1 else "two classes are needed"


def _spelt(task: TaskSpec, mapping: LabelMapping) -> str:
    """The labels of a task with their concepts, such as `Normal (not mapped), Effusion (Pleural Effusion)`."""
    known = mapping.known(task.name)
    shown = [
        label if known.get(label) == label else f"{label} ({known.get(label, 'not mapped')})" for label in _all(task)
    ]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")


_SHOWN = 24


def _all(task: TaskSpec) -> tuple[str, ...]:
    return tuple(task.groups["all"])


def _way_out(source: TaskSpec, target: TaskSpec, mapping: LabelMapping, least: int) -> str:
    facts = read_mapping()
    meet = [
        name
        for name, choice in facts.choices.items()
        if name != mapping.name
        and len(_shared(joined(facts.concepts, choice.concepts), source, target, _all(target))) >= least
    ]
    return f"; --mapping {' or '.join(meet)} lets them meet (docs/transfer.md)" if meet else ""


def facts_of(shared: Iterable[SharedLabel]) -> list[list[Any]]:
    """What enters a record's identity: concept and both spellings, in order."""
    return [[one.concept, one.trained, one.scored] for one in shared]
