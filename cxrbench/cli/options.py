"""Options that several verbs share, and how their words become values."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from cxrbench.cli.echo import echo
from cxrbench.runner import options as request
from cxrbench.runner.options import pairs, places, several_shots, words

if TYPE_CHECKING:
    from cxrbench.records.integrity import Results
    from cxrbench.records.record import Record
    from cxrbench.records.selection import CellFilter
    from cxrbench.specs.settings import Variant
    from cxrbench.specs.task import TaskSpec


def models(incomplete: str) -> list[str]:
    """Built-in and installed models that begin so."""
    from cxrbench.specs import catalog

    return _beginning(["all", *catalog.card_files()], incomplete)


def tasks(incomplete: str) -> list[str]:
    """Built-in and installed tasks that begin so."""
    from cxrbench.specs import catalog

    return _beginning(["all", *catalog.task_files()], incomplete)


def protocols(incomplete: str) -> list[str]:
    """Protocols of the paper and of installed packages that begin so."""
    from cxrbench.specs import catalog

    return _beginning([*catalog.protocol_points(), "all"], incomplete)


def variants(incomplete: str) -> list[str]:
    """Bundles of settings that begin so."""
    from cxrbench.specs import catalog

    return _beginning(list(catalog.variant_files()), incomplete)


def metrics(incomplete: str) -> list[str]:
    """Built-in and installed metrics that begin so."""
    from cxrbench.evaluate.metric_table import metric_names

    return _beginning(list(metric_names()), incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    """The names for the last word of a comma list, each with what stands before it."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


_COMPLETION = {
    request.MODELS: models,
    request.TASKS: tasks,
    request.PROTOCOLS: protocols,
    request.VARIANT: variants,
}


def spelt(option: request.Option) -> typer.models.OptionInfo:
    """The option as Typer takes it."""
    flag = f"{option.flag}/{option.off}" if isinstance(option, request.SwitchOption) and option.off else option.flag
    return typer.Option(
        *filter(None, (flag, option.short)),
        help=option.help,
        metavar=option.metavar,
        min=option.least,
        max=option.most,
        envvar=option.variable if isinstance(option, request.PathOption) else None,
        autocompletion=_COMPLETION.get(option),
    )


DataRoot = Annotated[list[str] | None, spelt(request.DATA_ROOT)]
WeightsFrom = Annotated[list[str] | None, spelt(request.WEIGHTS)]
Out = Annotated[Path, spelt(request.OUT)]
Cache = Annotated[Path | None, spelt(request.CACHE)]
VariantName = Annotated[str, spelt(request.VARIANT)]
Choices = Annotated[list[str] | None, spelt(request.SETTINGS)]
Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Measured models; repeatable, globs. [default: all]")
]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Tasks; repeatable, globs. [default: all]")]
GroupName = Annotated[str | None, typer.Option("--group", help="Label group. [default: each that was measured]")]
Several = list[str] | None
Protocols = Annotated[
    Several,
    typer.Option(
        "--protocol", "-p", help="Protocols; repeatable, globs. [default: each measured]", autocompletion=protocols
    ),
]
ShotNumbers = Annotated[
    Several, typer.Option("--shots", "-k", help="Training images, such as 1,16,10%,all. [default: each measured]")
]
Groups = Annotated[Several, typer.Option("--group", "-g", help="Label groups, or `each`. [default: all]")]
PromptSets = Annotated[Several, typer.Option("--prompts", help="Prompt sets. [default: each that was measured]")]
Shots = Annotated[
    str | None, typer.Option("--shots", "-k", help="Training images: 16, 1% or all. [default: each that was measured]")
]
PromptSetName = Annotated[str | None, typer.Option("--prompts", help="Prompt set. [default: each that was measured]")]
Synthetic = Annotated[
    bool, typer.Option("--synthetic", help="Take records of synthetic images or weights instead of measured ones.")
]
TheseDraws = Annotated[
    bool,
    typer.Option("--these-draws", help="Narrow intervals: other test images alone, training and prompts as they are."),
]
SheetFormat = Annotated[Literal["terminal", "markdown", "json"], typer.Option("--format", "-f", help="Output format.")]
Verb = Callable[..., None]
Offer = tuple[Any, Any]  # a parameter's annotation and default


def results(out: Path) -> "list[Record]":
    """The records below a results folder that hold; what does not is named on stderr, with the way out."""
    from cxrbench.records.integrity import read_results
    from cxrbench.specs.paths import default_cache

    found = read_results(out, default_cache())
    tell_left_out(out, found)
    return list(found.records)


def tell_left_out(out: Path, found: "Results") -> None:
    """Say on stderr which records were left out, and why."""
    for reason in found.left_out.values():
        echo(f"left out: {reason}", err=True)
    if found.foreign:
        echo(f"{found.foreign} files in {out / 'records'} are of another version and were left out", err=True)


def chosen_variant(name: str, choices: Sequence[str] | None, tasks: Iterable[str] = ()) -> "Variant":
    """The bundle of that name with the choices of --set; `tasks` are further ones, of one's own, that may get a split.

    Raises SpecError for a bundle, setting or choice that does not exist.
    """
    from cxrbench.specs import catalog

    return catalog.chosen_variant(name, pairs(choices, "--set"), tasks)


