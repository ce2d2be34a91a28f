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

from cxrbench import digest
from cxrbench.durable import write_atomically
from cxrbench.errors import IntegrityError
from cxrbench.shard import Shard, Writer, read_shard, shard_folders

FloatArray = NDArray[np.float32]


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
    pixels: str  # of the code that makes pixels of files
    recipe: str  # of the preprocessing recipe
    precision: str
    texts: str = ""  # digest of a set of texts, where what is stored are the images' scores of it

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the key: the name of its folder."""
        return digest.of_json(asdict(self))


class Embeddings:
    """All finished embeddings of one key, memory-mapped; a later shard never replaces an earlier row."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = tuple(shards)
        self._place: dict[str, tuple[int, int]] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        for number, shard in enumerate(self._shards):
            for image, row in zip(shard.ids, shard.rows.tolist(), strict=True):
                self._place.setdefault(image, (number, row))
            self._notes.update(shard.notes)

    def __contains__(self, image: object) -> bool:
        return image in self._place

    def __len__(self) -> int:
        return len(self._place)

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


class Store:
    """The embeddings below one cache folder."""

    def __init__(self, root: Path) -> None:
        self.root = root / "embeddings"

    def _folder(self, key: Key) -> Path:
        return self.root / key.digest[:2] / key.digest

    def read(self, key: Key) -> Embeddings:
        """All finished rows of the key; batches whose bytes fail their checksum are left out, so encoded again."""
        folder = self._folder(key)
        return Embeddings([read_shard(path) for path in shard_folders(folder)])

    def writer(
        self, key: Key, capacity: int, dims: Mapping[str, int], engine: Mapping[str, str] | None = None
    ) -> Writer:
        """A new shard for up to `capacity` rows with the given taps; several processes may each have one.

        `engine` says what computes them; it is kept with the shard and decides nothing.
        """
        folder = self._folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "key.json", json.dumps(asdict(key), indent=1, sort_keys=True).encode())
        return Writer(folder / f"shard-{uuid.uuid4().hex}", capacity, dims, engine or {})

    def folders(self) -> dict[str, Path]:
        """The folder of every key by its digest, whatever it holds."""
        return {path.name: path for path in sorted(self.root.glob("??/*")) if path.is_dir()}

    def entries(self) -> Iterator[tuple[Key, Path]]:
        """Every key with its folder, sorted by digest; raises IntegrityError for a folder whose key does not fit."""
        for path in sorted(self.root.glob("??/*/key.json")):
            try:
                key = Key(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise IntegrityError(f"{path}: is no key: {error}; remove this folder with `cache prune`") from error
            if key.digest != path.parent.name:
                raise IntegrityError(f"{path}: the key does not fit the folder's name; remove this folder")
            yield key, path.parent
