"""The committed baseline: `results/baseline.toml`, one entry a cell."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import tomli_w
from pydantic import ValidationError, model_validator

from cxrbench.analysis.cell_verdict import value_of
from cxrbench.analysis.tolerance import Tolerance
from cxrbench.checks.baseline.cell import Digests, Key, digests_of, key_of
from cxrbench.errors import SpecError
from cxrbench.records.record import Record
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import Facts, complaints
from cxrbench.store.sealed import CHECKSUM, read_regular, with_checksum, without_checksum

MOST_BYTES = 1 << 26
HEADER = (
    "# What `cxrbench check` holds records against. Made by `cxrbench check --update`, not by hand.\n"
    "# value: balanced accuracy, mean over folds, unrounded; tolerance: how far a repeat may be from it, and why.\n"
    "# content_sha256: over all else; a file that was edited, or merged from two, is refused: make it anew.\n\n"
)


class BaselineCell(Key):
    """One number as it was, with what decided it; `published`, `images` and `code` only explain a difference.

    `published`: SHA-256 of the file of weights as it is published, if it was known.

    `value` (0 to 1) is absent where a fold had no balanced accuracy.
    """

    value: float | None = None
    tolerance: Tolerance
    split: str
    synthetic: bool = False
    digests: Digests
    published: str | None = None
    images: str
    code: str


class Baseline(Facts):
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
