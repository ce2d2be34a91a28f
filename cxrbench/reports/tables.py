"""Tables of the paper as text: for the terminal, Markdown, CSV, JSON and LaTeX; and Table 1."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from cxrbench.analysis.paper_tables import PERCENT, PRETRAINED, TableCell, TableView, ViewRow
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import CxrBenchError
from cxrbench.evaluate.metric_table import NumberFormat
from cxrbench.evaluate.statistics.interval import FoldSpread, Interval, covering, covers_short
from cxrbench.reports.comparisons import number_text
from cxrbench.reports.latex import as_latex, sheet_as_latex
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, Table1Row, table1
from cxrbench.specs.settings import Variant
from cxrbench.types import Partition

SEEN, COPIED = "†", "‡"
Format = Literal["terminal", "markdown", "latex", "csv", "json"]


def shown(value: Decimal | None, *, sign: bool = False) -> str:
    """A number with its decimals, or a dash."""
    if value is None:
        return MISSING
    return f"{value:+}" if sign else f"{value}"


def render(view: TableView, form: Format) -> str:
    """The whole table as text in one of the formats, ending in a line feed."""
    if form == "json":
        return as_json(view)
    if form == "csv":
        return as_csv(view)
    return as_latex(view) if form == "latex" else as_grid(view, form)


def render_all(views: Sequence[TableView], form: Format) -> str:
    """Several tables as text: one after the other, as lines of one CSV file, or as a list in JSON."""
    if form == "json":
        return json.dumps([_body(view) for view in views], indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        return _csv([entry for view in views for entry in flat(view)])
    return "\n".join(render(view, form) for view in views)


def as_grid(view: TableView, form: Literal["terminal", "markdown"]) -> str:
    """Up to five lines a row: as printed, measured, its interval, its spread over folds, and the difference.

    Rows without a record show what is printed.
    """
    from tabulate import tabulate

    style = {"terminal": "simple", "markdown": "github"}[form]
    head = head_of(view)
    bodies = [
        (f"{name}\n\n" if name else "")
        + tabulate(lines, head, tablefmt=style, disable_numparse=True, stralign="left", colalign=_align(view))
        for name, lines in sections(view)
    ]
    return "\n\n".join([_title(view, form), *bodies, *_footnotes(view)]) + "\n"


def head_of(view: TableView) -> list[str]:
    """The head over the lines of `sections`."""
    return ["", "", *(title for _, title in view.columns)]


def sections(view: TableView) -> list[tuple[str, list[list[str]]]]:
    """Each section's name, and its lines: row, what the line says, and a text for each column."""
    found: list[tuple[str, list[list[str]]]] = []
    section: str | None = None
    for row in view.rows:
        if row.section != section:
            found.append((row.section, []))
            section = row.section
        found[-1][1].extend(_lines(view, row))
    return found


def _align(view: TableView) -> list[str]:
    return ["left", "left", *("right" for _ in view.columns)]


def _lines(view: TableView, row: ViewRow) -> list[list[str]]:
    cells = [row.cells[name] for name, _ in view.columns]
    formats = [view.format_of(name) for name, _ in view.columns]

    def each(text: Callable[[TableCell, NumberFormat], str]) -> list[str]:
        return [text(cell, how) for cell, how in zip(cells, formats, strict=True)]

    lines = [("paper" if view.number is not None else "published", [_published(cell) for cell in cells])]
    if any(cell.measured is not None for cell in cells):
        lines.append(("measured", [shown(cell.measured) + _marks(cell) for cell in cells]))
        lines.append(
            (f"95 %, {covers_short(cell.interval for cell in cells)}", each(lambda c, how: ends(c.interval, how)))
        )
        lines.append(("std over folds", each(lambda c, how: _std(c.spread, how))))
        lines.append(("over", [cell.beside or MISSING for cell in cells]))
        lines.append(("difference", [shown(cell.difference, sign=True) for cell in cells]))
    told = [line for line in lines if set(line[1]) != {MISSING}] or lines[:1]
    return [[row.name if place == 0 else "", what, *values] for place, (what, values) in enumerate(told)]


