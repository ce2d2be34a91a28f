"""A network at work: batches go through it here, what comes out goes to the store on another thread."""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError
from cxrbench.models.base import Adapter, Padding
from cxrbench.models.features import ImageFeatures, TextFeatures, checked_features, checked_texts
from cxrbench.runner.decoding import Encoder, Fetch, Forward, ImageBatch, Taps, batch_of
from cxrbench.store.atomic import naming
from cxrbench.store.committer import Committer
from cxrbench.store.embeddings import Key, Store
from cxrbench.store.shard import Writer
from cxrbench.store.shard_files import IntArray
from cxrbench.system.contained import contained, no_memory

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float32]
SCORES = "scores"  # the tap of a key that holds scores of a set of texts


@dataclass(frozen=True, slots=True)
class TextSet:
    """Texts that a model scores together, in this order."""

    texts: tuple[str, ...]
    padding: Padding


class Loaded(Protocol):
    """A model whose network is loaded at first use."""

    device: str

    @property
    def adapter(self) -> Adapter:
        """The network."""
        ...


def forward(model: Loaded, asked: Mapping[Key, TextSet]) -> Forward:
    """What the keys of an encoder want of a batch (B, C, H, W) float32: vectors, or scores (B, P) of a set of texts.

    Texts are encoded at the first batch that they are asked for. A set of texts that cannot be scored gets the error,
    and all others what they asked for.
    """
    import torch

    adapter = model.adapter
    texts: dict[Key, TextFeatures] = {}

    def scored(key: Key, images: ImageFeatures) -> "Tensor":
        if key not in texts:
            told = asked[key].texts
            texts[key] = checked_texts(adapter.encode_text(told, asked[key].padding), adapter.card.name, len(told))
        return adapter.score(images, texts[key])

    def scores(key: Key, features: ImageFeatures) -> Fetch | CxrBenchError:
        try:
            return partial(_fetched, {SCORES: scored(key, features)})
        except BaseException as error:
            return contained(error, f"{adapter.card.name}: scores of {len(asked[key].texts)} texts")

    def found(images: FloatArray, keys: Sequence[Key]) -> Mapping[Key, Fetch | CxrBenchError]:
        batch = torch.from_numpy(images)
        if on_cuda(model.device):
            batch = (batch if batch.is_pinned() else batch.pin_memory()).to(model.device, non_blocking=True)
        features = checked_features(adapter.encode_image(batch), adapter.card.name, len(batch), adapter.card.taps)
        vectors = partial(_fetched, dict(features.taps))
        return {key: scores(key, features) if key in asked else vectors for key in keys}

    return found


def on_cuda(device: str) -> bool:
    """Whether a device is one of CUDA's, which copy from page-locked memory and run behind the processor."""
    return device.startswith("cuda")


def give_back_memory() -> None:
    """Free what nobody holds any more, reference cycles included, and give it back to the CUDA devices."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fetched(tensors: "Mapping[str, Tensor]") -> Taps:
    """Results as float32 arrays, brought back from the device when its work on them is done."""
    return {tap: values.float().cpu().numpy() for tap, values in tensors.items()}


@dataclass(frozen=True, slots=True)
class BatchRows:
    """Images of a batch of `size` that a key awaits: their `places` in it, contents, and what the reader remarked."""

    size: int
    places: IntArray
    contents: Sequence[str]
    notes: Sequence[tuple[str, ...]]


class Shards:
    """What one model writes: a shard for each of its keys, begun when the first row comes, closed at the end.

    `append`, `commit` and `close` are called by the committing thread, or when it has ended. What a network computed
    before it failed is written; a key whose results or shard failed gets no more rows.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        lacking: Mapping[Key, NDArray[np.bool_]],
        broken: dict[Key, CxrBenchError],
    ):
        self.encoder, self._store, self._lacking, self.broken = encoder, store, lacking, broken
        self._opened: dict[tuple[Key, int], Writer] = {}
        self._ended = set[Key]()
        self.written: dict[Key, None] = {}

    def append(self, key: Key, rows: "BatchRows", fetch: Fetch) -> None:
        """Write rows of a batch; what fails is of the key alone, and an error of the disk names the store."""
        if key in self._ended:
            return
        try:
            taps = {tap: values[rows.places] for tap, values in fetch().items()}
        except BaseException as error:
            self._break(key, error, self.encoder.name)
            return
        try:
            with naming(self._store.root):
                if (key, rows.size) not in self._opened:
                    self._opened[key, rows.size] = self._begun(key, rows.size)
                self._opened[key, rows.size].append(rows.contents, taps, rows.notes)
        except BaseException as error:
            self._break(key, error, self._writing)

    def _begun(self, key: Key, size: int) -> Writer:
        engine = {**self.encoder.engine(), "batch_size": str(size)}
        self.written[key] = None
        return self._store.writer(key, int(self._lacking[key].sum()), self.encoder.outputs[key], engine)

    @property
    def _writing(self) -> str:
        return f"{self.encoder.name}: writing to the store"

    def _break(self, key: Key, error: BaseException, part: str) -> None:
        self._ended.add(key)
        self.broken.setdefault(key, contained(error, part))

    def commit(self) -> None:
        """Make all rows durable; a key whose rows cannot be is broken, and ends no other."""
        self._each(Writer.commit)

    def close(self) -> None:
        """Close every shard; one that cannot be is broken, and ends no other."""
        self._each(Writer.close)

    def _each(self, do: Callable[[Writer], None]) -> None:
        for (key, _), writer in self._opened.items():
            if do is Writer.commit and key in self._ended:
                continue
            try:
                with naming(self._store.root):
                    do(writer)
            except BaseException as error:
                self._break(key, error, self._writing)


