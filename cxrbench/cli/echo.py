"""The one way to the terminal: no card, record or file name steers it, and a closed or full stream ends no work."""

import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer

from cxrbench.errors import CxrBenchError
from cxrbench.system.contained import Logbook
from cxrbench.system.printable import printable


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print the text with its control and bidi characters escaped; line feeds and tabs are kept."""
    typer.echo(printable(str(text)), err=err, nl=nl)


_SHOWN = 20  # files of one kind that are named


def say(line: str) -> None:
    """Print a line."""
    echo(line)


def warn(line: str) -> None:
    """Print a line on stderr."""
    echo(line, err=True)


def print_problem(problem: CxrBenchError) -> CxrBenchError:
    """The problem, once it was printed on stderr, and its traceback, if it has one, put into a log in the cache."""
    from cxrbench.specs.paths import default_cache

    Logbook(default_cache() / "logs").enter(problem)
    warn(f"cxrbench: {problem}")
    return problem


def warn_of_files(what: str, files: Mapping[Path, str] | Mapping[str, str]) -> None:
    """Name some files on stderr with the reason for each, and say how many more there are."""
    for path, reason in list(files.items())[:_SHOWN]:
        warn(f"{what}: {path}: {reason.removeprefix(f'{path}: ')}")
    if len(files) > _SHOWN:
        warn(f"{what}: {len(files) - _SHOWN} more; the records list them")


_LEFT = {errno.EPIPE, errno.ECONNRESET}  # the reader is gone, as `| head` goes: no fault


class _Discard(io.RawIOBase):
    """A descriptor that takes every byte, and drops all after the first that could not be written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.fault: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        whole = memoryview(data).cast("B")
        rest = whole
        while rest and self.fault is None:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                continue  # a terminal that another program made non-blocking
            except OSError as error:
                self.fault = error
        return len(whole)


@contextmanager
def steady_streams() -> Iterator[list[str]]:
    """Within it, no line that is printed can raise; what was lost at the end is told in the list.

    A reader that left (`| head`) is no loss. Characters that the encoding lacks are escaped.
    """
    _hold_descriptors()
    before, lost = (sys.stdout, sys.stderr), list[str]()
    sinks = {}
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or _is_of_system(stream):
            sinks[name] = _Discard(descriptor)
            setattr(sys, name, _text(stream, sinks[name]))
    try:
        yield lost
    finally:
        for name, sink in sinks.items():
            getattr(sys, name).flush()
            if sink.fault is not None and sink.fault.errno not in _LEFT:
                lost.append(f"{name}: {sink.fault.strerror}: what was printed there is not whole")
        sys.stdout, sys.stderr = before


def _is_of_system(stream: TextIO) -> bool:
    """Whether it writes to a descriptor, with a buffer or (PYTHONUNBUFFERED) without; a test's capture does not."""
    buffer = getattr(stream, "buffer", None)
    return isinstance(getattr(buffer, "raw", buffer), io.FileIO)


def _text(stream: TextIO | None, sink: _Discard) -> TextIO:
    if stream is not None:
        stream.flush()
    encoding = "utf-8" if stream is None else stream.encoding
    buffered = io.BufferedWriter(sink)
    return io.TextIOWrapper(buffered, encoding, errors="backslashreplace", line_buffering=True)


def _hold_descriptors() -> None:
    """Open the null device where a standard descriptor is closed, so that no file of ours ever gets its number."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
