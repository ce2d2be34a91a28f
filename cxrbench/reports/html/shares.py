"""Predictions read once: pages of cells, and what boards are put together from, some tasks and settings at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.leaderboard import Refused, Row, TaskRow, by_shared_patients, task_row
from cxrbench.analysis.means import Part, Weighted, part_of
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, load_metric
from cxrbench.records.cells import prompt_set
from cxrbench.records.integrity import checked_cell
from cxrbench.records.predictions import namespace
from cxrbench.records.record import Record, predictions_path
from cxrbench.records.selection import Selected, Setting
from cxrbench.reports.html.cells import CellAsked, CellPage, cell_page
from cxrbench.reports.html.chapters import Chapter, ReportWork, nameless

METRIC = BALANCED_ACCURACY  # what boards, tables and curves show
MOST_BYTES = 64_000_000  # of predictions, as they lie on the disk, that one share reads


@dataclass(frozen=True, slots=True)
class ShownShare:
    """Settings on tasks that may show the same patients, with the models that each one's board ranks: none below three.

    `marked` and `detail` are ids of records.
    """

    settings: tuple[Selected, ...]
    ranked: tuple[tuple[str, ...], ...]
    marked: frozenset[str]
    detail: frozenset[str]

    @property
    def records(self) -> dict[str, Record]:
        """Its records by id, each once."""
        return {r.id: r for setting in self.settings for row in setting.records.values() for r in row.values()}


@dataclass(frozen=True, slots=True)
class Added:
    """What some tasks add to a board: rows of the ranked models, tasks that are in no ranking, and parts by model.

    Parts are there for the models that were measured on all of these tasks.
    """

    rows: tuple[TaskRow, ...]
    refused: Mapping[str, Refused]
    parts: Mapping[str, Part]


@dataclass(frozen=True, slots=True)
class Computed:
    """Pages by record, and what is added to the board of each setting.

    Where `faults` names records whose predictions do not hold, nothing else was computed.
    """

    faults: Mapping[str, tuple[str, ...]]
    pages: Mapping[str, CellPage]
    added: Mapping[Setting, Added]


Measured = Mapping[str, Measurement]  # by record


def shares(
    work: ReportWork, chapter: Chapter, ranked: Mapping[Setting, tuple[str, ...]], marked: frozenset[str]
) -> list[ShownShare]:
    """Everything that a chapter shows, in shares of related tasks and bounded size; a setting is in one for each."""
    detail = frozenset(
        r.id for r in chapter.records.values() if chapter.in_detail(r.protocol.shots, r.data.group, prompt_set(r))
    )
    kin: dict[str, set[str]] = {}
    for task in dict.fromkeys(r.data.task for r in chapter.records.values()):
        kin.setdefault(namespace(task, "patient"), set()).add(task)
    found = []
    for tasks in kin.values():
        own = [replace(s, records={t: row for t, row in s.records.items() if t in tasks}) for s in chapter.settings]
        for some in _bounded(work.out, [setting for setting in own if setting.records]):
            models = tuple(ranked.get(setting.setting, ()) for setting in some)
            found.append(ShownShare(tuple(some), models, marked, detail))
    return found


def _bounded(out: Path, settings: Sequence[Selected]) -> Iterator[list[Selected]]:
    """Settings put together as long as their predictions are small enough; a file that is gone counts nothing."""
    some, total = list[Selected](), 0
    for setting in settings:
        records = chain(*(row.values() for row in setting.records.values()))
        size = sum(_size(out, record) for record in records)
        if some and total + size > MOST_BYTES:
            yield some
            some, total = [], 0
        some, total = [*some, setting], total + size
    if some:
        yield some


def _size(out: Path, record: Record) -> int:
    path = predictions_path(out, record)
    return path.stat().st_size if path.is_file() else 0


def computed(work: ReportWork, share: ShownShare) -> Computed:
    """Everything of a share, each file read once; only what is wrong where a record is not what its predictions say."""
    read = {ident: checked_cell(work.out, record) for ident, record in share.records.items()}
    if faults := {ident: nameless(work, told) for ident, (_, told) in read.items() if told}:
        return Computed(faults, {}, {})
    more = tuple(load_metric(name) for name in work.metrics)
    measured = {
        ident: measurement(cell, METRIC, these_draws=work.these_draws)
        for ident, (cell, _) in read.items()
        if cell is not None
    }
    pages = {
        ident: cell_page(found, CellAsked(ident in share.marked, ident in share.detail, work.these_draws, more))
        for ident, found in measured.items()
    }
    boards = zip(share.settings, share.ranked, strict=True)
    return Computed({}, pages, {own.setting: _added(own, models, measured) for own, models in boards})


def _added(setting: Selected, ranked: tuple[str, ...], measured: Measured) -> Added:
    """What the tasks of a setting add to its board."""
    found = {
        task: {model: measured[record.id] for model, record in row.items()} for task, row in setting.records.items()
    }
    whole = [model for model in setting.models if all(model in row for row in found.values())]
    parts = {model: part_of([Weighted(row[model], 1.0) for row in found.values()]) for model in whole}
    rows, refused = _rows(replace(setting, models=ranked), found) if len(ranked) > 2 else ((), {})
    return Added(rows, refused, parts)


def _rows(selected: Selected, found: Mapping[str, Row]) -> tuple[tuple[TaskRow, ...], dict[str, Refused]]:
    """The rows of the tasks on which all ranked models can be paired, by shared patients, and why others have none."""
    groups, refused = by_shared_patients(selected, found)
    rows = list[TaskRow]()
    for group in groups:
        try:
            rows.append(task_row(selected, group))
        except DataError as error:
            refused |= dict.fromkeys(group, (str(error),))
    return tuple(rows), refused
