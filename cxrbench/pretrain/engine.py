"""One step of training on whatever hardware there is, by Lightning Fabric; with one process, no torch.distributed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from cxrbench.errors import RunError, SpecError
from cxrbench.models.text import TextFiles
from cxrbench.pretrain.batches import Batch, BatchPlace, augment, unit
from cxrbench.pretrain.config import Config, Objective
from cxrbench.pretrain.gather import average_gradients, gather_rows, synchronise_norms
from cxrbench.pretrain.network import (
    Labelled,
    Network,
    Pairs,
    clip_loss,
    dlilp_loss,
    unicl_loss,
    unicl_targets,
    unimodal_loss,
)
from cxrbench.pretrain.triage import FrozenReports, Triaged, held_out_loss, sat_loss, triage
from cxrbench.system.extras import from_extra

with from_extra("pretrain", "pre-training"):
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import ClusterEnvironment, MixedPrecision
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

Starter = Literal["torchrun", "srun", "run"]
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True, slots=True)
class Started:
    """`devices` processes on each of `nodes` machines, started `by` torchrun, srun, or the run itself."""

    devices: int
    nodes: int
    by: Starter

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes


def started(devices: int, nodes: int, environment: Mapping[str, str]) -> Started:
    """What torchrun or srun started; without either, what the configuration asks for.

    Tasks of srun that did not know of each other would each train alone, into one folder. Raises SpecError for tasks
    of which it is not said how many each machine has (Lightning asks for it), and for processes of another launcher.
    """
    if "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return Started(local, int(environment["WORLD_SIZE"]) // local, "torchrun")
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        machines = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        if tasks % machines or environment.get("SLURM_NTASKS_PER_NODE") != str(tasks // machines):
            raise SpecError(
                f"srun started {tasks} tasks on {machines} nodes; say how many on each by --nodes and --ntasks-per-node"
            )
        return Started(tasks // machines, machines, "srun")
    strange = [name for name in _MPI if int(environment.get(name, "1")) > 1]
    if strange:
        raise SpecError(f"{strange[0]} is {environment[strange[0]]}: start several processes by torchrun or srun")
    return Started(devices, nodes, "run")


def speaks(environment: Mapping[str, str]) -> bool:
    """Whether this is, by its environment, the first process of a run, or the only one; known before they meet."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((environment[name] for name in names if name in environment), "0") == "0"


@dataclass(frozen=True, slots=True)
class Whole:
    """Vectors of the whole batch: (n, d) images, (n, d) their second head, (k, d) texts that count.

    `said` (n, C): categories of the texts; `triaged`: pairs of texts; each where the objective asks for it.
    """

    joint: Tensor
    label: Tensor | None
    text: Tensor | None
    said: Tensor | None = None
    triaged: Triaged | None = None


def pixels(batch: Batch, config: Config) -> Tensor:
    """The own images as the network takes them: (m, 3, s, s) float32 in [0, 1], augmented where the batch says so."""
    images = unit(batch.pixels)
    if batch.chances is not None:
        images = augment(images, batch.chances, config.augmentation)
    colour = images.expand(-1, 3, -1, -1)
    return colour.contiguous(memory_format=torch.channels_last) if config.engine.channels_last else colour.contiguous()


def forward(network: Network, images: Tensor, batch: Batch, rank: int, objective: Objective) -> Whole:
    """Own images (as `pixels` makes them) and texts through the network, then everybody's."""
    own = network(images.to(network.dtype), batch.tokens)
    text = None if own.text is None else gather_rows(own.text, batch.text_counts, rank)[batch.texts]
    label = None if own.label is None else gather_rows(own.label, batch.counts, rank)
    said = gather_rows(batch.text_labels, batch.counts, rank) if objective == "unicl" else None
    return Whole(gather_rows(own.joint, batch.counts, rank), label, text, said)


