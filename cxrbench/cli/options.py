"""Options that several verbs share, and how their words become values."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cxrbench.errors import SpecError

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
    Path | None, typer.Option("--cache", envvar="CXRBENCH_CACHE", help="Folder for embeddings. [default: the user's]")
]
VariantName = Annotated[
    str, typer.Option("--variant", help="Bundle of settings: paper-code, cxrbench-v1, phantom, or a TOML file.")
]
Choices = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=CHOICE", help="Replace one choice of the bundle; repeatable."),
]


_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def words(values: Sequence[str] | None) -> tuple[str, ...]:
    """Comma lists and repeated options as single words."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def numbers(values: Sequence[str], what: str, *, distinct: bool = True) -> tuple[int, ...]:
    """Comma lists of whole numbers, by default each once; raises SpecError for anything else."""
    try:
        found = [int(word) for word in words(values)]
        return tuple(dict.fromkeys(found) if distinct else found)
    except ValueError as error:
        raise SpecError(f"{what}: whole numbers are wanted, such as 1,2,4: {error}") from error


def pairs(values: Sequence[str] | None, what: str) -> dict[str, str]:
    """`NAME=VALUE` words; raises SpecError for a word without `=`."""
    found = {}
    for value in values or ():
        name, separator, rest = value.partition("=")
        if not separator or not name or not rest:
            raise SpecError(f"{what}: {value!r} is not NAME=VALUE")
        found[name] = rest
    return found


def data_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """Data roots by task; the variable CXRBENCH_DATA is the general one where the command line names none."""
    return _with_default(places(values, known, "--data-root"), "CXRBENCH_DATA")


def weights_places(values: Sequence[str] | None, known: Sequence[str]) -> Mapping[str, Path]:
    """Weights by model; the variable CXRBENCH_WEIGHTS is the general folder where the command line names none."""
    return _with_default(places(values, known, "--weights"), "CXRBENCH_WEIGHTS")


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
