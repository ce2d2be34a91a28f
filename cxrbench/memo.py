"""Small arrays that are dear to compute: text vectors and class prototypes, kept by the digest of what decides them."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench import digest
from cxrbench.durable import write_atomically

_DIGEST_BYTES = 64


class Memo:
    """Arrays below one cache folder; a damaged file counts as absent."""

    def __init__(self, root: Path) -> None:
        self.root = root / "vectors"

    def array(self, key: Mapping[str, Any], make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The array of this key, made and kept when it is not there yet."""
        name = digest.of_json(dict(key))
        path = self.root / name[:2] / f"{name}.vec"
        found = _read(path)
        if found is not None:
            return found
        made = np.asarray(make(), np.float32)
        buffer = io.BytesIO()
        np.save(buffer, made, allow_pickle=False)
        write_atomically(path, digest.of_bytes(buffer.getvalue()).encode() + buffer.getvalue())
        return made


def _read(path: Path) -> NDArray[np.float32] | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[_DIGEST_BYTES:]
    if digest.of_bytes(body).encode() != data[:_DIGEST_BYTES]:
        return None
    return np.load(io.BytesIO(body), allow_pickle=False)
