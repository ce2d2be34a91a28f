"""`cxrbench cache list|prune|verify`."""

import shutil
from typing import Annotated

import typer

from cxrbench.cli.options import Cache
from cxrbench.errors import IntegrityError

app = typer.Typer(help="Look after the stored embeddings.", no_args_is_help=True)


@app.command("list")
def list_(cache: Cache = None) -> None:
    """One line a key: images, size on disk, shards, and what decides the key."""
    from cxrbench.bench.request import default_cache
    from cxrbench.shard import shard_folders
    from cxrbench.store import Store

    store, total = Store(cache or default_cache()), 0
    for key, folder in store.entries():
        shards = shard_folders(folder)
        size = sum(file.stat().st_size for shard in shards for file in shard.iterdir())
        total += size
        typer.echo(
            f"{key.digest[:16]}  {len(store.read(key))} images  {size / 2**20:.1f} MiB  {len(shards)} shards  "
            f"{key.adapter} weights {key.weights[:12]} recipe {key.recipe[:12]} {key.precision}"
        )
    typer.echo(f"{total / 2**20:.1f} MiB in {store.root}")


@app.command()
def verify(cache: Cache = None) -> None:
    """Hold every stored batch against its checksum; exit code 4 when one does not fit."""
    from cxrbench.bench.request import default_cache
    from cxrbench.shard import read_shard, shard_folders
    from cxrbench.store import Store

    torn = rows = 0
    for key, folder in Store(cache or default_cache()).entries():
        for path in shard_folders(folder):
            shard = read_shard(path)
            rows += len(shard.ids)
            torn += shard.torn
            if shard.torn:
                typer.echo(f"{key.digest[:16]} {path.name}: {shard.torn} batches do not fit their checksum")
    if torn:
        raise IntegrityError(f"{torn} batches are damaged; they are never read, and a run encodes them again")
    typer.echo(f"{rows} rows, every batch fits its checksum")


@app.command()
def prune(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys by the first digits that `list` shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every key, and the vectors of prompts.")] = False,
    cache: Cache = None,
) -> None:
    """Remove stored embeddings: named keys, or all. A run that needs them encodes again."""
    from cxrbench.bench.request import default_cache
    from cxrbench.catalog import unknown
    from cxrbench.memo import Memo
    from cxrbench.store import Store

    root = cache or default_cache()
    known = Store(root).folders()
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
    typer.echo(f"{len(chosen)} of {len(known)} keys removed")
