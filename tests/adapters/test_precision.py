"""Float32 is float32 around all that an adapter does, whatever program, thread or environment asked for less."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import made_adapters
import pytest
import torch
from made_hub import card as made_card
from made_pairs import loaded, tensors, write
from torch.utils._python_dispatch import TorchDispatchMode

from cxrbench.adapters.base import Adapter, Runtime, filled
from cxrbench.adapters.checkpoint import Checkpoint
from cxrbench.adapters.precision import exact_float32

State = tuple[str, bool, bool, bool, bool]
EXACT: State = ("highest", False, False, True, False)


def state() -> State:
    backends = torch.backends
    matmul = torch.get_float32_matmul_precision(), backends.cuda.matmul.allow_tf32
    return (*matmul, backends.cudnn.allow_tf32, backends.cudnn.deterministic, torch.is_autocast_enabled("cpu"))


class Spy(TorchDispatchMode):
    """Collects what the switches are at every operation on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[State, str] = {}
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        self.seen.setdefault(state(), str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def rough() -> Iterator[None]:
    """A program that asked for everything that rounds."""
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    kept = cudnn.allow_tf32, cudnn.deterministic
    torch.set_float32_matmul_precision("medium")
    cudnn.allow_tf32, cudnn.deterministic = True, False
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        cudnn.allow_tf32, cudnn.deterministic = kept


def published(name: str, folder: Path) -> Adapter:
    found: Adapter = loaded(name, write("gloria", tensors(name), folder / "weights"))  # in the training frame of both
    return found


def plugin(_: Path) -> Adapter:
    told = made_card("hf_vision:X", {}, {"pooled": 8, "joint": 6})
    checkpoint = Checkpoint(Path("x"), "0" * 64, {})
    return filled(made_adapters.Sound, told, checkpoint, None, Runtime(torch.device("cpu")))


MODELS: dict[str, Callable[[Path], Adapter]] = {
    "a plug-in": plugin,
    "gloria": lambda folder: published("gloria", folder),
    "mgca": lambda folder: published("mgca", folder),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_operation_of_an_adapter_is_exact(name: str, tmp_path: Path) -> None:
    pixels, texts = torch.rand(2, 3, 224, 224), ["no finding", "edema in the lung"]
    with rough():
        before = state()
        adapter = MODELS[name](tmp_path)
        with Spy() as spy:
            images = adapter.encode_image(pixels)
            adapter.score(images, adapter.encode_text(texts))
            for more in ("encode_regions", "logit_scale"):
                if hasattr(adapter, more):
                    getattr(adapter, more)(pixels if more == "encode_regions" else next(iter(adapter.card.views)))
        assert state() == before
    assert spy.operations > 5
    assert spy.seen.keys() == {EXACT}, spy.seen


def test_the_same_vectors_come_whatever_was_asked_for(tmp_path: Path) -> None:
    adapter, pixels = published("mgca", tmp_path), torch.rand(2, 3, 64, 64)
    wanted = adapter.encode_image(pixels)
    with rough():
        found = adapter.encode_image(pixels)
    assert torch.equal(found.pooled, wanted.pooled)
    assert found.joint is not None and wanted.joint is not None and torch.equal(found.joint, wanted.joint)


def test_an_adapter_stays_what_it_is() -> None:
    adapter = plugin(Path())
    assert isinstance(adapter, made_adapters.Sound)
    assert vars(adapter)["engine"] is adapter.engine
    with pytest.raises(AttributeError, match="nothing"):
        adapter.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_switches_come_back_when_the_last_thread_leaves() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with exact_float32():
            entered.set()
            leave.wait(10)

    with rough():
        before, thread = state(), threading.Thread(target=hold)
        thread.start()
        entered.wait(10)
        with exact_float32():
            pass
        assert state()[:4] == EXACT[:4]  # the other thread still computes
        leave.set()
        thread.join()
        assert state() == before


def test_the_environment_cannot_switch_tf32_on() -> None:
    program = (
        "import torch; from cxrbench.adapters.precision import exact_float32\n"
        "assert torch.backends.cuda.matmul.allow_tf32\n"
        "with exact_float32(): assert not torch.backends.cuda.matmul.allow_tf32\n"
    )
    environment = {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120, env=environment)
