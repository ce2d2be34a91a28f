"""Weights that ask for endless work or memory: refused by their own words, soon, in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import made_bombs
import pytest
import torch

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import ForeignClasses, read_checkpoint

SOON = 5.0  # seconds
SLOW_MACHINE = 3  # times; other work may share its cores


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[float, str, str]]:
    """How reading each file went, in a process of its own that may take no more memory."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in made_bombs.BOMBS.items():
        make(folder / name)
    program = [sys.executable, made_bombs.__file__, str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = map(json.loads, done.stdout.splitlines())
    return {(name, foreign): (seconds, kind, said) for name, foreign, seconds, kind, said in rows}


@pytest.mark.slow
@pytest.mark.parametrize("foreign", ["refused", "inert"])
@pytest.mark.parametrize("name", made_bombs.BOMBS)
def test_a_file_that_asks_for_too_much_is_refused_soon(
    name: str, foreign: str, readings: dict[tuple[str, str], tuple[float, str, str]]
) -> None:
    seconds, kind, said = readings[name, foreign]
    wanted = made_bombs.BOMBS[name][1]
    assert seconds < SOON * SLOW_MACHINE
    assert kind in (("IntegrityError", "DamagedError") if wanted else ("",))
    assert wanted in said
    assert len(said) < 1000
    assert "weights_only" not in said


@pytest.mark.parametrize("foreign", ["refused", "inert"])
def test_a_tensor_that_is_minus_its_numbers_is_read_so(foreign: ForeignClasses, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    turned = torch._neg_view(torch.tensor([1.0, -2.0]))
    assert turned.is_neg()
    torch.save({"a": turned}, path)
    assert torch.equal(read_checkpoint(path, foreign=foreign).tensors["a"], torch.tensor([-1.0, 2.0]))


def test_properties_of_a_tensor_that_are_not_known_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for more in (b"}" + made_bombs.text("conj") + b"\x88s", b"}" + made_bombs.text("later") + b"\x88s", b"NN"):
        made_bombs.archive(path, made_bombs.table(made_bombs.text("a"), made_bombs.tensor((4,), (1,), more)))
        with pytest.raises(IntegrityError, match=r"not known here|conjugate"):
            read_checkpoint(path)


def test_tensors_that_share_memory_too_often_are_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.pth", torch.zeros(1 << 18)
    torch.save({f"t{n}": whole for n in range(6)}, path)
    assert len(read_checkpoint(path).tensors) == 6
    torch.save({f"t{n}": whole for n in range(30)}, path)
    with pytest.raises(IntegrityError, match="share memory so often"):
        read_checkpoint(path)


def test_a_damaged_pickle_gives_no_advice_to_load_unsafely(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for data in (b"}" + b"\x96" + bytes(8) + b".", b"garbage", b"ccodecs\nopen\n)R.", b"}(NN"):
        made_bombs.archive(path, data)
        with pytest.raises(IntegrityError) as refusal:
            read_checkpoint(path)
        assert "weights_only" not in str(refusal.value)
        assert "torch.load" not in str(refusal.value)
