"""Float32 that is float32: the switches of torch that round it are off around all that an adapter does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, TypeVar, cast

import torch

from cxrbench.errors import SpecError
from cxrbench.models import products

_C: Any = torch._C  # `torch.backends` cannot set every level by itself: mkldnn's own sets the global one
AdapterT = TypeVar("AdapterT")
Level = tuple[str, str]
# Where torch says per backend and operation how float32 is computed (from version 2.9), each after those it falls back
# on: a level that says "none" has what the wider one has.
_WIDER: tuple[Level, ...] = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_LEVELS = (*_WIDER, *((backend, what) for backend in ("cuda", "mkldnn") for what in ("matmul", "conv", "rnn")))
_EXACT = {
    "float32_matmul_precision": "highest",
    "cudnn_allow_tf32": False,
    "cudnn_deterministic": True,
    "cudnn_benchmark": False,
}


@contextmanager
def exact_float32(*, served: bool = False) -> Iterator[None]:
    """No TF32 and no bfloat16 inside float32, and cuDNN's deterministic kernels, whatever program or environment asked.

    The switches are the process's: they are put back when the last thread leaves. A caller's autocast is off in here;
    an adapter's own, around its networks below float32, works as elsewhere. Linear layers
    are `served` by the faster library, as `products` says, if asked for: for networks in float32 on the CPU.
    """
    _SWITCHES.hold()
    try:
        way = products.by_onednn() if served else nullcontext()
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), way:
            yield
    finally:
        _SWITCHES.release()


def linear_by(device: str, precision: str) -> str:
    """Whose products the linear layers of a network there are: `oneDNN`, or `torch` for its own."""
    with exact_float32():
        here = torch.device(device).type == "cpu" and precision == "float32" and products.onednn() is not None
    return "oneDNN" if here else "torch"


class _Switches:
    """The process's switches, and how many hold them off."""

    def __init__(self) -> None:
        self._lock, self._holders, self._before = threading.Lock(), 0, _State()

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = _switched_off()
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._before.put_back()


@dataclass(slots=True)
class _State:
    """What torch says in both of its ways: by level, and by the older flags, which change levels when they are set."""

    flags: dict[str, Any] = field(default_factory=dict)
    levels: dict[Level, str] = field(default_factory=dict)

    def put(self) -> None:
        for setting in self._settings():
            setting()

    def put_back(self) -> None:
        """As `put`; a switch that torch will not set keeps none of the others, nor an error of the adapter's, back."""
        for setting in self._settings():
            with suppress(Exception):
                setting()

    def _settings(self) -> Iterator[Callable[[], None]]:
        for name, value in self.flags.items():
            yield partial(getattr(_C, f"_set_{name}"), value)
        for level, how in self.levels.items():
            yield partial(_C._set_fp32_precision_setter, *level, how)


def _switched_off() -> _State:
    """Switch all rounding off, and return what was there; whatever fails within changes nothing."""
    before, levels = _State(), _LEVELS if hasattr(_C, "_set_fp32_precision_setter") else ()
    try:
        for level in levels:
            before.levels[level] = _C._get_fp32_precision_getter(*level)
            _C._set_fp32_precision_setter(*level, "none")  # those after it now say what they have of their own
        for name in _EXACT:
            before.flags[name] = _flag(name)
        _State(_EXACT, dict.fromkeys(levels, "ieee")).put()
    except BaseException:
        before.put_back()
        raise
    return before


def _flag(name: str) -> Any:
    """An older flag, while no level rounds: torch refuses to tell one that disagrees with its levels, so it is on."""
    try:
        return getattr(_C, f"_get_{name}")()
    except RuntimeError:
        return True


_SWITCHES = _Switches()


class _Exact:
    """An adapter all of whose methods run within `exact_float32`; everything else of it is its own."""

    __slots__ = ("_adapter", "_served")

    def __init__(self, adapter: object, served: bool) -> None:
        object.__setattr__(self, "_adapter", adapter)
        object.__setattr__(self, "_served", served)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(object.__getattribute__(self, "_adapter"))

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return vars(object.__getattribute__(self, "_adapter"))

    def __getattr__(self, name: str) -> Any:
        served = object.__getattribute__(self, "_served")
        with exact_float32(served=served):  # a property may compute, too
            found = getattr(object.__getattribute__(self, "_adapter"), name)
        return _within(found, served) if callable(found) and hasattr(found, "__self__") else found

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_adapter"), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "_adapter"), name)


def exact(adapter: AdapterT, *, served: bool) -> AdapterT:
    """The same adapter, any package's, with the context entered around each call from outside."""
    return cast(AdapterT, _Exact(adapter, served))


def _within(method: Callable[..., Any], served: bool) -> Callable[..., Any]:
    @wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        with exact_float32(served=served):
            return method(*args, **kwargs)

    return called


def known_device(name: str) -> torch.device:
    """The device of that name; raises SpecError if there is none here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SpecError(f"there is no device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device {name!r}: adapters are checked on cpu and cuda alone; use one of them")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"device {name!r}: this torch sees no CUDA device; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SpecError(f"device {name!r}: this torch sees {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device
