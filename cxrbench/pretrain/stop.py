"""SIGTERM, which SLURM and torchrun send before they kill, as a wish that a run grants at the end of its step."""

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager

from cxrbench.pretrain.batches import Batch
from cxrbench.pretrain.engine import Processes

PATIENCE_S = 10  # SLURM and torchrun may pass one wish on twice, at once


class Wish:
    """Whether this process was asked to stop, and whether all processes have agreed to."""

    def __init__(self, processes: Processes) -> None:
        self.granted = False
        self._told, self._since, self._processes = False, 0.0, processes

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, SIGTERM is remembered and ends nothing, but for one that comes `PATIENCE_S` after another.

        That one ends the process at once, which may hang. No change in a thread that the signal does not reach.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _hear(self, *_: object) -> None:
        now = time.monotonic()
        if self._told and now - self._since >= PATIENCE_S:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._told:
            self._told, self._since = True, now

    def until(self, batches: Generator[Batch]) -> Iterator[Batch]:
        """The batches, until one process is asked to stop, which all know before they take the next; none after that.

        Every process must take equally many.
        """
        with closing(batches):
            while not self.granted and (batch := next(batches, None)) is not None:
                self.granted = bool(self._processes.most(int(self._told)))
                if not self.granted:
                    yield batch
