"""The generated pages of the documentation site: a page a model, task, protocol, variant and metric, and the verbs.

Everything is read from the cards and from the program itself, so no page can tell another story than they do.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from cxrbench.cli.lists import text_encoder_place
from cxrbench.cli.main import app
from cxrbench.evaluate.metric_table import Metric, load_metric, metric_names
from cxrbench.models.certificate import Certificate, certificate_for
from cxrbench.records.record import Record
from cxrbench.reports.recipe_words import recipe_steps
from cxrbench.runner.protocol import Protocol, load_protocol
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard, UnavailableModel
from cxrbench.specs.paper import MISSING, published_table
from cxrbench.specs.published import published_lists
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec

PAPER = (2, 3, 4)
Written = tuple[str, str]  # the path of a page below `reference/`, and its Markdown


@dataclass(frozen=True, slots=True)
class Page:
    """One generated page: `name` is its file's, `about` its line in the overview, `body` its Markdown."""

    name: str
    about: Sequence[str]
    body: str


def text(value: str) -> str:
    """Plain text as a cell of a Markdown table or a line of a page: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", value).replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, empty without rows; the cells are Markdown already."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines, ""]) if lines else ""


def section(title: str, body: str) -> str:
    """A section, or nothing where there is nothing to say."""
    return f"\n## {title}\n\n{body.rstrip()}\n" if body.strip() else ""


def bullets(lines: Iterable[str]) -> str:
    """A list, its items escaped."""
    return "\n".join(f"- {text(line)}" for line in lines)


def steps(lines: Iterable[str]) -> str:
    """Steps in order, drawn one below the other."""
    return '<ol class="steps" markdown>\n' + "\n".join(f"<li>{text(line)}</li>" for line in lines) + "\n</ol>\n"


def chapter(folder: str, title: str, intro: str, head: Sequence[str], pages: Sequence[Page]) -> Iterator[Written]:
    """The pages of a folder and their overview."""
    yield from ((f"{folder}/{page.name}.md", page.body) for page in pages)
    listed = table(head, ([f"[`{page.name}`]({page.name}.md)", *map(text, page.about)] for page in pages))
    yield f"{folder}/index.md", f"# {title}\n\n{intro}\n\n{listed}"


def model_page(card: ModelCard) -> Page:
    """What a model is, its weights, licence, preprocessing, what was checked, and its published numbers."""
    facts = [
        ("what", card.title),
        ("described in", card.source),
        ("licence", card.licence),
        ("pre-trained on", ", ".join(card.pretraining) or "nothing that its card names"),
        ("weights", _weights(card)),
        ("vectors", ", ".join(f"{tap} {width}" for tap, width in card.taps.items())),
        ("text encoder", text_encoder_place(card)),
        ("zero-shot", "yes" if card.zero_shot is not None else "no text or label side; probes only"),
        ("adapter", card.adapter),
    ]
    body = f"# {text(card.name)}\n\n" + table(("fact", "value"), ((name, text(value)) for name, value in facts))
    recipes = "".join(
        f"\n### Recipe `{name}`\n\n{steps(recipe_steps(recipe))}" for name, recipe in card.recipes.items()
    )
    body += section("Preprocessing", recipes)
    body += section("What was checked", _checked(certificate_for(card)))
    body += section("Notes", bullets(card.notes))
    body += section("Published numbers", _published_for(card))
    sides = "text" if card.zero_shot is not None else "image only"
    return Page(card.name, (card.title, ", ".join(card.pretraining), sides), body)


def _weights(card: ModelCard) -> str:
    if card.weights.made is not None:
        return f"none; its tensors are made: {card.weights.made}"
    digest = f", SHA-256 {card.weights.sha256}" if card.weights.sha256 else ", no digest known"
    return f"{' or '.join(card.weights.files)}{digest}; {card.weights.where}"


def _checked(found: Certificate | None) -> str:
    if found is None:
        return "No figures of its authors' code were at hand for this architecture and these recipes."
    outputs = sorted({figure.output for run in found.runs for figure in run.figures})
    lines = [
        f"Held against its authors' code on made weights: {', '.join(outputs)} ({found.source}).",
        "The real weights were not run: a certificate shows the arithmetic, not the numbers of the real model.",
    ]
    lines += [f"smaller than published: {what}, {here} for {there}" for what, (here, there) in found.reduced.items()]
    return bullets(lines) + f"\n\n`cxrbench doctor {found.models[0]}` repeats the check on your machine.\n"


def _published_for(card: ModelCard) -> str:
    told = ""
    for number in PAPER:
        printed = published_table(number)
        rows = [row for row in printed.rows if row.model == card.name]
        if not rows:
            continue
        columns = {**{c.id: c.title for c in printed.columns}, **{a.id: a.title for a in printed.averages}}
        head = ("row", "how", *columns.values())
        cells = ((text(_row(r.section, r.name)), _how(r), *(r.cells[c] for c in columns)) for r in rows)
        told += f"**Table {number}.** {text(printed.title)}\n\n{table(tuple(map(text, head)), cells)}\n"
    copied = (
        (text(one.list), one.metric, f"{one.percent(row)} %", row.known, text(one.source))
        for one in published_lists()
        for row in one.rows
        if row.card == card.name and row.finding is None
    )
    return told + table(("list", "metric", "number", "known", "source"), copied)


def _row(part: str, name: str) -> str:
    return f"{part}: {name}" if part else name


def _how(row: Any) -> str:
    return row.protocol if row.shots is None else f"{row.protocol}, K = {row.shots}"


def unavailable_page(model: UnavailableModel) -> Page:
    """A model that is known and cannot be run, with the reason."""
    told = f"{model.title} cannot be run: {model.unavailable}"
    body = f"# {text(model.name)}\n\n{text(told)}\n\n{text(model.source)}\n"
    return Page(model.name, (f"{model.title} (cannot be run)", "", ""), body)


def task_page(task: TaskSpec) -> Page:
    """What a task is: its data set, licence, groups, splits with their digests, and published numbers."""
    facts = [
        ("kind", task.kind),
        ("data set", task.data_set),
        ("licence", task.licence),
        ("how to get it", task.get),
        ("images", task.pool),
        ("patients", task.patients.rule),
    ]
    body = f"# {text(task.name)}\n\n{text(task.title)}\n\n"
    body += table(("fact", "value"), ((name, text(value)) for name, value in facts))
    groups = (
        (f"`{name}`", str(len(of)), text(", ".join(of)) or "its own counterpart") for name, of in task.groups.items()
    )
    body += section("Groups", table(("group", "classes", "which"), groups))
    splits = ((f"`{name}`", text(split.title or split.rule), text(split.doubt)) for name, split in task.splits.items())
    body += section("Splits", table(("split", "rule", "doubt"), splits))
    parts = (
        (f"`{name}`", part, f"{known.rows:,}", f"{known.distinct:,}", f"`{known.rows_sha256}`")
        for name, split in task.splits.items()
        for part, known in split.reference.items()
    )
    body += section("Parts by digest", table(("split", "part", "rows", "images", "SHA-256 of the rows"), parts))
    body += section("Published numbers", _published_on(task))
    sizes = ", ".join(f"{name} {len(of)}" for name, of in task.groups.items())
    return Page(task.name, (task.title, task.kind, sizes), body)


def _published_on(task: TaskSpec) -> str:
    told = ""
    for number in PAPER:
        printed = published_table(number)
        columns = [column for column in printed.columns if column.task == task.name]
        if columns:
            rows = (
                (text(_row(r.section, r.name)), _how(r), *(r.cells[c.id] for c in columns))
                for r in printed.rows
                if any(r.cells[c.id] != MISSING for c in columns)
            )
            head = ("row", "how", *(text(column.title) for column in columns))
            told += f"**Table {number}.** {text(printed.title)}\n\n{table(head, rows)}\n"
    for one in published_lists():
        if one.task == task.name:
            rows = ((text(r.model), r.finding or "all", f"{one.percent(r)} %", r.known) for r in one.rows)
            told += f"**{text(one.source)}** {one.metric}, {one.protocol}, {text(one.list)}\n\n"
            told += table(("model", "finding", "number", "known"), rows) + "\n"
    return told


def protocol_page(found: Protocol) -> Page:
    """What a protocol does, whose it is, what it needs, and its constants under each bundle of settings."""
    bundles = [catalog.load_variant(name) for name in catalog.variant_files()]
    about = inspect.cleandoc(type(found).__doc__ or "")
    body = f"# {found.name}\n\n{about}\n\n"
    facts = [
        ("source", found.origin),
        ("kinds of tasks", ", ".join(found.kinds)),
        ("needs", found.needs or "vectors alone"),
    ]
    body += table(("fact", "value"), ((name, text(value)) for name, value in facts))
    constants = (
        (bundle.name, f"`{name}`", str(value))
        for bundle in bundles
        for name, value in found.options(bundle.settings).items()
    )
    body += section("Constants", table(("variant", "constant", "value"), constants))
    return Page(found.name, (found.origin, ", ".join(found.kinds), found.needs), body)


def variant_page(variant: Variant) -> Page:
    """Every choice of a bundle with what it means, and the split of each task."""
    docs = catalog.setting_docs().settings
    body = f"# {variant.name}\n\n{text(variant.title)}\n\nVersion {variant.version}, digest `{variant.digest}`.\n"
    chosen = variant.settings.model_dump(mode="json")
    rows = ((f"`{name}`", f"`{choice}`", text(docs[name].choices[choice])) for name, choice in chosen.items())
    body += section("Settings", table(("setting", "choice", "what it means"), rows))
    splits = (
        (f"[`{task}`](../tasks/{task}.md)", f"`{split}`", text(catalog.load_task(task).split(split).title))
        for task, split in variant.splits.items()
    )
    body += section("Splits", table(("task", "split", "rule"), splits))
    return Page(variant.name, (variant.title,), body)


def metric_page(metric: Metric) -> Page:
    """What a metric is defined on, and how it is shown."""
    low, high = metric.bounds
    facts = [("title", metric.title), ("tasks", ", ".join(metric.kinds)), ("bounds", f"{low:g} to {high:g}")]
    facts += [("where it is not defined", metric.undefined)]
    told = {inspect.getdoc(of) or "" for of in _functions(metric)}
    body = f"# {metric.name}\n\n" + "\n\n".join(sorted(filter(None, told))) + "\n\n"
    body += table(("fact", "value"), ((name, text(value)) for name, value in facts))
    return Page(metric.name, (metric.title, ", ".join(metric.kinds)), body)


def _functions(metric: Metric) -> Iterator[Callable[..., Any]]:
    if metric.value is not None and inspect.isfunction(metric.value) and not metric.value.__name__.startswith("<"):
        yield metric.value


def commands() -> Iterator[Written]:
    """A page for each verb, from what `--help` knows, and their overview."""
    root = get_command(app)
    context = typer.Context(root, info_name="cxrbench")
    verbs = getattr(root, "commands", {})
    for name, verb in verbs.items():
        told = get_docs_for_click(obj=verb, ctx=context, name=f"cxrbench {name}")
        yield f"cli/{name}.md", _escaped(told)
    rows = (
        (f"[`cxrbench {name}`]({name}.md)", text(verb.get_short_help_str(limit=80))) for name, verb in verbs.items()
    )
    told = f"# Command line\n\n{root.help}\n\n{table(('command', 'what it does'), rows)}"
    yield "cli/index.md", told + section("Exit codes", text(root.epilog or ""))


def _escaped(told: str) -> str:
    """Globs and placeholders outside of code are text, not markup."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", told, flags=re.DOTALL)
    return "".join(
        part if i % 2 else re.sub(r"(?<![*\n])\*(?![* ])|[<>\[\]]", r"\\\g<0>", part) for i, part in enumerate(parts)
    )