def loss(network: Network, found: Whole, batch: Batch, config: Config) -> Tensor:
    """The objective of the run over the whole batch, the same number on every process."""
    match config.objective:
        case "clip":
            return clip_loss(_pairs(network, found, batch))
        case "unicl":
            assert found.said is not None
            targets = unicl_targets(batch.labels, found.said)
            return unicl_loss(_pairs(network, found, batch), targets)
        case "unimodal":
            return unimodal_loss(_labelled(network, found.joint, "joint", batch))
        case "dlilp":
            assert found.label is not None
            labelled = _labelled(network, found.label, "label", batch)
            reports = None if found.text is None else _pairs(network, found, batch)
            return dlilp_loss(labelled, reports, config.head.contrastive_weight)
        case "sat":
            assert found.text is not None
            fixed = found.joint.new_tensor(1 / config.triage.temperature)
            pairs = Pairs(found.joint[batch.pairs], found.text, fixed)
            if not network.training:
                return held_out_loss(pairs)
            assert found.triaged is not None
            return sat_loss(pairs, found.triaged, config.triage)


def _pairs(network: Network, found: Whole, batch: Batch) -> Pairs:
    assert found.text is not None
    return Pairs(found.joint[batch.pairs], found.text, network.scale("joint"))


def _labelled(network: Network, image: Tensor, tap: str, batch: Batch) -> Labelled:
    return Labelled(image, network.prototypes, network.scale(tap), batch.labels, batch.mask)


Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step did: the loss before it, the norm of the gradient before clipping, scales, and whether it counted.

    `shares`: of pairs by SAT's triage; empty for other objectives.
    """

    loss: Tensor
    norm: Tensor
    scales: dict[str, Tensor]
    skipped: bool
    shares: dict[str, Tensor] = field(default_factory=dict)


class Processes:
    """The processes of a run: started by torchrun, by srun, or here; one alone needs nothing."""

    def __init__(self, config: Config) -> None:
        told = config.engine
        world = started(told.devices, told.nodes, os.environ)
        self.precision = precision(config)
        self._mixed = None
        if self.precision == "16-mixed":
            device = "cuda" if _cuda(config) else "cpu"
            self._mixed = MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))
        environment = _environment(world)
        self.fabric = Fabric(
            accelerator=told.accelerator,
            devices=world.devices,
            num_nodes=world.nodes,
            strategy="ddp" if world.ranks > 1 else "auto",
            precision=None if self._mixed else self.precision,  # type: ignore[arg-type]
            plugins=[plugin for plugin in (self._mixed, environment) if plugin is not None],
        )
        self._talk: dist.ProcessGroup | None = None
        if world.ranks > 1:
            self.fabric.launch()
            made = dist.new_group(backend="gloo")  # in main memory, so that no device has to be waited for
            assert isinstance(made, dist.ProcessGroup)
            self._talk = made
        self.place = BatchPlace(self.fabric.global_rank, self.fabric.world_size)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.place.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.place.ranks > 1:
            self.fabric.barrier()

    def agree(self, on: str, mine: str) -> None:
        """Raise RunError on all processes unless they hold the same; each would go its own way in silence."""
        if self.place.ranks == 1:
            return
        found: list[str] = [""] * self.place.ranks
        dist.all_gather_object(found, mine)
        if others := [rank for rank, theirs in enumerate(found) if theirs != found[0]]:
            raise RunError(
                f"process {others[0]} has another {on} than the first ({len(others)} of {len(found)} differ). All need "
                "the same data, options and --out, on a disk that they share."
            )

    def of_first(self, value: Kept | None) -> Kept:
        """What the first process holds, on all; the others wait for it."""
        found: Kept | None = self.fabric.broadcast(value) if self.place.ranks > 1 else value
        assert found is not None
        return found

    def most(self, mine: int) -> int:
        """The largest of the numbers that the processes hold, on all."""
        if self._talk is None:
            return mine
        found = torch.tensor(mine)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._talk)
        return int(found)

    @property
    def scaler(self) -> Any:
        """The gradient scaler of 16-bit floats, None otherwise."""
        return None if self._mixed is None else self._mixed.scaler

    def new_scaler(self) -> None:
        """A gradient scaler that has seen nothing."""
        if self._mixed is not None:
            self._mixed.scaler = torch.amp.GradScaler(self._mixed.device)


def _environment(world: Started) -> ClusterEnvironment | None:
    """Said outright: Lightning takes a batch script's SLURM variables for srun's, and an interactive srun for none."""
    if world.ranks == 1 or world.by == "torchrun":
        return None
    return SLURMEnvironment() if world.by == "srun" else LightningEnvironment()


def precision(config: Config) -> str:
    """The precision of a run on this machine, in Fabric's words; raises SpecError for one that it cannot do."""
    asked = config.engine.precision
    if asked == "auto":
        return "16-mixed" if _cuda(config) else "32-true"
    mps = config.engine.accelerator == "mps" or (
        config.engine.accelerator == "auto" and torch.backends.mps.is_available()
    )
    if asked == "16-mixed" and not _cuda(config) and mps:
        raise SpecError("engine.precision: 16-mixed needs a CUDA device or a CPU; use 32-true")
    return asked


