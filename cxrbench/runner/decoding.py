"""Files to batches by threads, a little ahead of the models: each file read and decoded once, and packed in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Lock, Semaphore, Thread
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError
from cxrbench.images.pixels import Pixels, pixels
from cxrbench.images.radiograph import read_bytes
from cxrbench.specs.recipe import Recipe
from cxrbench.store import digest
from cxrbench.store.embeddings import Embeddings, Key
from cxrbench.store.file_hashes import Stamp, stamp
from cxrbench.system.contained import PASSING, contained

FloatArray = NDArray[np.float32]
Taps = Mapping[str, FloatArray]  # of (B, dim)
Fetch = Callable[[], Taps]  # brings the results of a batch back from the device
# (B, C, H, W) to the results of the keys asked for, or to why one cannot have any
Forward = Callable[[FloatArray, Sequence[Key]], Mapping[Key, Fetch | CxrBenchError]]
Reader = Literal["fast", "reference"]
_AHEAD = 4  # files a thread, between the first that is not packed yet and the last that is read
_OUT = 8  # full batches that wait for the models, are in them, or whose results are not fetched yet
_PATIENCE_S = 0.1  # seconds after which a waiting thread looks whether all is over


@dataclass(frozen=True, slots=True)
class Encoder:
    """One model with one recipe, and all that is stored of an image that goes through it.

    `outputs`: taps and their dimensions by key: the image's vectors, and its scores of every set of texts that the
    model scores as a whole. `forward` gives the network, loaded when the first image needs it, and `leave` takes it off
    its device; `cuda`: the CUDA device that copies batches from page-locked memory, if any. `look_up`: in place of the
    recipe's pixels, what is given for a file with that SHA-256, which then goes through `forward`; raises DataError.
    """

    recipe: Recipe
    outputs: Mapping[Key, Mapping[str, int]]
    forward: Callable[[], Forward]
    engine: Callable[[], Mapping[str, str]]  # what runs the network, known once it is loaded; kept with the rows
    name: str = "a model"  # for messages
    cuda: str | None = None
    leave: Callable[[], None] = lambda: None
    look_up: Callable[[Path, str], FloatArray] | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """Encoders of one recipe that lack the same of the same files, so that they share batches, or one that looks up.

    A column is one key of each of them, in the order of their `outputs`. `patterns[wants[n]]` are the columns that
    file n is wanted for.
    """

    encoders: tuple[Encoder, ...]
    wants: NDArray[np.int32]
    patterns: tuple[tuple[int, ...], ...]

    @property
    def recipe(self) -> Recipe:
        """What makes pixels of files."""
        return self.encoders[0].recipe

    @property
    def cuda(self) -> str | None:
        """The CUDA device that copies its batches, if any."""
        return next((encoder.cuda for encoder in self.encoders if encoder.cuda), None)

    def keys(self, columns: Sequence[int]) -> list[Key]:
        """The keys of the columns, of all encoders."""
        return [key for encoder in self.encoders for n, key in enumerate(encoder.outputs) if n in columns]


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image as a lane takes it, (C, H, W): the columns that await it, and keys of them that have it already."""

    pixels: FloatArray
    notes: tuple[str, ...]
    columns: tuple[int, ...]
    there: frozenset[Key]


@dataclass(frozen=True, slots=True)
class ReadFile:
    """One file: its content, and what became of it.

    `refused`: why keys can have nothing of it; `failed`: why its bytes are not to be had, and `lacking` the keys that
    wanted them. An ImageError is the file's fault, another the decoder's or the machine's. `decoded`: some lane took
    its pixels.
    """

    path: Path
    at: Stamp | None
    content: str = ""
    decoded: bool = False
    refused: Mapping[Key, CxrBenchError] = field(default_factory=dict)
    failed: CxrBenchError | None = None
    lacking: Sequence[Key] = ()


