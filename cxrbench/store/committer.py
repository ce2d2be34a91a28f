"""One thread that writes for everybody, and makes all that it wrote durable once a second or so."""

import time
from collections.abc import Callable
from queue import Empty, Full, Queue
from threading import Thread
from types import TracebackType

EVERY_S = 1.0  # seconds between two commits: what a kill can lose, beside what waits to be written
_MOST_WAITING = 64  # jobs; whoever has more waits until some are done
_PATIENCE_S = 0.1  # seconds after which a waiting caller looks whether the thread still lives

Job = Callable[[], None]


class Committer:
    """Does jobs one after the other on a thread of its own, and `commit` after them at intervals.

    A context manager: leaving it does all that waits, commits, and raises what a job could not contain.
    """

    def __init__(self, commit: Job) -> None:
        self._commit, self._jobs = commit, Queue[Job | None](_MOST_WAITING)
        self._failed: BaseException | None = None
        self._thread = Thread(target=self._work, name="committer", daemon=True)

    def submit(self, job: Job) -> None:
        """Have a job done; waits while many are waiting. Raises what an earlier one could not contain."""
        while True:
            if self._failed is not None:
                raise self._failed
            try:
                return self._jobs.put(job, timeout=_PATIENCE_S)
            except Full:
                continue

    def _work(self) -> None:
        due: float | None = None  # when what was written since the last commit is to be durable
        while True:
            try:
                job = self._jobs.get(timeout=None if due is None else max(due - time.monotonic(), 0.0))
                if job is None:
                    return self._contained(self._commit)
                self._contained(job)
                due = time.monotonic() + EVERY_S if due is None else due
            except Empty:
                pass
            if due is not None and time.monotonic() >= due:
                self._contained(self._commit)
                due = None

    def _contained(self, job: Job) -> None:
        """Do a job; what it lets through is kept, and the others are done all the same."""
        try:
            job()
        except BaseException as error:
            self._failed = self._failed or error

    def __enter__(self) -> "Committer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.put(None)
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed
