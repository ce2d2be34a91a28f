"""The committed baseline: `results/baseline.toml`, one entry a cell."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import ValidationError, model_validator

from cxrbench.analysis.against_paper import CLOSENESS, Tolerance, numerical, value_of
from cxrbench.errors import IntegrityError, SpecError
from cxrbench.records.integrity import faults
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.selection import newest_record
from cxrbench.records.validity import flaws
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import CHECKSUM, read_regular, with_checksum, without_checksum
from cxrbench.types import Shots, shots_in_words, shots_order


class CellKey(Spec):
    """A cell by name. `prompts` is None for what sees no texts, such as linear probes, `shots` for zero-shot."""

    model: str
    task: str
    group: str
    protocol: str
    shots: Shots | None = None
    prompts: str | None = None
    variant: str

    @property
    def order(self) -> tuple[Any, ...]:
        """What cells are sorted by."""
        how = (self.protocol, shots_order(self.shots), self.prompts or "")
        return (self.variant, self.task, self.group, self.model, *how)

    @property
    def text(self) -> str:
        """The cell in words."""
        how = " ".join(filter(None, ["" if self.shots is None else shots_in_words(self.shots), self.prompts]))
        return f"{self.model} / {self.task} / {self.group} / {self.protocol} {how} / {self.variant}"


class Digests(Spec):
    """What two equal measurements of a cell share; `prompts` is None where no prompts are used, `trained_on` where no
    other task's rows are fitted to.

    Class prototypes are part of the weights.
    """

    weights: str
    split: str
    preprocessing: str
    prompts: str | None = None
    variant: str
    trained_on: str | None = None

    def unlike(self, other: "Digests") -> tuple[str, ...]:
        """One reason for each digest in which `other` differs."""
        return tuple(f"other {name}" for name in Digests.model_fields if getattr(self, name) != getattr(other, name))


def key_of(record: Record) -> CellKey:
    """The cell that a record measures."""
    return CellKey(
        model=record.model.name,
        task=record.data.task,
        group=record.data.group,
        protocol=record.protocol.protocol,
        shots=record.protocol.shots,
        prompts=record.prompts.set if record.prompts else None,
        variant=record.variant,
    )


def digests_of(record: Record) -> Digests:
    """What decided a record's number."""
    other = record.data.trained_on
    return Digests(
        weights=record.model.weights_tensors,
        split=record.data.partition_digest,
        preprocessing=record.preprocessing.digest,
        prompts=record.prompts.digest if record.prompts and record.prompts.source == "prompts" else None,
        variant=record.variant_digest,
        trained_on=None if other is None else digest.of_json([other.partition_digest, other.labels, other.left_out]),
    )


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each cell, by its name."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(key_of(record).text, []).append(record)
    return found


MOST_BYTES = 1 << 26
HEADER = (
    "# What `cxrbench check` holds records against. Made by `cxrbench check --update`, not by hand.\n"
    "# value: the main metric, mean over folds, unrounded; tolerance: how far a repeat may be from it, and why.\n"
    "# content_sha256: over all else; a file that was edited, or merged from two, is refused: make it anew.\n\n"
)


class BaselineCell(CellKey):
    """One number as it was, with what decided it; `published`, `images` and `code` only explain a difference.

    `published`: SHA-256 of the file of weights as it is published, if it was known.

    `value` (0 to 1) is absent where a fold had none.
    """

    value: float | None = None
    tolerance: Tolerance
    split: str
    synthetic: bool = False
    digests: Digests
    published: str | None = None
    images: str
    code: str


class Baseline(Spec):
    """`baseline.toml`; no cell stands in it twice."""

    format: Literal[1] = 1
    cells: tuple[BaselineCell, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> "Baseline":
        names = [entry.text for entry in self.cells]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"these cells stand in it twice: {'; '.join(twice)}")
        return self


def entry(record: Record, tolerance: Tolerance) -> BaselineCell:
    """The baseline's entry for a record."""
    return BaselineCell(
        **key_of(record).model_dump(),
        value=value_of(record),
        tolerance=tolerance,
        split=record.data.split,
        synthetic=record.synthetic,
        digests=digests_of(record),
        published=record.model.weights_sha256,
        images=record.data.contents_digest,
        code=record.code.sources,
    )


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file.

    Raises SpecError that names the file, the key and what was expected there, DamagedError where the cells are not the
    ones that were written.
    """
    try:
        value = tomllib.loads(read_regular(path, MOST_BYTES).decode())
    except FileNotFoundError as error:
        raise SpecError(f"{path}: there is no such file") from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: is no TOML: {error}") from error
    content = {name: held for name, held in value.items() if name != CHECKSUM}
    try:
        found = Baseline.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{path}: {complaints(error)}") from error
    without_checksum(path, value, "Take the committed one, or make it anew: cxrbench check --update.")
    return found


def write_baseline(path: Path, entries: Iterable[BaselineCell]) -> None:
    """Write the entries in order of their cells, atomically: the same entries give the same bytes."""
    ordered = sorted(entries, key=lambda found: found.order)
    plain = {"format": 1, "cells": [found.model_dump(mode="json", exclude_none=True) for found in ordered]}
    content = tomllib.loads(tomli_w.dumps(plain))  # as a reader will find it
    write_atomically(path, (HEADER + tomli_w.dumps(with_checksum(content))).encode())


def merged(old: Baseline, new: Iterable[BaselineCell]) -> Mapping[str, BaselineCell]:
    """The old entries with the new ones in their place or added, by the cell's name."""
    return {found.text: found for found in (*old.cells, *new)}


@dataclass(frozen=True, slots=True)
class Update:
    """What a baseline was made from: its entries, and by reason the cells that were left out."""

    entries: tuple[BaselineCell, ...]
    left_out: Mapping[str, Sequence[str]]


def update(path: Path, out: Path, records: Sequence[Record], kept: Baseline, closeness: float = CLOSENESS) -> Update:
    """Write the newest sound record of every cell into the baseline at `path`, beside the entries `kept`.

    A cell whose input was incomplete or altered is left out. Raises IntegrityError, and writes nothing, if a record is
    not what its predictions say.
    """
    entries, left_out = list[BaselineCell](), dict[str, list[str]]()
    for name, found in sorted(by_cell(records).items()):
        record = newest_record(found)
        if record is None:
            continue
        if reasons := flaws(record):
            left_out.setdefault("; ".join(reasons), []).append(name)
            continue
        if wrong := faults(out, record):
            raise IntegrityError(f"record {record.id} ({name}): {'; '.join(wrong)}. The baseline stays as it was.")
        entries.append(entry(record, numerical(read_cell(out, record), closeness)))
    whole = merged(kept, entries)
    write_baseline(path, whole.values())
    return Update(tuple(whole.values()), left_out)
