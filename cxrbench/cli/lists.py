"""`cxrbench models`, `tasks`, `protocols` and `info NAME...`: facts as a person reads them, or as JSON."""

import csv
import inspect
import io
import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.errors import DataError, SpecError
from cxrbench.specs.card import ModelCard, UnavailableModel
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import TaskKind

if TYPE_CHECKING:
    from cxrbench.models.glance import ModelLine
    from cxrbench.records.record import Record
    from cxrbench.specs.settings import SettingDoc

_WIDTH = 80  # columns of a terminal


class ProtocolFacts(Spec):
    """What is known of a protocol: `about` in its class's words, `constants` by bundle of settings."""

    name: str
    about: str
    source: str
    kinds: tuple[TaskKind, ...]
    needs: str
    constants: Mapping[str, Mapping[str, str | int | float]]


def _protocol_facts(name: str) -> ProtocolFacts:
    from cxrbench.runner.protocol import load_protocol
    from cxrbench.specs import catalog

    found = load_protocol(name)
    bundles = map(catalog.load_variant, catalog.variant_files())
    return ProtocolFacts(
        name=name,
        about=inspect.cleandoc(type(found).__doc__ or ""),
        source=found.origin,
        kinds=found.kinds,
        needs=found.needs,
        constants={bundle.name: dict(found.options(bundle.settings)) for bundle in bundles},
    )


def described(facts: "Spec | Record", path: Path) -> str:
    """The lines of a model, task, variant or record; prompt sets stand as they are in their files.

    A record's predictions lie beside its file, `path`.
    """
    from cxrbench.records.record import Record

    if isinstance(facts, Record):
        from cxrbench.records.predictions import read_cell
        from cxrbench.records.record import results_of
        from cxrbench.reports.detail import detail

        return detail(facts, read_cell(results_of(path), facts)).rstrip("\n")
    match facts:
        case ModelCard():
            told = _card(facts)
        case UnavailableModel():
            told = _unavailable(facts)
        case ProtocolFacts():
            told = _protocol(facts)
        case TaskSpec():
            told = _task(facts)
        case Variant():
            told = _variant(facts)
        case _:
            return facts.model_dump_json(indent=1, exclude_defaults=True)
    return "\n".join(told)


def _unavailable(model: UnavailableModel) -> Iterator[str]:
    yield f"{model.name}: {model.title}"
    yield f"  cannot be run: {model.unavailable}"
    yield f"  source: {model.source}"


def _task(task: TaskSpec) -> Iterator[str]:
    yield f"{task.name}: {task.title}, from {task.data_set}"
    if task.kind == "multi-label":
        yield "  kind: multi-label, each label holds or not by itself (docs/multi-label.md)"
    if task.kind == "retrieval":
        yield "  kind: retrieval, images and texts are found by each other (docs/retrieval.md)"
    yield f"  terms: {task.licence}"
    yield f"  get: {task.get}"
    yield f"  put: {_put(task)}"
    yield f"  images: {task.pool}"
    yield f"  patients: {task.patients.rule}"
    resplit = f"five draws of {task.test_percent} % of one table"
    fixed = "a fixed part; five folds draw training images" if task.kind != "retrieval" else "a fixed part"
    yield f"  test images: {resplit if task.folds == 'resplit' else fixed}"
    if (printed := task.printed) is not None:
        yield f"  paper, Table 1: {printed.train:,} train, {printed.test:,} test, {printed.labels} classes"
    if task.expected:
        totals = (f"{name} {count:,}" for name, count in task.expected.items())
        yield f"  a complete download has: {', '.join(totals)}"
    yield "\ngroups"
    for name, labels in task.groups.items():
        yield f"  {name}, {len(labels)} classes: {', '.join(labels)}" if labels else f"  {name}: its own counterpart"
    yield f"\nsplits (--set {task.name}.split=NAME)"
    chosen = _choosers(task.name)
    for name, split in task.splits.items():
        yield f"  {name}: {split.title or split.rule}{chosen.get(name, '')}"
        for part, known in split.reference.items():
            yield f"    {part}: {known.rows:,} rows, {known.distinct:,} images, sha256 of the rows {known.rows_sha256}"


def _put(task: TaskSpec) -> str:
    own = task.data_root({})
    if own is not None:
        return f"in {own}, or name another folder by --data-root {task.name}=DIR"
    return (
        f"in a folder below --data-root or CXRBENCH_DATA, or name it by --data-root {task.name}=DIR; "
        f"`cxrbench data status -t {task.word}` says what is found"
    )


def _choosers(task: str) -> dict[str, str]:
    """Which bundles take which split, as the end of a line."""
    from cxrbench.specs import catalog

    bundles = [catalog.load_variant(name) for name in catalog.variant_files()]
    splits = {bundle.splits[task] for bundle in bundles if task in bundle.splits}
    return {s: f" [{', '.join(b.name for b in bundles if b.splits.get(task) == s)}]" for s in splits}


