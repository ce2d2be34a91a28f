"""One step of training on whatever hardware there is, by Lightning Fabric; with one process, no torch.distributed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor

from cxrbench.adapters.text import TextFiles
from cxrbench.errors import SpecError
from cxrbench.pretrain.batches import Batch, Place
from cxrbench.pretrain.config import Config
from cxrbench.pretrain.gather import average_gradients, synchronised
from cxrbench.pretrain.network import Network
from cxrbench.pretrain.terms import forward, loss, pixels


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step did: the loss before it, the norm of the gradient before clipping, scales, and whether it counted."""

    loss: Tensor
    norm: Tensor
    scales: dict[str, Tensor]
    skipped: bool


class Processes:
    """The processes of a run: started by torchrun, by SLURM, or here; one alone needs nothing."""

    def __init__(self, config: Config) -> None:
        told = config.engine
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", told.devices))
        nodes = int(os.environ.get("WORLD_SIZE", devices * told.nodes)) // devices
        self.precision = _precision(config)
        self._mixed = None
        if self.precision == "16-mixed":
            self._mixed = MixedPrecision("16-mixed", "cuda", torch.amp.GradScaler("cuda"))
        self.fabric = Fabric(
            accelerator=told.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=None if self._mixed else self.precision,  # type: ignore[arg-type]
            plugins=[self._mixed] if self._mixed else [],
        )
        if devices * nodes > 1:
            self.fabric.launch()
        self.place = Place(self.fabric.global_rank, self.fabric.world_size)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.place.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.place.ranks > 1:
            self.fabric.barrier()

    @property
    def scaler(self) -> Any:
        """The gradient scaler of 16-bit floats, None otherwise."""
        return None if self._mixed is None else self._mixed.scaler

    def new_scaler(self) -> None:
        """A gradient scaler that has seen nothing."""
        if self._mixed is not None:
            self._mixed.scaler = torch.amp.GradScaler("cuda")


def speaks() -> bool:
    """Whether this is, by its environment, the first process of a run, or the only one; known before they meet."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def _precision(config: Config) -> str:
    cuda = config.engine.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    asked = config.engine.precision
    if asked == "auto":
        return "16-mixed" if cuda else "32-true"
    if asked == "16-mixed" and not cuda:
        raise SpecError("engine.precision: 16-mixed needs a CUDA device; use bf16-mixed or 32-true")
    return asked


class Engine:
    """Network and optimiser on their device."""

    def __init__(self, config: Config, categories: int, files: TextFiles | None, processes: Processes) -> None:
        self.config, self.processes = config, processes
        self.device: torch.device = processes.fabric.device
        torch.manual_seed(config.seed)
        network = Network(config, categories, files)
        if processes.place.ranks > 1:
            synchronised(network, self.device)
        if config.engine.channels_last:
            network = network.to(memory_format=torch.channels_last)
        dtype = torch.float64 if processes.precision == "64-true" else torch.float32
        self.network: Network = network.to(self.device, dtype).train()
        told = config.optimiser
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=told.learning_rate,
            weight_decay=told.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        stepper = processes.fabric.setup_optimizers(self.optimiser)
        assert not isinstance(stepper, tuple)
        self._stepper = stepper

    def step(self, batch: Batch, rate: float, step: int) -> Stepped:
        """One update; raises nothing for a loss that is no number, which the caller sees later."""
        fabric, rank = self.processes.fabric, self.processes.place.rank
        seeded(self.config.seed, step, rank)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        batch = batch.to(self.device)
        images = pixels(batch, self.config)  # in full precision: a grid of 16-bit floats is off by a tenth of a pixel
        with fabric.autocast():
            found = forward(self.network, images, batch, rank)
        value = loss(self.network, found, batch, self.config)
        scales = {name: p.detach().exp() for name, p in self.network.named_parameters() if name.startswith("logit_")}
        fabric.backward(value)
        average_gradients(self.network.parameters(), self.processes.place.ranks)
        norm = fabric.clip_gradients(
            self.network, self._stepper, max_norm=self.config.optimiser.clip_norm, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
        return Stepped(value.detach(), norm.detach(), scales, self._skipped())

    def _skipped(self) -> bool:
        """Do the update; whether the scaler left it out, which it does where a gradient overflowed."""
        scaler = self.processes.scaler
        before = 0.0 if scaler is None else scaler.get_scale()
        self._stepper.step()
        return scaler is not None and scaler.get_scale() < before

    @torch.no_grad()
    def losses(self, batches: Iterator[Batch]) -> list[float]:
        """The loss of each batch, in evaluation mode."""
        found = []
        with self._evaluating():
            for batch in batches:
                here = batch.to(self.device)
                images = pixels(here, self.config)
                with self.processes.fabric.autocast():
                    vectors = forward(self.network, images, here, self.processes.place.rank)
                found.append(loss(self.network, vectors, here, self.config))
        return [float(value) for value in found]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.network.eval()
        try:
            yield
        finally:
            self.network.train()

    def restore(self, network: dict[str, Any], optimiser: dict[str, Any], scaler: dict[str, Any]) -> None:
        """Put back what a checkpoint holds."""
        self.network.load_state_dict(network)
        self.optimiser.load_state_dict(optimiser)
        if scaler and self.processes.scaler is not None:
            self.processes.scaler.load_state_dict(scaler)


def seeded(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step of one process, so that dropout depends on nothing that ran before."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]) >> 1)
