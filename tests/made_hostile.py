"""Files of weights that would run code, or are none: made at `path`; what runs would make the file `proof`."""

import os
import struct
from pathlib import Path

import torch
from made_lightning import foreign_classes
from made_weights import make_checkpoint, small_layout


class Payload:
    """An object whose reading makes the file `proof`."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.proof}'",)


def tensors() -> dict[str, torch.Tensor]:
    return make_checkpoint(small_layout("unimodal"))


def code(path: Path, proof: Path) -> None:
    torch.save({**tensors(), "x": Payload(proof)}, path)


def foreign(path: Path, proof: Path) -> None:
    with foreign_classes() as found:
        torch.save({**tensors(), "hparams": found.list([1])}, path)


def truncated(path: Path, proof: Path) -> None:
    torch.save(tensors(), path)
    os.truncate(path, path.stat().st_size - 1000)


def huge_header(path: Path, proof: Path) -> None:
    path.write_bytes(struct.pack("<Q", 10 << 30) + b'{"a":' + b" " * 1011)
