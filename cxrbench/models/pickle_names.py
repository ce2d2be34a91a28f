"""The classes and functions that a pickle names, found by reading its opcodes and running none of them."""

import io
import pickletools
import struct
from collections.abc import Iterator
from pathlib import Path

_MOST = 1 << 18  # bytes; the names stand early, and going through opcodes is slow
_HARMLESS = ("torch.", "collections.OrderedDict", "_codecs.encode")


def start_of(path: Path) -> bytes:
    """The first 256 KB of a file."""
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