def schema() -> Iterator[Written]:
    """The fields of a record, from the class that reads and writes it."""
    found = Record.model_json_schema(mode="serialization")
    parts = {"Record": found, **found["$defs"]}
    place = "`results/records/TASK/MODEL/`"
    body = f"# Records\n\nOne JSON file a measured cell, in {place}. Its fields, and those of its parts:\n"
    for name, part in parts.items():
        if "properties" in part:
            intro = text(inspect.cleandoc(part.get("description", ""))) + "\n\n"
            rows = (
                (f"`{field}`", text(_kind(of)), "yes" if field in part.get("required", ()) else "no")
                for field, of in part["properties"].items()
            )
            body += section(name, intro + table(("field", "type", "always there"), rows))
    yield "record.md", body


def _kind(of: dict[str, Any]) -> str:
    if "$ref" in of:
        return str(of["$ref"]).rpartition("/")[2]
    if "anyOf" in of:
        return " or ".join(_kind(one) for one in of["anyOf"])
    if "enum" in of or "const" in of:
        return " or ".join(map(str, of.get("enum", [of.get("const")])))
    if of.get("type") == "array":
        return f"list of {_kind(of.get('items', {}))}" if isinstance(of.get("items"), dict) else "list"
    if of.get("type") == "object" and isinstance(of.get("additionalProperties"), dict):
        return f"names to {_kind(of['additionalProperties'])}"
    return str(of.get("type", "any"))


