"""Embeddings on disk: keyed by everything that decides them, in shards, memory-mapped for reading.

One folder a key, one shard in it a writing process (see `shard`).
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import IntegrityError
from cxrbench.store import digest
from cxrbench.store.sealed import DamagedError, listed, read_sealed, reading, write_sealed
from cxrbench.store.shard import (
    Images,
    IntArray,
    Shard,
    Writer,
    clear_abandoned,
    image_bytes,
    read_shard,
    shard_folders,
)

FloatArray = NDArray[np.float32]

CLOSE = 1e-3  # of the largest value: two vectors of one image under one key that differ by more are not of one network
_KEY = "key.json"
_MOST_BYTES = 1 << 24  # of it


@dataclass(frozen=True, slots=True)
class Key:
    """What decides an embedding, by digests.

    Batch size, device and library versions, which move a vector by some 1e-6, are recorded with results and not keyed.
    """

    adapter: str  # module:Class
    code: str  # of the adapter's code and of all that it uses here
    options: str  # of the card's options and the files that they name
    weights: str  # of the tensors that are used, by name
    taps: str  # of the vectors and widths that the card announces
    usage: str  # whose way of using the network: the name of the recipe
    pixels: str  # of the code that makes pixels of files, and takes them through a network to the store
    recipe: str  # of the preprocessing recipe
    precision: str
    texts: str = ""  # digest of a set of texts, where what is stored are the images' scores of it

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the key: the name of its folder."""
        return digest.of_json(asdict(self))


@dataclass(frozen=True, slots=True)
class Conflict:
    """An image whose vectors of one key differ between two shards by `apart` times their largest value."""

    image: str
    tap: str
    used: str  # the shard whose row is read
    other: str
    apart: float


