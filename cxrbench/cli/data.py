"""`cxrbench data status|prepare|verify|phantom`: the data sets on this disk."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Cache,
    Choices,
    DataRoot,
    VariantName,
    chosen_tasks,
    chosen_variant,
    data_places,
    words,
)
from cxrbench.errors import CxrBenchError, DataError, IntegrityError, SpecError, gravest
from cxrbench.runner.options import numbers

if TYPE_CHECKING:
    from cxrbench.data.manifest import Contents
    from cxrbench.specs.recipe import Recipe
    from cxrbench.specs.task import TaskSpec
    from cxrbench.store.file_hashes import FileHashes
    from cxrbench.types import Partition

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DataPlace:
    """One task's split on this disk: the data root, the manifests' folder, the cache, and how many threads may read."""

    spec: "TaskSpec"
    partition: "Partition"
    root: Path
    manifests: Path
    cache: Path
    workers: int = 0

    @property
    def manifest(self) -> Path:
        """Where the split's manifest lies, if there is one."""
        return self.manifests / f"{self.partition.task}.{self.partition.split}.json"

    @property
    def images(self) -> int:
        """Images of the split, the missing ones too."""
        return len(self.partition.paths) + len(self.partition.findings.missing)

    def hashes(self, rehash: bool = False) -> "FileHashes":
        """The table of file hashes."""
        from cxrbench.store.file_hashes import FileHashes

        return FileHashes(self.cache, self.root, rehash=rehash)

    @property
    def threads(self) -> int:
        """How many threads read."""
        from cxrbench.runner.request import Engine

        return Engine(workers=self.workers).threads


def prepare_images(place: DataPlace, recipe: "Recipe", rehash: bool) -> list[CxrBenchError]:
    """Read every image as a run with this recipe would; say and return what is wrong with them."""
    from cxrbench.data.manifest import read_all, read_before
    from cxrbench.system.cpu import keep_freed_memory
    from cxrbench.system.progress import announced, progress_for

    keep_freed_memory()
    name, found = place.spec.name, place.partition
    with announced(f"{name}: asking which of {len(found.paths)} files were read before", sys.stderr):
        hashes = place.hashes(rehash)
        before = read_before(place.cache, place.root, recipe, found.paths, rehash=rehash)
    read = read_all(found.paths, recipe, hashes, place.threads, progress_for(sys.stderr), before)
    echo(f"{name}: {len(found.paths) - read.lost} of {place.images} images read")
    missing = sorted({*found.findings.missing, *read.missing})
    if missing:
        echo(f"  missing: {len(missing)}, such as {', '.join(missing[:_SHOWN])}")
    for image, reason in read.unreadable.items():
        echo(f"  unreadable: {image}: {reason}")
    _describe_hashes(hashes)
    faults = [(missing, "images are missing"), (read.unreadable, "images cannot be read")]
    failed: list[CxrBenchError] = [DataError(f"{name}: {len(some)} {what}") for some, what in faults if some]
    return failed + _against_manifest(place, read.contents)


def _against_manifest(place: DataPlace, contents: Mapping[str, str]) -> list[CxrBenchError]:
    """What differs from the split's manifest, if there is one."""
    from cxrbench.data.manifest import check, read_manifest

    if not place.manifest.exists():
        return []
    try:
        complaints = check(read_manifest(place.manifest), place.partition, contents)
    except CxrBenchError as error:
        echo(f"  {error}")
        return [error]
    for complaint in complaints:
        echo(f"  differs from {place.manifest}: {complaint}")
    return [DataError(f"{place.spec.name}: differs from its manifest")] if complaints else []


def verify_manifest(place: DataPlace, rehash: bool) -> list[CxrBenchError]:
    """Hold the split and its images' bytes against the manifest, or write that; say and return what differs.

    Files are read where the table of file hashes does not know them, or (`rehash`) all of them.
    """
    from cxrbench.data.manifest import check, contents, manifest, read_manifest
    from cxrbench.system.progress import progress_for

    path, name, hashes = place.manifest, place.spec.name, place.hashes(rehash)
    expected = read_manifest(path) if path.exists() else None
    held = contents(place.partition.paths, hashes, place.threads, progress_for(sys.stderr))
    complaints = check(expected, place.partition, held.sha256) if expected else []
    verdict = "differs from" if complaints else "equals" if expected else "wrote"
    if expected is None:
        manifest(place.partition, held.sha256).write(path)
    echo(f"{name}: {verdict} {path} ({_scope(place, held, expected.contents if expected else held.sha256)})")
    for complaint in complaints:
        echo(f"  {complaint}")
    for image, reason in held.lost.items():
        echo(f"  not read: {image}: {reason}")
    _describe_hashes(hashes)
    lost: list[CxrBenchError] = [DataError(f"{name}: {len(held.lost)} images cannot be read")] if held.lost else []
    return [IntegrityError(f"{name}: differs from its manifest")] if complaints else lost


