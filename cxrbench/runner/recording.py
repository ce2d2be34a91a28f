"""A measured cell as a record: identity, what was left out, predictions, and the record that an equal run left."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError, IntegrityError
from cxrbench.records.integrity import sound_record
from cxrbench.records.record import (
    DataIdentity,
    Preprocessing,
    Record,
    RecordedRuntime,
    predictions_path,
    read_record,
    record_id,
    record_path,
    write_record,
)
from cxrbench.records.scores import FoldScores, as_parquet
from cxrbench.runner.code import code_identity, library_versions
from cxrbench.runner.encode import Sweep
from cxrbench.runner.folds import group_labels
from cxrbench.runner.forward import SCORES
from cxrbench.runner.identity import (
    NO_FILE,
    cell_card_digest,
    contents_digest,
    identity,
    published_cells,
    reference,
    training_facts,
)
from cxrbench.runner.measure import Measured
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell
from cxrbench.runner.wording import ClassPrompts
from cxrbench.store.atomic import write_atomically
from cxrbench.store.embeddings import Key, digest

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images that a cell's number rests on, found once for each cell.

    `left_out`: those that have no file or cannot be read by the cell's recipe, with the reason; `contents`: SHA-256 of
    the bytes of the others.
    """

    left_out: Mapping[str, str]
    contents: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the sweep of a plan brought, as the cells need it."""

    plan: Plan
    sweep: Sweep
    started: datetime
    began: float  # time.monotonic()

    def inputs(self, cell: Cell) -> Inputs:
        """The cell's images as the sweep found them."""
        paths, content, keys = cell.data.partition.paths, self.sweep.content, self.keys(cell)
        left_out, contents = dict[str, str](), dict[str, str]()
        for image in sorted(self.plan.wanted(cell)):
            path = paths.get(image)
            if path is None or path in self.sweep.missing:
                left_out[image] = NO_FILE
            elif (reason := self.sweep.reason(path, keys)) is not None:
                left_out[image] = reason.replace(f"{cell.data.owner(image).root}{os.sep}", "")
            elif path in content:
                contents[image] = content[path]
        return Inputs(left_out, contents)

    def notes(self, cell: Cell, inputs: Inputs) -> dict[str, tuple[str, ...]]:
        """What the image reader remarked on the cell's images."""
        known = [stored for key in self.keys(cell) if (stored := self.sweep.embeddings[key]).noted]
        found = ((i, next((k.notes(c) for k in known if k.notes(c)), ())) for i, c in inputs.contents.items())
        return {image: notes for image, notes in found if notes}

    def keys(self, cell: Cell) -> list[Key]:
        """What the cell reads from the store."""
        return [key for key, _, _ in self.plan.readings(cell)]

    def broken(self, cell: Cell) -> CxrBenchError | None:
        """Why the model could not give what the cell reads; None where it could."""
        return next((self.sweep.broken[key] for key in self.keys(cell) if key in self.sweep.broken), None)

    def stored(self, cell: Cell) -> "StoredReadings":
        """What the store holds of the cell's images."""
        return StoredReadings(self, cell)

    def _engines(self, cell: Cell, inputs: Inputs) -> tuple[Mapping[str, str], ...]:
        contents = list(inputs.contents.values())
        told = [engine for key in self.keys(cell) for engine in self.sweep.embeddings[key].engines(contents)]
        return tuple(engine for place, engine in enumerate(told) if engine not in told[:place])

    def runtime(self, cell: Cell, inputs: Inputs) -> RecordedRuntime:
        """Where and how the cell was computed."""
        engine = self.plan.request.engine
        return RecordedRuntime(
            engines=self._engines(cell, inputs),
            text_engines=tuple(cell.model.text_engines),
            started=self.started.isoformat(timespec="seconds"),
            run_seconds=round(time.monotonic() - self.began, 3),
            device=cell.model.device,
            precision=cell.model.engine.precision,
            batch_size=engine.batch_size,
            run_images_decoded=self.sweep.decoded,
            run_images_encoded=self.sweep.encoded,
            reader=self.sweep.reader,
            versions={**library_versions(), "python": platform.python_version(), "machine": platform.machine()},
        )


