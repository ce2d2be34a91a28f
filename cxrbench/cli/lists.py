"""`cxrbench models`, `cxrbench tasks` and `cxrbench info NAME...`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.errors import DataError, SpecError

if TYPE_CHECKING:
    from cxrbench.specs.settings import SettingDoc
    from cxrbench.store.schema import Spec

_PROMPT_KEYS = {"classes", "terms", "template", "unlisted", "queries", "negatives"}


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def models() -> None:
    """List the models, those last that cannot be run.

    Name, pre-training data (C CheXpert, M MIMIC-CXR, P PadChest, C14 NIH ChestX-ray14) and title; `cxrbench info NAME`
    says more, `cxrbench weights info NAME` what of it is here.
    """
    from cxrbench.specs.names import model_lines

    rows = [("name", "trained on", "title")]
    rows += [(m.name, m.trained_on, m.title + ": cannot be run, see info" * (not m.available)) for m in model_lines()]
    echo("\n".join(_columns(rows)))


def tasks() -> None:
    """List the tasks and their label groups.

    Name, title, and each group with its number of classes; `cxrbench info NAME` names classes and splits, and says
    where the data set is had.
    """
    from cxrbench.specs.names import task_lines

    rows = [("name", "title", "groups")]
    rows += [(task.name, task.title, task.groups_told) for task in task_lines()]
    echo("\n".join(_columns(rows)))


def info(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Models, tasks, variants, settings, prompt sets, or files of records."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Every key, as JSON; one object a name.")] = False,
) -> None:
    """Show what is known about a name, or what made a record.

    Of a task: terms, where to get it, groups, splits and their digests. Of a model: source, terms, weights, zero-shot.
    Of a variant or setting: what each choice means. A file of one's own (TOML) is told apart by its keys.
    """
    from cxrbench.cli.describe import described

    found = [_found(name) for name in names]
    for place, (name, facts) in enumerate(zip(names, found, strict=True)):
        if place and not as_json:
            echo()
        setting = _setting(name)
        if as_json or setting is None:
            echo(facts.model_dump_json(indent=1) if as_json else described(facts, Path(name)))
        else:
            echo("\n".join(_setting_lines(name, setting)))


def _found(name: str) -> "Spec":
    """What stands under a name or in a file; raises SpecError for a name that is none, DataError for a lost file."""
    from cxrbench.specs import catalog

    if name.endswith(".json"):
        return _record(Path(name))
    if name.endswith(".toml"):
        return _fact_file(Path(name))
    kinds: list[tuple[Iterable[str], Callable[[str], Spec]]] = [
        (catalog.card_files(), catalog.load_card),
        (catalog.unavailable_models(), catalog.unavailable_models().__getitem__),
        (catalog.task_files(), catalog.load_task),
        (catalog.variant_files(), catalog.load_variant),
        ({**catalog.prompt_files(), **catalog.author_prompt_files()}, catalog.load_prompts),
        (catalog.setting_docs().settings, catalog.setting_docs().settings.__getitem__),
    ]
    load = next((load for names, load in kinds if name in names), None)
    if load is None:
        known = [name for names, _ in kinds for name in names]
        raise catalog.unknown("model, task, variant, setting or prompt set", name, known)
    return load(name)


def _fact_file(path: Path) -> "Spec":
    """A fact file of the user's own: a card, a task, a variant or a prompt set, told apart by its keys."""
    from cxrbench.specs import catalog
    from cxrbench.store.schema import toml_table

    keys = toml_table(path).keys()
    if "adapter" in keys:
        return catalog.load_card(str(path))
    if "data_set" in keys:
        return catalog.load_task(str(path))
    if "settings" in keys:
        return catalog.load_variant(str(path))
    if keys & _PROMPT_KEYS:
        return catalog.load_prompts(str(path))
    raise SpecError(
        f"{path}: is no card (`adapter`), task (`data_set`), variant (`settings`) or prompt set (`classes`, "
        f"`template`, ...): it has {', '.join(keys) or 'nothing'}"
    )


def _record(path: Path) -> "Spec":
    from cxrbench.records.integrity import sound_record

    if not path.is_file():
        raise DataError(
            f"{path}: there is no such record; `cxrbench run` writes them below --out, as records/TASK/MODEL"
        )
    return sound_record(path)


def _setting(name: str) -> "SettingDoc | None":
    from cxrbench.specs import catalog

    return catalog.setting_docs().settings.get(name)


def _setting_lines(name: str, doc: "SettingDoc") -> Iterable[str]:
    from cxrbench.specs import catalog

    bundles = [catalog.load_variant(variant) for variant in catalog.variant_files()]
    yield f"{name}: {doc.title} ({doc.scope})"
    for choice, meaning in doc.choices.items():
        chosen = [bundle.name for bundle in bundles if bundle.settings.model_dump(mode="json")[name] == choice]
        yield f"  {choice}: {meaning}" + (f" [{', '.join(chosen)}]" if chosen else "")
