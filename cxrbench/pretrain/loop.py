"""The loop: epochs, validation, early stopping, checkpoints; it goes on from any of them as if never stopped."""

import math
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from cxrbench.errors import IntegrityError, RunError, SpecError, StoppedError
from cxrbench.models.shards import file_digest
from cxrbench.models.text import TextFiles
from cxrbench.pretrain import batches, state
from cxrbench.pretrain.batches import Batch, BatchPixels, Feed, ahead
from cxrbench.pretrain.config import Config
from cxrbench.pretrain.corpus.types import Corpus
from cxrbench.pretrain.engine import Processes, Stepped, TrainingEngine
from cxrbench.pretrain.identity import Identity, Surroundings, carried_on, difference, surroundings
from cxrbench.pretrain.log import Log, Logged, LogRow, number
from cxrbench.pretrain.state import Head, Position, State, write_tensors
from cxrbench.store import digest
from cxrbench.system.progress import Progress

BEST, LAST = "best.pth", "last.pth"
_NEXT = ".next"  # ends the name of weights that no checkpoint knows yet


@dataclass
class KeptWeights:
    """The files in `folder`, and the SHA-256 that the checkpoint knows of each; it is written between two steps here.

    First new weights are put beside the old ones, then the checkpoint is written, then they take their place. A kill in
    between is made good by `settle`: no checkpoint is ever without the weights that it speaks of.
    """

    folder: Path
    sha256: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write weights beside those of before."""
        self.sha256[name] = write_tensors(self.folder / f"{name}{_NEXT}", dict(tensors))

    def settle(self) -> None:
        """Put the weights that the checkpoint knows in their places; others were of an epoch that is done again."""
        for name in (BEST, LAST):
            waiting = self.folder / f"{name}{_NEXT}"
            if not waiting.is_file():
                continue
            if digest.of_file(waiting) == self.sha256.get(name):
                waiting.replace(self.folder / name)
            else:
                waiting.unlink()


def exported(engine: TrainingEngine) -> dict[str, Tensor]:
    """The network's tensors by the names of the official layout, on the CPU, as plain contiguous memory."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in engine.network.state_dict().items()}


