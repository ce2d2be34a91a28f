"""Predictions read once: pages of cells, and what boards are put together from, some tasks and settings at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.interval import Values, interval_of
from cxrbench.html.cells import ATTRIBUTES, CellAsked, CellPage, cell_page
from cxrbench.html.chapters import Chapter, nameless
from cxrbench.html.work import Work
from cxrbench.record import Record, record_path
from cxrbench.verdict.average import Mean, Part, Weighted, mean_parts, part_of, together
from cxrbench.verdict.drawn import drawn
from cxrbench.verdict.integrity import checked_cell
from cxrbench.verdict.kinship import namespace
from cxrbench.verdict.leaderboard import Refused, TaskRow, task_row
from cxrbench.verdict.predictions import ScoredCell
from cxrbench.verdict.selection import Selected, Setting, prompt_set
from cxrbench.verdict.subgroups import By, Subgroups, subgroups_of

METRIC: Metric = "balanced_accuracy"
MOST_BYTES = 64_000_000  # of predictions, as they lie on the disk, that one share reads
AT_ONCE = 20  # cells whose subgroups are drawn together: a dozen values of each resample for every one


@dataclass(frozen=True, slots=True)
class Share:
    """Settings on tasks that may show the same patients, with the models that each one's board ranks: none below three.

    `weights` is what a task counts in the mean of each setting; `marked` and `detail` are ids of records.
    """

    settings: tuple[Selected, ...]
    ranked: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]
    marked: frozenset[str]
    detail: frozenset[str]

    @property
    def records(self) -> dict[str, Record]:
        """Its records by id, each once."""
        return {r.id: r for setting in self.settings for row in setting.records.values() for r in row.values()}


@dataclass(frozen=True, slots=True)
class Computed:
    """Pages by record; of every setting the rows of its board by task, and the parts of each model's mean by task.

    A part of several tasks stands under the first of them. Where `faults` names records whose predictions do not hold,
    nothing else was computed.
    """

    faults: Mapping[str, tuple[str, ...]]
    pages: Mapping[str, CellPage]
    rows: Mapping[Setting, Mapping[str, TaskRow | Refused]]
    parts: Mapping[Setting, Mapping[str, Mapping[str, Part]]]


Cells = Mapping[str, ScoredCell]  # by record
Drawn = Mapping[str, Values]


def shares(
    work: Work, chapter: Chapter, ranked: Mapping[Setting, tuple[str, ...]], marked: frozenset[str]
) -> list[Share]:
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
            whole = {s.setting: len(s.records) for s in chapter.settings}
            weights = tuple(1 / whole[setting.setting] for setting in some)
            models = tuple(ranked.get(setting.setting, ()) for setting in some)
            found.append(Share(tuple(some), models, weights, marked, detail))
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
    path = record_path(out, record.data.task, record.model.name, record.id).with_name(record.predictions)
    return path.stat().st_size if path.is_file() else 0


def computed(work: Work, share: Share) -> Computed:
    """Everything of a share, each file read once; only what is wrong where a record is not what its predictions say."""
    read = {ident: checked_cell(work.out, record) for ident, record in share.records.items()}
    if faults := {ident: nameless(work, told) for ident, (_, told) in read.items() if told}:
        return Computed(faults, {}, {}, {})
    cells = {ident: cell for ident, (cell, _) in read.items() if cell is not None}
    values = dict(zip(cells, drawn(list(cells.values()), METRIC, work.resamples), strict=True))
    groups = _subgroups({ident: cell for ident, cell in cells.items() if ident in share.detail}, work.resamples)
    pages = {}
    for ident, cell in cells.items():
        asked = CellAsked(ident in share.marked, ident in share.detail, tuple(groups.get(ident, ())))
        pages[ident] = cell_page(cell, interval_of(METRIC, cell.folds, cell.over, values[ident]), asked)
    rows, parts = {}, {}
    for setting, models, weight in zip(share.settings, share.ranked, share.weights, strict=True):
        ranks = len(models) > 2
        rows[setting.setting] = _rows(work, replace(setting, models=models), cells, values) if ranks else {}
        parts[setting.setting] = _parts(work, _whole(setting, weight, cells), values)
    return Computed({}, pages, rows, parts)


def _subgroups(cells: Cells, resamples: int) -> dict[str, list[Subgroups]]:
    """Subgroups of each cell by every attribute that is known of an image."""
    found: dict[str, list[Subgroups]] = {}
    for by in ATTRIBUTES:
        known = [cell for cell in cells.values() if _known(cell, by)]
        for start in range(0, len(known), AT_ONCE):
            some = known[start : start + AT_ONCE]
            for cell, own in zip(some, subgroups_of(some, by, resamples), strict=True):
                found.setdefault(cell.record.id, []).append(own)
    return found


def _known(cell: ScoredCell, by: By) -> bool:
    return any(value is not None for value in cell.about.get(by, ()))


def _rows(work: Work, selected: Selected, cells: Cells, values: Drawn) -> dict[str, TaskRow | Refused]:
    """The tasks of a board of the models that are ranked."""
    found = dict[str, TaskRow | Refused]()
    for task, row in selected.records.items():
        own = {model: (cells[r.id], values[r.id]) for model, r in row.items() if model in selected.models}
        try:
            found[task] = task_row(selected, own, METRIC, work.resamples)
        except DataError as error:
            found[task] = (str(error),)
    return found


def _whole(setting: Selected, weight: float, cells: Cells) -> dict[str, Mean]:
    """What these tasks add to the mean of each model that was measured on all of them."""
    rows = setting.records.values()
    models = [model for model in setting.models if all(model in row for row in rows)]
    return {model: [Weighted(cells[row[model].id], weight) for row in rows] for model in models}


def _parts(work: Work, means: Mapping[str, Mean], values: Drawn) -> dict[str, dict[str, Part]]:
    """The parts of each model's mean, by their first task."""
    found: dict[str, dict[str, Part]] = {model: {} for model in means}
    apart = [(model, own) for model, mean in means.items() for own in together(mean)]
    for model, own in apart:
        if len(own) == 1:
            found[model][own[0].task] = part_of(own[0], METRIC, values[own[0].cell.record.id])
    joint = [(model, own) for model, own in apart if len(own) > 1]
    for (model, own), part in zip(joint, mean_parts([own for _, own in joint], METRIC, work.resamples), strict=True):
        found[model][own[0].task] = part
    return found