class ImageBatch:
    """Images of one lane, (size, C, H, W), filled from the front; `contents` and `notes` are of the first of them.

    `awaited`: images whose pixels are still to be copied, and one more while the batch takes images.
    """

    def __init__(self, lane: Lane, pixels: FloatArray) -> None:
        self.lane, self.pixels, self.awaited = lane, pixels, 1
        self.contents, self.notes = list[str](), list[tuple[str, ...]]()
        self._columns = list[tuple[int, ...]]()
        self._there: dict[int, frozenset[Key]] = {}

    def __len__(self) -> int:
        return len(self.contents)

    def reserve(self, content: str, image: WantedImage) -> int:
        """The place of an image, whose pixels are still to be copied there."""
        place = len(self.contents)
        self.awaited += 1
        self.contents.append(content)
        self.notes.append(image.notes)
        self._columns.append(image.columns)
        if image.there:
            self._there[place] = image.there
        return place

    def rows(self, column: int, key: Key) -> list[int]:
        """The places of the images that a key of the column awaits."""
        wanted = [place for place, columns in enumerate(self._columns) if column in columns]
        return [place for place in wanted if key not in self._there.get(place, ())] if self._there else wanted


def padded(pixels: FloatArray, count: int) -> FloatArray:
    """The images (B, C, H, W), from the first `count` on the last of them repeated, in place.

    So a network always sees as many.
    """
    pixels[count:] = pixels[count - 1]
    return pixels


def batch_of(images: Sequence[FloatArray] | FloatArray, size: int) -> FloatArray:
    """At most `size` images (C, H, W) as a batch of so many, in memory of its own."""
    batch = np.empty((size, *images[0].shape), np.float32)
    batch[: len(images)] = images
    return padded(batch, len(images))


@dataclass(frozen=True, slots=True)
class LaneOver:
    """No batch of a lane comes any more."""

    lane: Lane


class Packer:
    """Puts images into batches in the order of the files, whatever order they are decoded in.

    `files`: the numbers of the files, in order. A lane's last batch is handed on, padded, with the last file that the
    lane wants; then it is over.
    """

    def __init__(
        self,
        files: Sequence[int],
        lanes: Sequence[Lane],
        size: int,
        tell: Callable[[ReadFile | LaneOver], None],
        full: Callable[[ImageBatch], None],
    ) -> None:
        self._lanes, self._size, self._tell, self._full = lanes, size, tell, full
        self._lock = Lock()
        self._waiting: dict[int, tuple[ReadFile, Mapping[int, WantedImage]]] = {}
        self._open: dict[int, ImageBatch] = {}
        self._spare: dict[tuple[tuple[int, ...], str | None], list[FloatArray]] = {}
        self._last: dict[int, list[int]] = {}  # lanes by the place of their last file
        for number, lane in enumerate(lanes):
            wanted = np.flatnonzero(lane.wants[list(files)])
            if len(wanted):
                self._last.setdefault(int(wanted[-1]), []).append(number)
        self._awaited = [1] * len(lanes)  # batches that are not handed on, and one more until the last file is packed
        self.next = 0  # the first file that is not packed

    def take(self, place: int, read: ReadFile, images: Mapping[int, WantedImage]) -> None:
        """Take what became of a file, and what the lanes get of it; what waited for it is told and packed with it."""
        copies, closed, ended = (
            list[tuple[int, ImageBatch, int, FloatArray]](),
            list[tuple[int, ImageBatch]](),
            list[int](),
        )
        with self._lock:
            self._waiting[place] = read, images
            while self.next in self._waiting:
                found, wanted = self._waiting.pop(self.next)
                self._tell(found)
                for lane, image in wanted.items():
                    batch = self._open.get(lane) or self._begun(lane, image.pixels.shape)
                    copies.append((lane, batch, batch.reserve(found.content, image), image.pixels))
                    if len(batch) == self._size:
                        closed.append((lane, self._open.pop(lane)))
                ended += (over := self._last.get(self.next, []))
                closed += [(lane, self._open.pop(lane)) for lane in over if lane in self._open]
                self.next += 1
        for lane, batch, row, one in copies:
            np.copyto(batch.pixels[row], one)
            self._settle(lane, batch)
        for lane, batch in closed:
            self._settle(lane, batch)
        for lane in ended:
            self._count_down(lane)

    def _begun(self, number: int, shape: tuple[int, ...]) -> ImageBatch:
        self._awaited[number] += 1
        self._open[number] = ImageBatch(self._lanes[number], self._buffer(self._lanes[number], shape))
        return self._open[number]

    def _settle(self, number: int, batch: ImageBatch) -> None:
        """One image less is awaited, or none will be taken any more; who settles the last hands the batch on."""
        with self._lock:
            batch.awaited -= 1
            whole = batch.awaited == 0
        if whole:
            padded(batch.pixels, len(batch))
            self._full(batch)
            self._count_down(number)

    def _count_down(self, number: int) -> None:
        with self._lock:
            self._awaited[number] -= 1
            over = self._awaited[number] == 0
        if over:
            self._tell(LaneOver(self._lanes[number]))

    def _buffer(self, lane: Lane, shape: tuple[int, ...]) -> FloatArray:
        spare = self._spare.setdefault(((self._size, *shape), lane.cuda), [])
        return spare.pop() if spare else new_buffer((self._size, *shape), lane.cuda)

    def give_back(self, batch: ImageBatch) -> None:
        """The batch has been through its models: its memory may be filled again."""
        with self._lock:
            self._spare.setdefault((batch.pixels.shape, batch.lane.cuda), []).append(batch.pixels)


