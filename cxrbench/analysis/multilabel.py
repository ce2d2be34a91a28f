"""Measured multi-label cells beside published numbers of the same list, labels, average and protocol."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrbench.analysis.cell_table import cell_table, task_title
from cxrbench.analysis.paper_tables import TableCell, TableView, ViewRow
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import MACRO_AUROC
from cxrbench.records.record import Record
from cxrbench.records.selection import CellFilter
from cxrbench.records.validity import flaws
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING
from cxrbench.specs.published import PublishedList, PublishedRow, published_lists
from cxrbench.specs.settings import Variant

PROTOCOL = "zero-shot"
SECTION = "published, not measured here"
COPIED = "‡ not read in the source that measured it; it decides no check"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A published number that stands in no column, and why."""

    model: str
    finding: str | None
    metric: str
    value: str
    unit: str
    data_set: str
    list: str
    protocol: str
    source: str
    known: str
    reason: str


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """The table, and the published numbers that are not in it."""

    view: TableView
    elsewhere: tuple[Elsewhere, ...]


def multilabel(
    out: Path,
    records: Iterable[Record],
    variant: Variant,
    *,
    synthetic: bool = False,
    intervals: bool = True,
    these_draws: bool = False,
) -> MultiLabel:
    """Zero-shot macro AUROC of every multi-label task and group, measured beside published.

    A column is a task and group that was measured or that a published list is of. A published number stands beside a
    measured one where `why_not_beside` finds nothing against it. Raises what `cell_table` does but for an absence of
    records.
    """
    own = [record for record in records if _is_meant(record, variant, synthetic=synthetic)]
    lists = published_lists()
    shown = [one for one in lists if not synthetic and why_no_column(one) == ""]
    measured = _measured(out, own, variant, synthetic=synthetic, intervals=intervals, these_draws=these_draws)
    known = {record.id: record for record in own}
    places = dict.fromkeys((about["task"] or "", about["group"] or "") for about in measured.about.values())
    places |= dict.fromkeys((one.task or "", one.group or "") for one in shown)
    columns = tuple((f"{task}: {group}", _column_title(task, group)) for task, group in sorted(places, key=_order))
    refused = dict[tuple[str, str], tuple[str, ...]]()
    rows = [_row(row, measured, columns, shown, known, refused) for row in measured.rows]
    rows += _published_rows(shown, columns, {row.model for row in measured.rows if not row.control})
    if not rows:
        raise DataError(
            f"{out}: there is no synthetic record of a multi-label task, scored zero-shot by {variant.name}"
        )
    marked = any(cell.copied for row in rows for cell in row.cells.values())
    notes = [
        *measured.notes,
        *(f"{name}: published {value} is not beside it: {'; '.join(why)}" for (name, value), why in refused.items()),
        *([COPIED] if marked else []),
    ]
    mark = "PHANTOM, synthetic images or weights, no result: " if synthetic else ""
    view = replace(
        measured,
        title=f"{mark}Multi-label tasks, zero-shot, macro AUROC in percent",
        source="published numbers: results/published/multilabel.toml, each with its source",
        variant=variant.name,
        columns=columns,
        rows=tuple(rows),
        notes=tuple(notes),
        about={name: {"task": name.split(": ")[0], "group": name.split(": ")[1]} for name, _ in columns},
        formats={},
    )
    return MultiLabel(view, tuple(_elsewhere(lists)))


def _is_meant(record: Record, variant: Variant, *, synthetic: bool) -> bool:
    return (
        record.variant_digest == variant.digest
        and record.synthetic == synthetic
        and record.protocol.protocol == PROTOCOL
        and record.data.kind == "multi-label"
    )


def _measured(
    out: Path, own: Sequence[Record], variant: Variant, *, synthetic: bool, intervals: bool, these_draws: bool
) -> TableView:
    """The cells by macro AUROC, of each model, task and group in the prompt set that is shown (`presence` first)."""
    if not own:
        return TableView(None, "", "", variant.name, (), (), ())
    sets = sorted({r.prompts.set for r in own if r.prompts is not None and r.prompts.source == "prompts"})
    prompts = "presence" if "presence" in sets or not sets else sets[0]
    asked = CellFilter(("all",), variant, ("all",), None, PROTOCOL, None, prompts, synthetic)
    view = cell_table(out, own, asked, (MACRO_AUROC,), intervals=intervals, these_draws=these_draws)
    others = [name for name in sets if name != prompts]
    told = [f"prompts {prompts}; measured with {', '.join(others)} too: `cxrbench table` shows each"] if others else []
    return replace(view, notes=(*view.notes, *told))


def _column_title(task: str, group: str) -> str:
    return task_title(task) if group == "all" else f"{task_title(task)}, {group}"


