"""`cxrbench encode` and `cxrbench status`: the store of a request or of an archive, filled here or by a cluster."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli import options
from cxrbench.cli.echo import say, warn, warn_of_files
from cxrbench.cli.options import (
    BatchSize,
    Cache,
    Choices,
    DataRoot,
    Device,
    MeasuredModels,
    Precision,
    TextEncoder,
    VariantName,
    WeightsFrom,
    Workers,
    data_places,
    numbers,
    pairs,
    weights_places,
    words,
)
from cxrbench.errors import CxrBenchError, SpecError, gravest

if TYPE_CHECKING:
    from cxrbench.runner.executors import AnyJob
    from cxrbench.runner.filling import FilePart, Filled, Filling

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        "-t",
        help="Tasks whose images are wanted: names, globs, all, or files; repeatable.",
        autocompletion=options.tasks,
    ),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option("--protocol", "-p", help="As for `run`; default the first two.", autocompletion=options.protocols),
]
ShotCounts = Annotated[list[str] | None, typer.Option("--shots", "-k", help="As for `run`; default 16.")]
Groups = Annotated[list[str] | None, typer.Option("--group", "-g", help="As for `run`; default every one.")]
Prompts = Annotated[list[str] | None, typer.Option("--prompts", help="As for `run`.")]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", help="In place of tasks: a folder of images, or a CSV or Parquet table with a column path."
    ),
]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Encode what is there when images have no file.")]
Count = Annotated[
    int,
    typer.Option("--parts", min=1, help="How many parts the files are cut into; another number is no other result."),
]


def encode(
    model: MeasuredModels,
    task: Tasks = None,
    images: Images = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="With --images: the Parquet file that gets the vectors, a row an image.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only part I of N (from 0 on), and no file of vectors.")
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
    protocol: Protocols = None,
    shots: ShotCounts = None,
    group: Groups = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    prompts: Prompts = None,
    data_root: DataRoot = None,
    weights: WeightsFrom = None,
    text_encoder: TextEncoder = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    cache: Cache = None,
    allow_missing: AllowMissing = False,
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
    job = _job(
        model, task, images, protocol, shots, group, variant, choice, prompts, data_root, weights, text_encoder,
        device, precision, batch_size, workers, cache, allow_missing=allow_missing,
    )  # fmt: skip
    found: list[Filled] = []
    if executor == "slurm":
        if shard is not None or to is not None:
            raise SpecError("--executor slurm takes neither --shard nor --to: run --to here when all parts are done")
        _to_slurm(job, parts, sbatch or (), logs)
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


def status(
    model: MeasuredModels,
    task: Tasks = None,
    images: Images = None,
    parts: Count = 64,
    protocol: Protocols = None,
    shots: ShotCounts = None,
    group: Groups = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    prompts: Prompts = None,
    data_root: DataRoot = None,
    weights: WeightsFrom = None,
    text_encoder: TextEncoder = None,
    precision: Precision = "float32",
    cache: Cache = None,
    allow_missing: AllowMissing = False,
) -> None:
    """Say what `encode` has still to do.

    Takes the options of `encode` that name the request, and reads no image. The last line is the parts with anything
    missing, as `sbatch --array` takes them; exit code 1 if there are any.
    """
    from cxrbench.runner.filling import missing_parts

    job = _job(
        model, task, images, protocol, shots, group, variant, choice, prompts, data_root, weights, text_encoder,
        "cpu", precision, 32, 0, cache, allow_missing=allow_missing,
    )  # fmt: skip
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


def _job(
    model: Sequence[str],
    task: Sequence[str] | None,
    images: Path | None,
    protocol: Sequence[str] | None,
    shots: Sequence[str] | None,
    group: Sequence[str] | None,
    variant: str,
    choice: Sequence[str] | None,
    prompts: Sequence[str] | None,
    data_root: Sequence[str] | None,
    weights: Sequence[str] | None,
    text_encoder: Path | None,
    device: str,
    precision: Literal["float32", "bfloat16", "float16"],
    batch_size: int,
    workers: int,
    cache: Path | None,
    *,
    allow_missing: bool,
) -> "AnyJob":
    from cxrbench.specs import catalog
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.runner.archive import ArchiveJob
    from cxrbench.runner.filling import RequestJob
    from cxrbench.runner.request import Engine, Places, Request
    from cxrbench.specs.paths import default_cache

    if (images is None) == (not task):
        raise SpecError("name the images: either --task, or --images with a folder or table")
    data, given = (
        data_places(data_root, list(catalog.task_files())),
        weights_places(weights, list(catalog.card_files())),
    )
    places = Places(  # from the root on: a worker may stand in another folder
        data={name: path.resolve() for name, path in data.items()},
        weights={name: path.resolve() for name, path in given.items()},
        text_encoder=text_encoder and text_encoder.resolve(),
        cache=(cache or default_cache()).resolve(),
    )
    engine = Engine(device, precision, batch_size, workers)
    models = tuple(map(_anywhere, words(model)))
    if images is not None:
        return ArchiveJob(models, images.resolve(), places, engine)
    request = Request(
        models=models,
        tasks=tuple(map(_anywhere, words(task))),
        protocols=words(protocol) or catalog.PAPERS_PROTOCOLS,
        shots=numbers(shots or ["16"], "--shots"),
        groups=words(group) or ("*",),
        variant=_anywhere(variant),
        choices=pairs(choice, "--set"),
        prompts=tuple(map(_anywhere, words(prompts))) or tuple(catalog.prompt_files()),
        places=places,
        engine=engine,
        allow_missing=allow_missing,
    )
    return RequestJob(request)


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


def _to_slurm(job: "AnyJob", parts: int, sbatch: Sequence[str], logs: Path) -> None:
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
    number = slurm(_words(job), parts, waiting.array, sbatch, logs)
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


def _words(job: "AnyJob") -> list[str]:
    """The options that say the same job again, in any folder: its paths are from the root on already (`_job`)."""
    from cxrbench.runner.archive import ArchiveJob

    asked = job if isinstance(job, ArchiveJob) else job.request
    places, engine = asked.places, asked.engine
    told = [("--model", name) for name in asked.models]
    if isinstance(job, ArchiveJob):
        told.append(("--images", str(job.images)))
    else:
        request = job.request
        told += [("--task", name) for name in request.tasks]
        told += [("--protocol", name) for name in request.protocols]
        told += [("--group", name) for name in request.groups if name != "*"]
        told += [("--shots", ",".join(map(str, request.shots))), ("--variant", request.variant)]
        told += [("--set", f"{name}={choice}") for name, choice in request.choices.items()]
        told += [("--prompts", name) for name in request.prompts]
    for option, named in (("--data-root", places.data), ("--weights", places.weights)):
        told += [(option, f"{name}={path}" if name else str(path)) for name, path in named.items()]
    if places.text_encoder is not None:
        told.append(("--text-encoder", str(places.text_encoder)))
    told += [("--device", engine.device), ("--precision", engine.precision), ("--batch-size", str(engine.batch_size))]
    told += [("--workers", str(engine.workers)), ("--cache", str(places.cache))]
    allowed = [] if isinstance(job, ArchiveJob) or not job.request.allow_missing else ["--allow-missing"]
    return [word for pair in told for word in pair] + allowed


def _anywhere(name: str) -> str:
    """A name, or the path of a fact file from the root on."""
    return str(Path(name).resolve()) if name.endswith(".toml") else name


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
