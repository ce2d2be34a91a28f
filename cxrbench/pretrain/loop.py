"""The loop: epochs, validation, early stopping, checkpoints; it goes on from any of them as if never stopped."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench.errors import IntegrityError, RunError, SpecError, StoppedError
from cxrbench.models.text import TextFiles
from cxrbench.pretrain import sampling, state
from cxrbench.pretrain.batches import Feed, Pixels, ahead
from cxrbench.pretrain.checkpoint import write_tensors
from cxrbench.pretrain.config import Config
from cxrbench.pretrain.corpus.types import Corpus
from cxrbench.pretrain.engine import Engine, Processes
from cxrbench.pretrain.identity import Identity, Surroundings, carried_on, difference, surroundings
from cxrbench.pretrain.kept import BEST, LAST, Kept, exported
from cxrbench.pretrain.log import Log, Logged, Row
from cxrbench.pretrain.pending import Pending
from cxrbench.pretrain.schedule import Schedule
from cxrbench.pretrain.state import Head, Position, State
from cxrbench.pretrain.stop import Wish
from cxrbench.store import digest
from cxrbench.system.progress import Progress

_MOST_SKIPPED = 50  # steps in a row that the gradient scaler may leave out before the run counts as lost


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from; `readable` (n,) marks images that the store has, None if all are.

    `images`: digest of the files' bytes, row by row.
    """

    corpus: Corpus
    pixels: Pixels
    files: TextFiles | None
    readable: sampling.BoolArray | None = None
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

    def __post_init__(self) -> None:
        corpus, config = self.material.corpus, self.config
        self.engine = Engine(config, len(corpus.classes), self.material.files, self.processes)
        self.parts = sampling.split(corpus, config.data, self.material.readable)
        self._feed = Feed(corpus, self.material.pixels, config, self.processes.place, self.material.files)
        steps = len(sampling.batches(len(self.parts.train), config.data.batch_size, self.processes.place.ranks))
        told = config.schedule
        self._schedule = Schedule(config.optimiser.learning_rate, steps, told.warmup_epochs, told.cosine_epochs)
        self.position, self._wish = Position(best=told.first_best), Wish(self.processes)
        weights, files = config.image.weights, self.material.files
        self.identity = Identity(
            config.going_on,
            corpus.digest,
            self.material.images,
            config.data.batch_size * self.processes.place.ranks,
            self.processes.precision,
            "" if weights is None else digest.of_file(weights),
            "" if files is None else files.digest,
        )
        self.kept = Kept(self.folder)
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
        self.position, self.kept = found.position, Kept(self.folder, dict(found.head.kept))
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
            with self._wish.heard():
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
            if self._wish.granted:
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
        began = time.monotonic()
        batches = self._feed.training(self.parts.train, position.epoch, position.batch)
        for batch in self._wish.until(ahead(batches, self.engine.device)):
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
            rows.append(one.row())
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
        return self.engine.losses(self._wish.until(ahead(batches, self.engine.device)))

    def _conclude(self, losses: Sequence[float]) -> None:
        """End an epoch: its validation loss, what is kept of it, and whether there is another."""
        position, config = self.position, self.config
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise RunError(
                f"the validation loss of epoch {position.epoch + 1} is {mean}; the checkpoint before is kept"
            )
        row = Row(kind="validation", step=position.step, epoch=position.epoch, loss=mean)
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