def _order(place: tuple[str, str]) -> tuple[int, str, bool, str]:
    names = list(catalog.task_files())
    task, group = place
    return (names.index(task) if task in names else len(names), task, group != "all", group)


def why_no_column(one: PublishedList) -> str:
    """Why a list's numbers are in no column of the table; empty where they are in one."""
    if one.task is None:
        return one.why
    if one.protocol != PROTOCOL:
        return f"{one.protocol}: no protocol here fits the encoder itself"
    if one.metric != MACRO_AUROC.name:
        return f"the table shows {MACRO_AUROC.title}"
    return ""


def why_not_beside(one: PublishedList, record: Record) -> tuple[str, ...]:
    """Reasons against a published number beside a measured one: other list, labels, average or protocol, or a flaw."""
    data, reasons = record.data, list[str]()
    if (one.task, one.group) != (data.task, data.group):
        reasons.append(f"it is of {one.task or one.list}, group {one.group}")
    if rows := sorted({fold.test_rows for fold in record.folds} - {one.images}):
        reasons.append(f"it is of {one.images:,} images, and {rows[0]:,} were scored here")
    if one.labels != len(data.labels):
        reasons.append(f"its average is over {one.labels} labels, and here over {len(data.labels)}")
    undefined = [
        label
        for place, label in enumerate(data.labels)
        if any("auroc" in fold.metrics and fold.metrics["auroc"][place] is None for fold in record.folds)
    ]
    if undefined:
        reasons.append(f"its average is over all labels, and here {', '.join(undefined)} has no AUROC")
    if one.protocol != record.protocol.protocol:
        reasons.append(f"it is {one.protocol}")
    if record.synthetic:
        reasons.append("the weights or images are synthetic")
    if data.reference == "differs":
        reasons.append("the rows are not those of the known split")
    return tuple(dict.fromkeys([*reasons, *flaws(record)]))


def _row(
    row: ViewRow,
    measured: TableView,
    columns: Sequence[tuple[str, str]],
    shown: Sequence[PublishedList],
    known: Mapping[str, Record],
    refused: dict[tuple[str, str], tuple[str, ...]],
) -> ViewRow:
    own = {f"{about['task']}: {about['group']}": row.cells[name] for name, about in measured.about.items()}
    cells = {}
    for name, title in columns:
        cell = own.get(name, TableCell(MISSING))
        found = _published(shown, name, row.model)
        record = known.get(cell.record or "")
        if found is not None and record is not None:
            if why := why_not_beside(found[0], record):
                refused[f"{row.name}, {title}", found[1].value] = why
                found = None
        elif found is not None and cell.record is None and row.control:
            found = None
        cells[name] = cell if found is None else _beside(cell, *found)
    return replace(row, cells=cells)


def _published(
    shown: Sequence[PublishedList], name: str, card: str | None, model: str = ""
) -> tuple[PublishedList, PublishedRow] | None:
    """The number of a model in a column: read first-hand before others, then by the order of the file."""
    found = [
        (one, row)
        for one in shown
        for row in one.rows
        if f"{one.task}: {one.group}" == name and (row.card == card if card else (row.card, row.model) == (None, model))
    ]
    return min(found, key=lambda pair: not pair[1].first_hand, default=None)


def _beside(cell: TableCell, one: PublishedList, row: PublishedRow) -> TableCell:
    """The cell with a published number and where it is from."""
    return replace(
        cell,
        published=str(one.percent(row)),
        copied=not row.first_hand,
        source=f"{one.source} ({row.known}; {one.read_in})",
    )


def _published_rows(
    shown: Sequence[PublishedList], columns: Sequence[tuple[str, str]], measured: set[str]
) -> list[ViewRow]:
    """Models of which nothing is measured, by name, with what is printed of them."""
    models = {(row.card, row.card or row.model): row.model for one in shown for row in one.rows}
    found = []
    for (card, name), model in sorted(models.items(), key=lambda pair: pair[1].lower()):
        if name in measured:
            continue
        printed = {column: _published(shown, column, card, model) for column, _ in columns}
        empty = TableCell(MISSING)
        cells = {column: empty if one is None else _beside(empty, *one) for column, one in printed.items()}
        found.append(ViewRow(SECTION, model, name, cells))
    return found


def _elsewhere(lists: Sequence[PublishedList]) -> Iterable[Elsewhere]:
    for one in lists:
        if reason := why_no_column(one):
            for row in one.rows:
                about = (one.metric, row.value, one.unit, one.data_set, one.list)
                how = " ".join(filter(None, (one.protocol, one.fraction)))
                yield Elsewhere(row.model, row.finding, *about, how, one.source, row.known, reason)
