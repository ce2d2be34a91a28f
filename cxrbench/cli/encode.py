"""`cxrbench encode` and `cxrbench status`: the store of a request or of an archive, filled here or by a cluster."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from cxrbench.cli.echo import say, warn, warn_of_files
from cxrbench.cli.options import AskedRequest, names_request
from cxrbench.errors import CxrBenchError, SpecError, gravest
from cxrbench.runner.options import MODELS, OPTIONS, TASKS, RequestOptions

if TYPE_CHECKING:
    from cxrbench.runner.executors import AnyJob
    from cxrbench.runner.filling import FilePart, Filled, Filling

_MEASURING = ("out", "max_unreadable", "resume", "rehash")
_OF_TASKS = (
    "protocols",
    "shots",
    "groups",
    "trained_on",
    "mapping",
    "variant",
    "settings",
    "prompts",
    "data_root",
    "allow_missing",
)
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", help="In place of tasks: a folder of images, or a CSV or Parquet table with a column path."
    ),
]
Count = Annotated[
    int,
    typer.Option("--parts", min=1, help="How many parts the files are cut into; another number is no other result."),
]


@names_request(*_MEASURING, optional=True)
def encode(
    asked: AskedRequest,
    images: Images = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="With --images: the Parquet file that gets the vectors, a row an image.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only part I of N (from 0 on), and no file of vectors.")
    ] = None,
    needed: Annotated[
        Path | None,
        typer.Option(
            "--needed",
            help="Encode nothing: write the images and texts that a file of vectors must hold into this folder.",
        ),
    ] = None,
    executor: Annotated[
        Literal["local", "slurm", "ray"],
        typer.Option("--executor", help="Who encodes: this machine, an array of SLURM, or a Ray cluster."),
    ] = "local",
    parts: Count = 64,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the Ray cluster; without it one is started on this machine.")
    ] = None,
    actors: Annotated[
        int, typer.Option("--actors", min=0, help="Ray workers; 0: one a GPU, or one a core without.")
    ] = 0,
    sbatch: Annotated[
        list[str] | None,
        typer.Option("--sbatch", help="Option for sbatch, such as --sbatch=--gres=gpu:1; repeatable."),
    ] = None,
    logs: Annotated[Path, typer.Option("--logs", help="Folder for the array job's script and output.")] = Path("logs"),
) -> None:
    """Encode images, and score nothing.

    The store gets what the models make of every image that tasks, or an archive (--images), want; `run` finds it there
    afterwards. The same command goes on after a kill, here or on a cluster; parts that run at the same time, on any
    machines that share --cache, need nothing of each other.
    """
    from cxrbench.runner.archive import require_target
    from cxrbench.runner.filling import FilePart

    if to is not None:
        require_target(to)
        if images is None:
            raise SpecError("--to: vectors are written for --images; records of tasks are what `run` writes")
    job, device = _job(asked, images), asked.options["device"]
    if needed is not None:
        _write_needed(job, needed)
        return
    found: list[Filled] = []
    if executor == "slurm":
        if shard is not None or to is not None:
            raise SpecError("--executor slurm takes neither --shard nor --to: run --to here when all parts are done")
        _to_slurm(job, _words(_absolute(asked), images), parts, sbatch or (), logs)
        return
    if shard is not None:
        found = _on_devices(job, device, FilePart.parse(shard), alone=True)
    elif executor == "ray":
        found = _with_ray(job, parts, address, actors)
    else:
        found = _on_devices(job, device, FilePart(), alone=to is None)
    if to is not None and shard is None:
        found = [*found, _written(job, device, to)]
    _leave(found)


@names_request(*_MEASURING, "device", "batch_size", "workers", optional=True)
def status(
    asked: AskedRequest,
    images: Images = None,
    parts: Count = 64,
) -> None:
    """Say what `encode` has still to do.

    Takes the options of `encode` that name the request, and reads no image. The last line is the parts with anything
    missing, as `sbatch --array` takes them; exit code 1 if there are any.
    """
    from cxrbench.runner.filling import missing_parts

    asked.options["device"] = "cpu"
    job = _job(asked, images)
    filling = job.filling()
    found = missing_parts(filling, parts)
    problems = _problems(filling)
    for title, (lacking, wanted) in found.lacking.items():
        say(f"{title}: {wanted - lacking} of {wanted} images encoded or left out, {lacking} to encode")
    if found.no_pictures:
        say(f"{found.no_pictures} files are no pictures, as `encode` found; they count as done until they change")
    if found.parts:
        say(f"{len(found.parts)} of {parts} parts: --array={found.array}")
    elif not problems:
        say("nothing is missing")
    if problems or found.parts:
        raise typer.Exit(max(gravest(problems), int(bool(found.parts))))


def _absolute(asked: AskedRequest) -> AskedRequest:
    """The same for a worker that stands in another folder, with another environment."""
    options = cast(RequestOptions, {name: OPTIONS[name].absolute(value) for name, value in asked.options.items()})
    return AskedRequest(MODELS.absolute(asked.models) or (), TASKS.absolute(asked.tasks) or (), options)


def _job(asked: AskedRequest, images: Path | None) -> "AnyJob":
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.runner.archive import ArchiveJob
    from cxrbench.runner.filling import RequestJob
    from cxrbench.runner.request import build_engine, build_places, build_request

    if (images is None) == (not asked.tasks):
        raise SpecError("name the images: either --task, or --images with a folder or table")
    found = _absolute(asked)
    if images is None:
        return RequestJob(build_request(found.models, found.tasks, found.options))
    if strange := [OPTIONS[name].flag for name in _OF_TASKS if asked.options.get(name) != OPTIONS[name].default]:
        raise SpecError(f"{', '.join(strange)}: choices of tasks, which --images has none of; leave them out")
    return ArchiveJob(tuple(found.models), images.resolve(), build_places(found.options), build_engine(found.options))


def _words(asked: AskedRequest, images: Path | None) -> list[str]:
    """The options that say the same job again, in any folder."""
    told = [*MODELS.write(asked.models), *TASKS.write(asked.tasks)]
    left_out = () if images is None else _OF_TASKS
    told += [] if images is None else ["--images", str(images.resolve())]
    kept = {name: value for name, value in asked.options.items() if name not in left_out}
    return told + [word for name, value in kept.items() for word in OPTIONS[name].write(value)]


def _on_devices(job: "AnyJob", device: str, part: "FilePart", *, alone: bool) -> "list[Filled]":
    """By all devices; one that is going to write the vectors `alone` encodes as it does so."""
    from cxrbench.runner.executors import local
    from cxrbench.runner.filling import fill
    from cxrbench.runner.model import devices
    from cxrbench.system.progress import progress_for

    chosen = devices(device)
    if len(chosen) == 1:
        return [_told(fill(job.filling(), part, progress_for(sys.stderr)))] if alone else []
    found: list[Filled] = []
    local(job, part.shared(len(chosen)), chosen, lambda one: found.append(_told(one)))
    return found


def _with_ray(job: "AnyJob", parts: int, address: str | None, actors: int) -> "list[Filled]":
    from cxrbench.runner.executors import ray
    from cxrbench.runner.filling import FilePart

    found: list[Filled] = []
    ray(job, [FilePart(n, parts) for n in range(parts)], address, actors, lambda one: found.append(_told(one)))
    return found


def _write_needed(job: "AnyJob", folder: Path) -> None:
    from cxrbench.runner.filling import RequestJob
    from cxrbench.runner.lay_out import lay_out
    from cxrbench.runner.needed import needed, stand_in

    if not isinstance(job, RequestJob):
        raise SpecError("--needed says what tasks want of a file of vectors: name --task, not --images")
    made = lay_out(job.request, stand_in)
    found = needed(made)
    found.write(folder)
    for problem in made.problems:
        warn(f"cxrbench: {problem}")
    for name, reason in made.skipped.items():
        say(f"{name}: not applicable: {reason}")
    say(f"{len(found.images)} images in {folder / 'images.csv'}, {len(found.texts)} texts in {folder / 'texts.csv'}")
    if made.problems:
        raise typer.Exit(gravest(made.problems))


def _to_slurm(job: "AnyJob", words: Sequence[str], parts: int, sbatch: Sequence[str], logs: Path) -> None:
    from cxrbench.runner.executors import on_device, slurm
    from cxrbench.runner.filling import missing_parts

    filling = on_device(job, "cpu").filling()  # a login node may have no GPU
    waiting, problems = missing_parts(filling, parts), _problems(filling)
    if waiting.no_pictures:
        say(f"{waiting.no_pictures} files are no pictures, as an earlier part found, and are not handed in again")
    if not waiting.parts:
        if problems:
            raise typer.Exit(gravest(problems))
        say("nothing is missing")
        return
    number = slurm(words, parts, waiting.array, sbatch, logs)
    say(
        f"job {number}: {len(waiting.parts)} of {parts} parts, --array={waiting.array}; its output is in {logs}. "
        "`cxrbench status` says what is missing; the same command hands in that alone."
    )
    if problems:
        raise typer.Exit(gravest(problems))


def _problems(filling: "Filling") -> list[CxrBenchError]:
    """What stands in the way of models and tasks, told."""
    for problem in filling.obstacles:
        warn(f"cxrbench: {problem}")
    return filling.obstacles


def _told(found: "Filled") -> "Filled":
    """Tell how a part went."""
    for remark in found.remarks:
        say(remark)
    warn_of_files("left out", found.unreadable)
    warn_of_files("missing", found.missing)
    for problem in found.problems:
        warn(f"cxrbench: {problem}")
    say(
        f"part {found.part}: {found.decoded} images decoded, {found.encoded} encoded, {len(found.unreadable)} "
        f"unreadable, {len(found.missing)} missing, {len(found.problems)} problems"
    )
    return found


def _written(job: "AnyJob", device: str, to: Path) -> "Filled":
    """Encode what is still missing or damaged, and write all vectors."""
    from cxrbench.runner.archive import write_vectors
    from cxrbench.runner.executors import on_device
    from cxrbench.runner.filling import FilePart, fill
    from cxrbench.runner.model import devices
    from cxrbench.system.progress import progress_for

    try:
        chosen = devices(device)[0]
    except SpecError:  # a cluster has encoded on devices that are not here
        chosen = "cpu"
    filling = on_device(job, chosen).filling()
    found = _told(fill(filling, FilePart(), progress_for(sys.stderr), check=True))
    rows = write_vectors(filling, found, to)
    say(f"{rows} rows in {to}")
    return found


def _leave(found: "Sequence[Filled]") -> None:
    problems = [problem for one in found for problem in one.problems]
    if problems:
        raise typer.Exit(gravest(problems))
