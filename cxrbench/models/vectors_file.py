"""Vectors in a Parquet or NPZ file that something else computed: names and rows, read column by column."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, IntegrityError
from cxrbench.store.sealed import require_regular_file
from cxrbench.system.printable import printable

FloatArray = NDArray[np.float32]
VectorFormat = Literal["Parquet", "NPZ"]
_MOST_BYTES = 1 << 40
_ROWS_AT_ONCE = 4096
_BUFFER = 1 << 20  # bytes of a column that are read at a time
_NEAR_UNIT = 1e-3  # a length that is farther from 1 is that of no unit vector, whatever precision it was stored in
_BROKEN = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError)


def vector_format(path: Path) -> VectorFormat:
    """What the first bytes say; raises IntegrityError for a file that is neither Parquet nor NPZ, or no file."""
    require_regular_file(path, _MOST_BYTES)
    with path.open("rb") as stream:
        head = stream.read(4)
    if head == b"PAR1":
        return "Parquet"
    if head == b"PK\x03\x04":
        return "NPZ"
    raise IntegrityError(f"{path}: starts with {head!r}; vectors are read from Parquet or NPZ (numpy.savez) files")


def read_names(path: Path, column: str) -> list[str]:
    """The texts of a column or array, a row each, in the order of the file.

    Raises DataError where there is no such column, or it holds anything but text; IntegrityError for a damaged file.
    """
    with _reading(path):
        found = _parquet_names(path, column) if vector_format(path) == "Parquet" else _npz_names(path, column)
    if not found:
        raise DataError(f"{path}: {column!r} is empty")
    return found


def read_rows(path: Path, column: str, rows: int, width: int) -> FloatArray:
    """Finite vectors (rows, width) float32 of a column or array; wider floats are rounded to float32.

    In Parquet a column holds a list of floats, or `column` is a pattern such as `f*` that picks one column a dimension,
    in the order of the file. Beside the result, no more than some thousand rows are in memory at a time (of an NPZ file
    of float64, all rows). Raises DataError that names the rows where the shape is another, values are of another or of
    mixed kinds, missing, or not finite; IntegrityError for a damaged file.
    """
    with _reading(path):
        parquet = vector_format(path) == "Parquet"
        found = (_parquet_rows if parquet else _npz_rows)(path, column, rows, width)
    wild = [n for first in _starts(rows) for n in _not_finite(found[first : first + _ROWS_AT_ONCE], first)]
    if wild:
        raise DataError(
            f"{path}: {column!r}: {len(wild)} rows hold NaN or infinite values, row {wild[0]} (from 0) first"
        )
    return found


def require_unit(path: Path, column: str, found: FloatArray) -> None:
    """Raise DataError unless all vectors (n, d) have length 1, as those have that cosines are taken of."""
    for first in _starts(len(found)):
        lengths = np.linalg.norm(found[first : first + _ROWS_AT_ONCE], axis=1)
        if (far := np.abs(lengths - 1) > _NEAR_UNIT).any():
            row = int(np.flatnonzero(far)[0])
            raise DataError(
                f"{path}: {column!r}: the vector of row {first + row} (from 0) has length {lengths[row]:.6g}, and "
                "cosines are taken of unit vectors. Write `unit_length = true` among the card's options to have them "
                "brought to length 1 here, or export them so."
            )


def _starts(rows: int) -> range:
    return range(0, rows, _ROWS_AT_ONCE)


def _not_finite(block: FloatArray, first: int) -> list[int]:
    return (np.flatnonzero(~np.isfinite(block).all(axis=1)) + first).tolist()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a reader says of a file that is damaged becomes IntegrityError."""
    import pyarrow as pa

    try:
        yield
    except (*_BROKEN, pa.ArrowException) as error:
        raise IntegrityError(
            f"{path}: damaged, or written in another way: {_first_line(error)}. Write it anew."
        ) from error


def _first_line(error: BaseException) -> str:
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])[:200]


def _no_column(path: Path, column: str, there: Sequence[str]) -> DataError:
    some = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    return DataError(f"{path}: has no {column!r}, but {printable(some)}; name it among the options of the card")


def _parquet_names(path: Path, column: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        if column not in schema.names:
            raise _no_column(path, column, schema.names)
        kind = schema.field(column).type
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)):
            raise DataError(f"{path}: {column!r} holds {kind}; text is wanted, numbers may have lost leading zeros")
        found = [name for batch in file.iter_batches(columns=[column]) for name in batch.column(0).to_pylist()]
    if None in found:
        raise DataError(f"{path}: {column!r} is empty in row {found.index(None)} (from 0)")
    return found


