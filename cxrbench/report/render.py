"""A table as text: for the terminal, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
from decimal import Decimal
from typing import Literal

from cxrbench.published import MISSING
from cxrbench.report.view import Cell, TableView, ViewRow

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
    return as_grid(view, form)


def as_grid(view: TableView, form: Literal["terminal", "markdown", "latex"]) -> str:
    """Three lines a row: measured, as printed, and their difference; rows without a record show what is printed."""
    from tabulate import tabulate

    style = {"terminal": "simple", "markdown": "github", "latex": "latex_booktabs"}[form]
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
    return "\n\n".join([_title(view, form), *bodies, *_footnotes(view, form)]) + "\n"


def _align(view: TableView) -> list[str]:
    return ["left", "left", *("right" for _ in view.columns)]


def _lines(view: TableView, row: ViewRow) -> list[list[str]]:
    cells = [row.cells[name] for name, _ in view.columns]
    lines = [("paper", [cell.published for cell in cells])]
    if any(cell.measured is not None for cell in cells):
        lines.append(("measured", [shown(cell.measured) + "*" * bool(cell.flaws) for cell in cells]))
        lines.append(("difference", [shown(cell.difference, sign=True) for cell in cells]))
    told = [line for line in lines if set(line[1]) != {MISSING}]
    return [[row.name if place == 0 else "", what, *values] for place, (what, values) in enumerate(told)]


def _title(view: TableView, form: str) -> str:
    title = f"Table {view.number}. {view.title}"
    if form == "latex":
        return f"% {title}\n% {view.source}"
    return f"{'## ' if form == 'markdown' else ''}{title}\n{view.source}"


def _footnotes(view: TableView, form: str) -> list[str]:
    marked = any(cell.flaws for row in view.rows for cell in row.cells.values())
    notes = [f"variant: {view.variant}", *(["* not comparable, see below"] if marked else []), *view.notes]
    return ["\n".join(f"{'% ' if form == 'latex' else ''}note: {note}" for note in notes)]


def _flat(view: TableView) -> list[dict[str, str | None]]:
    titles = dict(view.columns)
    return [_entry(view, row, titles[name], row.cells[name]) for row in view.rows for name, _ in view.columns]


def _entry(view: TableView, row: ViewRow, column: str, cell: Cell) -> dict[str, str | None]:
    return {
        "table": str(view.number),
        "section": row.section,
        "row": row.name,
        "model": row.model,
        "column": column,
        "published": None if cell.published == MISSING else cell.published,
        "measured": None if cell.measured is None else str(cell.measured),
        "difference": None if cell.difference is None else str(cell.difference),
        "record": cell.record,
        "flaws": "; ".join(cell.flaws) or None,
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