class Embeddings:
    """All committed embeddings of one key, memory-mapped; of an image's rows the one that was committed first is read.

    So no later shard changes what was read before, whatever its name. An index of some twelve bytes a row stays in
    memory. A row is held against its checksum when it is asked for, or by `check`; one that does not fit is none.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = tuple(shards)
        self._notes: dict[str, list[tuple[range, tuple[str, ...]]]] = {}
        self._starts = np.cumsum([0, *(len(shard.images) for shard in self._shards)])  # of shards, among all rows
        groups = [(group, number) for number, shard in enumerate(self._shards) for group in shard.groups]
        groups.sort(key=lambda found: (found[0].time, self._shards[found[1]].folder.name, found[0].first))
        kind = np.uint32 if self._starts[-1] < 1 << 32 else np.uint64
        heads, places = [np.zeros(0, np.uint64)], [np.zeros(0, kind)]
        for group, number in groups:
            begin = int(self._starts[number]) + group.first
            rows = range(begin, begin + group.count)
            heads.append(_heads(self._shards[number].images[group.first : group.first + group.count]))
            places.append(np.arange(rows.start, rows.stop).astype(kind))
            for image, notes in group.notes.items():
                self._notes.setdefault(image, []).append((rows, notes))
        self._heads = np.concatenate(heads)
        order = np.argsort(self._heads, kind="stable")  # equal ones stay in the order of their times
        self._heads = self._heads[order]
        self._places = np.concatenate(places)[order]

    def __contains__(self, image: object) -> bool:
        return isinstance(image, str) and bool(self.has([image])[0])

    def has(self, images: Images) -> NDArray[np.bool_]:
        """Which of the images (SHA-256 of their bytes) have a row that nothing is known against, (n,)."""
        return self._found(image_bytes(images)) >= 0

    def __len__(self) -> int:
        """How many images have a row."""
        alike = self._alike()
        return len(self._heads) - int(alike.sum()) + len({self._image(place) for place in self._places[alike]})

    def _alike(self) -> NDArray[np.bool_]:
        """Which rows of the index begin as a neighbour does: the same image again, or another one by chance."""
        same = self._heads[1:] == self._heads[:-1]
        alike = np.zeros(len(self._heads), np.bool_)
        alike[1:] |= same
        alike[:-1] |= same
        return alike

    @property
    def images(self) -> list[str]:
        """SHA-256 of every image that has a row, sorted."""
        return sorted({self._image(place).hex() for place in self._places})

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """Shards of which something is not what was written, by name, with what it is; none of it is read."""
        return {shard.folder.name: shard.faults for shard in self._shards if shard.faults}

    def _image(self, place: np.integer[Any]) -> bytes:
        number, row = self._at(np.array([place], np.int64))
        return bytes(self._shards[number[0]].images[row[0]].tobytes())

    def _at(self, places: IntArray) -> tuple[IntArray, IntArray]:
        """Numbers of shards and rows in them."""
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        return numbers, places - self._starts[numbers]

    def _found(self, wanted: NDArray[np.uint8]) -> IntArray:
        """The place of each image's row, (n,), -1 where there is none; `wanted` is (n, 32)."""
        found = np.full(len(wanted), -1, np.int64)
        if not len(self._heads):
            return found
        heads = _heads(wanted)
        at = np.searchsorted(self._heads, heads)
        there = np.flatnonzero((at < len(self._heads)) & (self._heads[np.minimum(at, len(self._heads) - 1)] == heads))
        places = self._places[at[there]].astype(np.int64)
        fits = self._fits(places, wanted[there])
        found[there[fits]] = places[fits]
        for one in there[~fits].tolist():
            found[one] = next(self._later(int(at[one]), wanted[one]), -1)
        return found

    def _fits(self, places: IntArray, wanted: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether the rows are of the images, and nothing is known against them."""
        fits = np.zeros(len(places), np.bool_)
        numbers, rows = self._at(places)
        for number in np.unique(numbers).tolist():
            own = np.flatnonzero(numbers == number)
            shard = self._shards[number]
            fits[own] = (shard.images[rows[own]] == wanted[own]).all(axis=1) & ~shard.refused(rows[own])
        return fits

    def _later(self, at: int, wanted: NDArray[np.uint8]) -> Iterator[int]:
        """Places of further rows of an image, in the order of their times."""
        head = self._heads[at]
        while at < len(self._heads) and self._heads[at] == head:
            place = np.array([self._places[at]], np.int64)
            if self._fits(place, wanted[None])[0]:
                yield int(place[0])
            at += 1

    def check(self, images: Images) -> int:
        """Hold the rows of these images against their checksums; returns how many do not fit, which are none from now.

        Of an image with several rows the first that fits is read.
        """
        return self._sound(image_bytes(images))[1]

    def _sound(self, wanted: NDArray[np.uint8]) -> tuple[IntArray, int]:
        """The places of rows that fit, -1 where there is none, and how many did not fit on the way."""
        torn, found = 0, self._found(wanted)
        left = np.flatnonzero(found >= 0)
        while len(left):
            numbers, rows = self._at(found[left])
            sound = np.zeros(len(left), np.bool_)
            for number in np.unique(numbers).tolist():
                own = np.flatnonzero(numbers == number)
                sound[own] = self._shards[number].sound(rows[own])
            left = left[~sound]
            torn += len(left)
            found[left] = self._found(wanted[left])
            left = left[found[left] >= 0]
        return found, torn

    def verify(self) -> dict[str, tuple[str, ...]]:
        """`faults`, those of the values of every row included: reads all of them."""
        found = {shard.folder.name: shard.verify() for shard in self._shards}
        return {name: told for name, told in found.items() if told}

    def conflicts(self) -> Iterator[Conflict]:
        """The rows of one image that are further apart than rounding and another batch size could bring them.

        Rows made below float32 are not compared: rounding alone may bring them as far apart.
        """
        first: dict[bytes, tuple[Shard, int]] = {}
        for at in np.flatnonzero(self._alike()).tolist():
            numbers, rows = self._at(np.array([self._places[at]], np.int64))
            other, row, image = self._shards[numbers[0]], int(rows[0]), self._image(self._places[at])
            if not other.sound(rows)[0]:
                continue
            used, own = first.setdefault(image, (other, row))
            if (used, own) == (other, row) or {s.engine.get("precision", "float32") for s in (used, other)} != {
                "float32"
            }:
                continue
            for tap in used.taps.keys() & other.taps.keys():
                apart = _apart(used.taps[tap][own], other.taps[tap][row])
                if apart > CLOSE:
                    yield Conflict(image.hex(), tap, used.folder.name, other.folder.name, apart)

    def engines(self, images: Sequence[str]) -> tuple[Mapping[str, str], ...]:
        """What computed the images' rows, each engine once."""
        found = self._found(image_bytes(images))
        shards = np.unique(self._at(found[found >= 0])[0]).tolist()
        return tuple(json.loads(told) for told in dict.fromkeys(json.dumps(self._shards[s].engine) for s in shards))

    @property
    def noted(self) -> bool:
        """Whether the reader remarked anything on any image."""
        return bool(self._notes)

    def notes(self, image: str) -> tuple[str, ...]:
        """What the reader remarked on the image when it was encoded."""
        if image not in self._notes:
            return ()
        place = int(self._found(image_bytes([image]))[0])
        return next((notes for rows, notes in self._notes[image] if place in rows), ())

    def rows(self, tap: str, images: Sequence[str]) -> FloatArray:
        """The tap's vectors of the images (SHA-256 of their bytes), (n, dim) float32 in the order asked for.

        Raises IntegrityError for an image of which no row is there and as it was written, or a tap that is not stored.
        """
        if not len(images):
            return np.zeros((0, 0), np.float32)
        found, torn = self._sound(image_bytes(images))
        if (found < 0).any():
            lost = int((found < 0).sum())
            why = f", {torn} of which do not have their checksum" if torn else ""
            raise IntegrityError(
                f"the store holds no rows of {lost} images, such as {images[int(np.argmax(found < 0))]}{why}; "
                "run again to encode them"
            )
        numbers, rows = self._at(found)
        picked: FloatArray | None = None
        for number in np.unique(numbers).tolist():
            shard, own = self._shards[number], numbers == number
            if tap not in shard.taps:
                raise IntegrityError(f"the store holds no tap {tap!r}, but {', '.join(sorted(shard.taps))}")
            if picked is None:
                picked = np.empty((len(images), shard.taps[tap].shape[1]), np.float32)
            picked[own] = shard.taps[tap][rows[own]]
        assert picked is not None
        return picked


def _heads(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first eight bytes of each image's SHA-256, (n,), ordered as the bytes are."""
    found: NDArray[np.uint64] = np.ascontiguousarray(images[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    return found


def _apart(one: FloatArray, other: FloatArray) -> float:
    """The largest difference, as a share of the largest value; infinite between vectors of different lengths."""
    if one.shape != other.shape:
        return float("inf")
    largest = float(max(np.abs(one).max(), np.abs(other).max()))
    return float(np.abs(one - other).max()) / largest if largest else 0.0


class Store:
    """The embeddings below one cache folder."""

    def __init__(self, root: Path) -> None:
        self.root = root / "embeddings"

    def _folder(self, key: Key) -> Path:
        return self.root / key.digest[:2] / key.digest

    def read(self, key: Key) -> Embeddings:
        """All finished rows of the key; what is not as it was written is left out, so encoded again.

        Raises UnreadableError where the system does not read one of its files now.
        """
        return read_folder(self._folder(key))

    def writer(
        self, key: Key, capacity: int, dims: Mapping[str, int], engine: Mapping[str, str] | None = None
    ) -> Writer:
        """A new shard for up to `capacity` rows with the given taps; several processes may each have one.

        `engine` says what computes them; it is kept with the shard and decides nothing.
        """
        folder = self._folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(folder / _KEY, asdict(key))
        clear_abandoned(folder)
        return Writer(folder / f"shard-{uuid.uuid4().hex}", capacity, dims, engine or {})

    def folders(self) -> dict[str, Path]:
        """The folder of every key by its digest, whatever it holds; raises UnreadableError if they cannot be listed."""
        starts = [self.root / name for name in listed(self.root) if len(name) == 2]
        return {name: start / name for start in starts for name in listed(start) if _is_folder(start / name)}

    def entries(self) -> Iterator[tuple[Key, Path]]:
        """Every key that can be told, with its folder, sorted by digest."""
        for path in self.folders().values():
            try:
                yield read_key(path), path
            except DamagedError:
                continue


def _is_folder(path: Path) -> bool:
    with reading(path):
        return path.is_dir()


def read_folder(folder: Path) -> Embeddings:
    """What the shards of one key's folder hold."""
    return Embeddings([read_shard(path) for path in shard_folders(folder)])


def read_key(folder: Path) -> Key:
    """The key of a folder; raises DamagedError where it cannot be told, or is the key of another folder.

    Rows do not hang on it: every shard says for itself which key it is of.
    """
    path, way_out = folder / _KEY, f"`cxrbench cache prune {folder.name[:16]}` removes it with its embeddings."
    try:
        key = Key(**read_sealed(path, way_out, _MOST_BYTES))
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone", way_out) from error
    except (TypeError, RecursionError) as error:
        raise DamagedError(path, "is no key of this version", way_out) from error
    if key.digest != folder.name:
        raise DamagedError(path, "is the key of another folder", way_out)
    return key
