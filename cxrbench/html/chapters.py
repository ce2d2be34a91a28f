"""What a report has chapters for: one for each variant, made numbers never beside measured ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cxrbench import catalog
from cxrbench.audit.contamination import contaminated
from cxrbench.html.work import Work
from cxrbench.record import Record
from cxrbench.regression.integrity import faults
from cxrbench.task import TaskSpec
from cxrbench.verdict.selection import Selected, every_setting


@dataclass(frozen=True, slots=True)
class Chapter:
    """The records of one variant, either all measured or all of made weights or images, by setting.

    `records` are those that a setting uses, by id; `all` also older ones of the same cells.
    """

    synthetic: bool
    variant: str
    variant_digest: str
    settings: tuple[Selected, ...]
    records: Mapping[str, Record]
    all: tuple[Record, ...]

    def in_detail(self, shots: int | None, group: str) -> bool:
        """Whether a setting is shown down to its classes: zero-shot always, probes for the most shots of the group."""
        return shots is None or shots == max(s.setting.shots or 0 for s in self.settings if s.setting.group == group)


def chapters(records: Sequence[Record]) -> list[Chapter]:
    """The chapters in their order: measured ones first, then by the name of the variant."""
    keys = sorted({(r.synthetic, r.variant, r.variant_digest) for r in records})
    return [_chapter(*key, [r for r in records if (r.synthetic, r.variant, r.variant_digest) == key]) for key in keys]


def _chapter(synthetic: bool, variant: str, variant_digest: str, own: list[Record]) -> Chapter:
    settings = tuple(every_setting(own))
    used = {r.id: r for setting in settings for row in setting.records.values() for r in row.values()}
    return Chapter(synthetic, variant, variant_digest, settings, used, tuple(own))


def sound(work: Work, records: Sequence[Record]) -> tuple[list[Record], dict[str, tuple[str, ...]]]:
    """The records that are what their predictions say, and the others by id with what is wrong.

    The words name no folder of the machine.
    """
    found = zip(records, work.each(partial(faults, work.out), records), strict=True)
    wrong = {record.id: tuple(told.replace(str(work.out), "results") for told in all_) for record, all_ in found}
    return [r for r in records if not wrong[r.id]], {ident: told for ident, told in wrong.items() if told}


def known_task(name: str) -> TaskSpec | None:
    """The task of that name where this installation has it."""
    return catalog.load_task(name) if name in catalog.task_files() else None


def marked(record: Record, tasks: Mapping[str, TaskSpec | None]) -> bool:
    """Whether the model was pre-trained on the task's own collection (†); False where that is not known."""
    task = tasks[record.data.task]
    return task is not None and contaminated(record.model.pretraining.split("+"), task)