class Running:
    """One encoder at work: batches go through its network here, and to the store by the committing thread.

    Where the device is short of memory the batch is halved, for good: the rows say which size made them.
    """

    def __init__(self, shards: Shards, committer: Committer, remarks: list[str]) -> None:
        self._shards, self._committer, self._remarks, self._broken = shards, committer, remarks, shards.broken
        self._encoder = shards.encoder
        self._forward: Forward | None = None
        self._size: int | None = None  # None: as packed

    def advance(self, batch: ImageBatch) -> int:
        """Encode what the encoder awaits of a batch; returns of how many images it was.

        An error ends this model's part of the sweep and no other's.
        """
        rows = {
            key: rows
            for column, key in enumerate(self._encoder.outputs)
            if key not in self._broken and (rows := batch.rows(column, key))
        }
        if not rows:
            return 0
        try:
            if self._forward is None:
                self._forward = self._encoder.forward()
            self._encode(batch, rows, self._forward)
            return len(set().union(*rows.values()))
        except BaseException as error:
            failed = contained(error, self._encoder.name)
            for key in self._encoder.outputs:
                self._broken.setdefault(key, failed)
        return 0

    @property
    def ended(self) -> bool:
        """Whether every key of the encoder is broken."""
        return self._broken.keys() >= self._encoder.outputs.keys()

    @property
    def leaving(self) -> Callable[[], None]:
        """What takes the network off its device: one for all encoders that it serves."""
        return self._encoder.leave

    def leave(self, *, alone: bool) -> None:
        """Hold the network no longer, and take it off its device if it was the encoder's `alone`."""
        self._forward = None
        try:
            if alone:
                self._encoder.leave()
        except BaseException as error:
            self._remarks.append(str(contained(error, f"{self._encoder.name}: leaving its device")))

    def _encode(self, batch: ImageBatch, rows: Mapping[Key, Sequence[int]], forward: Forward) -> None:
        at = 0
        while at < len(batch):
            size = self._size or len(batch.pixels)
            try:
                found = forward(_part(batch.pixels, at, size), list(rows))
            except BaseException as error:
                if size == 1 or self._encoder.cuda is None or not no_memory(error):
                    raise
            else:
                self._hand_over(batch, at, size, rows, found)
                at += size
                continue
            self._halve(size)

    def _halve(self, size: int) -> None:
        """Half the batch from now on, with what the failed pass held given back to the device."""
        self._size = size // 2
        give_back_memory()
        self._remarks.append(
            f"{self._encoder.name}: too little memory on the device for a batch of {size}: {self._size} from now on"
        )

    def _hand_over(
        self,
        batch: ImageBatch,
        at: int,
        size: int,
        rows: Mapping[Key, Sequence[int]],
        found: Mapping[Key, Fetch | CxrBenchError],
    ) -> None:
        for key, fetch in found.items():
            if isinstance(fetch, CxrBenchError):
                self._broken.setdefault(key, fetch)
                continue
            own = [row for row in rows[key] if at <= row < at + size]
            if own:
                told = [batch.contents[row] for row in own], [batch.notes[row] for row in own]
                self._committer.submit(
                    partial(self._shards.append, key, BatchRows(size, np.array(own, np.int64) - at, *told), fetch)
                )


class AtWork:
    """The encoders of a sweep that are not done; a network leaves its device with the last that it serves."""

    def __init__(self, running: Iterable[Running]) -> None:
        self._running = list(running)

    def done(self, one: Running) -> None:
        """Take a network off its device unless it serves another; what it has computed may still be fetched."""
        if one not in self._running:
            return
        self._running.remove(one)
        one.leave(alone=all(other.leaving != one.leaving for other in self._running))

    @property
    def nobody(self) -> bool:
        """Whether no encoder is left that could make anything of another image."""
        return not self._running


def _part(pixels: FloatArray, at: int, size: int) -> FloatArray:
    """`size` images from a place of a batch on, the last one repeated where it ends."""
    found = pixels[at : at + size]
    return found if len(found) == size else batch_of(found, size)
