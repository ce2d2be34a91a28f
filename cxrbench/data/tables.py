"""Label tables as text, read strictly: what does not look like the table it should be is refused, with the place."""

import codecs
import csv
import gzip
import io
import itertools
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.listing import is_file, without_image_suffix
from cxrbench.data.search import file_names, near_names
from cxrbench.errors import DataError, UnreadableError
from cxrbench.store.sealed import DamagedError, opened_regular

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import WriteableBuffer

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_HEAD = 4096
_LONGEST_LINE, _LARGEST = 1 << 26, 1 << 30
_SWOLLEN, _SMALL = 100, 1 << 23  # label tables shrink 5 to 20 times; a small one may shrink more, and costs nothing
_AGAIN = "Download it again."
_OTHERS = {
    b"PAR1": "is a Parquet file. Convert it to CSV, or download the CSV.",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook. Save it as CSV (UTF-8), or better download the table again.",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive. Unpack it.",
    b"Rar!": "is a RAR archive. Unpack it.",
    b"BZh": "is packed with bzip2. Unpack it.",
    b"\xfd7zXZ": "is packed with xz. Unpack it.",
    b"\x28\xb5\x2f\xfd": "is packed with zstd. Unpack it.",
    b"%PDF": "is a PDF document, not a table.",
    b"\x89PNG": "is a picture, not a table.",
    b"SQLite": "is a database, not a table.",
    b"\x00": "begins with NUL bytes, as files do whose copying was cut. Copy or download it again.",
    b"version https://git-lfs": "is a pointer of Git LFS, not the table itself. Fetch it with `git lfs pull`.",
}
_WIDE = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextmanager
def opened(path: Path, strict: bool = True) -> Iterator[TextIO]:
    """The table as text, line ends untouched: plain, gzip, or a ZIP with this one table, told by content.

    UTF-8 with or without byte-order mark, or UTF-16 or UTF-32 with one. Whatever goes wrong within the block, another
    kind of file included, becomes a DataError that names the file; its cause is what the system said, if it did. Not
    `strict`: what is no text comes as surrogates.
    """
    try:
        with opened_regular(path, _LARGEST) as plain, _text(path, cast(io.BufferedReader, plain), strict) as text:
            yield text
    except UnreadableError as error:
        raise DataError(f"{path}: cannot be opened: {error.reason}.") from (error.__cause__ or error)
    except DamagedError as error:
        raise DataError(f"{path}: {error.reason}. Give a label table that can be read.") from (error.__cause__ or error)
    except FileNotFoundError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def _text(path: Path, plain: io.BufferedReader, strict: bool) -> Iterator[TextIO]:
    packed = "file"
    try:
        with ExitStack() as stack:
            start = plain.peek(len(_ZIP))
            packed = "gzip stream" if start.startswith(_GZIP) else "ZIP" if start.startswith(_ZIP) else packed
            stream, size = _unpacked(path, plain, packed, stack)
            head = stream.peek(_HEAD)[:_HEAD]  # type: ignore[attr-defined]
            _require_table(path, head)
            encoding = next((name for mark, name in _WIDE.items() if head.startswith(mark)), "utf-8-sig")
            limited = io.BufferedReader(_Limited(path, stream, size), 1 << 17)
            errors = "strict" if strict else "surrogateescape" if encoding == "utf-8-sig" else "replace"
            yield stack.enter_context(io.TextIOWrapper(limited, encoding, errors, newline=""))
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: the {packed} is cut or damaged ({error}). {_AGAIN}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: the {packed} cannot be unpacked ({error}). Unpack it with another program."
        ) from error


def _unpacked(path: Path, plain: io.BufferedReader, packed: str, stack: ExitStack) -> tuple[IO[bytes], int | None]:
    """The table's bytes, and how many there are of them as they are packed; None where they are not."""
    if packed == "gzip stream":
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=plain))), os.fstat(plain.fileno()).st_size
    if packed == "ZIP":
        archive = stack.enter_context(zipfile.ZipFile(plain))
        member = archive.getinfo(_member(path, archive))
        return stack.enter_context(archive.open(member)), member.compress_size
    return plain, None


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    """The one table in an archive that has the archive's own name; DataError where there is none, or several."""
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if any(name.startswith("xl/") for name in names):
        raise DataError(f"{path}: is an Excel workbook. Save it as CSV (UTF-8), or better download the table again.")
    suffix = ".csv" if separator(path) == "," else ".tsv"
    wanted = re.sub(r"(\.[ct]sv)?(\.zip)?$", "", path.name, flags=re.IGNORECASE).casefold() + suffix
    tables = [name for name in names if name.rpartition("/")[2].casefold() == wanted]
    if len(tables) != 1:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise DataError(
            f"{path}: is a ZIP with {len(tables)} tables {wanted}; it holds {shown or 'nothing'}. Unpack it."
        )
    return tables[0]


