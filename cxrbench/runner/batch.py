"""Images that wait for one model, and the shards that its vectors go to."""

from collections.abc import Mapping, Sequence

import numpy as np

from cxrbench.errors import CxrBenchError
from cxrbench.runner.decoding import Encoder, Forward, Taps, Wanted
from cxrbench.store.atomic import naming
from cxrbench.store.embeddings import Key, Store
from cxrbench.store.shard import Writer
from cxrbench.system.contained import contained


class Shards:
    """What one model writes: a shard for each of its keys, begun when the first row comes, closed at the end."""

    def __init__(self, store: Store, encoder: Encoder, counts: Mapping[Key, int], broken: dict[Key, CxrBenchError]):
        self._store, self._encoder, self._counts, self._broken = store, encoder, counts, broken
        self._opened: dict[Key, Writer] = {}

    def append(self, key: Key, rows: Sequence[tuple[str, Wanted]], taps: Taps) -> None:
        """Write the rows of a batch; an error of the disk names the store."""
        with naming(self._store.root):
            if key not in self._opened:
                encoder = self._encoder
                made = self._store.writer(key, self._counts[key], encoder.outputs[key], encoder.engine())
                self._opened[key] = made
            contents, notes = [content for content, _ in rows], [image.notes for _, image in rows]
            self._opened[key].append(contents, taps, notes)

    def close(self) -> None:
        """Close every shard; one that cannot be is broken, and ends no other."""
        for key, writer in self._opened.items():
            try:
                with naming(self._store.root):
                    writer.close()
            except BaseException as error:
                self._broken.setdefault(key, contained(error, f"{self._encoder.name}: writing to the store"))


class Batch:
    """Images that wait for one model; flushed at a fixed size, the last one padded to it.

    A key that fails joins the `broken` ones and is asked for no more; an error that is raised is the whole model's.
    """

    def __init__(self, encoder: Encoder, size: int, shards: Shards, broken: dict[Key, CxrBenchError]) -> None:
        self._encoder, self._size, self._shards, self._broken = encoder, size, shards, broken
        self._waiting: list[tuple[str, Wanted]] = []
        self._forward: Forward | None = None

    def add(self, content: str, image: Wanted) -> int:
        """Take an image; returns the images encoded by this call: the batch size when it became full, else 0."""
        if all(key in self._broken for key in image.keys):
            return 0
        self._waiting.append((content, image))
        return self.flush() if len(self._waiting) == self._size else 0

    def flush(self) -> int:
        """Encode and store what waits; the padding repeats the last image, so the network always sees as many."""
        count = len(self._waiting)
        if count == 0:
            return 0
        if self._forward is None:
            self._forward = self._encoder.forward()
        images = [image.pixels for _, image in self._waiting]
        wanted = dict.fromkeys(key for _, image in self._waiting for key in image.keys)
        keys = [key for key in wanted if key not in self._broken]
        for key, taps in self._forward(np.stack(images + [images[-1]] * (self._size - count)), keys).items():
            try:
                self._store(key, taps)
            except BaseException as error:
                self._broken[key] = contained(error, f"{self._encoder.name}: writing to the store")
        self._waiting = []
        return count

    def _store(self, key: Key, found: Taps | CxrBenchError) -> None:
        if isinstance(found, CxrBenchError):
            raise found
        rows = [row for row, (_, image) in enumerate(self._waiting) if key in image.keys]
        taps = {tap: values[rows] for tap, values in found.items()}
        self._shards.append(key, [self._waiting[row] for row in rows], taps)
