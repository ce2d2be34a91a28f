"""A table of labels in any format that users have: CSV and TSV by `tables`, Parquet by pyarrow; all cells are text."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from cxrbench.data import tables
from cxrbench.data.listing import is_file, is_folder
from cxrbench.errors import CxrBenchError, DataError, UnreadableError
from cxrbench.store.sealed import DamagedError, opened_regular

if TYPE_CHECKING:
    import pandas as pd

_PARQUET, _LARGEST = b"PAR1", 1 << 32


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns, stripped; raises DataError as `read_columns`."""
    _require_file(path)
    if not _is_parquet(path):
        return tuple(name for name in tables.header(path) if name)
    with _parquet(path) as file:
        return tuple(name.strip() for name in file.schema_arrow.names)


def read_columns(path: Path, required: Sequence[str]) -> "pd.DataFrame":
    """These columns as stripped strings, rows in file order, as `tables.read_table` gives them.

    Missing values of a Parquet file are blank, its true and false 1 and 0, and whole floating numbers are written
    without a point, as pandas makes them of whole numbers beside missing ones. Raises DataError that names the file.
    """
    import pandas as pd

    _require_file(path)
    wanted = list(dict.fromkeys(required))
    if not _is_parquet(path):
        return tables.read_table(path, wanted)
    with _parquet(path) as file:
        names = [name.strip() for name in file.schema_arrow.names]
        tables.check_header(path, names, wanted)
        if not file.metadata.num_rows:
            raise DataError(f"{path}: has columns but no rows. Download it again.")
        spelt = {name: file.schema_arrow.names[names.index(name)] for name in wanted}
        read = file.read(columns=list(spelt.values()))
        columns = {name: np.array(_texts(path, name, read[own]), dtype=object) for name, own in spelt.items()}
    return pd.DataFrame(columns, dtype=object, copy=False)


def _require_file(path: Path) -> None:
    """Raises DataError for a table that is not there, with names that come near."""
    if is_folder(path):
        raise DataError(f"{path}: is a folder, not a table. Name the file in it.")
    if not is_file(path):
        stem = path.name.partition(".")[0]
        raise DataError(f"{path}: there is no such table.{tables.near_hint(path.parent, stem)}")


def _is_parquet(path: Path) -> bool:
    with _plain(path) as stream:
        return stream.read(len(_PARQUET)) == _PARQUET


@contextmanager
def _plain(path: Path) -> Iterator[IO[bytes]]:
    try:
        with opened_regular(path, _LARGEST) as stream:
            yield stream
    except UnreadableError as error:
        raise DataError(f"{path}: cannot be opened: {error.reason}.") from (error.__cause__ or error)
    except DamagedError as error:
        raise DataError(f"{path}: {error.reason}. Give a label table that can be read.") from (error.__cause__ or error)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """The Parquet file; what goes wrong within the block is a DataError that names it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _plain(path) as stream:
        try:
            yield pq.ParquetFile(stream)
        except CxrBenchError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            first = str(error).partition("\n")[0][:200]
            raise DataError(f"{path}: is a Parquet file that is cut or damaged ({first}). Copy it again.") from error


def _texts(path: Path, name: str, column: Any) -> list[str]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind, column = kind.value_type, column.cast(kind.value_type)
    if pa.types.is_boolean(kind):
        return [_or_blank(value, lambda one: str(int(one))) for value in column.to_pylist()]
    if pa.types.is_floating(kind):
        return [_or_blank(value, _number) for value in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return [_or_blank(value, str) for value in column.to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [_or_blank(value, str.strip) for value in column.to_pylist()]
    raise DataError(f"{path}: column {name!r} holds {kind}, not text, numbers or true and false. Save it as text.")


def _or_blank(value: Any, told: Any) -> str:
    return "" if value is None else cast(str, told(value))


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(value)
