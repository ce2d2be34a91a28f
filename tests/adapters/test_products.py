"""Linear layers by oneDNN are torch's to the rounding of float32, change nothing else, and can do without oneDNN."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cxrbench.models import products
from cxrbench.models.nets import relative_difference
from cxrbench.models.precision import exact_float32, linear_by
from cxrbench.system import cpu

ROUNDING = 2e-6
WIDTH = 256


class Attention(nn.Module):
    """Attention whose projections are one packed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        found: Tensor = self.inner(x, x, x, need_weights=False)[0]
        return found


class Bare(nn.Module):
    """A weight without a bias that is no module's, and arguments by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(192, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        return nn.functional.linear(bias=None, weight=self.weight, input=x)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, 192),
    "bare": Bare,
    "attention": Attention,
    "encoder layer": lambda: nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True),
}


class Seen(TorchDispatchMode):
    """Counts the products of oneDNN."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "mkldnn._linear_pointwise" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor of AMD that has not been tried."""
    monkeypatch.setattr(cpu, "maker", lambda: "AuthenticAMD")
    products.onednn.cache_clear()
    yield
    products.onednn.cache_clear()


@pytest.fixture
def served() -> None:
    """Skip where this torch has no such operation."""
    with exact_float32():
        if products.onednn() is None:
            pytest.skip("this build of torch has no product of oneDNN that rounds as float32 does")


def tokens(count: int = 4) -> Tensor:
    """Of `count` images."""
    return torch.randn(count, 64, WIDTH, generator=torch.Generator().manual_seed(1))


def network(name: str) -> nn.Module:
    """In evaluation mode, as adapters hold theirs."""
    torch.manual_seed(2)
    return NETWORKS[name]().eval().requires_grad_(False)


@torch.inference_mode()
def inside(net: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """What it makes of the tokens around an adapter, and how many products were oneDNN's."""
    with Seen() as seen, exact_float32(served=True):
        return net(x), seen.count


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_equal_to_rounding_and_leave_the_network_as_it_was(name: str) -> None:
    net, x = network(name), tokens()
    before = {key: (tensor.data_ptr(), tensor.clone()) for key, tensor in net.state_dict().items()}
    with torch.inference_mode():
        wanted = net(x)
    found, count = inside(net, x)
    assert count > 0
    assert relative_difference(found.flatten(1), wanted.flatten(1)) <= ROUNDING
    after = net.state_dict()
    assert list(after) == list(before)
    for key, (place, values) in before.items():
        assert after[key].data_ptr() == place, f"{key} was copied or packed"
        assert after[key].layout == torch.strided
        assert torch.equal(after[key], values)
    assert torch.equal(inside(net.to("cpu"), x)[0], found)
    assert inside(net.double(), x.double())[1] == 0


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", NETWORKS)
def test_no_image_depends_on_its_batch(name: str) -> None:
    net, x = network(name), tokens(6)
    whole, _ = inside(net, x)
    for some in (slice(0, 1), slice(2, 5)):
        assert relative_difference(inside(net, x[some])[0].flatten(1), whole[some].flatten(1)) <= ROUNDING
    assert torch.equal(inside(net, x)[0], whole)


@pytest.mark.usefixtures("served")
def test_what_is_not_float32_on_the_cpu_without_gradients_is_torch_own() -> None:
    x = tokens()
    for dtype in (torch.bfloat16, torch.float64):
        other = network("linear").to(dtype)
        found, count = inside(other, x.to(dtype))
        assert count == 0
        assert torch.equal(found, other(x.to(dtype)))
    net = network("linear")
    with exact_float32(served=True), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), Seen() as seen:
        assert net(x).dtype == torch.bfloat16
    net.requires_grad_(True)
    with exact_float32(served=True), seen:
        net(x).sum().backward()
    assert seen.count == 0
    assert next(net.parameters()).grad is not None


@pytest.mark.usefixtures("served")
def test_a_few_rows_are_torch_own() -> None:
    net, x = network("linear"), tokens()
    with torch.inference_mode():
        wanted = net(x[0, :3])
    found, count = inside(net, x[0, :3])
    assert count == 0
    assert torch.equal(found, wanted)


@pytest.mark.usefixtures("served")
def test_what_does_not_fit_is_refused_in_the_words_of_torch() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        inside(network("linear"), tokens()[..., :-1])
    loose = network("bare")
    loose.weight = nn.Parameter(torch.randn(WIDTH, 192).T, requires_grad=False)
    assert inside(loose, tokens())[1] == 0


def missing() -> Any:
    """A torch without the operation."""
    return SimpleNamespace()


def failing() -> Any:
    """A torch that has it with other arguments."""

    def operation(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.T

    return SimpleNamespace(_linear_pointwise=SimpleNamespace(default=operation))


def rounding() -> Any:
    """A torch that computes it in bfloat16."""

    def operation(x: Tensor, weight: Tensor, bias: Tensor | None, *_: object) -> Tensor:
        added = None if bias is None else bias.bfloat16()
        return nn.functional.linear(x.bfloat16(), weight.bfloat16(), added).float()

    return SimpleNamespace(_linear_pointwise=SimpleNamespace(default=operation))


def broken() -> Any:
    """A torch whose product is not a number."""

    def operation(x: Tensor, weight: Tensor, *_: object) -> Tensor:
        return (x @ weight.T) * float("nan")

    return SimpleNamespace(_linear_pointwise=SimpleNamespace(default=operation))


@pytest.mark.parametrize("other", [missing, failing, rounding, broken])
def test_without_the_operation_vectors_are_torch_own(other: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", other())
    net, x = network("linear"), tokens()
    with torch.inference_mode():
        wanted = net(x)
    found, count = inside(net, x)
    assert (count, linear_by("cpu", "float32")) == (0, "torch")
    assert torch.equal(found, wanted)


def test_another_maker_keeps_torch_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "maker", lambda: "GenuineIntel")
    assert inside(network("linear"), tokens())[1] == 0
    assert linear_by("cpu", "float32") == "torch"


@pytest.mark.usefixtures("served")
def test_the_record_says_whose_products_they_are() -> None:
    assert linear_by("cpu", "float32") == "oneDNN"
    assert linear_by("cpu", "bfloat16") == linear_by("cuda:0", "float32") == "torch"
