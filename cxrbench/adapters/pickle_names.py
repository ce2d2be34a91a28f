"""The classes and functions that a pickle names, found by reading its opcodes and running none of them."""

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

_MOST = 1 << 26
_HARMLESS = ("torch.", "collections.OrderedDict", "_codecs.encode")


def pickle_of(path: Path) -> bytes:
    """The pickled part of a torch file, at most 64 MB of it; b"" where it cannot be found, as in a damaged archive."""
    try:
        if not zipfile.is_zipfile(path):
            return start_of(path)
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            return b"" if name is None else archive.open(name).read(_MOST)
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, struct.error, zlib.error):
        return b""


def start_of(path: Path) -> bytes:
    """The first 64 MB of a file."""
    with path.open("rb") as stream:
        return stream.read(_MOST)


def foreign_names(data: bytes) -> str:
    """The classes and functions beyond torch's own that a pickle names, found without running it."""
    names = dict.fromkeys(name for name in _globals(data) if not name.startswith(_HARMLESS))
    return ", ".join(list(names)[:5])


def _globals(data: bytes) -> Iterator[str]:
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        strings: list[str] = []
        try:
            for code, argument, _ in pickletools.genops(stream):
                if code.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(strings[-2:])
                elif isinstance(argument, str):
                    strings.append(argument)
        except (ValueError, UnicodeDecodeError, struct.error):
            return  # the rest is no pickle: storages of the legacy format, or damage
