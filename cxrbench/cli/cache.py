"""`cxrbench cache list|prune|verify`."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import Cache
from cxrbench.errors import IntegrityError, RunError, SpecError, UnreadableError
from cxrbench.store.sealed import DamagedError

if TYPE_CHECKING:
    from cxrbench.store.embeddings import Embeddings

app = typer.Typer(help="Look after stored embeddings and decoded images.", no_args_is_help=True)


@app.command("list")
def list_(cache: Cache = None) -> None:
    """List what is stored, a line a key.

    Images, size on disk, and what decides it; embeddings first, then images decoded to train on. What is damaged is
    listed as such, and never read.
    """
    from cxrbench.pretrain.pixel_store import pixel_store_folders
    from cxrbench.specs.paths import default_cache
    from cxrbench.store.embeddings import Store

    root = cache or default_cache()
    total = 0
    for folder in Store(root).folders().values():
        try:
            echo(_key_line(folder))
            total += sum(_size(shard) for shard in folder.iterdir())
        except UnreadableError as error:
            echo(f"{folder.name[:16]}  {error}")
    for folder in pixel_store_folders(root):
        size = _size(folder)
        total += size
        images, kind = _images(folder)
        echo(f"{folder.name[:16]}  {images} images  {size / 2**20:.1f} MiB  {kind}")
    echo(f"{total / 2**20:.1f} MiB in {root}")


def _key_line(folder: Path) -> str:
    from cxrbench.store.embeddings import read_folder, read_key
    from cxrbench.store.shard import shard_folders

    shards, found = shard_folders(folder), read_folder(folder)
    size = sum(_size(shard) for shard in shards)
    try:
        key = read_key(folder)
        about = f"{key.adapter} weights {key.weights[:12]} recipe {key.recipe[:12]} {key.precision}"
    except DamagedError as error:
        about = f"damaged: {error.path.name} {error.reason}"
    bad = f"  {len(found.faults)} damaged shards" if found.faults else ""
    return f"{folder.name[:16]}  {len(found)} images  {size / 2**20:.1f} MiB  {len(shards)} shards  {about}{bad}"


@app.command()
def verify(cache: Cache = None) -> None:
    """Hold every stored row against its checksum.

    Rows of one image are also held against each other. Exit code 4 when something does not fit, 5 when something cannot
    be read now, of which nothing is known.
    """
    from cxrbench.specs.paths import default_cache
    from cxrbench.store.embeddings import Store, read_folder

    root = cache or default_cache()
    rows, told, unread = 0, list[str](), list[UnreadableError]()
    for name, folder in Store(root).folders().items():
        try:
            found = read_folder(folder)
            rows += len(found)
            told += [f"{name[:16]} {line}" for line in _faults(folder, found)]
        except UnreadableError as error:
            unread.append(error)
    echo("".join(f"{line}\n" for line in told), nl=False)
    images, spoilt = _verified(root, unread)
    _require_read(unread)
    if spoilt:
        raise IntegrityError(
            f"images decoded to train on are damaged in {', '.join(spoilt)}; none is trained on: a pre-training "
            "decodes them again as it comes to them, or all if you `cxrbench cache prune` them by these names"
        )
    if told:
        raise IntegrityError(
            f"{len(told)} faults among embeddings: what is damaged is never read, and a run encodes it again; "
            "`cxrbench cache prune --damaged` removes damaged shards, `cache prune KEY` all that a key holds"
        )
    echo(f"{rows} rows and {images} decoded images, all fit their checksums")


def _images(folder: Path) -> tuple[int, str]:
    """How many decoded images a folder holds, and of which kind, or why that cannot be told."""
    from cxrbench.pretrain.pixel_store import pixel_store_in

    try:
        pixel_store = pixel_store_in(folder)
        return len(pixel_store.rows()), f"decoded to {pixel_store.size} x {pixel_store.size}"
    except IntegrityError as error:
        return 0, f"damaged: {error}"


def _faults(folder: Path, found: "Embeddings") -> Iterator[str]:
    """What cannot be believed below one key's folder."""
    from cxrbench.store.embeddings import CLOSE, read_key

    for shard, told in found.verify().items():
        yield f"{shard}: {'; '.join(told)}"
    try:
        read_key(folder)
    except DamagedError as error:
        if any(folder.iterdir()):
            yield f"{error.path.name}: {error.reason}"
    apart = Counter((one.used, one.other) for one in found.conflicts())
    for (used, other), count in apart.items():
        yield f"{used} and {other}: {count} vectors of the same images are further apart than {CLOSE:g} of their size"


