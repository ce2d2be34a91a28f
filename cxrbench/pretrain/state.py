"""Where a run stands, on disk: whole or not at all, and enough to go on as if nothing had happened.

All draws follow from seed, epoch and row, and torch's own generators are seeded before every step, so the position is
the state of every random generator. What cannot be computed again is stored: weights, optimiser, gradient scaler.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cxrbench.pretrain import checkpoint
from cxrbench.pretrain.checkpoint import TrainingCheckpoint
from cxrbench.pretrain.identity import Identity, Surroundings
from cxrbench.pretrain.log import Logged
from cxrbench.store.sealed import DamagedError

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
    checkpoint.write_checkpoint(folder / FILE, TrainingCheckpoint(asdict(state.head), parts))


def read_head(folder: Path) -> Head | None:
    """What the checkpoint of a run says, without its tensors; None if there is none yet.

    Raises DamagedError if the file is not what was written.
    """
    path = folder / FILE
    try:
        return _head(path, checkpoint.read_head(path, _WAY_OUT))
    except FileNotFoundError:
        return None


def read_state(folder: Path) -> State | None:
    """The checkpoint of a run, None if it has none yet; raises DamagedError if the file is not what was written."""
    path = folder / FILE
    try:
        found = checkpoint.read_checkpoint(path, _WAY_OUT)
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
