"""Options that several verbs share, and how their words become values."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.errors import SpecError

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


DataRoot = Annotated[
    list[str] | None,
    typer.Option(
        "--data-root",
        metavar="DIR|TASK=DIR",
        help="Folder below which the data sets lie, or one task's own; repeatable. [env: CXRBENCH_DATA]",
    ),
]
WeightsFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="DIR|MODEL=FILE",
        help="Folder with published checkpoints, or one model's file; repeatable. [env: CXRBENCH_WEIGHTS]",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for records, predictions and tables.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        envvar="CXRBENCH_CACHE",
        help="Folder for embeddings, decoded images and fetched weights. [default: the user's]",
    ),
]
VariantName = Annotated[
    str,
    typer.Option(
        "--variant",
        help="Bundle of settings: paper-code, cxrbench-v1, phantom, or a TOML file.",
        autocompletion=variants,
    ),
]
Choices = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=CHOICE", help="Replace one choice of the bundle; repeatable."),
]
MeasuredModels = Annotated[
    list[str],
    typer.Option("--model", "-m", help="Models: names, globs, all, or card files; repeatable.", autocompletion=models),
]
TextEncoder = Annotated[
    Path | None,
    typer.Option("--text-encoder", help="Local folder with config.json, vocab.txt and tokenizer_config.json."),
]
Device = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:N, several such as cuda:0,1, or auto: every CUDA device, else cpu."),
]
Precision = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option("--precision", help="Of the forward pass; keyed.")
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", min=1, help="Images a forward pass; another one moves vectors by about 1e-6; recorded."
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Decoding threads; 0: one a core.")]
Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="Measured models; repeatable, globs. [default: all]")
]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Tasks; repeatable, globs. [default: all]")]
GroupName = Annotated[str | None, typer.Option("--group", help="Label group. [default: each that was measured]")]
Several = list[str] | None
Protocols = Annotated[
    Several,
    typer.Option("--protocol", "-p", help="Protocols. [default: each that was measured]", autocompletion=protocols),
]
ShotNumbers = Annotated[
    Several, typer.Option("--shots", "-k", help="Training images per class, such as 1,4,16. [default: each measured]")
]
Groups = Annotated[Several, typer.Option("--group", "-g", help="Label groups, or `each`. [default: all]")]
PromptSets = Annotated[Several, typer.Option("--prompts", help="Prompt sets. [default: each that was measured]")]
ProtocolName = Annotated[
    str | None,
    typer.Option("--protocol", help="Only this one. [default: each that was measured]", autocompletion=protocols),
]
Shots = Annotated[
    int | None, typer.Option("--shots", "-k", help="Training images per class. [default: each that was measured]")
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
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


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

    `each` stands for every group. Raises SpecError for shots that are no numbers.
    """
    from cxrbench.records.selection import CellFilter

    groups = words(group)
    return CellFilter(
        words(model) or ("all",),
        variant,
        words(task) or ("all",),
        None if not groups or "each" in groups else groups,
        words(protocol) or None,
        numbers(shots, "--shots") if shots else None,
        words(prompts) or None,
        synthetic,
    )


def words(values: Sequence[str] | None) -> tuple[str, ...]:
    """Comma lists and repeated options as single words."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def numbers(values: Sequence[str], what: str, *, distinct: bool = True) -> tuple[int, ...]:
    """Comma lists of whole numbers, by default each once; raises SpecError for anything else."""
    asked = words(values)
    if strange := [word for word in asked if not re.fullmatch(r"-?[0-9]+", word)]:
        raise SpecError(f"{what}: whole numbers are wanted, such as 1,2,4, not {strange[0]!r}")
    found = [int(word) for word in asked]
    return tuple(dict.fromkeys(found) if distinct else found)


def pairs(values: Sequence[str] | None, what: str) -> dict[str, str]:
    """`NAME=VALUE` words; raises SpecError for a word without `=`."""
    found = {}
    for value in values or ():
        name, separator, rest = value.partition("=")
        if not separator or not name or not rest:
            raise SpecError(f"{what}: {value!r} is not NAME=VALUE; write the name, `=` and the value without blanks")
        found[name] = rest
    return found


def data_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """Data roots by task; the variable CXRBENCH_DATA is the general one where the command line names none."""
    return _with_default(places(values, known, "--data-root"), "CXRBENCH_DATA")


def weights_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """Weights by model; the variable CXRBENCH_WEIGHTS is the general folder where the command line names none."""
    return _with_default(places(values, known, "--weights"), "CXRBENCH_WEIGHTS")


def known_weights_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """`weights_places`; raises SpecError for one that is named for no model there is."""
    from cxrbench.specs import catalog

    found = weights_places(values, known)
    for name in found:
        if name and name not in known:
            raise catalog.unknown("model", name, {*known})
    return found


def _with_default(found: Mapping[str, Path], variable: str) -> Mapping[str, Path]:
    named = os.environ.get(variable)
    return {"": Path(named).expanduser(), **found} if named else found


def places(values: Sequence[str] | None, known: Sequence[str], what: str) -> Mapping[str, Path]:
    """`PATH` (stored under "") and `NAME=PATH` words; a path may itself contain `=`.

    Raises SpecError for two general paths.
    """
    found: dict[str, Path] = {}
    for value in values or ():
        name, separator, rest = value.partition("=")
        named = separator and (name in known or (_NAME.fullmatch(name) and not Path(value).exists()))
        key, path = (name, rest) if named else ("", value)
        if key in found:
            raise SpecError(f"{what}: {key or 'the general folder'} is named twice, {found[key]} and {path}")
        found[key] = Path(path).expanduser()
    return found