def _scope(place: DataPlace, held: "Contents", expected: Mapping[str, str]) -> str:
    """What was looked at: rows and labels of all, and the bytes of how many files."""
    compared = sum(image in expected for image in held.sha256)
    return f"ids, order and labels; bytes of {compared} of {place.images} images, {held.read} of them read now"


def _describe_hashes(hashes: "FileHashes") -> None:
    """Say what of the remembered hashes did not hold."""
    if hashes.unread:
        echo(f"  note: {hashes.unread} No hash in it was believed; the table of file hashes is begun anew")
    if hashes.damaged:
        echo(f"  note: {hashes.damaged} damaged lines of the table of file hashes were not believed")
    if changed := list(hashes.changed_unseen):
        shown = ", ".join(map(str, changed[:_SHOWN]))
        echo(
            f"  note: {len(changed)} files hold other bytes than when they were last read, though their size, times "
            f"and number are the same: {shown}. Is the disk sound?"
        )


app = typer.Typer(help="Look after the data sets on this disk.", no_args_is_help=True)
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Tasks: names, globs or files. [default: all]")]
Manifests = Annotated[Path, typer.Option("--manifests", help="Folder of manifests: ids, label counts and digests.")]


def _partitions(
    task: list[str] | None,
    variant: str,
    choice: list[str] | None,
    data_root: list[str] | None,
    cache: Path | None,
    survey: bool = False,
) -> Iterator[tuple["TaskSpec", Path, "Partition | CxrBenchError"]]:
    """Each task with its split as it lies on this disk, or with what is in its way, such as a root that is not named.

    Raises SpecError for what was asked wrongly.
    """
    from cxrbench.data.sources.base import load_partition
    from cxrbench.runner.request import Places
    from cxrbench.specs import catalog
    from cxrbench.specs.paths import default_cache
    from cxrbench.system.contained import contained
    from cxrbench.system.progress import announced

    specs = chosen_tasks(task)
    made = chosen_variant(variant, choice, [spec.name for spec in specs])
    places = Places(data=data_places(data_root, list(catalog.task_files())), cache=cache or default_cache())
    for spec in specs:
        try:
            root = places.data_root(spec)
        except SpecError as error:
            yield spec, Path(), DataError(str(error))
            continue
        found: Partition | CxrBenchError
        try:
            with announced(f"{spec.name}: reading its tables and listing {root}", sys.stderr):
                found = load_partition(root, spec, made.split_of(spec), places.cache, survey)
        except BaseException as error:
            found = contained(error, f"task {spec.name}")
        yield spec, root, found


@app.command()
def status(
    task: Tasks = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    data_root: DataRoot = None,
    cache: Cache = None,
) -> None:
    """Say what of each task's split is here.

    Rows, images, and what is missing, extra or duplicated. Exit code 3 if something is missing.
    """
    failed: list[CxrBenchError] = []
    for spec, _, found in _partitions(task, variant, choice, data_root, cache, survey=True):
        if isinstance(found, CxrBenchError):
            echo(str(found))
            failed.append(found)
            continue
        _tell(spec, found)
        if found.findings.missing:
            failed.append(DataError(f"{spec.name}: {len(found.findings.missing)} images are missing"))
    if failed:
        raise typer.Exit(failed[0].exit_code)


def _tell(spec: "TaskSpec", partition: "Partition") -> None:
    from cxrbench.data.sources.base import reference_verdict

    verdict = reference_verdict(spec.split(partition.split), partition.parts)
    made = ", PHANTOM images" if partition.synthetic else ""
    echo(f"{spec.name}: split {partition.split} ({verdict} to the reference{made}), digest {partition.digest[:16]}")
    for name, part in partition.parts.items():
        counts = ", ".join(f"{label} {count}" for label, count in part.counts.items() if count)
        echo(f"  {name}: {len(part)} rows, {len(set(part.ids))} images" + (f": {counts}" if counts else ""))
    if partition.asked is not None:
        echo(f"  texts that ask: {len(partition.asked)}")
    for what, told in partition.about_texts.items():
        echo(f"  {what.replace('_', ' ')}: {told}")
    findings = partition.findings
    for what, names in (("missing", findings.missing), ("extra", findings.extra), ("duplicate", findings.duplicate)):
        if names:
            echo(f"  {what}: {len(names)}, such as {', '.join(names[:_SHOWN])}")
    for reason, rows in findings.left_out.items():
        echo(f"  left out: {rows} rows: {reason}")
    for note in findings.notes:
        echo(f"  note: {note}")


