"""The harness without networks and decoders: throughput, demand tables and stores at the size of an archive.

    python -m benchmarks.scale [sweep demand store ...] [--quick]
    python -m benchmarks.scale --plot FILE.svg [--points FILE.json] [--quick]

`sweep`: files of a few bytes are read and hashed, their pixels are made beforehand, the networks cost nothing and their
vectors are constant; everything else is as in a run, and every row is durable at the end. `demand`: the files and keys
of a request, worked out of cells that share data sets. `store`: stores of simulated rows are opened and asked. `--plot`
draws how four costs grow over three sizes each; see `benchmarks.growth`.
"""

import argparse
import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

TAPS = {"pooled": 768, "joint": 512}  # of a ViT-B/16: 5 kB a row
SIZE, BATCH = 224, 32


def sweep(quick: bool) -> None:
    """Images a second through one model and through 28 in one sweep, and the main thread's time an image and model."""
    _sweep(1, 2 * BATCH, shown=False)  # imports and the reader's self-test
    for models, files in ((1, 20_000), (28, 4_000)):
        _sweep(models, files // (5 if quick else 1))


def _sweep(models: int, files: int, *, shown: bool = True) -> None:
    from cxrbench.runner import decoding
    from cxrbench.specs.recipe import Canvas
    from cxrbench.store.embeddings import Key
    from cxrbench.system import cpu

    one = Key(**dict.fromkeys(Key.__slots__, "a") | {"texts": ""})  # type: ignore[arg-type]
    keys = [replace(one, weights=str(n)) for n in range(models)]
    encoders = [
        decoding.Encoder(Canvas(), {key: TAPS}, partial(_free_network, key), lambda: {"device": "cpu"}, key.weights)
        for key in keys
    ]
    before = time.process_time()
    wall, main = free_sweep(files, encoders, np.zeros((1, SIZE, SIZE), np.float32), BATCH, cpu.cores())
    if shown:
        print(
            f"sweep: {models} models, {files:,} images: {files / wall:,.0f} images/s, "
            f"{files * models / wall:,.0f} rows/s durable, "
            f"main thread {1e6 * main / files / models:.1f} us an image and model, "
            f"{1e6 * (time.process_time() - before) / files / models:.0f} us in all threads",
            flush=True,
        )


def free_sweep(files: int, encoders: Sequence[Any], pixels: Any, batch: int, workers: int) -> tuple[float, float]:
    """Files of a few bytes through encoders on a cold store, with `pixels` (C, H, W) that are made beforehand.

    Returns seconds of wall time, to the last durable row, and of the main thread's own time.
    """
    from cxrbench.images.pixels import Pixels
    from cxrbench.runner import decoding
    from cxrbench.runner.encode import Demands, encode
    from cxrbench.store.embeddings import Store
    from cxrbench.store.file_hashes import FileHashes
    from cxrbench.system.progress import Quiet

    prepared = Pixels(pixels, ())
    decoding.pixels = lambda data, name, recipes, reader: [prepared] * len(recipes)  # type: ignore[assignment]
    with TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        paths = [root / f"{n}.png" for n in range(files)]
        for n, path in enumerate(paths):
            path.write_bytes(n.to_bytes(8, "little"))
        time.sleep(0.1)
        keys = [key for encoder in encoders for key in encoder.outputs]
        everything = dict.fromkeys(keys, np.arange(files))
        hashes, store = FileHashes(Path(folder), root), Store(Path(folder))
        began, main = time.monotonic(), time.thread_time()
        found = encode(
            Demands(paths, [None] * files, everything, everything),
            encoders,
            store,
            lambda path: hashes,
            batch_size=batch,
            workers=workers,
            progress=Quiet(),
        )
        wall, main = time.monotonic() - began, time.thread_time() - main
        assert found.encoded == files * len(encoders) and not found.broken and not found.problems, found
        assert all(len(store.read(key)) == files for key in keys)
    return wall, main


def _free_network(key: Any) -> Callable[..., Mapping[Any, Callable[[], Mapping[str, Any]]]]:
    rows = {tap: np.zeros((BATCH, dim), np.float32) for tap, dim in TAPS.items()}
    return lambda images, keys: {key: lambda: rows}


class _BegunError(Exception):
    """The progress bar starts: everything before it has been worked out."""


class _Start:
    def start(self, total: int, what: str) -> None:
        raise _BegunError

    def advance(self) -> None: ...

    def stop(self) -> None: ...


def demand(quick: bool) -> None:
    """Seconds from laid-out cells to the start of the progress bar, cold: every file is asked for its stamp."""
    for files, models in ((50_000, 100), (100_000, 100), (200_000, 100), (200_000, 25)):
        demanded(files // (5 if quick else 1), models)


def demanded(files: int, models: int = 100) -> float:
    """CPU seconds from cells to the progress bar."""
    from cxrbench.runner import decoding
    from cxrbench.runner.encode import Demands, encode
    from cxrbench.runner.plan import Demand
    from cxrbench.specs.recipe import Canvas
    from cxrbench.store.embeddings import Key

    with TemporaryDirectory() as folder:
        root = Path(folder)
        paths = {f"patient{n // 10}/{n}": root / "data" / f"patient{n // 10}" / f"{n}.png" for n in range(files)}
        data = SimpleNamespace(
            root=root / "data", task=SimpleNamespace(name="archive"), partition=SimpleNamespace(paths=paths)
        )
        one = Key(**dict.fromkeys(Key.__slots__, "a") | {"texts": ""})  # type: ignore[arg-type]
        images = frozenset(paths)
        cells = [_FreeCell(data, replace(one, weights=str(n))) for n in range(models)]
        plan = SimpleNamespace(
            cells=cells,
            request=SimpleNamespace(places=SimpleNamespace(cache=root), rehash=False),
            readings=lambda cell: [(cell.key, None, images)],
        )
        began, cpu = time.monotonic(), time.process_time()
        needs = Demand(plan)  # type: ignore[arg-type]
        assert not needs.refused, needs.refused
        wanted = needs.table(cells)  # type: ignore[arg-type]
        encoders = [decoding.Encoder(Canvas(), {cell.key: TAPS}, _never, dict, cell.key.weights) for cell in cells]
        try:
            encode(
                Demands(tuple(needs.files), needs.known, wanted, wanted),
                encoders,
                needs.store,
                needs.hashes,
                batch_size=BATCH,
                workers=1,
                progress=_Start(),
            )
        except _BegunError:
            took, cpu = time.monotonic() - began, time.process_time() - cpu
        print(
            f"demand: {files:,} files x {models} keys: {took:.1f} s before the progress bar, {cpu:.1f} s CPU",
            flush=True,
        )
    return cpu


@dataclass(frozen=True, slots=True, eq=False)
class _FreeCell:
    data: Any
    key: Any
    name: str = "a cell"
    recipe_name: str = "a recipe"
    recipe: Any = None

    @property
    def model(self) -> Any:
        return SimpleNamespace(key=lambda recipe: self.key, card=SimpleNamespace(name="a model"))


def _never() -> Any:
    raise AssertionError("no network is wanted")


def store(quick: bool) -> None:
    """A store of one key with so many rows: opening it, memory a row that stays, membership; and a table of hashes."""
    for rows in (100_000, 1_000_000, 10_000_000):
        opened_store(rows // (10 if quick else 1))


def opened_store(rows: int) -> float:
    """CPU seconds in which a store of so many rows opens."""
    from cxrbench.store.embeddings import Key, Store

    key = Key(**dict.fromkeys(Key.__slots__, "a") | {"texts": ""})  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        kept, values = list[NDArray[np.uint8]](), {"pooled": np.zeros((_GROUP, 1), np.float32)}
        with Store(Path(folder)).writer(key, rows, {"pooled": 1}) as writer:
            for _ in range(rows // _GROUP):
                images = rng.integers(0, 256, (_GROUP, 32), np.uint8)
                kept.append(images[:100])
                writer.append([image.tobytes().hex() for image in images], values)
                writer.commit()
        there, other = np.concatenate(kept), rng.integers(0, 256, (10_000, 32), np.uint8)
        before, began, cpu = _resident(), time.monotonic(), time.process_time()
        found = Store(Path(folder)).read(key)
        opened, cpu, resident = time.monotonic() - began, time.process_time() - cpu, _resident() - before
        began = time.monotonic()
        assert found.has(there).all() and not found.has(other).any()
        asked = (time.monotonic() - began) / (len(there) + len(other))
        began = time.monotonic()
        found.rows("pooled", [image.tobytes().hex() for image in there[:10_000]])
        read = (time.monotonic() - began) / min(len(there), 10_000)
        print(
            f"store: {rows:,} rows: opened in {opened:.2f} s, {resident / rows:.1f} bytes a row resident, membership "
            f"{1e6 * asked:.1f} us, a row read and held against its checksum {1e6 * read:.1f} us",
            flush=True,
        )
    return cpu


_GROUP = 5_000


def _resident() -> int:
    """Bytes of this process in memory, those of mapped files left out: they go when memory is wanted."""
    gc.collect()
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(told.split("RssAnon:")[1].split()[0])


def hashes(quick: bool) -> None:
    """A table of file hashes: opened, and asked for files that are there."""
    for rows in (100_000, 1_000_000, 10_000_000):
        opened_hashes(rows // (10 if quick else 1))


def opened_hashes(count: int) -> float:
    """CPU seconds in which a table of so many files opens."""
    from cxrbench.store.file_hashes import FileHashes, _records, stamp

    with TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        paths = [root / f"{n}.png" for n in range(10_000)]
        for path in paths:
            path.write_bytes(b"1")
        time.sleep(0.1)
        told = [(path, now, "0" * 64) for path in paths if (now := stamp(path)) is not None]
        FileHashes(Path(folder), root).add(told)
        some = np.repeat(_records([(bytes(16), told[0][1], "0" * 64)]), count)
        some["name"] = np.random.default_rng(count).integers(0, 256, (count, 16), np.uint8)
        log = next((Path(folder) / "file_hashes").rglob("*.log")).with_name("more.log")
        log.write_bytes(some.tobytes())
        del some
        before, began, cpu = _resident(), time.monotonic(), time.process_time()
        table = FileHashes(Path(folder), root)
        opened, cpu, resident = time.monotonic() - began, time.process_time() - cpu, _resident() - before
        began = time.monotonic()
        assert None not in table.known_all(paths)
        asked = (time.monotonic() - began) / len(paths)
        print(
            f"hashes: {count:,} files: opened in {opened:.2f} s, {resident / count:.0f} bytes a file, "
            f"{1e6 * asked:.1f} us to know one, its stamp included",
            flush=True,
        )
    return cpu


def statistics(quick: bool) -> None:
    """The interval of macro AUROC over five folds of one test set, and one probe on a whole training part."""
    from cxrbench.evaluate.statistics.interval import estimate
    from cxrbench.evaluate.statistics.shares import ScoredRows, areas

    rng = np.random.default_rng(0)
    for size in (25_000, 50_000, 100_000):
        n = size // (5 if quick else 1)
        labels = rng.integers(0, 14, n)
        folds = []
        for _ in range(5):
            scores = rng.normal(size=(n, 14)).astype(np.float32)
            scores[np.arange(n), labels] += 1
            folds.append(ScoredRows(np.arange(n), labels, scores))
        began = time.process_time()
        found = estimate(areas(folds), (0.0, 1.0), "images")
        print(
            f"AUROC: {n:,} images x 14 classes x 5 folds: {time.process_time() - began:.1f} s CPU, {found.value:.4f}",
            flush=True,
        )


def probe(quick: bool) -> None:
    """One linear probe on a whole training part: 2,048 values an image, 14 classes."""
    from cxrbench.evaluate.logistic_regression import exact

    rng = np.random.default_rng(0)
    for size in (2_500, 5_000, 10_000):
        n = size // (5 if quick else 1)
        labels = rng.integers(0, 14, n)
        vectors = (rng.normal(size=(n, 2048)) + 0.1 * rng.normal(size=(14, 2048))[labels]).astype(np.float32)
        began = time.process_time()
        found = exact(vectors, labels, 14)
        print(
            f"probe: {n:,} x 2,048, 14 classes: {time.process_time() - began:.1f} s CPU, {found.iterations} steps",
            flush=True,
        )


PARTS: Mapping[str, Callable[[bool], None]] = {
    "sweep": sweep,
    "demand": demand,
    "store": store,
    "hashes": hashes,
    "statistics": statistics,
    "probe": probe,
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--quick", action="store_true", help="a fifth of the size")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw growth, and measure nothing else")
    parser.add_argument("--points", type=Path, metavar="FILE.json", help="of the plot: kept, and not measured twice")
    asked = parser.parse_args(words)
    if asked.plot is not None:
        from benchmarks import growth

        growth.plot(asked.plot, asked.points, 10 if asked.quick else 1)
        return 0
    for name in asked.parts or PARTS:
        PARTS[name](asked.quick)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 1024:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