def _published(cell: TableCell) -> str:
    return cell.published + SEEN * (cell.seen and cell.published != MISSING) + COPIED * cell.copied


def _marks(cell: TableCell) -> str:
    return "*" * bool(cell.flaws) + SEEN * (cell.seen and cell.measured is not None) + cell.marks


def ends(interval: Interval | None, how: NumberFormat = PERCENT) -> str:
    """Both ends as numbers are written, in percent with two decimals unless told otherwise, or a dash."""
    if interval is None or interval.low is None or interval.high is None:
        return MISSING
    return f"[{number_text(interval.low, how)}, {number_text(interval.high, how)}]"


def _std(spread: FoldSpread | None, how: NumberFormat) -> str:
    return MISSING if spread is None or spread.std is None or spread.folds < 2 else number_text(spread.std, how)


def _title(view: TableView, form: str) -> str:
    return f"{'## ' if form == 'markdown' else ''}{view.heading}\n{view.source}"


def _footnotes(view: TableView) -> list[str]:
    return ["\n".join(f"note: {note}" for note in notes(view))]


def notes(view: TableView) -> list[str]:
    """What a reader of the table must know: its variant, its marks, its intervals, then the view's own notes."""
    cells = [cell for row in view.rows for cell in row.cells.values()]
    known = view.intervals
    told = [f"variant: {view.variant}"]
    if any(cell.flaws for cell in cells):
        told.append("* not comparable, see below")
    if any(cell.seen for cell in cells):
        told.append(f"{SEEN} {PRETRAINED}")
    means = "; averages speak of these tasks" if view.number is not None else ""
    told += [f"95 % intervals: {covering(known)}{means}"] if known else []
    return [*told, *_uncertainty(cells), *view.notes]


def _uncertainty(cells: Sequence[TableCell]) -> Iterator[str]:
    """What spreads are, and what to beware of in intervals."""
    spreads = {cell.spread.relation for cell in cells if cell.spread is not None and cell.spread.folds > 1}
    if spreads:
        yield f"the std over folds ({', '.join(sorted(spreads))}) is no standard error"
    reasons = Counter(cell.interval.reason for cell in cells if cell.interval is not None and cell.interval.reason)
    yield from (f"{reason} ({number} cell{'s' * (number > 1)})" for reason, number in sorted(reasons.items()))


def flat(view: TableView) -> list[dict[str, str | None]]:
    """One entry a cell, its numbers as text; those of intervals and spreads 0 to 1, the others in percent."""
    return [_entry(view, row, name) for row in view.rows for name, _ in view.columns]


def _entry(view: TableView, row: ViewRow, name: str) -> dict[str, str | None]:
    titles, cell = dict(view.columns), row.cells[name]
    return {
        "table": None if view.number is None else str(view.number),
        "section": row.section,
        "row": row.name,
        "model": row.model,
        "control": "yes" if row.control else None,
        "column": titles[name],
        **view.about.get(name, {}),
        **({"source": cell.source} if view.number is None else {}),
        "published": None if cell.published == MISSING else cell.published,
        "measured": None if cell.measured is None else str(cell.measured),
        "difference": None if cell.difference is None else str(cell.difference),
        "record": cell.record,
        "flaws": "; ".join(cell.flaws) or None,
        "seen": "yes" if cell.seen else None,
        "marks": cell.marks or None,
        **cell.about,
        **_certainty(cell),
    }


def _certainty(cell: TableCell) -> dict[str, str | None]:
    """Unrounded, 0 to 1; empty without intervals."""
    interval, spread = cell.interval, cell.spread
    bounds = (None, None) if interval is None else (interval.low, interval.high)
    return {
        "covers": None if interval is None else interval.words,
        "low": None if bounds[0] is None else repr(bounds[0]),
        "high": None if bounds[1] is None else repr(bounds[1]),
        "units": None if interval is None else f"{interval.units} {interval.over}s",
        "fold_std": None if spread is None or spread.std is None else repr(spread.std),
        "folds": None if spread is None else f"{spread.folds}, {spread.relation}",
        "standing": cell.standing,
        "beware": None if interval is None else interval.reason or None,
    }


