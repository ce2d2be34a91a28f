"""Which bytes the images of a split hold here, and how they differ from those of a manifest."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cxrbench.errors import ImageError
from cxrbench.images.images import read_bytes
from cxrbench.store import digest
from cxrbench.store.file_hashes import Ledger, Stamp, stamp
from cxrbench.system.progress import Progress

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
    for image, read in read_each(unknown, ledger, workers, progress, "the file reader"):
        if read.failed is None:
            found[image] = read.content
        else:
            lost[image] = str(read.failed)
    return Contents(found, lost, len(unknown))


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read: SHA-256 of its bytes, "" where there were none; `failed`: why it is of no use."""

    at: Stamp | None
    content: str
    failed: ImageError | None = None


def read_each(
    paths: Mapping[str, Path],
    ledger: Ledger,
    workers: int,
    progress: Progress,
    what: str,
    use: Callable[[bytes, str], object] | None = None,
) -> Iterator[tuple[str, Read]]:
    """Every file read once, by image, in order; hashes go into the ledger, and `what` into the progress.

    `use` is given the bytes and the file's name, and may raise ImageError.
    """
    progress.start(len(paths), what)
    try:
        with ThreadPoolExecutor(workers) as pool:
            reads = pool.map(partial(_read, use=use), paths.values())
            for (image, path), read in zip(paths.items(), reads, strict=True):
                if read.at is not None and read.content:
                    ledger.add([(path, read.at, read.content)])
                yield image, read
                progress.advance()
    finally:
        progress.stop()


def _read(path: Path, use: Callable[[bytes, str], object] | None) -> Read:
    at, content = stamp(path), ""
    try:
        data = read_bytes(path)
        content = digest.of_bytes(data)
        if use is not None:
            use(data, path.name)
    except ImageError as error:
        return Read(at, content, error)
    return Read(at, content)


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
