"""One fault, one part: any exception of a part of the work as an error of ours that the rest can go on beside."""

import errno
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxrbench.errors import CxrBenchError, UnexpectedError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_SHORT = {*_NO_ROOM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ESTALE}
# How torch, CUDA's libraries, NumPy and Pillow say that memory ran out, where they have no exception of their own.
_NO_MEMORY = ("can't allocate memory", "out of memory", "_alloc_failed", "unable to allocate", "cannot allocate memory")
# Ctrl-C, and a generator that is closed, end what they end. All else is of its part alone: an adapter that calls
# `sys.exit()`, and a library in Rust that panics, which is no Exception either.
PASSING = (KeyboardInterrupt, GeneratorExit)
_LONGEST = 400  # characters of a foreign message that are shown; the log has it whole


def contained(error: BaseException, part: str) -> CxrBenchError:
    """The error to keep of a `part` of the work, such as a model or a cell: itself if it is ours, else unexpected.

    What is returned holds no frames, so neither the tensors of a failed forward pass. Call it in an `except
    BaseException`, and raise or keep the result after that block. Raises `PASSING` errors again.
    """
    if isinstance(error, PASSING):
        raise error
    kept = error if isinstance(error, CxrBenchError) else _unexpected(error, part)
    kept.__cause__ = kept.__context__ = None
    return kept.with_traceback(None)


@contextmanager
def containing(part: str) -> Iterator[None]:
    """Raises what `contained` makes of any exception inside."""
    try:
        yield
    except (CxrBenchError, *PASSING):
        raise
    except BaseException as error:
        raise contained(error, part) from None


def _unexpected(error: BaseException, part: str) -> UnexpectedError:
    return UnexpectedError(f"{part}: {_reason(error)}", _trace(error), f"{type(error).__name__}{_place(error)}")


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as second:
        return f"{type(error).__name__}, whose traceback cannot be told: {type(second).__name__}\n"


def _reason(error: BaseException) -> str:
    if no_memory(error):
        return (
            f"too little memory ({_first_line(error)}). Choose a smaller --batch-size (vectors then differ in their "
            "last digits, about 1e-6), another --device, or measure fewer models at once"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return reason_of(error)
    return f"{type(error).__name__}: {_first_line(error)}{_place(error)}. This is a bug, here or in an adapter"


def no_memory(error: BaseException) -> bool:
    """Whether memory ran out, that of a GPU included."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if {"MemoryError", "OutOfMemoryError"} & kinds or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    spoken = isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)
    return spoken and any(words in str(error).lower() for words in _NO_MEMORY)


def of_machine(error: BaseException) -> bool:
    """Whether memory, open files, a disk or a mount failed, and not the bytes: they may be read another time."""
    return no_memory(error) or (isinstance(error, OSError) and error.errno in _SHORT)


def shortage(error: BaseException) -> str:
    """What the machine was short of, in a few words."""
    return "too little memory" if no_memory(error) else str(getattr(error, "strerror", None) or error)


def reason_of(error: OSError) -> str:
    """What the system says, of which file, and what to do about a place that takes no file."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    told = f"{where}{error.strerror or error}"
    if error.errno in _NO_ROOM:
        return f"{told}; make room, or name other folders by --out, --cache (embeddings) or TMPDIR"
    if error.errno in _NOT_ALLOWED:
        return f"{told}; name a folder that can be written by --out, --cache or the option that named this one"
    return told


def _first_line(error: BaseException) -> str:
    try:
        told = str(error).strip() or "no message"
    except Exception:
        return "its message cannot be told"
    line = told.splitlines()[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def _place(error: BaseException) -> str:
    """Where it was raised, in the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    return f" ({Path(code.co_filename).name}:{trace.tb_lineno}, {code.co_name})"


class Logbook:
    """The log file of one process in a folder; made at the first entry, below the system's temporary folder if need be.

    An entry never fails: without any place for it, the error simply names no log.
    """

    def __init__(self, folder: Path) -> None:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        self._places = [folder / name, Path(tempfile.gettempdir()) / f"cxrbench-{name}"]

    def enter(self, problem: CxrBenchError) -> None:
        """Write the traceback of an unexpected error, which names the file from now on; others are no bugs."""
        if not isinstance(problem, UnexpectedError) or problem.log is not None:
            return
        entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {problem}\n{problem.trace}\n"
        while self._places:
            try:
                self._places[0].parent.mkdir(parents=True, exist_ok=True)
                with self._places[0].open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(entry)
            except (OSError, ValueError):
                self._places.pop(0)  # neither folder nor room: the next place is as good
            else:
                problem.log = self._places[0]
                return
