"""Where a run stands, on disk: whole or not at all, and enough to go on as if nothing had happened.

All draws follow from seed, epoch and row, and torch's own generators are seeded before every step, so the position is
the state of every random generator. What cannot be computed again is stored: weights, optimiser, gradient scaler.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cxrbench.errors import RunError, UnreadableError
from cxrbench.pretrain.identity import Identity, Surroundings
from cxrbench.pretrain.log import Logged
from cxrbench.store.atomic import written_whole
from cxrbench.store.sealed import DamagedError, advising, opened_regular, seal, unsealed

_FOOT = struct.Struct("<Q8s")  # bytes of the sealed head before it, and what kind of file this is
_MAGIC = b"cxrb-ckp"
_MOST_HEAD = 1 << 24
_MOST = 1 << 40
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class TrainingCheckpoint:
    """What a checkpoint holds: `head`, a JSON value, and `parts`, plain values and tensors by name."""

    head: Any
    parts: dict[str, Any]


class _Hashed:
    """A file for torch.save, which writes from front to end, with the SHA-256 and number of what went by."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.length = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        block = memoryview(data).cast("B")
        self._hash.update(block)
        self._file.write(block)
        self.length += len(block)
        return len(block)

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_tensors(path: Path, content: object) -> str:
    """Write a plain torch file, whole or not at all; its hex SHA-256. Raises RunError if the disk refuses."""
    with _replaced(path) as file:
        made = _Hashed(file)
        torch.save(content, made)  # type: ignore[arg-type]
    return made.sha256


def write_checkpoint(path: Path, checkpoint: TrainingCheckpoint) -> None:
    """Write parts and head as one file, whole or not at all; raises RunError if the disk refuses."""
    with _replaced(path) as file:
        made = _Hashed(file)
        torch.save(checkpoint.parts, made)  # type: ignore[arg-type]
        head = seal({"bytes": made.length, "sha256": made.sha256, "head": checkpoint.head})
        file.write(head + _FOOT.pack(len(head), _MAGIC))


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    try:
        # Given a path, torch would write its name within.
        with written_whole(path) as made, made.open("wb") as file:
            yield file
    except (OSError, RuntimeError) as error:
        left = "the one before it is whole" if path.is_file() else "there is none before it"
        raise RunError(
            f"{path}: the checkpoint cannot be written ({error}); {left}. Make room, then --resume"
        ) from error


def read_file_head(path: Path, way_out: str) -> Any:
    """The head of a checkpoint, without a look at its tensors.

    Raises FileNotFoundError where there is none, DamagedError, with `way_out`, unless it is what was written.
    """
    with advising(way_out), opened_regular(path, _MOST) as file:
        return _file_head(path, file)["head"]


def read_checkpoint(path: Path, way_out: str) -> TrainingCheckpoint:
    """Head and tensors (on the CPU); raises as `read_head` does, before anything is unpickled."""
    with advising(way_out), opened_regular(path, _MOST) as file:
        told = _file_head(path, file)
        _require(path, file, told["bytes"], told["sha256"])
        return TrainingCheckpoint(told["head"], _loaded(path, file))


def read_tensors(path: Path, sha256: str, way_out: str) -> dict[str, Any]:
    """What `write_tensors` wrote, if it still has that SHA-256; raises as `read_head` does."""
    with advising(way_out), opened_regular(path, _MOST) as file:
        _require(path, file, file.seek(0, 2), sha256)
        return _loaded(path, file)


def _file_head(path: Path, file: BinaryIO) -> dict[str, Any]:
    size = file.seek(0, 2)
    if size < _FOOT.size:
        raise DamagedError(path, f"is cut: it has {size} bytes")
    file.seek(size - _FOOT.size)
    length, magic = _FOOT.unpack(file.read(_FOOT.size))
    if magic != _MAGIC or length > min(_MOST_HEAD, size - _FOOT.size):
        raise DamagedError(path, "is cut, or no checkpoint of a run")
    start = size - _FOOT.size - length
    file.seek(start)
    told = unsealed(path, file.read(length))
    if not isinstance(told, dict) or told.keys() != {"bytes", "sha256", "head"} or told["bytes"] != start:
        raise DamagedError(path, "is no checkpoint of a run")
    return told


