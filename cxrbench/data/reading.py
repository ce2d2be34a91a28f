"""Every image of a split read once, so that what cannot be read is known before a long run."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxrbench import digest
from cxrbench.data.images import read_bytes
from cxrbench.data.pixels import pixels
from cxrbench.errors import ImageError
from cxrbench.ledger import Ledger, Stamp, stamp
from cxrbench.progress import Progress
from cxrbench.recipe import Recipe


@dataclass(frozen=True, slots=True)
class _Read:
    at: Stamp | None
    content: str
    reason: str


def read_all(
    paths: Mapping[str, Path], recipe: Recipe, ledger: Ledger, workers: int, progress: Progress
) -> dict[str, str]:
    """Read every file as a run with this recipe would; image id to reason for those that it would leave out.

    Hashes go into the ledger.
    """
    progress.start(len(paths), "the image reader")
    bad: dict[str, str] = {}
    try:
        with ThreadPoolExecutor(workers) as pool:
            for (image, path), found in zip(
                paths.items(), pool.map(partial(_read, recipe=recipe), paths.values()), strict=True
            ):
                if found.reason:
                    bad[image] = found.reason
                elif found.at is not None:
                    ledger.add([(path, found.at, found.content)])
                progress.advance()
    finally:
        progress.stop()
    return bad


def _read(path: Path, recipe: Recipe) -> _Read:
    at = stamp(path)
    try:
        data = read_bytes(path)
        pixels(data, path.name, [recipe])
    except ImageError as error:
        return _Read(at, "", str(error))
    return _Read(at, digest.of_bytes(data), "")