@app.command()
def prepare(
    task: Tasks = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    data_root: DataRoot = None,
    cache: Cache = None,
    manifests: Manifests = Path("results/manifests"),
    workers: Annotated[int, typer.Option("--workers", min=0, help="Reading threads; 0: one a core.")] = 0,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every file again, whatever is remembered.")] = False,
) -> None:
    """Index the folders and read every image once.

    What a run would leave out is named before it: images that are missing or unreadable, and files that hold other
    bytes than a manifest says (exit code 3). The same command goes on after a kill: a file that was read before, by the
    same recipe and code, and has not changed since is not read again without --rehash. The cache keeps the folders'
    listings and the images' hashes, so that later runs find both at once.
    """
    from cxrbench.specs.card_facts import applied
    from cxrbench.specs.paths import default_cache
    from cxrbench.specs.recipe import Canvas

    settings = chosen_variant(variant, choice, [spec.name for spec in chosen_tasks(task)]).settings
    failed: list[CxrBenchError] = []
    for spec, root, found in _partitions(task, variant, choice, data_root, cache, survey=True):
        if isinstance(found, CxrBenchError):
            echo(str(found))
            failed.append(found)
            continue
        place = DataPlace(spec, found, root, manifests, cache or default_cache(), workers)
        failed += prepare_images(place, applied(Canvas(), settings, spec.released_polarity), rehash)
    if failed:
        raise typer.Exit(failed[0].exit_code)


@app.command()
def verify(
    task: Tasks = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    data_root: DataRoot = None,
    manifests: Manifests = Path("results/manifests"),
    cache: Cache = None,
    rehash: Annotated[bool, typer.Option("--rehash", help="Read every file, whatever the cache knows of it.")] = False,
) -> None:
    """Hold each split against its manifest, or write that.

    Exit code 4 on a difference, 3 for what is not there or cannot be read; a manifest is written where there is none.
    It holds ids, label counts, and the digests of rows and of the images' files, and no image: it can be published.
    Files are read where size, times or number are not those of the last reading.
    """
    from cxrbench.specs.paths import default_cache

    failed: list[CxrBenchError] = []
    for spec, root, found in _partitions(task, variant, choice, data_root, cache):
        try:
            if isinstance(found, CxrBenchError):
                raise found
            failed += verify_manifest(DataPlace(spec, found, root, manifests, cache or default_cache()), rehash)
        except CxrBenchError as error:
            echo(str(error))
            failed.append(error)
    if failed:
        raise typer.Exit(gravest(failed))


@app.command()
def phantom(
    task: Annotated[list[str], typer.Option("--task", "-t", help="Tasks: names, globs, or all; repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="Folder in which the data set's own folder is made.")],
    images_per_class: Annotated[
        int | None, typer.Option("--images-per-class", min=1, help="Default: what the variant `phantom` needs.")
    ] = None,
    size: Annotated[str, typer.Option("--size", help="small, true (as real files are), or HEIGHTxWIDTH.")] = "small",
    seed: Annotated[int, typer.Option("--seed", help="Another seed: other patients.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Drawing processes.")] = 1,
) -> None:
    """Draw a data set in the true layout of a real one.

    Procedural radiographs with visible signs, in the folders, tables and formats of the download, for tests and
    demonstrations. A folder without PHANTOM.json is never written over.
    """
    from cxrbench.phantom.write import write
    from cxrbench.specs import catalog

    for name in catalog.select(words(task), catalog.task_files(), "task"):
        shape = _shape(size)
        summary = write(name, out, images_per_class=images_per_class, size=shape, seed=seed, workers=workers)
        echo(f"{name}: {summary.images} synthetic images in {summary.root}")


def _shape(words: str) -> Literal["small", "true"] | tuple[int, int]:
    if words == "small":
        return "small"
    if words == "true":
        return "true"
    height_width = numbers(words.split("x"), "--size")
    if len(height_width) != 2:
        raise SpecError(f"--size: {words!r} is not small, true or HEIGHTxWIDTH")
    return height_width[0], height_width[1]