def recorded_variant(name: str, choices: Sequence[str] | None, records: "Sequence[Record]") -> "Variant":
    """`chosen_variant`; every task that was recorded may get a split."""
    return chosen_variant(name, choices, {record.data.task for record in records})


def chosen_tasks(values: Sequence[str] | None) -> "tuple[TaskSpec, ...]":
    """Tasks by names, globs and files, all where none is named; raises SpecError for one that does not exist."""
    from cxrbench.specs import catalog

    named = words(values) or ("all",)
    files = [name for name in named if name.endswith(".toml")]
    known = catalog.select([name for name in named if name not in files], catalog.task_files(), "task")
    return tuple(catalog.load_task(name) for name in [*known, *files])


def asked_cells(
    variant: "Variant",
    model: Sequence[str] | None,
    task: Sequence[str] | None,
    group: Sequence[str] | None,
    protocol: Sequence[str] | None,
    shots: Sequence[str] | None,
    prompts: Sequence[str] | None,
    *,
    synthetic: bool = False,
) -> "CellFilter":
    """The choice of cells that repeated options and comma lists make; what is not named is each that was measured.

    `each` stands for every group. Raises SpecError for shots that are none.
    """
    from cxrbench.records.selection import CellFilter

    groups = words(group)
    return CellFilter(
        words(model) or ("all",),
        variant,
        tuple(map(_task_name, words(task))) or ("all",),
        None if not groups or "each" in groups else groups,
        words(protocol) or None,
        several_shots(shots, "--shots") if shots else None,
        words(prompts) or None,
        synthetic,
    )


def trained_tasks(asked: Sequence[str] | None, records: "Sequence[Record]") -> tuple[str, ...]:
    """The tasks that records were trained on, by names, globs and files; none where none is named.

    Raises SpecError for one that no record was trained on.
    """
    from cxrbench.records.selection import in_order
    from cxrbench.specs import catalog

    known = in_order({r.data.trained_on.task for r in records if r.data.trained_on is not None})
    named = list(map(_task_name, words(asked)))
    return tuple(catalog.select(named, known, "task that was trained on")) if named else ()


def _task_name(word: str) -> str:
    """The name of a task, which may be given by the path of its file."""
    from cxrbench.specs import catalog

    return catalog.load_task(word).name if word.endswith(".toml") else word


def data_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """Data roots by task; the variable CXRBENCH_DATA is the general one where the command line names none."""
    return request.DATA_ROOT.by_name(places(values, known, request.DATA_ROOT.flag))


def known_weights_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """Weights by model, as `data_places`; raises SpecError for one that is named for no model there is."""
    from cxrbench.specs import catalog

    found = request.WEIGHTS.by_name(places(values, known, request.WEIGHTS.flag))
    for name in found:
        if name and name not in known:
            raise catalog.unknown("model", name, {*known})
    return found


def command_of(
    verb: Verb, before: Mapping[str, Offer], after: Mapping[str, Offer], first: Callable[[dict[str, Any]], Any]
) -> Verb:
    """A command with the options `before`, the verb's own, and those `after`.

    `first` makes the verb's first argument from the values of the options that are not its own.
    """
    own = [one.replace(kind=_KEYWORD) for one in list(inspect.signature(verb).parameters.values())[1:]]

    def command(**values: Any) -> None:
        verb(first({name: values.pop(name) for name in (*before, *after)}), **values)

    told = [*_parameters(before), *own, *_parameters(after)]
    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__annotations__ = {one.name: one.annotation for one in told}
    command.__signature__ = inspect.Signature(told)  # type: ignore[attr-defined]
    return command


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _parameters(offered: Mapping[str, Offer]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, _KEYWORD, default=value, annotation=kind) for name, (kind, value) in offered.items()
    ]


@dataclass(frozen=True)
class AskedRequest:
    """What the command line asks of a request, as `runner.request.build_request` takes it."""

    models: Sequence[str]
    tasks: Sequence[str]
    options: request.RequestOptions


def names_request(*left_out: str, optional: bool = False) -> Callable[[Verb], Verb]:
    """A verb whose first argument stands for the options of a request but those `left_out`; tasks may be `optional`."""

    def decorated(verb: Verb) -> Verb:
        many = list[str] | None if optional else list[str]
        first = {
            "models": (Annotated[list[str], spelt(request.MODELS)], inspect.Parameter.empty),
            "tasks": (Annotated[many, spelt(request.TASKS)], None if optional else inspect.Parameter.empty),
        }
        rest = {name: _offer(name) for name in request.OPTIONS if name not in left_out}
        return command_of(verb, first, rest, _asked)

    return decorated


def _offer(name: str) -> Offer:
    option = request.OPTIONS[name]
    kind, default = request.PYTHON_TYPES[name], option.default
    if option.repeats:
        kind, default = list[str] | None, default and [str(value) for value in default]
    elif isinstance(option, request.PathOption):
        kind = Path | None
    return Annotated[kind, spelt(option)], default


def _asked(given: dict[str, Any]) -> AskedRequest:
    described = {**request.REQUIRED, **request.OPTIONS}
    read = {name: described[name].value(words) for name, words in given.items()}
    return AskedRequest(read.pop("models"), read.pop("tasks"), cast(request.RequestOptions, read))