def _require_table(path: Path, head: bytes) -> None:
    """Raises DataError that says what a file is that is known not to be a table."""
    if head.startswith(tuple(_WIDE)):
        return
    if reason := next((text for magic, text in _OTHERS.items() if head.startswith(magic)), None):
        raise DataError(f"{path}: {reason}")
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"<"):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", text, re.IGNORECASE)
        named = f" ({title[1].decode('utf-8', 'replace').strip()!r})" if title else ""
        raise DataError(
            f"{path}: is a web page or another XML document{named}, not the table: the download needs a login, or "
            "failed. Download it again while logged in."
        )
    if text.startswith((b"{", b"[")):
        raise DataError(f"{path}: is JSON, not a table: a server's message, or another format. {_AGAIN}")


class _Limited(io.RawIOBase):
    """A stream of bytes that ends with a DataError before a line, or the whole, is larger than any table has it.

    `packed`: from how many bytes it is unpacked; None where it is not.
    """

    def __init__(self, path: Path, stream: IO[bytes], packed: int | None) -> None:
        self._path, self._stream, self._line, self._total, self._packed = path, stream, 0, 0, packed
        self._most = _LARGEST if packed is None else min(_LARGEST, max(_SMALL, _SWOLLEN * packed))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As io.RawIOBase."""
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._line = len(data) - end - 1 if end >= 0 else self._line + len(data)
        self._total += len(data)
        if self._total > self._most < _LARGEST:
            raise DataError(
                f"{self._path}: {self._packed:,} packed bytes swell beyond {self._most:,}, as no label table does. If "
                "it is one, unpack it."
            )
        if self._line > _LONGEST_LINE or self._total > _LARGEST:
            what = "is larger" if self._total > _LARGEST else "has a longer line"
            raise DataError(f"{self._path}: {what} than any label table. Is it one?")
        view[: len(data)] = data
        return len(data)


def separator(path: Path) -> str:
    """What separates the fields of a table of that name: a tab in `.tsv` and `.tsv.gz`, else a comma."""
    return "\t" if re.search(r"\.tsv(\.gz|\.zip)?$", path.name, re.IGNORECASE) else ","


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
            self._reader = csv.reader(lines, strict=True, delimiter=declared[1] if declared else separator(path))
            self.header = self._header(first)
        if not self.header:
            raise DataError(f"{path}: is empty. Download it again.")

    def _header(self, first: str) -> list[str]:
        """The names; a line that has quotes but no commas between them is left whole, to be told by its columns."""
        try:
            return next(self._reader, [])
        except csv.Error:
            if any(f'"{mark}"' in first for mark in SEPARATORS):
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
    for mark in SEPARATORS:
        there = {name.strip().strip('"') for name in line.split(mark)}
        if there.issuperset(required):
            return mark
    return None


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
    ends; separated by commas (a `.tsv` by tabs), or as a first line `sep=;` says. Columns without a name (a written
    index, a trailing comma) are no columns, and only the required ones are held in memory. Raises DataError for a
    missing column, no rows, ragged rows, bad quotes, other encodings and separators, two columns of one name, another
    kind of file or a damaged archive; the message names file and row.
    """
    import pandas as pd

    with wide_fields(), opened(path) as text:
        rows = Rows(path, text)
        names = [name.strip() for name in rows.header]
        check_header(path, names, required)
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


def check_header(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    """Raises DataError for a required column that is not there, and for two columns of one name."""
    there = [name for name in names if name]
    if missing := [name for name in required if name not in there]:
        told = f"{path}: has no column {', '.join(map(repr, missing))}; its columns are {', '.join(map(repr, there))}."
        other = other_separator(names, required)
        if other is not None:
            told += (
                f" They are separated by {SEPARATORS[other]}, as a spreadsheet saves them: save the table with "
                f"commas, or put a first line sep={other} before it."
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
    check_ids(path, table[column])
    repeated = table[column][table[column].duplicated()]
    if len(repeated):
        raise DataError(f"{path}: {column} {repeated.iloc[0]!r} stands in more than one row.")
    if (table[column] == "").any():
        raise DataError(f"{path}: data row {table[column].tolist().index('') + 1}: {column} is blank.")


def agreeing(path: Path, ids: Sequence[str], values: Sequence[object], what: str) -> None:
    """Raises DataError if rows of one id carry different values, a row has no id or a spreadsheet's number for it."""
    check_ids(path, ids)
    first: dict[str, object] = {}
    for number, (name, value) in enumerate(zip(ids, values, strict=True), start=1):
        if not name:
            raise DataError(f"{path}: data row {number} has no id.")
        if first.setdefault(name, value) != value:
            raise DataError(
                f"{path}: rows contradict each other: {name} has {what} {first[name]!r} and, in data row {number}, "
                f"{value!r}. Download the table again."
            )


def check_ids(path: Path, ids: Iterable[str]) -> None:
    """Raises DataError for an id that a spreadsheet has made a number of."""
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
