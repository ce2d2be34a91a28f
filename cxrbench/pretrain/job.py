"""One pre-training, from the folders of the data sets to a model card."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cxrbench.errors import SpecError
from cxrbench.models.text import TextFiles
from cxrbench.pretrain import frequencies, state
from cxrbench.pretrain.config import Config, config_toml
from cxrbench.pretrain.corpus.build import Built, CorpusRequest, build
from cxrbench.pretrain.corpus.overlap import require_no_overlap
from cxrbench.pretrain.engine import Processes, precision, speaks
from cxrbench.pretrain.export import CARD, Trained, export
from cxrbench.pretrain.identity import Identity
from cxrbench.pretrain.images import StoredImages, WantedImages, fill_pixel_store
from cxrbench.pretrain.log import Log, Tracker, require_trackers, trackers, writing
from cxrbench.pretrain.loop import Loop, Material
from cxrbench.pretrain.network import Network, find_text_encoder
from cxrbench.specs.card import ModelCard, read_card
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.system.progress import Progress, Quiet

CONFIG, IDENTITY, CORPUS, FREQUENCIES = "config.toml", "identity.json", "corpus.json", "frequencies.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What to train on what, and where; `workers` processes decode the images that the cache does not have yet."""

    config: Config
    corpus: CorpusRequest
    out: Path
    cache: Path
    workers: int = 1
    resume: bool = False
    allow_overlap: bool = False


def pretrain(job: Job, progress: Progress, say: Callable[[str], None]) -> ModelCard:
    """Build the corpus, decode its images once, train, and write checkpoint and card into `job.out`.

    Beside them: config.toml, identity.json (what a run that goes on must have in common with it), corpus.json (how the
    corpus came about, the audit of overlap, unreadable images), frequencies.json, metrics.jsonl and .csv. Raises
    SpecError where the folder holds another run, or a run that is not to be resumed, and where patients of evaluation
    sets are left in the corpus; StoppedError after SIGTERM; and what the steps raise.
    """
    if not speaks(os.environ):
        progress, say = Quiet(), _nothing
    _require_free(job)
    files = _startable(job.config)
    built = build(job.corpus)
    require_no_overlap(built.overlap, job.allow_overlap)
    corpus = built.corpus
    say(f"corpus: {len(corpus)} images ({_counts(built)}), {len(corpus.classes)} categories; {corpus.digest[:12]}")
    images = fill_pixel_store(WantedImages(corpus.paths, job.config.canvas, job.cache, job.workers), progress)
    # The processes meet only now: filling the cache may take longer than they wait for each other.
    processes = Processes(job.config)
    processes.agree("corpus or configuration", _decided(job.config, files, built, images))
    _tell(job, built, images, say)
    material = Material(corpus, images.pixels, files, images.readable, images.digest)
    loop = Loop(job.config, material, job.out, processes, progress, Log(job.out, _trackers(job, processes)))
    if job.resume and loop.resume():
        say(f"going on from step {loop.position.step} (epoch {loop.position.epoch + 1})")
        _say_changes(loop, say)
    if processes.first:  # not before: what the folder says of another run stays if that run is not to go on
        _write_facts(job, built, images, loop.identity)
    _say_parts(loop, say)
    try:
        position = loop.run()
    finally:  # a run that was stopped has told its trackers as much as one that ended
        for note in images.pixels.notes:
            say(f"note: {note}")
        if processes.first:
            loop.log.close()
    width = loop.engine.network.vision_model.width
    trained = Trained(job.config, loop.head, corpus, files, width, built.synthetic, built.labelled_by)
    card = None
    if processes.first:
        export(trained, job.out)
        card = read_card(job.out / CARD)
    say(f"lowest validation loss {position.best:.4f} in epoch {position.best_epoch + 1}; model: {job.out / CARD}")
    return processes.of_first(card)


def _startable(config: Config) -> TextFiles | None:
    """The text encoder's files; raises what would end the run later, since decoding may take hours until then."""
    precision(config)
    require_trackers(config.tracking.tensorboard, config.tracking.wandb)
    files = find_text_encoder(config)
    Network(config, 1, files)
    return files


def _decided(config: Config, files: TextFiles | None, built: Built, images: StoredImages) -> str:
    text = "" if files is None else files.digest
    return digest.of_json([config.going_on, text, built.corpus.digest, images.digest])


def _trackers(job: Job, processes: Processes) -> list[Tracker]:
    told = job.config.tracking
    if not processes.first:
        return []
    return trackers(job.out, told.tensorboard, told.wandb, job.config.model_dump(mode="json"))


def _require_free(job: Job) -> None:
    if (job.out / state.FILE).exists() and not job.resume:
        raise SpecError(f"{job.out}: holds a run; go on with it by --resume, or name another --out")


def _nothing(_: str) -> None:
    """Only the first process speaks."""


def _counts(built: Built) -> str:
    return ", ".join(f"{name} {counts['taken']}" for name, counts in built.counts.items())


def _tell(job: Job, built: Built, images: StoredImages, say: Callable[[str], None]) -> None:
    for source, who in built.labelled_by.items():
        say(f"{source}: labels by {who}")
    for note in built.notes:
        say(f"note: {note}")
    if images.unreadable:
        say(f"{len(images.unreadable)} images cannot be read and are left out; {job.out / CORPUS} names them")
    if job.config.image.weights is None:
        say(f"note: {job.config.image.trunk} starts untrained; image.weights=FILE gives it ImageNet weights")


def _say_parts(loop: Loop, say: Callable[[str], None]) -> None:
    train, held = len(loop.parts.train), len(loop.parts.validation)
    where = f"{loop.processes.place.ranks} x {loop.engine.device.type}, {loop.processes.precision}"
    say(f"{loop.config.objective}: {train} images to train on, {held} held out; {where}")


def _say_changes(loop: Loop, say: Callable[[str], None]) -> None:
    """Say what the run is computed with from here on, and was not before; the card will say it too."""
    if len(loop.history) < 2 or loop.history[-1].since != loop.position.step:
        return
    before, now = loop.history[-2:]
    for name in now.differing(before):
        say(
            f"note: from step {now.since} on with other {name}: {getattr(now, name)} instead of {getattr(before, name)}"
        )


def _write_facts(job: Job, built: Built, images: StoredImages, identity: Identity) -> None:
    ids = built.corpus.ids
    told = built.to_json() | {"unreadable": {ids[row]: reason for row, reason in images.unreadable.items()}}
    with writing(job.out, "Make room, then start again."):
        write_atomically(job.out / CONFIG, config_toml(job.config).encode())
        for name, value in ((IDENTITY, asdict(identity)), (CORPUS, told)):
            write_atomically(job.out / name, (json.dumps(value, indent=1) + "\n").encode())
        frequencies.write(frequencies.frequencies(built.corpus), job.out / FREQUENCIES)