def _cuda(config: Config) -> bool:
    return config.engine.accelerator in ("auto", "cuda") and torch.cuda.is_available()


class _Computed(NamedTuple):
    """A batch's loss, and the vectors that it is of."""

    loss: Tensor
    vectors: Whole


class TrainingEngine:
    """Network and optimiser on their device."""

    def __init__(self, config: Config, categories: int, files: TextFiles | None, processes: Processes) -> None:
        self.config, self.processes = config, processes
        self.device: torch.device = processes.fabric.device
        torch.manual_seed(config.seed)
        network = Network(config, categories, files)
        self._reports = FrozenReports(network.text_model, self.device) if config.objective == "sat" else None
        if processes.place.ranks > 1:
            synchronise_norms(network, self.device)
        if config.engine.channels_last:
            network = network.to(memory_format=torch.channels_last)
        dtype = torch.float64 if processes.precision == "64-true" else torch.float32
        self.network: Network = network.to(self.device, dtype).train()
        told = config.optimiser
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=told.learning_rate,
            weight_decay=told.weight_decay,
            # A fused step unscales gradients by itself, and then there is nothing to clip.
            fused=processes.scaler is None and self.device.type in ("cpu", "cuda"),
        )
        stepper = processes.fabric.setup_optimizers(self.optimiser)
        assert not isinstance(stepper, tuple)
        self._stepper = stepper

    def step(self, batch: Batch, rate: float, step: int) -> Stepped:
        """One update; raises nothing for a loss that is no number, which the caller sees later."""
        fabric = self.processes.fabric
        seeded(self.config.seed, step, self.processes.place.rank)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        value, found = self._loss(batch)
        scales = {name: p.detach().exp() for name, p in self.network.named_parameters() if name.startswith("logit_")}
        fabric.backward(value)
        average_gradients(self.network.parameters(), self.processes.place.ranks)
        norm = fabric.clip_gradients(
            self.network, self._stepper, max_norm=self.config.optimiser.clip_norm, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
        shares = {} if found.triaged is None else found.triaged.shares
        return Stepped(value.detach(), norm.detach(), scales, self._skipped(), shares)

    def _skipped(self) -> bool:
        """Do the update; whether the scaler left it out, which it does where a gradient overflowed."""
        scaler = self.processes.scaler
        before = 0.0 if scaler is None else scaler.get_scale()
        self._stepper.step()
        return scaler is not None and scaler.get_scale() < before

    def _loss(self, batch: Batch) -> "_Computed":
        if any(batch.text_counts):
            batch = batch.widened(self.processes.most(batch.longest))
        here = batch.to(self.device)
        images = pixels(here, self.config)  # in full precision: a grid of 16-bit floats is off by a tenth of a pixel
        with self.processes.fabric.autocast():
            vectors = forward(self.network, images, here, self.processes.place.rank, self.config.objective)
        vectors = replace(vectors, triaged=self._triaged(here))
        return _Computed(loss(self.network, vectors, here, self.config), vectors)

    def _triaged(self, here: Batch) -> Triaged | None:
        if self._reports is None or here.tokens is None or not self.network.training:
            return None
        own = self._reports.vectors(here.tokens)
        told = gather_rows(own, here.text_counts, self.processes.place.rank)[here.texts]
        return triage(told @ told.T, self.config.triage)

    @torch.no_grad()
    def losses(self, batches: Iterator[Batch]) -> list[float]:
        """The loss of each batch, in evaluation mode."""
        with self._evaluating():
            found = [self._loss(batch).loss for batch in batches]
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