def pages() -> Iterator[Written]:
    """Every generated page with its path below `reference/`."""
    cards = [model_page(catalog.load_card(name)) for name in catalog.card_files()]
    others = [unavailable_page(model) for model in catalog.unavailable_models().values()]
    letters = "Letters: C CheXpert, M MIMIC-CXR, P PadChest, C14 ChestX-ray14."
    yield from chapter("models", "Models", letters, ("model", "what", "pre-trained on", "sides"), [*cards, *others])
    tasks = [task_page(catalog.load_task(name)) for name in catalog.task_files()]
    told = "Each is one TOML file of `tasks/`."
    yield from chapter("tasks", "Tasks", told, ("task", "what", "kind", "groups and classes"), tasks)
    protocols = [protocol_page(load_protocol(name)) for name in catalog.protocol_points()]
    told = "How vectors become scores."
    yield from chapter("protocols", "Protocols", told, ("protocol", "source", "tasks", "needs"), protocols)
    variants = [variant_page(catalog.load_variant(name)) for name in catalog.variant_files()]
    told = "Bundles with one choice for every setting."
    yield from chapter("variants", "Variants", told, ("variant", "what"), variants)
    metrics = [metric_page(load_metric(name)) for name in metric_names()]
    told = "What a fold's scores come to in one number."
    yield from chapter("metrics", "Metrics", told, ("metric", "title", "tasks"), metrics)
    yield from commands()
    yield from schema()