def _require(path: Path, file: BinaryIO, length: int, sha256: str) -> None:
    """Hold the first `length` bytes against their checksum."""
    file.seek(0)
    found, left = hashlib.sha256(), length
    while left and (block := file.read(min(left, _BLOCK))):
        found.update(block)
        left -= len(block)
    if left or found.hexdigest() != sha256:
        raise DamagedError(path, "is damaged: its tensors do not have their checksum")


def _loaded(path: Path, file: BinaryIO) -> dict[str, Any]:
    file.seek(0)
    try:
        parts = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError, UnreadableError):
        raise
    except Exception as error:  # of hostile pickles nearly any type; torch's own text advises to load unsafely
        raise DamagedError(path, f"cannot be taken apart ({type(error).__name__})") from error
    if not isinstance(parts, dict):
        raise DamagedError(path, "holds no tensors by name")
    return parts


FILE = "state.pt"
_WAY_OUT = "Restore it from a copy, or begin again in another folder."


@dataclass
class Position:
    """`batch` batches of `epoch` are done, `step` in all, `scheduled` of them counted by the schedule.

    A step that the gradient scaler skips is not scheduled. `best` is the lowest validation loss so far, of `best_epoch`
    (-1: none yet), `waited` epochs ago. `finished`: the last epoch is over, or patience.
    """

    best: float
    epoch: int = 0
    batch: int = 0
    step: int = 0
    scheduled: int = 0
    best_epoch: int = -1
    waited: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """What a checkpoint says beside its tensors.

    `logged`: how much of the log belongs to it; `kept`: SHA-256 of the run's files of weights, by name; `history`: what
    computed it, see `Surroundings`.
    """

    position: Position
    identity: Identity
    logged: Logged = field(default_factory=Logged)
    kept: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Surroundings, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """A checkpoint's content; the three parts are state dicts."""

    head: Head
    network: dict[str, Any]
    optimiser: dict[str, Any]
    scaler: dict[str, Any]

    @property
    def position(self) -> Position:
        """Where the run stands."""
        return self.head.position


def write_state(folder: Path, state: State) -> None:
    """Put the checkpoint of a run in the place of the one before; raises RunError if the disk refuses."""
    parts = {"network": state.network, "optimiser": state.optimiser, "scaler": state.scaler}
    write_checkpoint(folder / FILE, TrainingCheckpoint(asdict(state.head), parts))


def read_head(folder: Path) -> Head | None:
    """What the checkpoint of a run says, without its tensors; None if there is none yet.

    Raises DamagedError if the file is not what was written.
    """
    path = folder / FILE
    try:
        return _head(path, read_file_head(path, _WAY_OUT))
    except FileNotFoundError:
        return None


def read_state(folder: Path) -> State | None:
    """The checkpoint of a run, None if it has none yet; raises DamagedError if the file is not what was written."""
    path = folder / FILE
    try:
        found = read_checkpoint(path, _WAY_OUT)
    except FileNotFoundError:
        return None
    if found.parts.keys() != {"network", "optimiser", "scaler"}:
        raise DamagedError(path, "is no checkpoint of a run", _WAY_OUT)
    return State(_head(path, found.head), **found.parts)


def _head(path: Path, told: Any) -> Head:
    try:
        return Head(
            Position(**told["position"]),
            Identity(**told["identity"]),
            Logged(**told["logged"]),
            dict(told["kept"]),
            tuple(Surroundings(**one) for one in told["history"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, f"is of another version of cxrbench ({error})", _WAY_OUT) from error
