"""One way of naming content: SHA-256 over a canonical form."""

import hashlib
import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cxrbench.errors import IntegrityError


def of_bytes(data: bytes) -> str:
    """Hex SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def of_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value with sorted keys and no blanks; floats by their shortest repr.

    File names that are no UTF-8 come as lone surrogates, which are digested as such.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return of_bytes(text.encode("utf-8", "surrogatepass"))


def of_lines(lines: Iterable[str]) -> str:
    """Hex SHA-256 of the lines, each ended by a line feed (UTF-8): the digest used for ordered id lists."""
    return of_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))


def of_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks; raises IntegrityError for a pipe or a device, which may never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise IntegrityError(f"{path}: is a pipe or device, not a file")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
