"""Embeddings on disk: keyed by everything that decides them, in shards, memory-mapped for reading.

One folder a key, one shard in it a writing process (see `shard`).
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import IntegrityError
from cxrbench.store import digest
from cxrbench.store.sealed import DamagedError, listed, read_sealed, reading, write_sealed
from cxrbench.store.shard import Shard, Writer, read_shard, shard_folders

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
    """All finished embeddings of one key, memory-mapped; of an image's rows the one that was finished first is read.

    So no later shard changes what was read before, whatever its name.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = tuple(shards)
        self._place: dict[str, tuple[int, int]] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._again: list[tuple[str, int, int]] = []  # rows of images that are there already
        batches = [(batch, number) for number, shard in enumerate(self._shards) for batch in shard.batches]
        batches.sort(key=lambda found: (found[0].time, self._shards[found[1]].folder.name, found[0].first))
        for batch, number in batches:
            for row, image in enumerate(batch.images, batch.first):
                if self._place.setdefault(image, (number, row)) != (number, row):
                    self._again.append((image, number, row))
                elif image in batch.notes:
                    self._notes[image] = batch.notes[image]

    def __contains__(self, image: object) -> bool:
        return image in self._place

    def __len__(self) -> int:
        return len(self._place)

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """Shards of which something is not what was written, by name, with what it is; none of it is read."""
        return {shard.folder.name: shard.faults for shard in self._shards if shard.faults}

    def conflicts(self) -> Iterator[Conflict]:
        """The rows of one image that are further apart than rounding and another batch size could bring them.

        Rows made below float32 are not compared: rounding alone may bring them as far apart.
        """
        for image, number, row in self._again:
            first, at = self._place[image]
            used, other = self._shards[first], self._shards[number]
            if {shard.engine.get("precision", "float32") for shard in (used, other)} != {"float32"}:
                continue
            for tap in used.taps.keys() & other.taps.keys():
                apart = _apart(used.taps[tap][at], other.taps[tap][row])
                if apart > CLOSE:
                    yield Conflict(image, tap, used.folder.name, other.folder.name, apart)

    def engines(self, images: Sequence[str]) -> tuple[Mapping[str, str], ...]:
        """What computed the images' rows, each engine once."""
        shards = sorted({self._place[image][0] for image in images if image in self._place})
        return tuple(json.loads(told) for told in dict.fromkeys(json.dumps(self._shards[s].engine) for s in shards))

    def notes(self, image: str) -> tuple[str, ...]:
        """What the reader remarked on the image when it was encoded."""
        return self._notes.get(image, ())

    def rows(self, tap: str, images: Sequence[str]) -> FloatArray:
        """The tap's vectors of the images (SHA-256 of their bytes), (n, dim) float32 in the order asked for.

        Raises IntegrityError for an image that is not there or a tap that the shard does not hold.
        """
        try:
            places = [self._place[image] for image in images]
            picked = [self._shards[number].taps[tap][row] for number, row in places]
        except KeyError as error:
            raise IntegrityError(f"the store holds no {error} for tap {tap!r}; run again to encode it") from error
        return np.stack(picked) if picked else np.zeros((0, 0), np.float32)


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
