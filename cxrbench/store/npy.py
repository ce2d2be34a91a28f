"""`.npy` files of float32 rows, whose header is not read but required: it holds no fact that is not known before."""

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import IntegrityError
from cxrbench.store.sealed import DamagedError, opened_regular, reading

FloatArray = NDArray[np.float32]
Sync = Callable[[BinaryIO], None]

HEADER_BYTES = 128
_ITEM_BYTES = 4
_MAPPED_FROM = 1 << 20  # bytes of rows; fewer are read, since before Python 3.13 each mapping holds a descriptor open


def header(rows: int, dim: int) -> bytes:
    """The first bytes of a `.npy` (format 1.0) of little-endian float32 (rows, dim) in C order."""
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}".encode()
    return (start + told).ljust(HEADER_BYTES - 1) + b"\n"


class RowFile:
    """A `.npy` that is filled from the front; until it is closed it is sparse, and its header tells the capacity."""

    def __init__(self, path: Path, capacity: int, dim: int, sync: Sync) -> None:
        self._dim, self._sync = dim, sync
        self._file = path.open("w+b")
        self._file.write(header(capacity, dim))
        self._file.truncate(self._place(capacity))

    def _place(self, row: int) -> int:
        return HEADER_BYTES + _ITEM_BYTES * row * self._dim

    def write(self, row: int, data: bytes) -> None:
        """Write rows durably from `row` on."""
        self._file.seek(self._place(row))
        self._file.write(data)
        self._sync(self._file)

    def close(self, rows: int) -> None:
        """Cut the file to so many rows, so that any reader of `.npy` can use it."""
        # First the length: a reader takes a header of the capacity, or of the rows that the file holds.
        self._file.truncate(self._place(rows))
        self._file.seek(0)
        self._file.write(header(rows, self._dim))
        self._sync(self._file)
        self._file.close()


def mapped_rows(path: Path, rows: int, dim: int, capacity: int) -> FloatArray:
    """The first `rows` (at least one) of a `RowFile`, mapped into memory where they are many: (rows, dim) float32.

    Raises UnreadableError for what the system does not read or map now, DamagedError unless
    the header is, byte for byte, one that is written for such rows and the file holds them.
    """
    try:
        with opened_regular(path, most=None) as file:
            found = file.read(HEADER_BYTES)
            whole = (os.fstat(file.fileno()).st_size - HEADER_BYTES) // (_ITEM_BYTES * dim)
            if found not in {header(count, dim) for count in (capacity, rows, whole)}:
                raise DamagedError(path, f"has not the header of float32 rows of {dim} values")
            if whole < rows:
                raise DamagedError(path, f"holds {max(whole, 0)} rows, and the journal speaks of {rows}")
            return _rows(path, file, _ITEM_BYTES * rows * dim).reshape(rows, dim)
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone") from error


def _rows(path: Path, file: BinaryIO, size: int) -> FloatArray:
    if size < _MAPPED_FROM:
        file.seek(HEADER_BYTES)
        data = file.read(size)
        if len(data) < size:
            raise DamagedError(path, "became shorter while it was read")
        return np.frombuffer(data, "<f4")
    with reading(path):
        return np.frombuffer(_mapped(file.fileno(), HEADER_BYTES + size), "<f4", offset=HEADER_BYTES)


def _mapped(handle: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13) and os.name == "posix":
        return mmap.mmap(handle, size, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(handle, size, access=mmap.ACCESS_READ)


def checked_rows(tap: str, values: FloatArray, shape: tuple[int, int]) -> None:
    """Nothing, or IntegrityError: the vectors of a tap have another shape, or a value that is not finite."""
    if values.shape != shape:
        raise IntegrityError(f"tap {tap!r} has shape {values.shape}, not {shape}")
    if not np.isfinite(values).all():
        raise IntegrityError(f"tap {tap!r} holds values that are not finite; try --precision float32")