def new_buffer(shape: tuple[int, ...], cuda: str | None) -> FloatArray:
    """Memory for a batch, page-locked where a CUDA device is to copy from it while the processor goes on.

    Where no memory can be locked, plain memory, which is copied once more on the way.
    """
    if cuda is None:
        return np.empty(shape, np.float32)
    import torch

    try:
        with torch.cuda.device(cuda):  # else the first device gets a context, too
            found: FloatArray = torch.empty(shape, dtype=torch.float32, pin_memory=True).numpy()
    except PASSING:
        raise
    except BaseException:
        return np.empty(shape, np.float32)
    return found


class Claims:
    """Which contents each lane has or is about to get, so that no image goes through a model twice.

    What all lanes have claimed of a content is one value, and one object for all contents of which it is the same.
    """

    def __init__(self, lanes: Sequence[Lane], have: Mapping[Key, Embeddings], known: Sequence[str | None]) -> None:
        self._lanes, self._have, self._known = lanes, have, known
        self._claimed: dict[str, tuple[frozenset[int], ...]] = {}  # by content, the columns of each lane
        self._nothing = (frozenset[int](),) * len(lanes)
        self._alike: dict[tuple[frozenset[int], ...], tuple[frozenset[int], ...]] = {}
        self._lock = Lock()

    def take(self, place: int, content: str) -> dict[int, tuple[tuple[int, ...], frozenset[Key]]]:
        """By lane, the columns that neither have nor await the content of a file, and await it from now on.

        With them go the keys that have it all the same: of files whose content was not known before.
        """
        found = {}
        for number, lane in enumerate(self._lanes):
            columns = lane.patterns[lane.wants[place]]
            if not columns:
                continue
            there = frozenset[Key]()
            if self._known[place] != content:
                there = frozenset(key for key in lane.keys(columns) if self._stored(key, content))
                columns = tuple(column for column in columns if not there.issuperset(lane.keys([column])))
            if new := self._claim(number, content, columns):
                found[number] = new, there
        return found

    def _claim(self, lane: int, content: str, columns: Sequence[int]) -> tuple[int, ...]:
        """Those of the columns that had not claimed the content; from now on they have."""
        with self._lock:
            before = self._claimed.get(content, self._nothing)
            new = tuple(column for column in columns if column not in before[lane])
            if new:
                after = (*before[:lane], before[lane].union(new), *before[lane + 1 :])
                self._claimed[content] = self._alike.setdefault(after, after)
        return new

    def _stored(self, key: Key, content: str) -> bool:
        have = self._have[key]
        if content not in have:
            return False
        have.check([content])
        return content in have