def _card(card: ModelCard) -> Iterator[str]:
    yield f"{card.name}: {card.title}"
    yield f"  source: {card.source}"
    yield f"  terms: {card.licence}"
    if card.family:
        yield f"  family: {card.family}" + (f", {card.year}" if card.year else "")
    yield f"  checked: {_checked(card)}"
    if card.pretraining:
        yield f"  pre-trained on: {', '.join(card.pretraining)}"
    if card.weights.made is not None:
        yield f"  weights: none; its tensors are made: {card.weights.made}"
    else:
        files = " or ".join(card.weights.files)
        yield f"  weights: {files}; `cxrbench weights info {card.word}` says where, and what is here"
    if card.text_encoder is not None:
        yield f"  text encoder: {text_encoder_place(card)}"
    yield f"  adapter: {card.adapter}"
    yield f"  vectors: {', '.join(f'{tap} {width}' for tap, width in card.taps.items())}"
    given = " (none: vectors come from a file that was computed elsewhere)" if card.given else ""
    yield f"  recipes: {', '.join(card.recipes)}{given}"
    yield f"  zero-shot: {_zero_shot(card)}"
    rows = (f"{table.replace('table', 'Table ')}: {row}" for table, row in card.published.items())
    if card.published:
        yield f"  rows of the paper: {', '.join(rows)}"
    yield from (f"  note: {note}" for note in card.notes)


def _checked(card: ModelCard) -> str:
    from cxrbench.models.certificate import certificate_for

    found = certificate_for(card)
    own = "no certificate: its authors' code was not run" if found is None else f"against {found.source}"
    answers = f"; {len(card.answers)} printed answers, which `cxrbench doctor {card.word}` checks or says why not"
    return own + (answers if card.answers else "")


def _zero_shot(card: ModelCard) -> str:
    how = card.zero_shot
    if how is None:
        return "no text or label side; probes only"
    views = ", ".join(f"{name} ({view.scoring} of {view.tap} with {view.classes})" for name, view in how.views.items())
    own = f"; its authors' prompt sets: {', '.join(how.prompts)}" if how.prompts else ""
    standard = ", scores standardised over the test images" if how.standardised else ""
    return f"{views}; prompts of a class pooled by {how.pooling}{standard}{own}"


def text_encoder_place(card: ModelCard) -> str:
    """Where the card's text encoder comes from, in words."""
    encoder = card.text_encoder
    if encoder is None:
        return "none"
    if encoder.beside is not None:
        return f"beside the card, in {encoder.beside}"
    return f"{encoder.hub} at {encoder.revision or 'its main branch'}"


def _variant(variant: Variant) -> Iterator[str]:
    from cxrbench.specs import catalog

    yield f"{variant.name}, version {variant.version}: {variant.title}\ndigest {variant.digest}\n\nsplits"
    for task, split in variant.splits.items():
        yield f"  {task}: {split}: {catalog.load_task(task).split(split).title}"
    yield "\nsettings"
    docs = catalog.setting_docs().settings
    for setting, choice in variant.settings.model_dump(mode="json").items():
        yield f"  {setting} = {choice}: {docs[setting].choices[choice]}"


_PROMPT_KEYS = {"classes", "terms", "template", "unlisted", "queries", "negatives"}


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def models(
    form: Annotated[
        Literal["short", "wide", "csv", "json", "markdown"],
        typer.Option("--format", "-f", help="short fits 80 columns; the others have every column."),
    ] = "short",
) -> None:
    """List the models at a glance, those last that cannot be run.

    px: side of the picture. dim: width of the pooled vector. sides: text, label or both beside the image. terms: open;
    research, no commercial use; sign, to be accepted first; unclear, none for the weights; own, read them. weights:
    how they are had. code: run against the authors' own code. `cxrbench info NAME` says all.
    """
    from cxrbench.models.glance import model_lines

    lines = model_lines()
    if form == "json":
        echo(json.dumps([asdict(line) for line in lines], indent=1, ensure_ascii=False))
    elif form == "short":
        echo("\n".join(_short(lines)))
    else:
        _whole(lines, form)


