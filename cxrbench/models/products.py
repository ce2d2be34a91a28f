"""The products of linear layers by oneDNN where torch's own, by MKL, are slow: on processors of AMD."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import linear, multi_head_attention_forward
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode

from cxrbench.system import cpu

Product = Callable[..., Tensor]
_SLOW_MKL = "AuthenticAMD"  # where MKL was measured at 40 % of what oneDNN reaches; it is made by Intel for Intel
_FEWEST_ROWS, _FEWEST_STEPS = 4, 2**21  # below, a call of oneDNN costs more than it saves
_ROUNDING = 2e-6  # largest error of a product over its largest value; bfloat16 is at 1e-3


def by_onednn() -> AbstractContextManager[object]:
    """Inside, `linear` in float32 on the CPU without gradients is oneDNN's where that is faster; else as ever.

    Both round as float32 does, in another order: vectors move by 1e-6 of their largest value. Weights stay as they
    are, in one copy. All that calls `torch.nn.functional.linear` is served, whichever library's module it is.
    Enter it where nothing may round below float32: the first time, the operation is tried.
    """
    product = onednn()
    return nullcontext() if product is None else _Products(product)


@cache
def onednn() -> Product | None:
    """Input (..., K), weight (N, K) and bias (N) or None to (..., N), or None where torch's own is to be used.

    By the maker of the processor and not by a clock, so that a machine always computes alike. The operation is
    private to torch: it is left alone where it is missing, fails, or rounds below float32.
    """
    if cpu.maker() != _SLOW_MKL:
        return None
    try:
        operation = torch.ops.mkldnn._linear_pointwise.default

        def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            found: Tensor = operation(x, weight, bias, "none", [], "")
            return found

        return product if rounds_as_float32(product) else None
    except Exception:  # whatever another version of torch says to these words
        return None


@torch.inference_mode()
def rounds_as_float32(product: Product) -> bool:
    """Whether a drawn product is that of float64, to the rounding of float32."""
    drawn = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=drawn, device="cpu") for shape in ((2, 32, 256), (192, 256), (192,))
    )
    for added in (bias, None):
        wanted = linear(x.double(), weight.double(), None if added is None else added.double())
        found = product(x, weight, added)
        if found.shape != wanted.shape or found.dtype != torch.float32:
            return False
        if not (found - wanted).abs().max() <= _ROUNDING * wanted.abs().max():
            return False
    return True


class _Products(TorchFunctionMode):
    """Hands the calls of `linear` that `suits` to a product, all others on; torch's attention calls it from within."""

    def __init__(self, product: Product) -> None:
        super().__init__()

        def served(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return (product if suits(input, weight, bias) else linear)(input, weight, bias)

        self._served = {linear: served, multi_head_attention_forward: _attention(served)}

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._served.get(func, func)(*args, **(kwargs or {}))


def _attention(served: Product) -> Callable[..., Any]:
    """Torch's own attention with this product in it: a mode sees the call of the whole, and not the calls within it."""
    names: dict[str, Any] = {**vars(functional), "linear": served}
    for name in ("_in_projection_packed", "_in_projection", "multi_head_attention_forward"):
        own = names.get(name)
        if isinstance(own, FunctionType):
            names[name] = FunctionType(own.__code__, names, name, own.__defaults__, own.__closure__)
            names[name].__kwdefaults__ = own.__kwdefaults__
    found: Callable[..., Any] = names["multi_head_attention_forward"]
    return found


def suits(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether these arguments of `linear` are plain float32 on the CPU, and enough work; no gradients, no autocast."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.jit.is_tracing():
        return False
    if not all(_plain(tensor) for tensor in (input, weight, bias) if tensor is not None):
        return False
    if input.ndim < 2 or weight.ndim != 2 or input.shape[-1] != weight.shape[1] or not weight.is_contiguous():
        return False  # torch has the words for what is wrong
    if bias is not None and bias.shape != weight.shape[:1]:
        return False
    rows = input.numel() // max(1, weight.shape[1])
    return rows >= _FEWEST_ROWS and rows * weight.numel() >= _FEWEST_STEPS


def _plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
    )
