"""Float32 that is float32: the switches of torch that round it are off around all that an adapter does."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch

AdapterT = TypeVar("AdapterT")

_ROUNDING = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 inside float32, and cuDNN's deterministic kernels, whatever program or environment asked.

    The switches are the process's: they are put back when the last thread leaves. A caller's autocast is off in here;
    an adapter's own, around its networks below float32, works as elsewhere.
    """
    _SWITCHES.hold()
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        _SWITCHES.release()


class _Switches:
    """The process's switches, and how many hold them off."""

    def __init__(self) -> None:
        self._lock, self._holders, self._before = threading.Lock(), 0, dict[str, Any]()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._before = _now()
                _put(_EXACT | dict.fromkeys(_ROUNDING, "ieee"))

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                _put(self._before)


_SWITCHES = _Switches()
_EXACT = {"matmul": "highest", "allow_tf32": False, "deterministic": True, "benchmark": False}


def _now() -> dict[str, Any]:
    cudnn = torch.backends.cudnn
    flags = {name: getattr(cudnn, name) for name in ("allow_tf32", "deterministic", "benchmark")}
    rounding = {name: getattr(_part(name), "fp32_precision", "") for name in _ROUNDING}
    return {"matmul": torch.get_float32_matmul_precision(), **flags, **rounding}


def _put(state: Mapping[str, Any]) -> None:
    torch.set_float32_matmul_precision(state["matmul"])
    for name in ("allow_tf32", "deterministic", "benchmark"):
        setattr(torch.backends.cudnn, name, state[name])
    for name in _ROUNDING:
        _set(name, state[name])


def _part(name: str) -> Any:
    found: Any = torch.backends
    for step in name.split("."):
        found = getattr(found, step, None)
    return found


def _set(name: str, how: str) -> None:
    """Versions of torch before 2.9 have no such switch, and the two above say all."""
    part = _part(name)
    if how and hasattr(part, "fp32_precision"):
        part.fp32_precision = how


class _Exact:
    """An adapter all of whose methods run within `exact_float32`; everything else of it is its own."""

    __slots__ = ("_adapter",)

    def __init__(self, adapter: object) -> None:
        object.__setattr__(self, "_adapter", adapter)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(object.__getattribute__(self, "_adapter"))

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return vars(object.__getattribute__(self, "_adapter"))

    def __getattr__(self, name: str) -> Any:
        with exact_float32():  # a property may compute, too
            found = getattr(object.__getattribute__(self, "_adapter"), name)
        return _within(found) if callable(found) and hasattr(found, "__self__") else found

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_adapter"), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "_adapter"), name)


def exact(adapter: AdapterT) -> AdapterT:
    """The same adapter, any package's, with the context entered around each call from outside."""
    return cast(AdapterT, _Exact(adapter))


def _within(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        with exact_float32():
            return method(*args, **kwargs)

    return called
