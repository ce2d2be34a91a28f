"""What pre-training saw against what it never saw: zero-shot accuracy of both, with chance, and by frequency."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cxrbench.analysis.cell import cell_interval
from cxrbench.analysis.frequency import frequency
from cxrbench.models.dlilp_layout import Vocabulary
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.reports.comparisons import MADE, grid, interval_text, percent
from cxrbench.reports.sheets import frequency_sheet, render
from cxrbench.specs import catalog, paths
from cxrbench.specs.paper import MISSING
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import read_toml

GROUPS = ("base", "new")
PROMPTS = "ensemble"
BY_CLASS = ("nih_lt", "all")  # the task and group with classes of both kinds


def seen_and_unseen(records: Sequence[Record], results: Path) -> str:
    """Zero-shot balanced accuracy of the groups base and new of each encoder with 95 % intervals, and that of chance.

    A dash: the encoder has no word for a class of the group, so nothing is scored.
    """
    tasks = [task for task in map(catalog.load_task, catalog.task_files()) if {*GROUPS} <= {*task.groups}]
    columns = [(task, group) for task in tasks for group in GROUPS]
    wanted = {(task.name, group) for task, group in columns}
    cells = {
        (record.model.name, record.data.task, record.data.group): interval_text(
            cell_interval(read_cell(results, record), "balanced_accuracy")
        )
        for record in zero_shot(records)
        if (record.data.task, record.data.group) in wanted
    }
    names = sorted({name for name, _, _ in cells})
    rows = [[name, *(cells.get((name, task.name, group), MISSING) for task, group in columns)] for name in names]
    rows.append(["chance", *(percent(1 / len(task.groups[group])) for task, group in columns)])
    title = f"{MADE}zero-shot, balanced accuracy in percent: findings that pre-training saw (base) and never saw (new)"
    return f"{title}\n\n{grid(rows, ['', *(_head(task, group) for task, group in columns)], 'terminal')}"


def sheets(records: Sequence[Record], shares: Mapping[str, float | None]) -> str:
    """Recall of each class of NIH-LT beside its share of the pre-training images, of encoders that read all its names.

    `shares` are those of the corpus by finding.
    """
    words = read_toml(paths.folder("model_zoo") / "dlilp_vocabulary.toml", Vocabulary)
    same = {name: of[0] for name, of in words.aliases.items() if len(of) == 1}
    views = [
        frequency(record, shares, same)
        for record in zero_shot(records)
        if (record.data.task, record.data.group) == BY_CLASS
    ]
    return render(views, lambda: [frequency_sheet(view, synthetic=True) for view in views], "terminal")


def zero_shot(records: Sequence[Record]) -> list[Record]:
    """The zero-shot records of Table 2: by the ensemble of prompts, or by prototypes."""
    return [
        record
        for record in records
        if record.protocol.protocol == "zero-shot"
        and record.prompts is not None
        and (record.prompts.set == PROMPTS or record.prompts.source == "prototypes")
    ]


def _head(task: TaskSpec, group: str) -> str:
    return f"{task.title} {group} ({len(task.groups[group])})"