def _require_read(unread: list[UnreadableError]) -> None:
    """Name what the system did not read, and raise RunError if there is any."""
    for error in unread:
        echo(error)
    if unread:
        raise RunError(
            f"{len(unread)} stores of images cannot be read now: nothing is known of them, and none is removed"
        )


def _verified(root: Path, unread: list[UnreadableError]) -> tuple[int, list[str]]:
    """How many decoded images there are, and the stores with damaged ones; what cannot be read now is added."""
    from cxrbench.pretrain.pixel_store import pixel_store_folders, pixel_store_in

    images, spoilt = 0, []
    for folder in pixel_store_folders(root):
        name = folder.name[:16]
        try:
            pixel_store = pixel_store_in(folder)
            images += len(pixel_store.rows())
            torn = len(pixel_store.damaged())
            bad = f"{torn} decoded images do not fit their checksum" if torn else ""
        except UnreadableError as error:
            unread.append(error)
            continue
        except IntegrityError as error:
            bad = str(error)
        if bad:
            echo(f"{name}: {bad}")
            spoilt.append(name)
    return images, spoilt


@app.command()
def prune(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys by the first digits that `list` shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every key, and the vectors of prompts.")] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Only shards of embeddings in which something is damaged.")
    ] = False,
    cache: Cache = None,
) -> None:
    """Remove stored embeddings and decoded images.

    Named keys, all, or what is damaged. What needs them makes them again; records and predictions stay.
    """
    from cxrbench.pretrain.pixel_store import pixel_store_folders
    from cxrbench.specs.catalog import unknown
    from cxrbench.specs.paths import default_cache
    from cxrbench.store.array_cache import ArrayCache
    from cxrbench.store.embeddings import Store

    if sum((bool(keys), everything, damaged)) != 1:
        raise SpecError(
            "name the keys to remove, by the first digits that `cxrbench cache list` shows, or give --all or --damaged"
        )
    root = cache or default_cache()
    if damaged:
        echo(f"{_prune_damaged(root)} damaged shards removed")
        return
    known = Store(root).folders() | {folder.name: folder for folder in pixel_store_folders(root)}
    chosen = set(known) if everything else set[str]()
    for start in keys or ():
        fitting = {name for name in known if name.startswith(start)}
        if not fitting:
            raise unknown("stored key", start, (name[:16] for name in known))
        chosen |= fitting
    for name in sorted(chosen):
        shutil.rmtree(known[name])
    if everything:
        shutil.rmtree(ArrayCache(root).root, ignore_errors=True)
    echo(f"{len(chosen)} of {len(known)} keys removed")


def _prune_damaged(root: Path) -> int:
    """How many shards were removed because something in them is not what was written."""
    from cxrbench.store.embeddings import Store
    from cxrbench.store.shard import read_shard, shard_folders

    found, unread = list[Path](), list[UnreadableError]()
    for folder in Store(root).folders().values():
        try:
            shards = shard_folders(folder)
        except UnreadableError as error:
            unread.append(error)
            continue
        for shard in shards:
            try:
                found += [shard] if read_shard(shard).verify() else []
            except UnreadableError as error:
                unread.append(error)
    for shard in found:
        shutil.rmtree(shard) if shard.is_dir() else shard.unlink()
    _require_read(unread)
    return len(found)


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, 0 of what is none."""
    return sum(file.lstat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
