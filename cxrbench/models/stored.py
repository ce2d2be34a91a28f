"""Tensors as a torch file describes them, read and checked one by one when asked for."""

import math
import pickle
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

DTYPES = {
    f"torch.{kind}Storage": dtype
    for kind, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_MOST_DIMENSIONS = 64
MOST_TENSORS = 100_000  # of one file
MOST_ELEMENTS = 1 << 48  # of a storage; more than any file has, and few enough to reckon with


class Bytes(Protocol):
    """Where the bytes of storages come from; `read` keeps those already read, by key."""

    read: dict[str, Tensor]

    def data(self, storage: "Storage") -> Tensor:
        """All bytes (n,) uint8 of one storage, as many as the file has; raises BadZipFile for damaged ones."""
        ...


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements, by the key that the file gives it."""

    file: Bytes
    key: str
    dtype: torch.dtype
    count: int

    def flat(self) -> Tensor:
        """The elements (count,); raises UnpicklingError if the file has more or fewer."""
        if self.key not in self.file.read:
            self.file.read[self.key] = self.file.data(self)
        data = self.file.read[self.key]
        if len(data) != self.count * self.dtype.itemsize:
            raise pickle.UnpicklingError(f"storage {self.key} has {len(data)} bytes instead of {self.count} elements")
        return data.view(self.dtype)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor; offset, size and stride in elements. `negative`: it is minus what its storage holds."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    negative: bool = False

    @property
    def bytes(self) -> int:
        """How many bytes it has of its own, were it copied; raises UnpicklingError if it leaves its storage."""
        self._require_inside()
        return math.prod(self.size) * self.storage.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor, sharing memory with others of its storage; raises UnpicklingError if it leaves its storage."""
        self._require_inside()
        found = self.storage.flat().as_strided(self.size, self.stride, self.offset)
        return -found if self.negative else found

    def _require_inside(self) -> None:
        count = self.storage.count
        sane = len(self.size) == len(self.stride) <= _MOST_DIMENSIONS
        if not sane or not all(0 <= number < MOST_ELEMENTS for number in (self.offset, *self.size, *self.stride)):
            raise pickle.UnpicklingError(f"a tensor of impossible size in a storage of {count} elements")
        elements = math.prod(self.size)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if elements > count or (elements and last >= count):
            raise pickle.UnpicklingError(
                f"a tensor of size {self.size} in a storage of {count} elements: expanded without copies, or damaged"
            )
