"""`cxrbench models`, `cxrbench tasks` and `cxrbench info NAME`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cxrbench.errors import SpecError


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def models() -> None:
    """List the models: name, what it was trained on, and what it is; last those that cannot be run."""
    from cxrbench import catalog

    cards = [catalog.load_card(name) for name in catalog.card_files()]
    rows = [("name", "trained on", "title", "rows of the paper")]
    for card in cards:
        printed = ", ".join(f"{table.replace('table', 'Table ')}: {row}" for table, row in card.published.items())
        rows.append((card.name, "+".join(card.pretraining), card.title, printed))
    for model in catalog.unavailable_models().values():
        rows.append((model.name, "", f"{model.title}: cannot be run, see info", ""))
    typer.echo("\n".join(_columns(rows)))


def tasks() -> None:
    """List the tasks: name, label groups with their sizes, and splits."""
    from cxrbench import catalog

    specs = [catalog.load_task(name) for name in catalog.task_files()]
    rows = [("name", "groups", "splits", "title")]
    for spec in specs:
        groups = ", ".join(f"{name} {len(labels)}" for name, labels in spec.groups.items())
        rows.append((spec.name, groups, ", ".join(spec.splits), spec.title))
    typer.echo("\n".join(_columns(rows)))


def info(
    name: Annotated[str, typer.Argument(help="A model, task, variant, setting, prompt set, or a record's file.")],
) -> None:
    """Show everything that is known about a model, task, variant, setting or prompt set, or what made a record."""
    from cxrbench import catalog

    if name.endswith(".json"):
        _record(Path(name))
    elif name.endswith(".toml"):
        typer.echo(_fact_file(Path(name)))
    elif name in catalog.card_files():
        typer.echo(catalog.load_card(name).model_dump_json(indent=1))
    elif name in catalog.unavailable_models():
        typer.echo(catalog.unavailable_models()[name].model_dump_json(indent=1))
    elif name in catalog.task_files():
        typer.echo(catalog.load_task(name).model_dump_json(indent=1))
    elif name in catalog.variant_files():
        _variant(name)
    elif name in {**catalog.prompt_files(), **catalog.author_prompt_files()}:
        typer.echo(catalog.load_prompts(name).model_dump_json(indent=1, exclude_defaults=True))
    elif name in catalog.setting_docs().settings:
        _setting(name)
    else:
        raise _nothing(name)


def _nothing(name: str) -> SpecError:
    from cxrbench import catalog

    known = [
        *catalog.card_files(),
        *catalog.unavailable_models(),
        *catalog.task_files(),
        *catalog.variant_files(),
        *catalog.prompt_files(),
        *catalog.author_prompt_files(),
        *catalog.setting_docs().settings,
    ]
    return catalog.unknown("model, task, variant, setting or prompt set", name, known)


def _fact_file(path: Path) -> str:
    """A fact file of the user's own: a card, a task, a variant or a prompt set, told apart by its keys."""
    import tomllib

    from cxrbench import catalog

    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8")).keys()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as TOML: {error}") from error
    if "adapter" in keys:
        return catalog.load_card(str(path)).model_dump_json(indent=1)
    if "data_set" in keys:
        return catalog.load_task(str(path)).model_dump_json(indent=1)
    if "settings" in keys:
        return catalog.load_variant(str(path)).model_dump_json(indent=1)
    return catalog.load_prompts(str(path)).model_dump_json(indent=1, exclude_defaults=True)


def _record(path: Path) -> None:
    from cxrbench.record import read_record
    from cxrbench.report.detail import detail

    typer.echo(detail(read_record(path)), nl=False)


def _variant(name: str) -> None:
    from cxrbench import catalog

    variant = catalog.load_variant(name)
    typer.echo(f"{variant.name}, version {variant.version}: {variant.title}\ndigest {variant.digest}\n\nsplits")
    for task, split in variant.splits.items():
        typer.echo(f"  {task}: {split}: {catalog.load_task(task).splits[split].title}")
    typer.echo("\nsettings")
    docs = catalog.setting_docs().settings
    for setting, choice in variant.settings.model_dump(mode="json").items():
        typer.echo(f"  {setting} = {choice}: {docs[setting].choices[choice]}")


def _setting(name: str) -> None:
    from cxrbench import catalog

    doc = catalog.setting_docs().settings[name]
    typer.echo(f"{name}: {doc.title} ({doc.scope})")
    for choice, meaning in doc.choices.items():
        chosen = [
            v
            for v in catalog.variant_files()
            if catalog.load_variant(v).settings.model_dump(mode="json")[name] == choice
        ]
        typer.echo(f"  {choice}: {meaning}" + (f" [{', '.join(chosen)}]" if chosen else ""))