def as_csv(view: TableView) -> str:
    """One line a cell, with the record that measures it; missing values are empty."""
    return _csv(flat(view))


def _csv(entries: Sequence[Mapping[str, str | None]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, entries[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return out.getvalue()


def as_json(view: TableView) -> str:
    """The table with its title, variant, notes and cells; numbers are text, so that no decimal is lost."""
    return json.dumps(_body(view), indent=1, ensure_ascii=False) + "\n"


def _body(view: TableView) -> dict[str, Any]:
    return {
        "title": view.title,
        "source": view.source,
        "variant": view.variant,
        "notes": view.notes,
        "cells": flat(view),
    }


_HEAD = (
    "data set",
    "split",
    "printed train / test / labels",
    "here train / test / labels",
    "images",
    "why they differ",
)


def sizes(variant: Variant, roots: Mapping[str, Path], cache: Path, form: Format) -> str:
    """Printed and measured sizes of the seven evaluation sets under a variant's splits, and of the pre-training sets.

    A data set that is not on this disk shows a dash and why.
    """
    printed = table1()
    rows = [_data_set_row(row, variant, roots, cache) for row in printed.rows]
    rows += [
        (row.name, "pre-training", f"{row.images:,} / – / {row.labels}", MISSING, MISSING, row.reason)
        for row in printed.pretraining
    ]
    return _rendered(rows, printed.source, variant.name, form)


def _data_set_row(row: Table1Row, variant: Variant, roots: Mapping[str, Path], cache: Path) -> tuple[str, ...]:
    told = f"{row.train:,} / {row.test:,} / {row.labels}"
    task, root = catalog.load_task(row.task), roots.get(row.task) or roots.get("")
    split = variant.split_of(task)
    if root is None:
        return row.name, split, told, MISSING, MISSING, f"no --data-root; as published: {row.reason}"
    try:
        partition = load_partition(root, task, split, cache)
    except CxrBenchError as error:
        return row.name, split, told, MISSING, MISSING, str(error)
    here = _here(partition, variant)
    mark = "PHANTOM: " if partition.synthetic else ""
    return row.name, split, told, mark + here, _images(partition), "" if here == told else row.reason


def _here(partition: Partition, variant: Variant) -> str:
    labels = catalog.load_task(partition.task).groups
    name = "all-20" if "all-20" in labels and variant.settings.nih_classes == "20" else "all"
    train = partition.parts.get("train") or partition.parts["all"]
    test = partition.parts.get("test") or partition.parts["all"]
    return f"{len(train):,} / {len(test):,} / {len(labels[name])}"


def _images(partition: Partition) -> str:
    ids = {image for part in partition.parts.values() for image in part.ids}
    lost = len(partition.findings.missing)
    return f"{len(ids):,} distinct" + (f", {lost:,} missing" if lost else "")


def _rendered(rows: list[tuple[str, ...]], source: str, variant: str, form: Format) -> str:
    if form == "json":
        named = [dict(zip(_HEAD, row, strict=True)) for row in rows]
        return json.dumps({"source": source, "variant": variant, "rows": named}, indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([_HEAD, *rows])
        return out.getvalue()
    about = "Evaluation sets, printed and here"
    if form == "latex":
        return sheet_as_latex(about, "1", _HEAD, rows, f"{source}. Variant: {variant}.")
    from tabulate import tabulate

    style = {"terminal": "simple", "markdown": "github"}[form]
    widths = [None, None, None, None, None, 60 if form == "terminal" else None]
    mark = "## " if form == "markdown" else ""
    title = f"{mark}Table 1. {about}\n{source}\nvariant: {variant}"
    return f"{title}\n\n{tabulate(rows, _HEAD, tablefmt=style, disable_numparse=True, maxcolwidths=widths)}\n"