def _short(lines: "Sequence[ModelLine]") -> Iterator[str]:
    """The list of models in 80 columns; families are cut short where a name needs the room."""
    head = ("year", "px", "dim", "sides", "terms", "weights", "code")
    rows = [head, *(_facts(line) for line in lines if line.available)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    name_width = max(len(line.name) for line in lines)
    room = max(_WIDTH - name_width - sum(widths) - len(head) - 1, len("family"))
    yield _row("name", "family", head, (name_width, room, *widths))
    for line in lines:
        if line.available:
            family = line.family if len(line.family) <= room else line.family[: room - 1] + "…"
            yield _row(line.name, family, _facts(line), (name_width, room, *widths))
        else:
            yield f"{line.name.ljust(name_width)} {line.title}: cannot be run, see info"


def _row(name: str, family: str, facts: Sequence[str], widths: Sequence[int]) -> str:
    cells = (name, family, *facts)
    return " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _facts(line: "ModelLine") -> tuple[str, ...]:
    pooled = line.vectors.partition("pooled ")[2].partition(",")[0]
    checked = "yes" if line.checked else "–"
    return line.year or "–", line.image_size, pooled, line.sides or "–", line.licence, line.weights, checked


def _whole(lines: "Sequence[ModelLine]", form: Literal["wide", "csv", "markdown"]) -> None:
    names = [field.name for field in fields(lines[0])]
    rows = [[{True: "yes", False: ""}.get(v, "") if isinstance(v, bool) else str(v) for v in astuple(x)] for x in lines]
    if form == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([names, *rows])
        echo(stream.getvalue().rstrip("\n"))
    else:
        from cxrbench.reports.comparisons import grid

        echo(grid(rows, [name.replace("_", " ") for name in names], "markdown" if form == "markdown" else "terminal"))


def tasks() -> None:
    """List the tasks and their label groups.

    Name, title, and each group with its number of classes; `cxrbench info NAME` names classes and splits, and says
    where the data set is had.
    """
    from cxrbench.specs.catalog import task_lines

    lines = task_lines()
    left = _WIDTH - 4 - max(len(task.name) for task in lines) - max(len(task.title) for task in lines)
    rows = [("name", "title", "groups")]
    for task in lines:
        unbroken = task.groups_told.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
        first, *more = textwrap.wrap(unbroken, left)
        rows += [(task.name, task.title, first), *(("", "", text) for text in more)]
    echo("\n".join(_columns(rows)).replace("\N{NO-BREAK SPACE}", " "))


def protocols() -> None:
    """List the protocols: what each needs, and who published it.

    Name, kinds of tasks, needs, source. Texts stand for class vectors of the model's own, too; shots are training
    images (--shots). `cxrbench info NAME` says more. One of an installed package that cannot be loaded is listed with
    the reason.
    """
    from cxrbench.specs import catalog

    rows = [("name", "tasks", "needs", "source"), *map(_protocol_row, catalog.protocol_points())]
    echo("\n".join(_columns(rows)))


def _protocol_row(name: str) -> tuple[str, str, str, str]:
    from cxrbench.runner.protocol import load_protocol
    from cxrbench.system.contained import contained

    try:
        found = load_protocol(name)
    except BaseException as error:
        return name, "", "", f"cannot be loaded: {contained(error, name)}"
    return name, ", ".join(kind.removesuffix("-label") for kind in found.kinds), found.needs, found.origin


def _protocol(facts: ProtocolFacts) -> Iterator[str]:
    first, _, rest = facts.about.partition("\n")
    yield f"{facts.name}: {first}"
    yield from (f"  {line}".rstrip() for line in rest.strip().splitlines())
    yield f"  source: {facts.source}"
    yield f"  tasks: {', '.join(facts.kinds)}"
    yield f"  needs: {facts.needs}"
    told = {
        bundle: ", ".join(f"{name} {value}" for name, value in own.items()) for bundle, own in facts.constants.items()
    }
    yield from (f"  constants under {bundle}: {text}" for bundle, text in told.items() if text)


def info(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Models, tasks, protocols, variants, settings, prompt sets, or files of records."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Every key, as JSON; one object a name.")] = False,
) -> None:
    """Show what is known about a name, or what made a record.

    Of a task: terms, where to get it, groups, splits and their digests. Of a model: source, terms, weights, zero-shot.
    Of a protocol: source, needs, constants. Of a variant or setting: what each choice means. A file of one's own (TOML)
    is told apart by its keys.
    """

    found = [_found(name) for name in names]
    for place, (name, facts) in enumerate(zip(names, found, strict=True)):
        if place and not as_json:
            echo()
        setting = _setting(name)
        if as_json or setting is None:
            echo(facts.model_dump_json(indent=1) if as_json else described(facts, Path(name)))
        else:
            echo("\n".join(_setting_lines(name, setting)))


def _found(name: str) -> Spec:
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
        (catalog.protocol_points(), _protocol_facts),
        ({**catalog.prompt_files(), **catalog.author_prompt_files()}, catalog.load_prompts),
        (catalog.setting_docs().settings, catalog.setting_docs().settings.__getitem__),
    ]
    load = next((load for names, load in kinds if name in names), None)
    if load is None:
        known = [name for names, _ in kinds for name in names]
        raise catalog.unknown("model, task, protocol, variant, setting or prompt set", name, known)
    return load(name)


def _fact_file(path: Path) -> Spec:
    """A fact file of the user's own: a card, a task, a variant or a prompt set, told apart by its keys."""
    from cxrbench.specs import catalog
    from cxrbench.store.schema import toml_table

    keys = toml_table(path).keys()
    if "adapter" in keys:
        return catalog.load_card(str(path))
    if {"source", "labels"} <= keys:
        return catalog.load_task(str(path))
    if "settings" in keys:
        return catalog.load_variant(str(path))
    if keys & _PROMPT_KEYS:
        return catalog.load_prompts(str(path))
    raise SpecError(
        f"{path}: is no card (`adapter`), task (`source`, `labels`), variant (`settings`) or prompt set (`classes`, "
        f"`template`, ...): it has {', '.join(keys) or 'nothing'}"
    )


def _record(path: Path) -> Spec:
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
    if name == "fewshot.draw":
        others = (point for points in catalog.draw_points().values() for point in points)
        yield from (f"  {one.name}: of a package, {one.value}" for one in others if one.name not in doc.choices)
