"""Tables 2 to 4 for a paper: LaTeX with booktabs, in the layout of the original."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from cxrbench.analysis.paper_tables import PRETRAINED, Cell, TableView, ViewRow
from cxrbench.evaluate.statistics.uncertainty import Interval, covering, covers_short
from cxrbench.specs.paper import MISSING

_SEEN = r"$^{\dagger}$"
_FLAWED = r"\textsuperscript{*}"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "†": _SEEN,
    "–": "--",
    "—": "---",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
_TRANSLATED = str.maketrans({**_SPECIAL, "[": "{[}", "]": "{]}"})


def escaped(text: str) -> str:
    """The text with everything that LaTeX takes for a command escaped; line feeds become blanks."""
    return " ".join(text.split()).translate(_TRANSLATED)


def as_latex(view: TableView) -> str:
    r"""A `table*` for \input, with its notes below; it needs the packages booktabs and textcomp alone.

    Each row has a line of measured numbers with their intervals below, and what the paper prints in small type. Bold is
    what may be the best of a column and section. Rows without a record keep the printed line.
    """
    columns = len(view.columns)
    lines = [
        rf"% Needs \usepackage{{booktabs}}. Source: {' '.join(view.source.split())}",
        r"\begin{table*}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escaped(view.title)}.}}",
        rf"\label{{tab:cxrbench-{view.number}}}\smallskip",
        rf"\begin{{tabular}}{{@{{}}l*{{{columns}}}{{r}}@{{}}}}",
        r"\toprule",
        *_head(view),
    ]
    for section, rows in groupby(view.rows, key=lambda row: row.section):
        lines.append(r"\midrule")
        if section:
            lines += [rf"\multicolumn{{{columns + 1}}}{{@{{}}l}}{{\emph{{{escaped(section)}}}}} \\", r"\addlinespace"]
        lines += [line for row in rows for line in _row(view, row)]
    lines += [r"\bottomrule", r"\end{tabular}", *_notes(view), r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _head(view: TableView) -> Iterator[str]:
    """Two lines where titles share a first word, such as `NIH-LT B` and `NIH-LT N`; else one."""
    parts = [title.partition(" ") for _, title in view.columns]
    if not any(rest for _, _, rest in parts):
        yield " & ".join(["", *(escaped(first) for first, _, _ in parts)]) + r" \\"
        return
    groups = [(first, len(list(own))) for first, own in groupby(parts, key=lambda part: part[0])]
    yield " & ".join(["", *(rf"\multicolumn{{{n}}}{{c}}{{{escaped(first)}}}" for first, n in groups)]) + r" \\"
    place, rules = 2, []
    for _, n in groups:
        rules.append(rf"\cmidrule(lr){{{place}-{place + n - 1}}}")
        place += n
    yield "".join(rules)
    yield " & ".join(["", *(escaped(rest) for _, _, rest in parts)]) + r" \\"


def _row(view: TableView, row: ViewRow) -> Iterator[str]:
    cells = [row.cells[name] for name, _ in view.columns]
    name = escaped(row.name)
    if any(cell.measured is not None for cell in cells):
        yield _line(name, [_measured(cell) for cell in cells])
        name = ""
        if any(cell.interval is not None for cell in cells):
            yield _line(_covers(cells), [_ends(cell.interval) for cell in cells])
    if any(cell.published != MISSING for cell in cells):
        yield _line(name or r"\quad{\scriptsize as printed}", [_printed(cell) for cell in cells])
    elif name:
        yield _line(name, [escaped(MISSING) for _ in cells])


def _covers(cells: Sequence[Cell]) -> str:
    told = covers_short(cell.interval for cell in cells)
    return rf"\quad{{\scriptsize {escaped(f'95 %, {told}')}}}"


def _line(name: str, values: Sequence[str]) -> str:
    return " & ".join([name, *values]) + r" \\"


def _measured(cell: Cell) -> str:
    if cell.measured is None:
        return escaped(MISSING)
    value = str(cell.measured)
    bold = rf"\textbf{{{value}}}" if cell.standing in ("best", "not worse") else value
    return bold + _FLAWED * bool(cell.flaws) + _SEEN * cell.seen


def _ends(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return rf"{{\scriptsize [{100 * interval.low:.1f}, {100 * interval.high:.1f}]}}"


def _printed(cell: Cell) -> str:
    mark = _SEEN if cell.seen and cell.measured is None and cell.published != MISSING else ""
    return rf"{{\scriptsize {escaped(cell.published)}{mark}}}"


def _notes(view: TableView) -> Iterator[str]:
    """Below the rules: what bold, brackets and marks mean, then the notes of the view."""
    cells = [cell for row in view.rows for cell in row.cells.values()]
    told = [f"Settings: {view.variant}. Small type without brackets: as printed."]
    if any(cell.standing for cell in cells):
        told.append(
            "Bold: may be the best of the column, not shown to be worse than another row (paired, 5 % over a row's "
            "comparisons)."
        )
    if any(cell.interval is not None for cell in cells):
        told.append(f"Brackets: 95 % intervals: {covering(view.intervals)}; averages speak of these tasks.")
    if any(cell.seen for cell in cells):
        told.append(f"† {PRETRAINED.capitalize()}.")
    if any(cell.flaws for cell in cells):
        told.append("* Not comparable with the other numbers.")
    yield r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize"
    yield from (rf"{escaped(note)}\par" for note in (*told, *view.notes))
    yield r"\end{minipage}"
