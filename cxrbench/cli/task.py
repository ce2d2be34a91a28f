"""`cxrbench task new`: a task file for data of one's own."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.errors import SpecError

if TYPE_CHECKING:
    from cxrbench.data.proposal import Proposal
    from cxrbench.types import Partition

app = typer.Typer(help="Make a task of your own data.", no_args_is_help=True)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@app.callback()
def _verbs() -> None:
    pass  # so that `new` stays a verb of its own while it is the only one


@app.command()
def new(
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Table of labels: CSV, TSV (also packed) or Parquet, a row an image.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="In place of a table: a folder that holds one folder a class.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the table's images. [default: the table's]")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the labels. [default: guessed]")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Column of paths or ids of images. [default: guessed]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The task file; its name is that of the task.")] = Path(
        "my_task.toml"
    ),
) -> None:
    """Write a task file for a table or folder of your own.

    What each column means is guessed from names and values; every guess is told with its reason, and stands in the
    file, to be changed. The file is tried on the images before it is written, and never written over.
    """
    from cxrbench.data.proposal import propose_folder, propose_table
    from cxrbench.store.atomic import write_atomically

    _check_out(out)
    if csv is not None and folder is None:
        proposal = propose_table(csv, images, out, label, image)
    elif folder is not None and csv is None and (images, label, image) == (None, None, None):
        proposal = propose_folder(folder, out)
    else:
        raise SpecError("name either a table by --csv, or a folder of classes by --folder alone")
    write_atomically(out, proposal.text.encode())
    _tell(proposal, out)


def _check_out(out: Path) -> None:
    from cxrbench.specs import catalog

    if out.suffix != ".toml" or not _NAME.fullmatch(out.stem):
        raise SpecError(f"--out {out}: give a name of small letters, digits, - and _ that ends in .toml")
    if out.stem in catalog.task_files():
        raise SpecError(f"--out {out}: there is a task {out.stem!r}; give the file another name")
    if out.exists():
        raise SpecError(f"--out {out}: is there already; give another name, or delete it")


def _tell(proposal: "Proposal", out: Path) -> None:
    partition = proposal.partition
    for reason in proposal.reasons:
        echo(reason)
    for name, part in partition.parts.items():
        counts = ", ".join(f"{label} {count}" for label, count in part.counts.items())
        echo(f"{name}: {len(part)} images: {counts}")
    for reason, rows in partition.findings.left_out.items():
        echo(f"left out: {rows} rows: {reason}")
    for note in partition.findings.notes:
        echo(f"note: {note}")
    missing = partition.findings.missing
    more = " --allow-missing" * bool(missing) + _few_shots(partition)
    if missing:
        echo(f"missing: {len(missing)} images have no file, such as {missing[0]}; a run needs --allow-missing")
    echo(f"wrote {out}; look at it, and then, for instance:")
    echo(f"  cxrbench run --task {out} --model image_statistics --protocol linear-probe{more}")


def _few_shots(partition: "Partition") -> str:
    """The option for the most shots, a power of two, of which every class has images, where these are fewer than 16."""
    fewest = min(partition.parts["train"].counts.values(), default=1) if "train" in partition.parts else 16
    return "" if fewest >= 16 else f" --shots {1 << max(fewest, 1).bit_length() - 1}"
