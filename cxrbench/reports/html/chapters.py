"""What a report has chapters for: one for each variant, synthetic numbers never beside measured ones."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from cxrbench.records.integrity import faults
from cxrbench.records.record import Record
from cxrbench.records.selection import PROTOTYPES, Selected, Setting, every_setting
from cxrbench.records.validity import contaminated
from cxrbench.specs.task import TaskSpec
from cxrbench.types import KINDS, shots_order

Job = TypeVar("Job")
Done = TypeVar("Done")
WORTH = 150  # cells that take as long as the start of another process


@dataclass(frozen=True, slots=True)
class ReportWork:
    """Where predictions lie, by how many processes, and whether intervals speak of other test images alone.

    `metrics` are names of further ones that each cell shows.
    """

    out: Path
    workers: int = 1
    these_draws: bool = False
    metrics: tuple[str, ...] = ()

    def each(self, do: Callable[[Job], Done], jobs: Iterable[Job], weight: int = 1) -> list[Done]:
        """What `do` makes of every job, in their order; a job counts as `weight` cells. Both must be picklable."""
        todo = list(jobs)
        workers = min(self.workers, len(todo), 1 + weight * len(todo) // WORTH)
        if workers < 2:
            return [do(job) for job in todo]
        # Not forked: the parent's libraries may hold threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(pool.map(do, todo, chunksize=max(1, len(todo) // (8 * workers))))


GROUPS = ("all", "base", "new")


@dataclass(frozen=True, slots=True)
class Chapter:
    """The records of one variant, either all measured or all of synthetic weights or images, by setting.

    `records` are those that a setting uses, by id; `all` also older ones of the same cells.
    """

    synthetic: bool
    variant: str
    variant_digest: str
    settings: tuple[Selected, ...]
    records: Mapping[str, Record]
    all: tuple[Record, ...]

    def in_detail(self, setting: Setting) -> bool:
        """Whether a setting is shown down to its classes: the probes of most shots of each group, and one prompt set.

        Queries have no classes.

        That is the one of most records, of equals the first by name; class vectors of a model's own go with it.
        """
        if setting.kind == "retrieval":
            return False
        own = [s for s in self.settings if (s.setting.group, s.setting.kind) == (setting.group, setting.kind)]
        most = max((s.setting.shots for s in own), key=shots_order, default=None)
        if setting.shots is not None and setting.shots != most:
            return False
        if setting.shots is not None and setting.prompts is None:
            return True
        asked = sorted((-sum(map(len, s.records.values())), s.setting.prompts) for s in own if s.setting.prompts)
        return setting.prompts in (asked[0][1], PROTOTYPES)


def chapters(records: Sequence[Record]) -> list[Chapter]:
    """The chapters in their order: measured ones first, then by the name of the variant."""
    keys = sorted({(r.synthetic, r.variant, r.variant_digest) for r in records})
    return [_chapter(*key, [r for r in records if (r.synthetic, r.variant, r.variant_digest) == key]) for key in keys]


def _chapter(synthetic: bool, variant: str, variant_digest: str, own: list[Record]) -> Chapter:
    settings = tuple(sorted(every_setting(own), key=lambda found: _place(found.setting)))
    used = {r.id: r for setting in settings for row in setting.records.values() for r in row.values()}
    return Chapter(synthetic, variant, variant_digest, settings, used, tuple(own))


def _place(setting: Setting) -> tuple[int, str, int]:
    """Groups that many tasks have before those of a single one; tasks of one kind after those of another."""
    return (
        KINDS.index(setting.kind),
        setting.protocol,
        GROUPS.index(setting.group) if setting.group in GROUPS else len(GROUPS),
    )


def sound(work: ReportWork, records: Sequence[Record]) -> tuple[list[Record], dict[str, tuple[str, ...]]]:
    """The records that are what their predictions say, and the others by id with what is wrong."""
    found = zip(records, work.each(partial(faults, work.out), records), strict=True)
    wrong = {record.id: nameless(work, told) for record, told in found}
    return [r for r in records if not wrong[r.id]], {ident: told for ident, told in wrong.items() if told}


def nameless(work: ReportWork, told: Sequence[str]) -> tuple[str, ...]:
    """What is wrong, in words that name no folder of the machine."""
    return tuple(one.replace(f"{work.out}{os.sep}", f"results{os.sep}") for one in told)


def marked(record: Record, tasks: Mapping[str, TaskSpec | None]) -> bool:
    """Whether the model was pre-trained on the task's own collection (†); False where that is not known."""
    task = tasks[record.data.task]
    return task is not None and contaminated(record.model.pretraining.split("+"), task)