def _parquet_rows(path: Path, column: str, rows: int, width: int) -> FloatArray:
    from pyarrow import parquet

    found = np.empty((rows, width), np.float32)
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:  # else a whole row group is held
        columns = _chosen(path, column, file.schema_arrow, width)
        at = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
            lists = _is_list(batch.schema.field(0).type)
            values = _flat(path, column, batch, at, width) if lists else _beside(path, batch, at)
            found[at : at + len(values)] = values
            at += len(values)
    return found


def _chosen(path: Path, column: str, schema: Any, width: int) -> list[str]:
    """The columns that hold the vectors: one of lists, or one of numbers for each dimension."""
    names = [column] if column in schema.names else [name for name in schema.names if fnmatchcase(name, column)]
    if not names:
        raise _no_column(path, column, schema.names)
    kinds = [schema.field(name).type for name in names]
    if len(names) == 1 and _is_list(kinds[0]):
        _require_float(path, column, kinds[0].value_type)
        return names
    if len(names) != width:
        raise DataError(
            f"{path}: {column!r} picks {len(names)} columns ({names[0]} first), the card says width {width}"
        )
    for kind in kinds:
        _require_float(path, column, kind)
    if len(set(kinds)) > 1:
        raise DataError(
            f"{path}: {column!r} picks columns of mixed types: {', '.join(sorted({str(k) for k in kinds}))}"
        )
    return names


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _require_float(path: Path, column: str, kind: Any) -> None:
    import pyarrow as pa

    if not pa.types.is_floating(kind):
        raise DataError(f"{path}: {column!r} holds {kind}; vectors are float16, float32 or float64")


def _flat(path: Path, column: str, batch: Any, at: int, width: int) -> NDArray[np.floating[Any]]:
    """Lists of a batch as rows (n, width)."""
    from pyarrow import compute

    lists = batch.column(0)
    lengths = compute.fill_null(compute.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
    if (odd := np.flatnonzero(lengths != width)).size:
        row = int(odd[0])
        told = "no vector" if lengths[row] < 0 else f"a vector of {lengths[row]} values"
        raise DataError(f"{path}: {column!r}: row {at + row} (from 0) has {told}, the card says width {width}")
    values = lists.flatten()
    if values.null_count:
        raise DataError(f"{path}: {column!r}: a value among rows {at} to {at + len(lists) - 1} is missing")
    flat: NDArray[np.floating[Any]] = values.to_numpy(zero_copy_only=False)
    return flat.reshape(len(lists), width)


def _beside(path: Path, batch: Any, at: int) -> NDArray[np.floating[Any]]:
    """Columns of numbers of a batch as rows (n, width)."""
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        if values.null_count:
            raise DataError(f"{path}: {name!r}: a value among rows {at} to {at + len(values) - 1} is missing")
    return np.stack([values.to_numpy(zero_copy_only=False) for values in batch.columns], axis=1)


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """One array of an NPZ file, open where its values begin, with its shape and type; nothing of it is read yet."""
    with zipfile.ZipFile(path) as archive:
        there = [member.removesuffix(".npy") for member in archive.namelist()]
        if name not in there:
            raise _no_column(path, name, there)
        with archive.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(stream)
            yield stream, shape, kind


def _npz_array(path: Path, name: str) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as archive:
        return cast(NDArray[Any], archive[name])


def _npz_names(path: Path, column: str) -> list[str]:
    with _member(path, column) as (_, shape, kind):
        if kind.kind != "U" or len(shape) != 1:
            raise DataError(
                f"{path}: {column!r} is {shape} of {kind}; a list of texts is wanted: numpy.array(names, dtype=str)"
            )
    return cast(list[str], _npz_array(path, column).tolist())


def _npz_rows(path: Path, column: str, rows: int, width: int) -> FloatArray:
    with _member(path, column) as (_, shape, kind):
        if shape != (rows, width):
            raise DataError(
                f"{path}: {column!r} is {shape}; {(rows, width)} is wanted: a row a name, by the card's width"
            )
        if kind.kind != "f":
            raise DataError(f"{path}: {column!r} holds {kind}; vectors are float16, float32 or float64")
    return np.ascontiguousarray(_npz_array(path, column), np.float32)
