"""The text of a label table, out of whatever it is packed in; what is no table is told by what it is."""

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
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO, cast

from cxrbench.errors import DataError, UnreadableError
from cxrbench.store.sealed import DamagedError, opened_regular

if TYPE_CHECKING:
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
    wanted = re.sub(r"(\.csv)?(\.zip)?$", "", path.name, flags=re.IGNORECASE).casefold() + ".csv"
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
