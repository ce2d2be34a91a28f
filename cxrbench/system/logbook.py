"""Tracebacks in a file, for whoever mends the bug; people see one line that names it."""

import os
import tempfile
import time
from pathlib import Path

from cxrbench.errors import CxrBenchError, UnexpectedError


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
