"""What a split consists of, in a form that can be published without the images: ids, labels and digests."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cxrbench.errors import ImageError, IntegrityError, MissingImageError
from cxrbench.images.pixels import pixels_by
from cxrbench.images.radiograph import read_bytes
from cxrbench.specs.recipe import Recipe
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.file_hashes import FileHashes, Stamp, stamp
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import json_value, read_regular, with_checksum, without_checksum
from cxrbench.system.progress import Progress
from cxrbench.system.sources import code_digest
from cxrbench.types import UNKNOWN, Partition, Table

_SHOWN = 3
_HASHES_AT_ONCE, _AHEAD = 256, 4  # files handed to the table at a time; read ahead, a thread


@dataclass(frozen=True, slots=True)
class Contents:
    """SHA-256 of the files of images, by image id; `lost` says why others have none.

    `read`: how many files were read for it; the others are as they were when they were last read.
    """

    sha256: Mapping[str, str]
    lost: Mapping[str, str] = field(default_factory=dict)
    read: int = 0


def contents(paths: Mapping[str, Path], hashes: FileHashes, workers: int, progress: Progress) -> Contents:
    """The bytes of every file, read where the table of file hashes does not know them."""
    known = dict(zip(paths, hashes.known_all(list(paths.values())), strict=True))
    unknown = {image: paths[image] for image, content in known.items() if content is None}
    found = {image: content for image, content in known.items() if content is not None}
    lost: dict[str, str] = {}
    if not unknown:
        return Contents(found)
    for image, read in read_each(unknown, hashes, workers, progress, "the file reader"):
        if read.failed is None:
            found[image] = read.content
        else:
            lost[image] = str(read.failed)
    return Contents(found, lost, len(unknown))


@dataclass(frozen=True, slots=True)
class ReadImage:
    """A file that was read: SHA-256 of its bytes, "" where there were none; `failed`: why it is of no use."""

    at: Stamp | None
    content: str
    failed: ImageError | None = None


def read_each(
    paths: Mapping[str, Path],
    hashes: FileHashes,
    workers: int,
    progress: Progress,
    what: str,
    use: Callable[[bytes, str], object] | None = None,
) -> Iterator[tuple[str, ReadImage]]:
    """Every file read once, by image, in order; hashes go into the table of file hashes, and `what` into the progress.

    `use` is given the bytes and the file's name, and may raise ImageError.
    """
    progress.start(len(paths), what)
    entries = list[tuple[Path, Stamp, str]]()
    try:
        for (image, path), read in zip(paths.items(), _in_order(paths.values(), use, workers), strict=True):
            if read.at is not None and read.content:
                entries.append((path, read.at, read.content))
            if len(entries) >= _HASHES_AT_ONCE:
                hashes.add(entries)
                entries = []
            yield image, read
            progress.advance()
    finally:
        hashes.add(entries)
        progress.stop()


def _in_order(paths: Iterable[Path], use: Callable[[bytes, str], object] | None, workers: int) -> Iterator[ReadImage]:
    """What every file holds, read by threads a little ahead."""
    ahead = deque[Future[ReadImage]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for path in paths:
                ahead.append(pool.submit(_read, path, use))
                if len(ahead) > _AHEAD * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _read(path: Path, use: Callable[[bytes, str], object] | None) -> ReadImage:
    at, content = stamp(path), ""
    try:
        data = read_bytes(path)
        content = digest.of_bytes(data)
        if use is not None:
            use(data, path.name)
    except ImageError as error:
        return ReadImage(at, content, error)
    return ReadImage(at, content)


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


WAY_OUT = (
    "The file was changed after it was written: take the published one, or remove it to have it written anew "
    "(`data verify --manifest`)."
)


class PartManifest(Spec):
    """One part: ids in row order with the indices of the classes that hold, and what they add up to.

    `unknown`: indices of the classes of which nobody can tell, row by row; empty where there are none in the part.
    `rows_sha256` and `set_sha256` are digests of the ids in row order and of the sorted distinct ids.
    """

    rows: int
    distinct: int
    counts: Mapping[str, int]
    rows_sha256: str
    set_sha256: str
    labels_sha256: str
    ids: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    unknown: tuple[tuple[int, ...], ...] = ()


class Manifest(Spec):
    """One split of one task; `digest` is the one that every record carries.

    `contents`: SHA-256 of the file of each image that was here; `contents_sha256` is the digest of that.
    """

    task: str
    split: str
    digest: str
    classes: tuple[str, ...]
    parts: Mapping[str, PartManifest]
    contents: Mapping[str, str]
    contents_sha256: str

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        content = with_checksum(self.model_dump(mode="json"))
        write_atomically(path, (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))


def manifest(partition: Partition, contents: Mapping[str, str] | None = None) -> Manifest:
    """The manifest of a partition; `contents` gives the SHA-256 of the files that are here, by image id."""
    contents = dict(contents or {})
    return Manifest(
        task=partition.task,
        split=partition.split,
        digest=partition.digest,
        classes=next(iter(partition.parts.values())).classes,
        parts={name: _part(table) for name, table in partition.parts.items()},
        contents=contents,
        contents_sha256=digest.of_json(contents),
    )


def read_manifest(path: Path) -> Manifest:
    """A manifest from its file; raises IntegrityError if it cannot be read or is not as it was written.

    Also if a count or digest in it is not the one that its own ids, labels and classes add up to.
    """
    try:
        value = json_value(path, read_regular(path))
        read = Manifest.model_validate(without_checksum(path, value, WAY_OUT))
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: there is no such file") from error
    except (ValidationError, RecursionError) as error:
        told = complaints(error) if isinstance(error, ValidationError) else "it is nested too deeply"
        raise IntegrityError(f"{path}: is no manifest: {told}") from error
    tables = {name: _table(path, name, part, read.classes) for name, part in read.parts.items()}
    for name, table in tables.items():
        _same(path, f"part {name}: ", read.parts[name], _part(table))
    if Partition(read.task, read.split, tables, {}).digest != read.digest:
        raise IntegrityError(_edited(path, "", "digest"))
    if digest.of_json(dict(read.contents)) != read.contents_sha256:
        raise IntegrityError(_edited(path, "", "contents"))
    return read


def _table(path: Path, name: str, part: PartManifest, classes: tuple[str, ...]) -> Table:
    labels = np.zeros((len(part.ids), len(classes)), dtype=np.int8)
    for kind, rows, value in (("labels", part.labels, 1), ("unknown", part.unknown, UNKNOWN)):
        fits = len(rows) == len(part.ids) or (kind == "unknown" and not rows)
        if not fits or any(not 0 <= n < len(classes) for row in rows for n in row):
            raise IntegrityError(_edited(path, f"part {name}: ", kind))
        for number, indices in enumerate(rows):
            labels[number, list(indices)] = value
    return Table(part.ids, labels, classes)


def _same(path: Path, where: str, read: PartManifest, content: PartManifest) -> None:
    fields = [field for field in PartManifest.model_fields if getattr(read, field) != getattr(content, field)]
    if fields:
        raise IntegrityError(_edited(path, where, ", ".join(fields)))


def _edited(path: Path, where: str, fields: str) -> str:
    return f"{path}: {where}{fields}: not what the ids, labels and classes there add up to. {WAY_OUT}"


def check(expected: Manifest, partition: Partition, contents: Mapping[str, str] | None = None) -> list[str]:
    """What differs, one line each; empty when the partition is exactly the one that the manifest describes.

    Bytes are held against it for the images in `contents` that the manifest knows too.
    """
    here = manifest(partition)
    differences = [
        f"{what}: {there!r} in the manifest, {own!r} here"
        for what, there, own in (
            ("task", expected.task, here.task),
            ("split", expected.split, here.split),
            ("classes", expected.classes, here.classes),
            ("parts", tuple(expected.parts), tuple(here.parts)),
        )
        if there != own
    ]
    for name, part in expected.parts.items():
        if name in here.parts:
            differences += [f"part {name}: {line}" for line in _differences(part, here.parts[name])]
    return differences + content_differences(expected.contents, contents or {})


def _part(table: Table) -> PartManifest:
    return PartManifest(
        rows=len(table),
        distinct=len(set(table.ids)),
        counts=table.counts,
        rows_sha256=table.digest,
        set_sha256=table.set_digest,
        labels_sha256=digest.of_bytes(np.ascontiguousarray(table.labels).tobytes()),
        ids=table.ids,
        labels=_indices(table.labels == 1),
        unknown=_indices(table.labels == UNKNOWN) if (table.labels == UNKNOWN).any() else (),
    )


def _indices(holds: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(np.flatnonzero(row).tolist()) for row in holds)


def _differences(expected: PartManifest, here: PartManifest) -> list[str]:
    lines = []
    if expected.rows_sha256 != here.rows_sha256:
        gone, new = set(expected.ids) - set(here.ids), set(here.ids) - set(expected.ids)
        if gone or new:
            some = ", ".join([*sorted(gone)[:2], *sorted(new)[:2]])
            lines.append(f"{len(gone)} images are not here and {len(new)} are new, such as {some}")
        elif expected.rows != here.rows:
            lines.append(f"{expected.rows} rows in the manifest, {here.rows} here, of the same images")
        else:
            lines.append("the same images stand in another order")
    if expected.counts != here.counts:
        lines.append(f"rows per class: {dict(expected.counts)} in the manifest, {dict(here.counts)} here")
    elif expected.labels_sha256 != here.labels_sha256 and not lines:
        lines.append("some images carry another label")
    return lines


@dataclass(slots=True)
class ImageReading:
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


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """Files that were read before by one recipe and code and have not changed: SHA-256 by image, and their table."""

    contents: Mapping[str, str]
    table: FileHashes


def read_before(
    cache: Path, root: Path, recipe: Recipe, paths: Mapping[str, Path], *, rehash: bool = False
) -> ReadBefore:
    """What of the files below a folder the present code has read by a recipe; with `rehash` it believes in none."""
    about = digest.of_json([recipe.digest, code_digest("cxrbench.images.pixels")])
    table = FileHashes(cache / "read" / about[:32], root, rehash)
    known = zip(paths, table.known_all(list(paths.values())), strict=True)
    return ReadBefore({image: content for image, content in known if content is not None}, table)


def read_all(
    paths: Mapping[str, Path],
    recipe: Recipe,
    hashes: FileHashes,
    workers: int,
    progress: Progress,
    before: ReadBefore | None = None,
) -> ImageReading:
    """Read every file as a run with this recipe would, whatever hash of it is remembered; the hashes are remembered.

    Files that were read `before` are taken at their word; others join them, so that who is interrupted goes on.
    """
    made = ImageReading({} if before is None else {**before.contents})
    left = {image: path for image, path in paths.items() if image not in made.contents}

    def decode(data: bytes, name: str) -> None:
        pixels_by(data, name, recipe)

    entries = list[tuple[Path, Stamp, str]]()
    try:
        for image, read in read_each(left, hashes, workers, progress, "the image reader", decode) if left else ():
            _note(made, image, read)
            if before is not None and read.failed is None and read.at is not None:
                entries.append((left[image], read.at, read.content))
            if before is not None and len(entries) >= _HASHES_AT_ONCE:
                before.table.add(entries)
                entries = []
    finally:
        if before is not None:
            before.table.add(entries)
    return made


def _note(made: ImageReading, image: str, found: ReadImage) -> None:
    if found.content:
        made.contents[image] = found.content
    if isinstance(found.failed, MissingImageError):
        made.missing[image] = str(found.failed)
    elif found.failed is not None:
        made.unreadable[image] = str(found.failed)
