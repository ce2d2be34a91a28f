"""A table as text: for the terminal, Markdown, CSV and JSON; LaTeX has a module of its own."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal

from cxrbench.analysis.paper_tables import PRETRAINED, Cell, TableView, ViewRow
from cxrbench.evaluate.statistics.uncertainty import FoldSpread, Interval, covering, covers_short
from cxrbench.reports.latex import as_latex
from cxrbench.specs.paper import MISSING

SEEN = "†"

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


def as_grid(view: TableView, form: Literal["terminal", "markdown"]) -> str:
    """Up to five lines a row: as printed, measured, its interval, its spread over folds, and the difference.

    Rows without a record show what is printed.
    """
    from tabulate import tabulate

    style = {"terminal": "simple", "markdown": "github"}[form]
    head = ["", "", *(title for _, title in view.columns)]
    grids: list[tuple[str, list[list[str]]]] = []
    section: str | None = None
    for row in view.rows:
        if row.section != section:
            grids.append((row.section, []))
            section = row.section
        grids[-1][1].extend(_lines(view, row))
    bodies = [
        (f"{name}\n\n" if name else "")
        + tabulate(lines, head, tablefmt=style, disable_numparse=True, stralign="left", colalign=_align(view))
        for name, lines in grids
    ]
    return "\n\n".join([_title(view, form), *bodies, *_footnotes(view)]) + "\n"


def _align(view: TableView) -> list[str]:
    return ["left", "left", *("right" for _ in view.columns)]


def _lines(view: TableView, row: ViewRow) -> list[list[str]]:
    cells = [row.cells[name] for name, _ in view.columns]
    lines = [("paper", [cell.published + SEEN * (cell.seen and cell.published != MISSING) for cell in cells])]
    if any(cell.measured is not None for cell in cells):
        lines.append(("measured", [shown(cell.measured) + _marks(cell) for cell in cells]))
        lines.append(
            (f"95 %, {covers_short(cell.interval for cell in cells)}", [ends(cell.interval) for cell in cells])
        )
        lines.append(("std over folds", [_std(cell.spread) for cell in cells]))
        lines.append(("difference", [shown(cell.difference, sign=True) for cell in cells]))
    told = [line for line in lines if set(line[1]) != {MISSING}]
    return [[row.name if place == 0 else "", what, *values] for place, (what, values) in enumerate(told)]


def _marks(cell: Cell) -> str:
    return "*" * bool(cell.flaws) + SEEN * (cell.seen and cell.measured is not None)


def ends(interval: Interval | None) -> str:
    """Both ends in percent with two decimals, or a dash."""
    if interval is None or interval.low is None or interval.high is None:
        return MISSING
    return f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _std(spread: FoldSpread | None) -> str:
    return MISSING if spread is None or spread.std is None or spread.folds < 2 else f"{100 * spread.std:.2f}"


def _title(view: TableView, form: str) -> str:
    return f"{'## ' if form == 'markdown' else ''}Table {view.number}. {view.title}\n{view.source}"


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
    told += [f"95 % intervals: {covering(known)}; averages speak of these tasks"] if known else []
    return [*told, *_uncertainty(cells), *view.notes]


def _uncertainty(cells: Sequence[Cell]) -> Iterator[str]:
    """What spreads are, and what to beware of in intervals."""
    spreads = {cell.spread.relation for cell in cells if cell.spread is not None and cell.spread.folds > 1}
    if spreads:
        yield f"the std over folds ({', '.join(sorted(spreads))}) is no standard error"
    reasons = Counter(cell.interval.reason for cell in cells if cell.interval is not None and cell.interval.reason)
    yield from (f"{reason} ({number} cell{'s' * (number > 1)})" for reason, number in sorted(reasons.items()))


def _flat(view: TableView) -> list[dict[str, str | None]]:
    titles = dict(view.columns)
    return [_entry(view, row, titles[name], row.cells[name]) for row in view.rows for name, _ in view.columns]


def _entry(view: TableView, row: ViewRow, column: str, cell: Cell) -> dict[str, str | None]:
    return {
        "table": str(view.number),
        "section": row.section,
        "row": row.name,
        "model": row.model,
        "control": "yes" if row.control else None,
        "column": column,
        "published": None if cell.published == MISSING else cell.published,
        "measured": None if cell.measured is None else str(cell.measured),
        "difference": None if cell.difference is None else str(cell.difference),
        "record": cell.record,
        "flaws": "; ".join(cell.flaws) or None,
        "seen": "yes" if cell.seen else None,
        **_certainty(cell),
    }


def _certainty(cell: Cell) -> dict[str, str | None]:
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
    entries = _flat(view)
    out = io.StringIO()
    writer = csv.DictWriter(out, entries[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return out.getvalue()


def as_json(view: TableView) -> str:
    """The table with its title, variant, notes and cells; numbers are text, so that no decimal is lost."""
    body = {
        "title": view.title,
        "source": view.source,
        "variant": view.variant,
        "notes": view.notes,
        "cells": _flat(view),
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
