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

from cxrbench.models.base import Adapter, Runtime, fill_adapter
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.precision import exact_float32

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
    told = made_card("hf:X", {}, {"pooled": 8, "joint": 6})
    checkpoint = Checkpoint(Path("x"), "0" * 64, {})
    return fill_adapter(made_adapters.Sound, told, checkpoint, None, Runtime(torch.device("cpu")))


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
        "import torch; from cxrbench.models.precision import exact_float32\n"
        "assert torch.backends.cuda.matmul.allow_tf32\n"
        "with exact_float32(): assert not torch.backends.cuda.matmul.allow_tf32\n"
    )
    environment = {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120, env=environment)


def everywhere(how: str) -> None:
    torch.backends.fp32_precision = how  # type: ignore[attr-defined]


def _set(part: Any, how: str) -> None:
    part.fp32_precision = how


def at_two_levels() -> None:
    everywhere("tf32")
    _set(torch.backends.cuda.matmul, "tf32")


def legacy_and_new() -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.matmul.fp32_precision = "ieee"


ASKED: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "matmul by level": lambda: _set(torch.backends.cuda.matmul, "tf32"),
    "everything by level": lambda: everywhere("tf32"),
    "mkldnn by level": lambda: _set(torch.backends.mkldnn, "bf16"),
    "mkldnn's matmul": lambda: _set(torch.backends.mkldnn.matmul, "bf16"),
    "cudnn by level": lambda: _set(torch.backends.cudnn, "tf32"),
    "convolutions that do not round": lambda: _set(torch.backends.cudnn.conv, "ieee"),
    "the same at two levels": at_two_levels,
    "the older way": lambda: torch.set_float32_matmul_precision("medium"),
    "the older way, convolutions": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "both ways": legacy_and_new,
}
BY_LEVEL = pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has no levels before 2.9")


def own_levels() -> list[str]:
    """What each level has of its own, and what is told in the older way: read and put back by torch's own functions."""
    get, put = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter  # type: ignore[attr-defined]
    levels = [("generic", "all"), ("cuda", "all"), ("mkldnn", "all")]
    levels += [(backend, what) for backend in ("cuda", "mkldnn") for what in ("matmul", "conv", "rnn")]
    found = []
    for level in levels:
        found.append(get(*level))
        put(*level, "none")
    older = torch.get_float32_matmul_precision()
    for level, how in zip(levels, found, strict=True):
        put(*level, how)
    return [*found, older, *older_way()]


def older_way() -> Iterator[str]:
    for read in (lambda: torch.backends.cuda.matmul.allow_tf32, lambda: torch.backends.cudnn.allow_tf32):
        try:
            yield str(read())
        except RuntimeError:
            yield "disagrees"


def rounds() -> set[str]:
    backends = torch.backends
    parts = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]  # type: ignore[attr-defined]
    parts += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]  # type: ignore[attr-defined]
    return {part.fp32_precision for part in parts} - {"ieee"}


@contextmanager
def switches_kept() -> Iterator[None]:
    """What a test asked for ends with it."""
    torch.set_float32_matmul_precision("highest")
    kept = own_levels()
    try:
        yield
    finally:
        for name in ("generic", "cuda", "mkldnn"):
            torch._C._set_fp32_precision_setter(name, "all", "none")  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        for what in ("conv", "rnn"):
            torch._C._set_fp32_precision_setter("mkldnn", what, "none")  # type: ignore[attr-defined]
        assert own_levels() == kept


@BY_LEVEL
@pytest.mark.parametrize("name", ASKED)
def test_whatever_way_was_asked_in_nothing_rounds_inside_and_all_is_put_back(name: str) -> None:
    with switches_kept():
        ASKED[name]()
        before = own_levels()
        for _ in range(2):
            with exact_float32(), exact_float32():
                assert not rounds()
                assert state() == EXACT  # both ways can be read inside
                with torch.backends.cudnn.flags(enabled=False):
                    pass
            assert own_levels() == before
        with pytest.raises(KeyError), exact_float32():
            raise KeyError
        assert own_levels() == before
        with exact_float32():
            assert not rounds()
        assert own_levels() == before


@BY_LEVEL
@pytest.mark.parametrize("name", ASKED)
def test_two_threads_that_leave_in_any_order_put_back_what_was_asked_for(name: str) -> None:
    with switches_kept():
        ASKED[name]()
        before, inside = own_levels(), threading.Barrier(2, timeout=10)
        rounding: list[set[str]] = []

        def hold() -> None:
            for _ in range(20):
                with exact_float32():
                    inside.wait()
                    rounding.append(rounds())

        threads = [threading.Thread(target=hold) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rounding) == 40 and not set().union(*rounding)
        assert own_levels() == before


@BY_LEVEL
def test_switches_that_cannot_be_set_count_nobody_in_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bool) -> None:
        raise RuntimeError("not today")

    with switches_kept():
        everywhere("tf32")
        before = own_levels()
        with monkeypatch.context() as patch:
            patch.setattr(torch._C, "_set_cudnn_benchmark", refuse)
            with pytest.raises(RuntimeError, match="not today"), exact_float32():
                pass
        assert own_levels() == before
        with exact_float32():
            assert not rounds()


@BY_LEVEL
@pytest.mark.parametrize("name", ASKED)
def test_vectors_are_bit_equal_whatever_way_was_asked_in(name: str, tmp_path: Path) -> None:
    adapter, pixels = published("mgca", tmp_path), torch.rand(1, 3, 64, 64)
    wanted = adapter.encode_image(pixels)
    with switches_kept():
        ASKED[name]()
        assert torch.equal(adapter.encode_image(pixels).pooled, wanted.pooled)
