"""The rows of a label table, a few thousand at a time, so that a table of any size is read in little memory."""

import csv
import itertools
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cxrbench.errors import DataError

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

_LONGEST_FIELD = 1 << 24
_AT_ONCE = 4096
_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n?')  # what Excel writes and reads as a first line


class Rows:
    """The rows of one table: its header, then blocks of rows that are not blank.

    Raises DataError for an empty table, bad quotes, NUL bytes and what is not in the table's encoding.
    """

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path, self._before = path, 0
        self._reader = csv.reader(())
        lines: Iterator[str] = map(self._whole, text)
        with self._told():
            first = next(lines, "")
            declared = _SEPARATOR.fullmatch(first)
            self._before = int(declared is not None)
            if declared is None:
                lines = itertools.chain([first], lines)
            self._reader = csv.reader(lines, strict=True, delimiter=declared[1] if declared else ",")
            self.header = self._header(first)
        if not self.header:
            raise DataError(f"{path}: is empty. Download it again.")

    def _header(self, first: str) -> list[str]:
        """The names; a line that has quotes but no commas between them is left whole, to be told by its columns."""
        try:
            return next(self._reader, [])
        except csv.Error:
            if any(f'"{separator}"' in first for separator in SEPARATORS):
                return [first.strip()]
            raise

    def blocks(self) -> Iterator[list[list[str]]]:
        """Rows in file order, some thousand at a time."""
        with self._told():
            while block := list(itertools.islice(self._reader, _AT_ONCE)):
                yield [row for row in block if row]

    @property
    def _line(self) -> int:
        return self._reader.line_num + self._before

    def _whole(self, line: str) -> str:
        if "\0" in line:
            raise DataError(
                f"{self._path}: line {self._line + 1} holds NUL bytes: the file was cut or damaged in copying, or is "
                "UTF-16 without its mark. Download it again, or save it as UTF-8."
            )
        return line

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            raise DataError(
                f"{self._path}: line {self._line}: {error}. Is a quote never closed, or the file cut?"
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._path}: is not {error.encoding.upper()} (after line {self._line}, {error.reason}). "
                "Save it as UTF-8, or download it again."
            ) from error


class _Width:
    """Python's limit on a field's length, one for all threads: raised while a table is read, then as it was."""

    lock, readers, before = threading.Lock(), 0, 0


@contextmanager
def wide_fields() -> Iterator[None]:
    """Fields of up to 16 million characters, as run-length masks may have, for as long as some table is read."""
    with _Width.lock:
        if _Width.readers == 0:
            _Width.before = csv.field_size_limit()
            csv.field_size_limit(max(_Width.before, _LONGEST_FIELD))
        _Width.readers += 1
    try:
        yield
    finally:
        with _Width.lock:
            _Width.readers -= 1
            if _Width.readers == 0:
                csv.field_size_limit(_Width.before)


def other_separator(names: Iterable[str], required: Iterable[str]) -> str | None:
    """The separator by which a header read with commas does hold the required columns; None if none does."""
    line = ",".join(names)
    for separator in SEPARATORS:
        there = {name.strip().strip('"') for name in line.split(separator)}
        if there.issuperset(required):
            return separator
    return None
