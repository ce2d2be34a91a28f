"""Whole networks in a pickle: their tensors are read by the names of a state dict, and no class of theirs is run."""

import contextlib
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_hub import drawn
from torch import nn

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import read_checkpoint

WATCHED = ("import", "exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class", "os.posix_spawn")
_seen: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event in WATCHED:
        _seen.append(f"{event} {arguments[:2]}")


_hooks: list[object] = []


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails if Python imported, compiled or ran anything meanwhile."""
    global _seen  # noqa: PLW0603
    if not _hooks:
        sys.addaudithook(_note)
        _hooks.append(_note)
    _seen = []
    try:
        yield
    finally:
        events, _seen = _seen, None
    assert not events


@contextlib.contextmanager
def stranger() -> Iterator[type[nn.Module]]:
    """A network of a package that is gone once the file is written."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential()
            self.features.add_module("conv0", nn.Conv2d(1, 4, 3, bias=False))
            self.features.add_module("norm0", nn.BatchNorm2d(4))
            self.none = None
            self.classifier = nn.Linear(4, 2)
            self.pathologies = ["a", "b"]
            self.hook = print

        def __setstate__(self, state: object) -> None:
            raise AssertionError("a class was given its state")

    package = types.ModuleType("strangers")
    Net.__module__, Net.__qualname__, package.Net = "strangers", "Net", Net  # type: ignore[attr-defined]
    sys.modules["strangers"] = package
    try:
        yield Net
    finally:
        del sys.modules["strangers"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("modern", "protocol"), [(True, 2), (True, 4), (False, 2)])
def test_a_whole_network_gives_its_state_dict(modern: bool, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    with stranger() as kind:
        net = drawn(kind())
        torch.save(net, path, pickle_protocol=protocol, _use_new_zipfile_serialization=modern)
    wanted = net.state_dict()
    with pytest.raises(IntegrityError, match=r"foreign class strangers\.Net.*nothing was run"):
        read_checkpoint(path)
    with nothing_runs():
        found = read_checkpoint(path, foreign="inert")
    assert list(found.tensors) == list(wanted)
    assert all(torch.equal(found.tensors[name], wanted[name]) for name in wanted)


def test_a_network_within_a_training_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    with stranger() as kind:
        net = drawn(kind())
        torch.save({"epoch": 3, "model": net, "optimizer": {"state": {}}}, path)
    found = read_checkpoint(path, ["model"], foreign="inert")
    assert list(found.tensors) == list(net.state_dict())
    assert found.other == {"epoch": "int", "optimizer": "dict"}


def test_a_shared_layer_has_both_its_names(tmp_path: Path) -> None:
    path = tmp_path / "tied.pt"
    layer = drawn(nn.Linear(2, 2))
    torch.save(nn.ModuleDict({"a": layer, "b": layer}), path)
    found = read_checkpoint(path, foreign="inert").tensors
    assert list(found) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert torch.equal(found["a.weight"], found["b.weight"])


class Evil(nn.Module):
    """A network whose reading would make a file."""

    def __init__(self, proof: Path) -> None:
        super().__init__()
        self.layer, self.proof = nn.Linear(1, 1), proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.proof}'",)


def test_a_network_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, proof = tmp_path / "evil.pt", tmp_path / "proof"
    torch.save(nn.Sequential(nn.Linear(1, 1), Evil(proof)), path)
    with nothing_runs(), pytest.raises(IntegrityError, match=r"made to run code.*Nothing was run"):
        read_checkpoint(path, foreign="inert")
    assert not proof.exists()


class Crowd:
    """Pickles as an object of a strange class with this state."""

    def __init__(self, parts: dict[str, object]) -> None:
        self._parameters: dict[str, object] = {"w": torch.zeros(1)}
        self._modules = parts


@pytest.mark.parametrize("how", ["within itself", "doubled"])
def test_modules_without_end_are_refused(how: str, tmp_path: Path) -> None:
    inner = Crowd({})
    if how == "within itself":
        inner._modules["a"] = inner
    for _ in range(60):
        inner = Crowd({"a": inner, "b": inner})
    torch.save(inner, tmp_path / "a.pt", pickle_protocol=pickle.DEFAULT_PROTOCOL)
    with pytest.raises(IntegrityError, match="more parts than any network has, or within itself"):
        read_checkpoint(tmp_path / "a.pt", foreign="inert")


def test_numpy_scalars_of_a_training_checkpoint_stay_names(tmp_path: Path) -> None:
    path = tmp_path / "scalars.pt"
    told = {"module": {"w": torch.ones(2).half()}, "best": np.float64(0.5), "losses": [np.float32(1)] * 2}
    torch.save({**told, "kind": np.dtype("f4"), "state": np.arange(3)}, path)
    with nothing_runs():
        found = read_checkpoint(path, ["module"], foreign="inert")
    assert found.tensors["w"].tolist() == [1.0, 1.0]
    assert found.other["best"].endswith("multiarray.scalar")
    assert (found.other["losses"], found.other["kind"]) == ("list", "numpy.dtype")
    assert found.other["state"].endswith("multiarray._reconstruct")
