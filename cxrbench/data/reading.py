"""Every image of a split read once, so that what cannot be read is known before a long run."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cxrbench import digest
from cxrbench.data.images import read_bytes
from cxrbench.data.pixels import pixels_by
from cxrbench.errors import ImageError, MissingImageError
from cxrbench.ledger import Ledger, Stamp, stamp
from cxrbench.progress import Progress
from cxrbench.recipe import Recipe


@dataclass(slots=True)
class Reading:
    """What the files of images hold, by image id.

    `contents`: SHA-256 of the bytes; `unreadable`: why they are no picture for a run; `missing`: files that are not
    there, whatever the folder's listing said.
    """

    contents: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Images that a run would leave out."""
        return len(self.unreadable) + len(self.missing)


def read_all(paths: Mapping[str, Path], recipe: Recipe, ledger: Ledger, workers: int, progress: Progress) -> Reading:
    """Read every file as a run with this recipe would, whatever the ledger knows of it; hashes go into the ledger."""
    progress.start(len(paths), "the image reader")
    made = Reading()
    try:
        with ThreadPoolExecutor(workers) as pool:
            for (image, path), found in zip(
                paths.items(), pool.map(partial(_read, recipe=recipe), paths.values()), strict=True
            ):
                _note(made, image, found)
                if found.at is not None and found.content:
                    ledger.add([(path, found.at, found.content)])
                progress.advance()
    finally:
        progress.stop()
    return made


@dataclass(frozen=True, slots=True)
class _Read:
    at: Stamp | None
    content: str
    failed: ImageError | None = None


def _read(path: Path, recipe: Recipe) -> _Read:
    at, content = stamp(path), ""
    try:
        data = read_bytes(path)
        content = digest.of_bytes(data)
        pixels_by(data, path.name, recipe)
    except ImageError as error:
        return _Read(at, content, error)
    return _Read(at, content)


def _note(made: Reading, image: str, found: _Read) -> None:
    if found.content:
        made.contents[image] = found.content
    if isinstance(found.failed, MissingImageError):
        made.missing[image] = str(found.failed)
    elif found.failed is not None:
        made.unreadable[image] = str(found.failed)
