"""Many cells at once: the same results from as many processes as there are cores."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")

WORTH = 150  # cells that take as long as the start of another process


@dataclass(frozen=True, slots=True)
class Work:
    """Where predictions lie, by how many processes, and whether intervals speak of other test images alone."""

    out: Path
    workers: int = 1
    these_draws: bool = False

    def each(self, do: Callable[[Job], Done], jobs: Iterable[Job], weight: int = 1) -> list[Done]:
        """What `do` makes of every job, in their order; a job counts as `weight` cells. Both must be picklable."""
        todo = list(jobs)
        workers = min(self.workers, len(todo), 1 + weight * len(todo) // WORTH)
        if workers < 2:
            return [do(job) for job in todo]
        # Not forked: the parent's libraries may hold threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(pool.map(do, todo, chunksize=max(1, len(todo) // (8 * workers))))
