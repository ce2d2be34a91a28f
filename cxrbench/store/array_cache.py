"""Small arrays that are dear to compute: text vectors and class prototypes, kept by the digest of what decides them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.sealed import DamagedError, json_value, read_regular

FloatArray = NDArray[np.float32]

_DIGEST_BYTES = 64
_MOST_BYTES = 1 << 28


Engine = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CachedArray:
    """An array, and what computed it: device, versions of libraries and of this program."""

    array: FloatArray
    engine: Engine


class ArrayCache:
    """Arrays below one cache folder; a damaged file counts as absent, and so does one of another key."""

    def __init__(self, root: Path) -> None:
        self.root = root / "vectors"

    def array(self, key: Mapping[str, Any], make: Callable[[], CachedArray]) -> CachedArray:
        """The array of this key, made and kept when it is not there yet; one that is not finite is not kept.

        Raises DamagedError for a folder in its place, which no file can replace.
        """
        name = digest.of_json(dict(key))
        path = self.root / name[:2] / f"{name}.vec"
        try:
            return _opened(path, name, read_regular(path, _MOST_BYTES))
        except (FileNotFoundError, DamagedError) as error:
            if path.is_dir():
                raise DamagedError(path, "is a folder, not a file", "Remove it.") from error
            fresh = make()
            made = CachedArray(np.asarray(fresh.array, np.float32), fresh.engine)
        if np.isfinite(made.array).all():
            write_atomically(path, _packed(name, made))
        return made


def _packed(name: str, kept: CachedArray) -> bytes:
    """SHA-256 of the rest in hex, then a line with key, shape and engine, then float32 in C order."""
    head = json.dumps({"key": name, "shape": kept.array.shape, "engine": dict(kept.engine)}, sort_keys=True) + "\n"
    body = head.encode() + np.ascontiguousarray(kept.array, "<f4").tobytes()
    return digest.of_bytes(body).encode() + body


def _opened(path: Path, name: str, data: bytes) -> CachedArray:
    """The array of a file; raises DamagedError unless the file is, byte for byte, one that is written for this key."""
    body = data[_DIGEST_BYTES:]
    if digest.of_bytes(body).encode() != data[:_DIGEST_BYTES]:
        raise DamagedError(path, "does not have its checksum")
    head, _, values = body.partition(b"\n")
    told = json_value(path, head)
    if not isinstance(told, dict) or told.get("key") != name:
        raise DamagedError(path, "is of another key")
    try:
        array = np.frombuffer(values, "<f4").reshape(told["shape"]).astype(np.float32)
        kept = CachedArray(array, {str(key): str(value) for key, value in told["engine"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(path, "holds no array of the shape that it tells") from error
    if _packed(name, kept) != data or not np.isfinite(array).all():
        raise DamagedError(path, "holds no finite array of the shape that it tells")
    return kept
