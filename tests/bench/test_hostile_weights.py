"""Runs with hostile or broken weights: refused in their own words, nothing executed, no record, no embedding."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lab import Lab, records_of, write_card
from made_lightning import foreign_classes
from made_weights import make_checkpoint, small_layout

from cxrbench.errors import CxrBenchError

pytestmark = pytest.mark.slow


class Payload:
    """An object whose reading makes the file `proof`."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.proof}'",)


def tensors() -> dict[str, torch.Tensor]:
    return make_checkpoint(small_layout("unimodal"))


def foreign(path: Path, proof: Path) -> None:
    with foreign_classes() as found:
        torch.save({**tensors(), "hparams": found.list([1])}, path)


def truncated(path: Path, proof: Path) -> None:
    torch.save(tensors(), path)
    os.truncate(path, path.stat().st_size - 1000)


FILES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "code": (lambda path, proof: torch.save({**tensors(), "x": Payload(proof)}, path), "nothing was run"),
    "foreign class": (foreign, "omegaconf.listconfig.ListConfig"),
    "truncated": (truncated, "truncated or damaged"),
    "huge header": (
        lambda path, _: path.write_bytes(struct.pack("<Q", 10 << 30) + b'{"a":' + b" " * 1011),
        "10737418240",
    ),
    "web page": (lambda path, _: path.write_bytes(b"<html>Sign in</html>"), "a web page, not a checkpoint"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_run_refuses_the_file_and_records_nothing(name: str, lab: Lab, tmp_path: Path) -> None:
    make, says = FILES[name]
    models, proof = tmp_path / "models", tmp_path / "proof"
    models.mkdir()
    make(models / "unimodal.pth", proof)
    card = write_card(models, "hostile", "unimodal")
    try:
        report = lab.run(tmp_path, [], ["covid"], models=[str(card)], shots=(1,))
        told, codes = "\n".join(map(str, report.problems)), {problem.exit_code for problem in report.problems}
    except CxrBenchError as error:
        told, codes = str(error), {error.exit_code}
    assert says in told
    assert codes == {4}
    assert not proof.exists()
    assert not records_of(tmp_path)
    assert sorted(path.name for path in models.iterdir()) == ["hostile.toml", "unimodal.pth"]
