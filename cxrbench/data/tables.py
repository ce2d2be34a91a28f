"""Label tables as text, read strictly: what does not look like the table it should be is refused, with the place."""

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.presence import is_file
from cxrbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_GZIP = b"\x1f\x8b"
_SUFFIXES = (".csv", ".csv.gz")


def named(folder: Path, *stems: str) -> Path | None:
    """The first of these tables in the folder, plain or gzipped; None if there is none.

    Raises DataError where the system does not say whether it is there.
    """
    for stem in stems:
        for suffix in _SUFFIXES:
            path = folder / f"{stem}{suffix}"
            if is_file(path):
                return path
    return None


def required(folder: Path, *stems: str, why: str = "") -> Path:
    """As `named`, but raises DataError that lists the names that would do."""
    path = named(folder, *stems)
    if path is None:
        names = " or ".join(f"{stem}.csv[.gz]" for stem in stems)
        raise DataError(f"{folder}: there is no {names}.{' ' + why if why else ''}")
    return path


def header(path: Path) -> tuple[str, ...]:
    """The column names of a table, stripped, of which only the first line is read; raises DataError as `read_table`."""
    with _opened(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
        names = _rows(path, text, limit=1)[0]
    if any("\udc80" <= letter <= "\udcff" for name in names for letter in name):
        raise DataError(_other_encoding(path, "in the header"))
    return tuple(name.strip() for name in names)


def read_table(path: Path, required: Sequence[str]) -> "pd.DataFrame":
    """These columns of a table as stripped strings (object dtype, blank stays ""), rows in file order.

    Plain or gzip by content; UTF-8 with or without byte-order mark, any line ends. Columns without a name (a written
    index, a trailing comma) are no columns. Raises DataError for a missing column, no rows, ragged rows, bad quotes,
    other encodings, two columns of one name, or a broken gzip stream; the message names file and row.
    """
    import pandas as pd

    names, *rows = _rows(path, io.StringIO(_text(path), newline=""))
    names = [name.strip() for name in names]
    _check_header(path, names, required)
    rows = [row for row in rows if row]
    if not rows:
        raise DataError(f"{path}: has a header but no rows. Download it again.")
    _check_widths(path, len(names), rows)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    return pd.DataFrame({name: list(map(str.strip, columns[name])) for name in required}, dtype=object)


def _rows(path: Path, lines: Iterable[str], limit: int | None = None) -> list[list[str]]:
    reader = csv.reader(lines, strict=True)
    try:
        rows = list(itertools.islice(reader, limit))
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: {error}. Is a quote never closed, or the file cut?"
        ) from error
    if not rows or not rows[0]:
        raise DataError(f"{path}: is empty. Download it again.")
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The table's bytes, unzipped where they are zipped; what goes wrong in reading them becomes a DataError."""
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == _GZIP
            stream.seek(0)
            if not zipped:
                yield stream
                return
            with gzip.GzipFile(fileobj=stream) as unzipped:
                yield cast(IO[bytes], unzipped)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is cut or damaged ({error}). Download it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _text(path: Path) -> str:
    with _opened(path) as stream:
        data = stream.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(_other_encoding(path, f"byte {error.start}")) from error


def _other_encoding(path: Path, where: str) -> str:
    return f"{path}: is not UTF-8 ({where}). Save it as UTF-8, or download it again."


def _check_header(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    there = [name for name in names if name]
    if missing := [name for name in required if name not in there]:
        raise DataError(
            f"{path}: has no column {', '.join(map(repr, missing))}; its columns are {', '.join(map(repr, there))}."
        )
    if twice := sorted({name for name in there if there.count(name) > 1}):
        raise DataError(f"{path}: has two columns named {', '.join(map(repr, twice))}.")


def _check_widths(path: Path, width: int, rows: list[list[str]]) -> None:
    """Every row has one field a column; one empty field more (a trailing comma) is cut off in place."""
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            if len(row) == width + 1 and not row[-1].strip():
                row.pop()
                continue
            shown = ",".join(row)[:80]
            raise DataError(f"{path}: data row {number} has {len(row)} fields, the header {width}: {shown}")


def numbers(path: Path, table: "pd.DataFrame", column: str, allowed: Collection[float]) -> NDArray[np.float64]:
    """A label column (n,) as numbers, NaN for blank; raises DataError naming the row of a value not in `allowed`."""
    values = table[column].tolist()
    meaning: dict[str, float] = {"": float("nan")}
    for text in dict.fromkeys(values):
        if text:
            meaning[text] = _number(text)
            if meaning[text] not in allowed:
                where = values.index(text) + 1
                wanted = ", ".join(f"{value:g}" for value in allowed)
                raise DataError(f"{path}: data row {where}: {column} is {text!r}; expected {wanted} or blank.")
    return np.array([meaning[text] for text in values])


def labels(path: Path, table: "pd.DataFrame", column: str) -> NDArray[np.int64]:
    """A label column (n,) of 0 and 1, however written (1, 1.0); raises DataError naming the row of any other value."""
    values = numbers(path, table, column, (0.0, 1.0))
    if np.isnan(values).any():
        raise DataError(f"{path}: data row {int(np.isnan(values).argmax()) + 1}: {column} is blank; expected 0 or 1.")
    return values.astype(np.int64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def one_of(path: Path, table: "pd.DataFrame", column: str, allowed: Collection[str]) -> None:
    """Raises DataError naming the first row whose value is none of `allowed`."""
    values = table[column].tolist()
    for text in dict.fromkeys(values):
        if text not in allowed:
            where = values.index(text) + 1
            wanted = ", ".join(map(repr, allowed))
            raise DataError(f"{path}: data row {where}: {column} is {text!r}; known are {wanted}.")


def distinct(path: Path, table: "pd.DataFrame", column: str) -> None:
    """Raises DataError if two rows share an id, or a row has none."""
    repeated = table[column][table[column].duplicated()]
    if len(repeated):
        raise DataError(f"{path}: {column} {repeated.iloc[0]!r} stands in more than one row.")
    if (table[column] == "").any():
        raise DataError(f"{path}: data row {table[column].tolist().index('') + 1}: {column} is blank.")


def agreeing(path: Path, ids: Sequence[str], values: Sequence[object], what: str) -> None:
    """Raises DataError if rows of one id carry different values, or a row has no id."""
    first: dict[str, object] = {}
    for number, (name, value) in enumerate(zip(ids, values, strict=True), start=1):
        if not name:
            raise DataError(f"{path}: data row {number} has no id.")
        if first.setdefault(name, value) != value:
            raise DataError(
                f"{path}: rows contradict each other: {name} has {what} {first[name]!r} and, in data row {number}, "
                f"{value!r}. Download the table again."
            )
