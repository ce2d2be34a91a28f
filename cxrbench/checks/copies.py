"""The same picture under two names: equal bytes, or a re-encoded copy told by a perceptual hash and then by pixels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.analysis.cell_verdict import Finding
from cxrbench.errors import ImageError
from cxrbench.images.radiograph import read_bytes, read_radiograph
from cxrbench.store import digest

SIDE = 32  # pixels of the grey square that confirms
SPREAD = 64.0  # standard deviation that every square is brought to, about that of a radiograph on 0..255
# Between squares. Of two radiographs stored in 48 ways (other depths, windows, codecs), nine pairs in ten stay
# below it; of 32 others no pair comes nearer than 877.
MOST_SQUARED_ERROR = 30.0
MOST_BITS = 10  # of 64 in which the hashes of copies may differ; only pictures this near are looked at
_READ_AT = (256, 256)  # a JPEG may be decoded smaller, so long as it stays above this
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Prints:
    """What tells pictures apart: ids (n,), SHA-256 of bytes (n,), hash bits (n, 64) of -1 and 1, squares (n, 1024)
    of mean 0 and standard deviation `SPREAD`, since a copy may have another window.

    `unreadable` gives the reason for every other image.
    """

    ids: tuple[str, ...]
    content: tuple[str, ...]
    bits: NDArray[np.float32]
    squares: NDArray[np.float32]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def of(self, ids: Iterable[str]) -> "Prints":
        """The same for some ids alone, those that could be read."""
        place = {image: row for row, image in enumerate(self.ids)}
        rows = [place[image] for image in dict.fromkeys(ids) if image in place]
        names, content = (tuple(values[row] for row in rows) for values in (self.ids, self.content))
        return Prints(names, content, self.bits[rows], self.squares[rows])


@dataclass(frozen=True, slots=True)
class Copy:
    """Two images that show the same picture. `error` is the mean squared error of their squares, 0 for equal bytes."""

    first: str
    second: str
    exact: bool
    error: float


def prints(paths: Mapping[str, Path], workers: int = 1) -> Prints:
    """The prints of images by id, in their order."""
    with ThreadPoolExecutor(workers) as pool:
        made = list(pool.map(_print, paths.values()))
    told = {image: found for image, found in zip(paths, made, strict=True) if not isinstance(found, str)}
    failed = {image: found for image, found in zip(paths, made, strict=True) if isinstance(found, str)}
    rows = list(told.values())
    return Prints(
        tuple(told),
        tuple(content for content, _, _ in rows),
        np.array([bits for _, bits, _ in rows], np.float32).reshape(-1, 64),
        np.array([square for _, _, square in rows], np.float32).reshape(-1, SIDE * SIDE),
        failed,
    )


def _print(path: Path) -> tuple[str, NDArray[Any], NDArray[Any]] | str:
    import imagehash
    from PIL import Image

    try:
        data = read_bytes(path)
        grey = read_radiograph(data, path.name, _READ_AT)
    except ImageError as error:
        return str(error)
    picture = Image.fromarray(np.rint(grey.unit * 255).astype(np.uint8))
    square = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
    if not square.std():
        return f"{path.name}: shows nothing: one grey value everywhere"
    bits = np.where(imagehash.phash(picture).hash, 1, -1)
    return digest.of_bytes(data), bits.ravel(), (square - square.mean()) / square.std() * SPREAD


def copies(first: Prints, second: Prints) -> list[Copy]:
    """Pairs of different ids, one of each side, that show the same picture; exact ones first, then by error."""
    found = []
    for start in range(0, len(second.ids), _BLOCK):
        alike = second.bits[start : start + _BLOCK] @ first.bits.T >= 64 - 2 * MOST_BITS
        for row, column in np.argwhere(alike).tolist():
            other = start + row
            if first.ids[column] == second.ids[other]:
                continue
            error = float(np.mean((first.squares[column] - second.squares[other]) ** 2))
            if error <= MOST_SQUARED_ERROR:
                exact = first.content[column] == second.content[other]
                found.append(Copy(first.ids[column], second.ids[other], exact, 0.0 if exact else error))
    return sorted(found, key=lambda copy: (not copy.exact, copy.error, copy.first, copy.second))


def told(scope: str, sides: str, found: Sequence[Copy], images: int) -> Iterator[Finding]:
    """One finding: how many images of the second side are copies of images of the first, with the nearest pair."""
    exact = {copy.second for copy in found if copy.exact}
    again = {copy.second for copy in found} - exact
    text = f"{sides}: {len(exact)} images are byte for byte the same under another name, {len(again)} re-encoded copies"
    if found:
        text += f"; such as {found[0].first} and {found[0].second} (squared error {found[0].error:.2f})"
    yield Finding("copies", scope, text, len(exact | again), images)


def left_out(scope: str, found: Prints, missing: int) -> Iterator[Finding]:
    """What of the images could not be looked at."""
    if found.unreadable:
        image, reason = next(iter(found.unreadable.items()))
        text = f"whether {len(found.unreadable)} images are copies: they could not be read, such as {image}: {reason}"
        yield Finding("not known", scope, text, len(found.unreadable))
    if missing:
        yield Finding("not known", scope, f"whether {missing} images are copies: they have no file here", missing)