class Decoders:
    """Threads that read and decode files and pack them; a context manager that ends them when it is left.

    Going through it gives what became of each file, in order, every batch once it is full (the last of a lane is
    padded), and the lanes that are over.
    """

    def __init__(
        self,
        files: Sequence[tuple[int, Path]],
        lanes: Sequence[Lane],
        claims: Claims,
        reader: Reader,
        *,
        batch_size: int,
        workers: int,
    ) -> None:
        self._files, self._lanes, self._claims, self._reader = files, lanes, claims, reader
        self._events = SimpleQueue[ReadFile | ImageBatch | LaneOver | BaseException | None]()
        self.packer = Packer([number for number, _ in files], lanes, batch_size, self._events.put, self._emit)
        self._room, self._begun, self._over = Semaphore(_OUT), 0, False
        self._ahead = _AHEAD * workers
        self._turn = Condition()
        self._threads = [Thread(target=self._work, name=f"decode-{n}", daemon=True) for n in range(workers)]

    def _emit(self, batch: ImageBatch) -> None:
        while not self._over:
            if self._room.acquire(timeout=_PATIENCE_S):
                self._events.put(batch)
                return

    def give_back(self, batch: ImageBatch) -> None:
        """The results of a batch are fetched: its memory may be filled again."""
        self.packer.give_back(batch)
        self._room.release()

    def _next(self) -> int | None:
        """The next file to be read, None when none is left or all is over; waits while too many are read ahead."""
        with self._turn:
            place = self._begun
            self._begun += 1
            while not self._over and place - self.packer.next > self._ahead:
                self._turn.wait(_PATIENCE_S)
            return place if place < len(self._files) and not self._over else None

    def _work(self) -> None:
        try:
            while (place := self._next()) is not None:
                read, images = self._read(*self._files[place])
                self.packer.take(place, read, images)
                with self._turn:
                    self._turn.notify_all()
            self._events.put(None)
        except BaseException as error:
            self._events.put(error)

    def _read(self, number: int, path: Path) -> tuple[ReadFile, dict[int, WantedImage]]:
        at = None
        try:
            at = stamp(path)
            data = read_bytes(path)
            content = digest.of_bytes(data)
        except BaseException as error:
            failed = contained(error, str(path))
            lacking = [key for lane in self._lanes for key in lane.keys(lane.patterns[lane.wants[number]])]
            return ReadFile(path, at, failed=failed, lacking=lacking), {}
        claimed = self._claims.take(number, content)
        lanes = [self._lanes[lane] for lane in claimed]
        recipes = {lane.recipe.digest: lane.recipe for lane in lanes if lane.encoders[0].look_up is None}
        made = _made(path, data, recipes, self._reader)
        images, refused = dict[int, WantedImage](), dict[Key, CxrBenchError]()
        for lane, (columns, there) in claimed.items():
            look_up = self._lanes[lane].encoders[0].look_up
            found = made[self._lanes[lane].recipe.digest] if look_up is None else _given(look_up, path, content)
            if isinstance(found, Pixels):
                images[lane] = WantedImage(found.array, found.notes, columns, there)
            else:
                refused.update({key: found for key in self._lanes[lane].keys(columns) if key not in there})
        return ReadFile(path, at, content, bool(images), refused), images

    def __iter__(self) -> Iterator[ReadFile | ImageBatch | LaneOver]:
        at_work = len(self._threads)
        while at_work:
            event = self._events.get()
            if event is None:
                at_work -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event

    def __enter__(self) -> "Decoders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()


def _made(path: Path, data: bytes, recipes: Mapping[str, Recipe], reader: Reader) -> dict[str, Pixels | CxrBenchError]:
    """What each recipe makes of the file, by its digest."""
    try:
        found = pixels(data, path.name, list(recipes.values()), reader) if recipes else []
    except BaseException as error:
        return dict.fromkeys(recipes, contained(error, str(path)))
    parts = (one if isinstance(one, Pixels) else contained(one, str(path)) for one in found)
    return dict(zip(recipes, parts, strict=True))


def _given(look_up: Callable[[Path, str], FloatArray], path: Path, content: str) -> Pixels | CxrBenchError:
    """What is given for the file in place of pixels, or why there is nothing."""
    try:
        return Pixels(look_up(path, content), ())
    except BaseException as error:
        return contained(error, str(path))