@dataclass(frozen=True, slots=True)
class StoredReadings:
    """The store as a cell reads it: by image ids."""

    outcome: Outcome
    cell: Cell

    def _rows(self, key: Key, tap: str, images: Sequence[str]) -> FloatArray:
        paths, content = self.cell.data.partition.paths, self.outcome.sweep.content
        return self.outcome.sweep.embeddings[key].rows(tap, [content[paths[image]] for image in images])

    def vectors(self, tap: str, images: Sequence[str]) -> FloatArray:
        """See `Readings.vectors`."""
        cell = self.cell
        if len(cell.recipes) == 1:
            return self._rows(cell.model.key(cell.recipe), tap, images)
        by = np.array([cell.recipe_of(image).digest for image in images])
        found = np.empty((len(images), cell.model.card.taps[tap]), np.float32)
        for recipe in cell.recipes:
            rows = np.flatnonzero(by == recipe.digest).tolist()
            if rows:
                found[rows] = self._rows(cell.model.key(recipe), tap, [images[row] for row in rows])
        return found

    def scores(self, words: ClassPrompts, images: Sequence[str]) -> FloatArray:
        """See `Readings.scores`."""
        sets = self.cell.model.score_sets(self.cell.recipe, words, self.outcome.plan.variant.settings)
        return np.concatenate([self._rows(key, SCORES, images) for key, _ in sets], axis=1)


def cell_id(cell: Cell, made: Plan, inputs: Inputs) -> str:
    """The id of the cell's record, which is new as soon as anything that decides the number is another."""
    return record_id(identity(cell, made, inputs.left_out, inputs.contents))


def cached(cell: Cell, made: Plan, ident: str) -> Record | None:
    """The record that an equal run left, if it and its predictions are whole."""
    try:
        return sound_record(record_path(made.request.places.out, cell.data.task.name, cell.model.card.name, ident))
    except IntegrityError:
        return None  # absent or damaged: measured again


def written(cell: Cell, outcome: Outcome, measured: Measured, inputs: Inputs, ident: str) -> Record:
    """The record of a measured cell, on disk after its predictions."""
    made = outcome.plan
    labels = group_labels(cell.data.task, cell.group, made.variant.settings)
    partition = cell.data.partition
    record = Record(
        id=ident,
        variant=made.variant.name,
        variant_version=made.variant.version,
        variant_digest=made.variant.digest,
        splits=made.variant.splits,
        settings=made.variant.settings,
        model=cell.model.identity(cell_card_digest(cell, made), cell.model.text_digest if cell.reads_texts else None),
        data=_data_identity(cell, labels, inputs, outcome),
        preprocessing=Preprocessing(name=cell.recipe_name, digest=cell.recipe.digest, recipe=cell.recipe),
        prompts=measured.prompts,
        protocol=measured.protocol,
        folds=measured.folds,
        summary=measured.summary,
        generalised=measured.generalised,
        single_prompts=measured.single_prompts,
        published=published_cells(cell),
        predictions=f"{ident}.parquet",
        predictions_sha256="",
        code=code_identity(),
        runtime=outcome.runtime(cell, inputs),
    )
    known = {"patient": partition.patients, **partition.attributes}
    return write_cell(made.request.places.out, record, measured.predictions, known)


def write_cell(
    out: Path, record: Record, folds: Sequence[FoldScores], known: Mapping[str, Mapping[str, str]]
) -> Record:
    """A record with its predictions on disk, each holding the digest of the other; returns it as it is read back.

    `predictions_sha256` is filled in here. `known`: see `as_parquet`.
    """
    parquet = as_parquet(folds, record.data.labels, known, record.statement)
    write_atomically(predictions_path(out, record), parquet)
    whole = record.model_copy(update={"predictions_sha256": digest.of_bytes(parquet)})
    return read_record(write_record(out, whole))  # so that a rerun returns its equal


def _shared_patients(cell: Cell, made: Plan) -> int:
    """How many test patients gave training images of the same fold, where that is most; 0 where none are known."""
    if cell.shots is None or not (known := cell.data.partition.patients):
        return 0
    pairs = ((fold.train[cell.shots][0], fold.test[0]) for fold in made.folds(cell))
    return max(len({known.get(i) for i in train} & {known.get(i) for i in test} - {None}) for train, test in pairs)


def _data_identity(cell: Cell, labels: Sequence[str], inputs: Inputs, outcome: Outcome) -> DataIdentity:
    partition, left_out = cell.data.partition, inputs.left_out
    counts = {name: part.counts for name, part in partition.parts.items()}  # each of all labels, worked out once
    return DataIdentity(
        task=cell.data.task.name,
        kind=cell.data.task.kind,
        split=partition.split,
        partition_digest=partition.digest,
        contents_digest=contents_digest(inputs.contents),
        reference=reference(cell),
        group=cell.group,
        labels=tuple(labels),
        rows_per_label={n: {label: c[label] for label in labels} for n, c in counts.items()},
        shared_patients=_shared_patients(cell, outcome.plan),
        missing=sum(reason == NO_FILE for reason in left_out.values()),
        left_out={image: reason for image, reason in left_out.items() if reason != NO_FILE},
        rows_left_out=partition.findings.left_out,
        notes=outcome.notes(cell, inputs),
        synthetic=any(side.partition.synthetic for side in cell.data.sides),
        trained_on=training_facts(cell),
    )
