"""Label tables as text, read strictly: what does not look like the table it should be is refused, with the place."""

import re
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.listing import is_file, without_image_suffix
from cxrbench.data.search import file_names, near_names
from cxrbench.data.table_file import SEPARATORS, Rows, opened, other_separator, wide_fields
from cxrbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_FEW = 1024
_SPREADSHEET = re.compile(r"-?\d(?:[.,]\d+)?E\+\d+")


def named(folder: Path, *stems: str) -> Path | None:
    """The first of these tables in the folder, plain or packed; None if there is none.

    Raises DataError where the system does not say whether it is there.
    """
    return next((folder / name for name in file_names(stems) if is_file(folder / name)), None)


def required(folder: Path, *stems: str, why: str = "") -> Path:
    """As `named`, but raises DataError that lists the names that would do, and names that come near."""
    path = named(folder, *stems)
    if path is None:
        names = " or ".join(f"{stem}.csv[.gz|.zip]" for stem in stems)
        raise DataError(f"{folder}: there is no {names}.{' ' + why if why else ''}{near_hint(folder, *stems)}")
    return path


def near_hint(folder: Path, *stems: str) -> str:
    """Which names in the folder come near a table's that is not there, as a sentence; empty if none does."""
    try:
        there = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ""
    return "".join(
        f" There is {name!r}: is it the table? Name it {own}." for name, own in near_names(stems, there).items()
    )


def header(path: Path) -> tuple[str, ...]:
    """The column names of a table, stripped, of which only the first line is read; raises DataError as `read_table`."""
    with wide_fields(), opened(path, strict=False) as text:
        names = Rows(path, text).header
    if any("\udc80" <= letter <= "\udcff" for name in names for letter in name):
        raise DataError(f"{path}: is not UTF-8 (in the header). Save it as UTF-8, or download it again.")
    return tuple(name.strip() for name in names)


def read_table(path: Path, required: Sequence[str]) -> "pd.DataFrame":
    """These columns of a table as stripped strings (object dtype, blank stays ""), rows in file order.

    Plain, gzip or a ZIP with the table, by content; UTF-8 with or without byte-order mark, UTF-16 with one; any line
    ends; separated by commas, or as a first line `sep=;` says. Columns without a name (a written index, a trailing
    comma) are no columns, and only the required ones are held in memory. Raises DataError for a missing column, no
    rows, ragged rows, bad quotes, other encodings and separators, two columns of one name, another kind of file or a
    damaged archive; the message names file and row.
    """
    import pandas as pd

    with wide_fields(), opened(path) as text:
        rows = Rows(path, text)
        names = [name.strip() for name in rows.header]
        _check_header(path, names, required)
        columns = _columns(path, rows, len(names), [names.index(name) for name in required])
    if not columns or not columns[0]:
        raise DataError(f"{path}: has a header but no rows. Download it again.")
    arrays = {name: np.array(columns.pop(0), dtype=object) for name in required}  # one list after the other is freed
    return pd.DataFrame(arrays, dtype=object, copy=False)


def _columns(path: Path, rows: Rows, width: int, places: Sequence[int]) -> list[list[str]]:
    columns: list[list[str]] = [[] for _ in places]
    known: list[dict[str, str]] = [{} for _ in places]
    count = 0
    for block in rows.blocks():
        _check_widths(path, width, block, count)
        count += len(block)
        for column, place, seen in zip(columns, places, known, strict=True):
            column.extend(_shared(map(str.strip, map(itemgetter(place), block)), seen))
    return columns


def _shared(values: Iterable[str], seen: dict[str, str]) -> list[str]:
    """The values, those of a column that has few held once."""
    if len(seen) > _FEW:
        return list(values)
    return [seen.setdefault(value, value) for value in values]


def _check_header(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    there = [name for name in names if name]
    if missing := [name for name in required if name not in there]:
        told = f"{path}: has no column {', '.join(map(repr, missing))}; its columns are {', '.join(map(repr, there))}."
        separator = other_separator(names, required)
        if separator is not None:
            told += (
                f" They are separated by {SEPARATORS[separator]}, as a spreadsheet saves them: save the table with "
                f"commas, or put a first line sep={separator} before it."
            )
        raise DataError(told)
    if twice := sorted({name for name in there if there.count(name) > 1}):
        raise DataError(f"{path}: has two columns named {', '.join(map(repr, twice))}.")


def _check_widths(path: Path, width: int, block: list[list[str]], before: int) -> None:
    """Every row has one field a column, or one empty field more (a trailing comma); `before`: data rows before it."""
    if set(map(len, block)) <= {width}:
        return
    for number, row in enumerate(block, start=before + 1):
        if len(row) != width and not (len(row) == width + 1 and not row[-1].strip()):
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
    """Raises DataError if two rows share an id, a row has none, or a spreadsheet has made a number of one."""
    _check_ids(path, table[column])
    repeated = table[column][table[column].duplicated()]
    if len(repeated):
        raise DataError(f"{path}: {column} {repeated.iloc[0]!r} stands in more than one row.")
    if (table[column] == "").any():
        raise DataError(f"{path}: data row {table[column].tolist().index('') + 1}: {column} is blank.")


def agreeing(path: Path, ids: Sequence[str], values: Sequence[object], what: str) -> None:
    """Raises DataError if rows of one id carry different values, a row has no id or a spreadsheet's number for it."""
    _check_ids(path, ids)
    first: dict[str, object] = {}
    for number, (name, value) in enumerate(zip(ids, values, strict=True), start=1):
        if not name:
            raise DataError(f"{path}: data row {number} has no id.")
        if first.setdefault(name, value) != value:
            raise DataError(
                f"{path}: rows contradict each other: {name} has {what} {first[name]!r} and, in data row {number}, "
                f"{value!r}. Download the table again."
            )


def _check_ids(path: Path, ids: Iterable[str]) -> None:
    for number, name in enumerate(ids, start=1):
        if "E+" in name and _SPREADSHEET.fullmatch(name):
            raise DataError(
                f"{path}: data row {number}: {name} is no id: a spreadsheet program made a number of it when the table "
                "was saved, and the id is lost. Download the table again."
            )


def bare_ids(path: Path, table: "pd.DataFrame", column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of a column, and notes: where all end with an image suffix (`ID.dcm`), it is no part of them.

    Raises DataError where only some do.
    """
    ids = tuple(table[column])
    bare = tuple(map(without_image_suffix, ids))
    changed = [number for number, (one, other) in enumerate(zip(ids, bare, strict=True)) if one != other]
    if not changed:
        return ids, ()
    if len(changed) < len(ids):
        raise DataError(
            f"{path}: data row {changed[0] + 1}: {column} is {ids[changed[0]]!r}, with a file's suffix, while other "
            "rows have the id alone. Download the table again."
        )
    return bare, (f"{path.name}: {column} holds file names, such as {ids[0]}; taken without the suffix",)
