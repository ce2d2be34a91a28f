"""Where a run stands, on disk: whole or not at all, and enough to go on as if nothing had happened.

All draws follow from seed, epoch and row, and torch's own generators are seeded before every step, so the position is
the state of every random generator. What cannot be computed again is stored: weights, optimiser, gradient scaler.
"""

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cxrbench.durable import written_whole
from cxrbench.errors import IntegrityError, RunError

FILE = "state.pt"


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
class Identity:
    """What a run must have in common with its checkpoint.

    `config`: see `Config.going_on`; `batch` is that of all processes together; `precision` in Fabric's words, never
    `auto`; `weights`, `text`: SHA-256 of the file that the trunk starts from, digest of the text encoder's files; ""
    where there are none.
    """

    config: str
    corpus: str
    batch: int
    precision: str
    weights: str
    text: str


def difference(found: Identity, wanted: Identity) -> str:
    """What two runs do not have in common, and how to mend it; of several things the first."""
    if found.corpus != wanted.corpus:
        return "another corpus; give the same sources, roots and options, or another --out"
    if found.batch != wanted.batch:
        return (
            f"{found.batch} images a step, not {wanted.batch}; keep data.batch_size times the number of processes, "
            "or take another --out"
        )
    if found.precision != wanted.precision:
        return f"precision {found.precision}, not {wanted.precision}; set engine.precision, or take another --out"
    if found.weights != wanted.weights:
        return "another file image.weights; give the one that it started from, or another --out"
    if found.text != wanted.text:
        return "other files of the text encoder; give those that it started from, or another --out"
    return "another configuration (config.toml there); give the same settings, or another --out"


@dataclass(frozen=True, slots=True)
class State:
    """A checkpoint's content; the three parts are state dicts."""

    position: Position
    identity: Identity
    network: dict[str, Any]
    optimiser: dict[str, Any]
    scaler: dict[str, Any]


def write_tensors(path: Path, content: object) -> None:
    """Write a torch file beside its place, sync, rename; raises RunError if that fails, and leaves the old one.

    `content` is made of tensors and plain values.
    """
    try:
        with written_whole(path) as made, made.open("wb") as file:  # given a path, torch would write its name within
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        left = "the one before it is whole" if path.is_file() else "there is none before it"
        raise RunError(
            f"{path}: the checkpoint cannot be written ({error}); {left}. Make room, then --resume"
        ) from error


def write_state(folder: Path, state: State) -> None:
    """Put the checkpoint of a run in the place of the one before; raises RunError as `write_tensors` does."""
    parts = {"network": state.network, "optimiser": state.optimiser, "scaler": state.scaler}
    write_tensors(folder / FILE, {"position": asdict(state.position), "identity": asdict(state.identity), **parts})


def read_state(folder: Path) -> State | None:
    """The checkpoint of a run, None if it has none yet; raises IntegrityError if the file is not one."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        told = torch.load(path, map_location="cpu", weights_only=True)
        position, identity = Position(**told["position"]), Identity(**told["identity"])
        return State(position, identity, told["network"], told["optimiser"], told["scaler"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: no checkpoint of a run ({error}). Begin again in another folder.") from error
