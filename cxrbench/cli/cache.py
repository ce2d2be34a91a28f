"""`cxrbench cache list|prune|verify`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import Cache
from cxrbench.errors import IntegrityError, SpecError

app = typer.Typer(help="Look after stored embeddings and decoded images.", no_args_is_help=True)


@app.command("list")
def list_(cache: Cache = None) -> None:
    """List what is stored, a line a key.

    Images, size on disk, and what decides it; embeddings first, then images decoded to train on.
    """
    from cxrbench.bench.request import default_cache
    from cxrbench.pretrain.image_shelf import shelves
    from cxrbench.shard import shard_folders
    from cxrbench.store import Store

    root, total = cache or default_cache(), 0
    store = Store(root)
    for key, folder in store.entries():
        shards = shard_folders(folder)
        size = sum(_size(shard) for shard in shards)
        total += size
        echo(
            f"{key.digest[:16]}  {len(store.read(key))} images  {size / 2**20:.1f} MiB  {len(shards)} shards  "
            f"{key.adapter} weights {key.weights[:12]} recipe {key.recipe[:12]} {key.precision}"
        )
    for shelf in shelves(root):
        size = _size(shelf.folder)
        total += size
        echo(
            f"{shelf.folder.name[:16]}  {len(shelf.rows())} images  {size / 2**20:.1f} MiB  "
            f"decoded to {shelf.size} x {shelf.size}"
        )
    echo(f"{total / 2**20:.1f} MiB in {root}")


@app.command()
def verify(cache: Cache = None) -> None:
    """Hold every stored batch against its checksum.

    Exit code 4 when one does not fit.
    """
    from cxrbench.bench.request import default_cache
    from cxrbench.shard import read_shard, shard_folders
    from cxrbench.store import Store

    root = cache or default_cache()
    torn = rows = 0
    for key, folder in Store(root).entries():
        for path in shard_folders(folder):
            shard = read_shard(path)
            rows += len(shard.ids)
            torn += shard.torn
            if shard.torn:
                echo(f"{key.digest[:16]} {path.name}: {shard.torn} batches do not fit their checksum")
    images, spoilt = _verified(root)
    if spoilt:
        raise IntegrityError(
            f"images decoded to train on are damaged in {', '.join(spoilt)}; `cxrbench cache prune` them by these "
            "names, and the next pre-training decodes them again"
        )
    if torn:
        raise IntegrityError(f"{torn} batches are damaged; they are never read, and a run encodes them again")
    echo(f"{rows} rows and {images} decoded images, every batch fits its checksum")


def _verified(root: Path) -> tuple[int, list[str]]:
    """How many decoded images there are, and the stores with damaged ones."""
    from cxrbench.pretrain.image_shelf import shelves

    images, spoilt = 0, []
    for shelf in shelves(root):
        images += len(shelf.rows())
        if bad := shelf.damaged():
            echo(f"{shelf.folder.name[:16]}: {len(bad)} decoded images are in batches that do not fit")
            spoilt.append(shelf.folder.name[:16])
    return images, spoilt


@app.command()
def prune(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys by the first digits that `list` shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every key, and the vectors of prompts.")] = False,
    cache: Cache = None,
) -> None:
    """Remove stored embeddings and decoded images.

    Named keys, or all. What needs them makes them again; records and predictions stay.
    """
    from cxrbench.bench.request import default_cache
    from cxrbench.catalog import unknown
    from cxrbench.memo import Memo
    from cxrbench.pretrain.image_shelf import shelves
    from cxrbench.store import Store

    if not keys and not everything:
        raise SpecError("name the keys to remove, by the first digits that `cxrbench cache list` shows, or give --all")
    root = cache or default_cache()
    known = Store(root).folders() | {shelf.folder.name: shelf.folder for shelf in shelves(root)}
    chosen = set(known) if everything else set[str]()
    for start in keys or ():
        fitting = {name for name in known if name.startswith(start)}
        if not fitting:
            raise unknown("stored key", start, (name[:16] for name in known))
        chosen |= fitting
    for name in sorted(chosen):
        shutil.rmtree(known[name])
    if everything:
        shutil.rmtree(Memo(root).root, ignore_errors=True)
    echo(f"{len(chosen)} of {len(known)} keys removed")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