@dataclass(frozen=True, slots=True)
class Pending:
    """Update `step` of an epoch at a learning rate, over so many images."""

    step: int
    epoch: int
    rate: float
    images: int
    done: Stepped

    def row(self) -> LogRow:
        """Its row of the log."""
        done = self.done
        scales = {name: float(value) for name, value in done.scales.items()}
        return LogRow(
            kind="step",
            step=self.step,
            epoch=self.epoch,
            loss=number(float(done.loss)),
            rate=self.rate,
            scale=scales.get("logit_scale"),
            scale_label=scales.get("logit_scale_head2"),
            norm=number(float(done.norm)),
            skipped=done.skipped,
            **{name: float(share) for name, share in done.shares.items()},
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """`base` is the highest rate; the cosine ends after `cosine_epochs` epochs, however many are trained.

    As released: warm-up of one epoch and a cosine over 100 epochs, of which 30 are trained, so the rate hardly falls.
    """

    base: float
    steps_per_epoch: int
    warmup_epochs: float = 1
    cosine_epochs: int = 100

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0; W = warm-up steps, T = all steps of the cosine.

        base (t + 1) / W below W: reached at step W - 1, held at step W; then base / 2 (1 + cos(π (t - W) / (T - W))),
        and 0 from T on.
        """
        warm = round(self.warmup_epochs * self.steps_per_epoch)
        if step < warm:
            return self.base * (step + 1) / warm
        length = self.cosine_epochs * self.steps_per_epoch - warm
        if step - warm >= length:
            return 0.0
        return self.base / 2 * (1 + math.cos(math.pi * (step - warm) / length))


PATIENCE_S = 10  # SLURM and torchrun may pass one wish on twice, at once


class StopRequest:
    """Whether this process was asked to stop, and whether all processes have agreed to."""

    def __init__(self, processes: Processes) -> None:
        self.granted = False
        self._told, self._since, self._processes = False, 0.0, processes

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, SIGTERM is remembered and ends nothing, but for one that comes `PATIENCE_S` after another.

        That one ends the process at once, which may hang. No change in a thread that the signal does not reach.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _hear(self, *_: object) -> None:
        now = time.monotonic()
        if self._told and now - self._since >= PATIENCE_S:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._told:
            self._told, self._since = True, now

    def until(self, batches: Generator[Batch]) -> Iterator[Batch]:
        """The batches, until one process is asked to stop, which all know before they take the next; none after that.

        Every process must take equally many.
        """
        with closing(batches):
            while not self.granted and (batch := next(batches, None)) is not None:
                self.granted = bool(self._processes.most(int(self._told)))
                if not self.granted:
                    yield batch


_MOST_SKIPPED = 50  # steps in a row that the gradient scaler may leave out before the run counts as lost


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from; `readable` (n,) marks images that the store has, None if all are.

    `images`: digest of the files' bytes, row by row.
    """

    corpus: Corpus
    pixels: BatchPixels
    files: TextFiles | None
    readable: batches.BoolArray | None = None
    images: str = ""


@dataclass
class Loop:
    """One run in one folder: `state.pt` to go on from, `best.pth`, `last.pth`, `epoch_005.pth`, ... in the layout.

    `history`: what computed the run, see `Surroundings`.
    """

    config: Config
    material: Material
    folder: Path
    processes: Processes
    progress: Progress
    log: Log
    _pending: list[Pending] = field(default_factory=list)
    _skipped: int = 0
    _most_negative: float | None = None  # of SAT's shares since the epoch began here

    def __post_init__(self) -> None:
        corpus, config = self.material.corpus, self.config
        self.engine = TrainingEngine(config, len(corpus.classes), self.material.files, self.processes)
        self.parts = batches.split(corpus, config.data, self.material.readable)
        self._feed = Feed(corpus, self.material.pixels, config, self.processes.place, self.material.files)
        steps = len(batches.batches(len(self.parts.train), config.data.batch_size, self.processes.place.ranks))
        told = config.schedule
        self._schedule = Schedule(config.optimiser.learning_rate, steps, told.warmup_epochs, told.cosine_epochs)
        self.position, self._stop_request = Position(best=told.first_best), StopRequest(self.processes)
        weights, files = config.image.weights, self.material.files
        self.identity = Identity(
            config.going_on,
            corpus.digest,
            self.material.images,
            config.data.batch_size * self.processes.place.ranks,
            self.processes.precision,
            "" if weights is None else file_digest(weights),
            "" if files is None else files.digest,
        )
        self.kept = KeptWeights(self.folder)
        self.history: tuple[Surroundings, ...] = (surroundings(self.processes.place.ranks, self.engine.device),)

    def resume(self) -> bool:
        """Go to the last checkpoint; False if there is none.

        Raises SpecError if it is of another run, DamagedError if it is not what was written.
        """
        head = state.read_head(self.folder)
        self.processes.agree("checkpoint", "" if head is None else str(head))
        if head is None:
            return False
        if head.identity != self.identity:
            raise SpecError(f"{self.folder}: holds a run of {difference(head.identity, self.identity)}")
        found = state.read_state(self.folder)
        if found is None or found.head != head:
            raise RunError(f"{self.folder}: the checkpoint changed while it was read; is another run at work there?")
        self._take_up(found)
        if self.processes.first:
            self.log.rewind(head.logged)
            self.kept.settle()
        self.processes.barrier()
        return True

    def _take_up(self, found: State) -> None:
        self.position, self.kept = found.position, KeptWeights(self.folder, dict(found.head.kept))
        told = self.config.schedule
        self.position.finished = self.position.epoch >= told.epochs or self.position.waited >= told.patience
        self.history = carried_on(found.head.history, self.history[0], self.position.step)
        try:
            self.engine.restore(found.network, found.optimiser, found.scaler)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{self.folder / state.FILE}: does not fit this network and optimiser ({type(error).__name__}). Go on "
                "with the versions of the libraries that it was written with, or begin again in another folder."
            ) from error

    @property
    def head(self) -> Head:
        """What a checkpoint of now says beside its tensors."""
        return Head(self.position, self.identity, self.log.at, self.kept.sha256, self.history)

    def run(self) -> Position:
        """Train to the end; raises RunError for a loss that is no number, or a checkpoint that cannot be written.

        Asked to stop by SIGTERM, which one process is enough to hear, all finish the step under way, write a checkpoint
        and raise StoppedError.
        """
        self.processes.agree("network to start from", self._weights())
        left = self.config.schedule.epochs * len(self.parts.train) - self._seen()
        self.progress.start(max(left, 0), f"{self.config.objective} pre-training")
        try:
            with self._stop_request.heard():
                self._epochs()
        finally:
            self.progress.stop()
        return self.position

    def _epochs(self) -> None:
        if self.position.step == 0 and not self.position.finished:
            if self.processes.first:
                self.log.rewind(Logged())
            self._save()
        while not self.position.finished:
            self._train()
            losses = self._held_out_losses()
            if self._stop_request.granted:
                self._save()
                raise StoppedError(
                    f"stopped by SIGTERM after step {self.position.step} (epoch {self.position.epoch + 1}): the "
                    f"checkpoint in {self.folder} is of that step; go on by the same command with --resume"
                )
            self._conclude(losses)

    def _weights(self) -> str:
        if self.processes.place.ranks == 1:
            return ""
        return digest.of_json([digest.of_bytes(t.numpy().tobytes()) for t in exported(self.engine).values()])

    def _seen(self) -> int:
        done = self.position.batch * self.identity.batch
        return self.position.epoch * len(self.parts.train) + min(done, len(self.parts.train))

    def _train(self) -> None:
        position = self.position
        if position.batch == 0 and self.config.engine.scaler_per_epoch:
            self.processes.new_scaler()
        self._most_negative = None
        began = time.monotonic()
        batches = self._feed.training(self.parts.train, position.epoch, position.batch)
        for batch in self._stop_request.until(ahead(batches, self.engine.device)):
            rate = self._schedule.rate(position.scheduled)
            done = self.engine.step(batch, rate, position.step)
            position.step, position.batch = position.step + 1, position.batch + 1
            position.scheduled += not done.skipped
            self._pending.append(Pending(position.step, position.epoch, rate, sum(batch.counts), done))
            if len(self._pending) >= self.config.saving.log_every:
                began = self._flush(began)
            if position.step % self.config.saving.every_steps == 0:
                began = self._flush(began)
                self._save()
            for _ in range(sum(batch.counts)):
                self.progress.advance()
        self._flush(began)

    def _flush(self, began: float) -> float:
        """Bring the waiting numbers over, check and log them; the new time from which speed counts."""
        images, rows = sum(one.images for one in self._pending), []
        for one in self._pending:
            self._skipped = self._skipped + 1 if one.done.skipped else 0
            self._check(one)
            row = one.row()
            rows.append(row)
            if row.negative is not None:
                self._most_negative = max(row.negative, self._most_negative or 0)
        now = time.monotonic()
        if rows and self.processes.first:
            speed = round(images / max(now - began, 1e-9), 3)
            self.log.write([*rows[:-1], rows[-1].model_copy(update={"images_per_second": speed})])
        self._pending.clear()
        return now

    def _check(self, one: Pending) -> None:
        loss, norm = float(one.done.loss), float(one.done.norm)
        sound = one.done.skipped or (math.isfinite(loss) and math.isfinite(norm))
        if sound and self._skipped < _MOST_SKIPPED:
            return
        what = f"{self._skipped} updates in a row overflowed" if sound else f"the loss is {loss}, its gradient {norm}"
        raise RunError(
            f"{what} at step {one.step} of epoch {one.epoch + 1}; no checkpoint was written after that: "
            f"{self.folder} holds what was before. Lower optimiser.learning_rate or change engine.precision, and "
            "begin again"
        )

    def _held_out_losses(self) -> list[float]:
        """Of every validation batch; fewer if the run is asked to stop, and then of no use."""
        batches = self._feed.validation(self.parts.validation, self.position.epoch)
        return self.engine.losses(self._stop_request.until(ahead(batches, self.engine.device)))

    def _conclude(self, losses: Sequence[float]) -> None:
        """End an epoch: its validation loss, what is kept of it, and whether there is another."""
        position, config = self.position, self.config
        if self._most_negative == 0:
            raise RunError(
                f"no two reports of a batch were told apart in epoch {position.epoch + 1}, so nothing was learned: no "
                f"cosine is {config.triage.negative:g} or less. Thresholds belong to one text encoder: name the "
                "released one by text.hub, or set triage.positive and triage.negative for yours, and begin again"
            )
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise RunError(
                f"the validation loss of epoch {position.epoch + 1} is {mean}; the checkpoint before is kept"
            )
        row = LogRow(kind="validation", step=position.step, epoch=position.epoch, loss=mean)
        better = mean < position.best
        position.waited = 0 if better else position.waited + 1
        if better:
            position.best, position.best_epoch = mean, position.epoch
        position.epoch, position.batch = position.epoch + 1, 0
        position.finished = position.epoch >= config.schedule.epochs or position.waited >= config.schedule.patience
        if self.processes.first:
            self.log.write([row])
            weights = exported(self.engine)
            self.kept.add(LAST, weights)
            if better:
                self.kept.add(BEST, weights)
            if position.epoch % config.saving.every_epochs == 0:
                write_tensors(self.folder / f"epoch_{position.epoch:03d}.pth", weights)
        self._save()
        if self.processes.first:
            self.kept.settle()

    def _save(self) -> None:
        engine, scaler = self.engine, self.processes.scaler
        if self.processes.first:
            told = {} if scaler is None else scaler.state_dict()
            parts = engine.network.state_dict(), engine.optimiser.state_dict(), told
            self.log.sync()
            state.write_state(self.folder, State(self.head, *parts))
        self.processes.barrier()
