"""Batches spread over processes, computed as if they were one: vectors and gradients across ranks.

Every process gathers all vectors and computes the loss of the whole batch. That loss is the same everywhere, and so is
its gradient; a process keeps the part that belongs to its own vectors, times the number of processes, because
`average_gradients` divides by it. What enters the loss without being gathered (scales, prototypes) has its full
gradient on every process, and the average leaves it so. N processes with B images each thus take the step of one with
N x B.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cxrbench.errors import SpecError


class _Gather(torch.autograd.Function):
    """Rows of all processes, in their order; each has its own number of them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: tuple[int, ...], rank: int) -> Tensor:
        ctx.start, ctx.count, ctx.ranks = sum(counts[:rank]), counts[rank], len(counts)
        padded = own.new_zeros((max(counts), *own.shape[1:]))
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient[ctx.start : ctx.start + ctx.count] * ctx.ranks, None, None


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def gather_rows(own: Tensor, counts: Sequence[int], rank: int) -> Tensor:
    """The rows of all processes (sum of `counts`, d) from the own ones (counts[rank], d), with gradients.

    Gradients are right after `average_gradients`. With one process, the own rows.
    """
    if len(counts) == 1:
        return own
    found: Tensor = _Gather.apply(own, tuple(counts), rank)
    return found


def average_gradients(parameters: Iterable[nn.Parameter], ranks: int) -> None:
    """The mean over processes of every gradient that there is; all processes have the same ones."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if ranks == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= ranks
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class GatheredBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, where torch's own SyncBatchNorm does not run."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, C, h, w) to the same shape; evaluation is torch's own."""
        if not self.training:
            return super().forward(input)
        x = input.to(self.weight.dtype)
        count = torch.tensor([x.numel() / x.shape[1]], dtype=x.dtype, device=x.device)
        dist.all_reduce(count)
        mean = _summed(x) / count
        centred = x - mean[:, None, None]
        variance = _summed(centred.square()) / count
        self._remember(mean, variance * count / (count - 1))
        factor = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * factor[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = self.momentum or 0.0
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x.sum(dim=(0, 2, 3)))
    return total


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every batch normalisation over all processes; names and tensors stay.

    Raises SpecError for a kind of batch normalisation that has no counterpart.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, _twin(child, device))
        else:
            synchronise_norms(child, device)
    return module


def _twin(child: nn.modules.batchnorm._BatchNorm, device: torch.device) -> nn.Module:
    cuda, acts = device.type == "cuda", hasattr(child, "act") and hasattr(child, "drop")
    known = acts or type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    usual = child.affine and child.track_running_stats and child.momentum is not None
    if not (known and usual and (cuda or isinstance(child, nn.BatchNorm2d))):
        raise SpecError(
            f"image.trunk: its {child} cannot be spread over several processes; train with one, or take another trunk"
        )
    kind = nn.SyncBatchNorm if cuda else GatheredBatchNorm
    twin = kind(child.num_features, child.eps, child.momentum)
    own = child.state_dict()  # an activation beside may have tensors of its own, which go with it
    twin.load_state_dict({name: own[name] for name in twin.state_dict()})
    if acts:  # timm's layers that normalise and then activate
        twin.drop, twin.act = child.drop, child.act
        twin.register_forward_hook(_activated)
    return twin


def _activated(layer: nn.Module, _: object, normalised: Tensor) -> Tensor:
    found: Tensor = layer.get_submodule("act")(layer.get_submodule("drop")(normalised))
    return found
