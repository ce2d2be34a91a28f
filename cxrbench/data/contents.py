"""Which bytes the images of a split hold here, and how they differ from those of a manifest."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench import digest
from cxrbench.data.images import read_bytes
from cxrbench.errors import ImageError
from cxrbench.ledger import Ledger, Stamp, stamp
from cxrbench.progress import Progress

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Contents:
    """SHA-256 of the files of images, by image id; `lost` says why others have none.

    `read`: how many files were read for it; the others are as they were when they were last read.
    """

    sha256: Mapping[str, str]
    lost: Mapping[str, str] = field(default_factory=dict)
    read: int = 0


def contents(paths: Mapping[str, Path], ledger: Ledger, workers: int, progress: Progress) -> Contents:
    """The bytes of every file, read where the ledger does not know them."""
    known = {image: ledger.known(path) for image, path in paths.items()}
    unknown = {image: paths[image] for image, content in known.items() if content is None}
    found = {image: content for image, content in known.items() if content is not None}
    lost: dict[str, str] = {}
    if not unknown:
        return Contents(found)
    progress.start(len(unknown), "the file reader")
    try:
        with ThreadPoolExecutor(workers) as pool:
            for (image, path), read in zip(unknown.items(), pool.map(_read, unknown.values()), strict=True):
                if read.at is not None and read.content:
                    ledger.add([(path, read.at, read.content)])
                if read.content:
                    found[image] = read.content
                else:
                    lost[image] = read.reason
                progress.advance()
    finally:
        progress.stop()
    return Contents(found, lost, len(unknown))


@dataclass(frozen=True, slots=True)
class _Read:
    at: Stamp | None
    content: str = ""
    reason: str = ""


def _read(path: Path) -> _Read:
    at = stamp(path)
    try:
        return _Read(at, digest.of_bytes(read_bytes(path)))
    except ImageError as error:
        return _Read(at, reason=str(error))


def content_differences(expected: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """One line if images hold other bytes than expected; an image that either side does not know is no difference."""
    both = [image for image in here if image in expected]
    other = sorted(image for image in both if here[image] != expected[image])
    if not other:
        return []
    many = "all" if len(other) == len(both) else f"{len(other)} of {len(both)}"
    return [
        f"{many} images hold other bytes than the manifest says, such as {', '.join(other[:_SHOWN])}: files were "
        "replaced, or this is another copy of the data set (other format, size or release)"
    ]
