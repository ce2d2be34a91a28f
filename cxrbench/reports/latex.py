"""Tables of the paper and of measured cells as LaTeX."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from cxrbench.analysis.paper_tables import PRETRAINED, TableCell, TableView, ViewRow
from cxrbench.evaluate.metric_table import NumberFormat
from cxrbench.evaluate.statistics.interval import Interval, covering, covers_short
from cxrbench.reports.comparisons import MADE, number_text
from cxrbench.specs.paper import MISSING

_SEEN = r"$^{\dagger}$"
_FLAWED = r"\textsuperscript{*}"
_COPIED = r"$^{\ddagger}$"
_KEPT = r"$^{\sim}$"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "†": _SEEN,
    "≈": r"$\approx$",
    "‡": _COPIED,
    "§": r"\textsection{}",
    "°": r"\textdegree{}",
    "–": "--",
    "—": "---",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
_TRANSLATED = str.maketrans({**_SPECIAL, "[": "{[}", "]": "{]}"})


def escaped(text: str) -> str:
    """The text with everything that LaTeX takes for a command escaped; line feeds become blanks."""
    return " ".join(text.split()).translate(_TRANSLATED)


def as_latex(view: TableView) -> str:
    r"""One or more `table*` for \input, with notes below; they need the packages booktabs, graphicx and textcomp alone.

    Each row has a line of measured numbers with their intervals below, and what the paper prints in small type. Bold is
    the best of a column and section, a tilde what is not shown to be worse. Rows without a record keep the printed
    line. A tabular that is wider than the line is made smaller; one of many columns or rows is cut into several.
    """
    parts = _parts(view)
    floats = [_float(view, part, number, len(parts)) for number, part in enumerate(parts, start=1)]
    head = [
        f"{_NEEDS} Source: {' '.join(view.source.split())}",
        _BOX,
    ]
    told = _notes(view)
    short = sum(1 + len(note) // _NOTE for note in told) <= _NOTES
    below = [
        r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize" if short else r"\begingroup\scriptsize\noindent",
        *(rf"{note}\par" for note in told),
        r"\end{minipage}" if short else r"\endgroup",
    ]
    end = len(floats[-1]) - 1 if short else len(floats[-1])
    floats[-1][end:end] = below
    return "\n".join([*head, *(line for own in floats for line in own)]) + "\n"


_ACROSS, _DOWN = 12, 48  # columns, and lines of a tabular, that fit a page
_NOTE, _NOTES = 110, 16  # letters of a line of notes, and lines of them that fit a page beside a full tabular
Part = tuple[TableView, Sequence[ViewRow]]


def _parts(view: TableView) -> list[Part]:
    """Columns and rows that stand on a page together: all rows of some columns, then of the next."""
    found = list[Part]()
    for columns in _even(view.columns, _ACROSS):
        narrow = replace(view, columns=tuple(columns))
        rows, lines = list[ViewRow](), 0
        for row in view.rows:
            own = len(list(_row(narrow, row))) + 2 * (not rows or rows[-1].section != row.section)
            if rows and lines + own > _DOWN:
                found.append((narrow, rows))
                rows, lines = [], 0
            rows, lines = [*rows, row], lines + own
        found.append((narrow, rows))
    return found


def _even(columns: Sequence[tuple[str, str]], most: int) -> list[Sequence[tuple[str, str]]]:
    """The columns in runs of at most so many, as equal as can be."""
    runs = max(1, -(-len(columns) // most))
    ends = [len(columns) * place // runs for place in range(runs + 1)]
    return [columns[start:end] for start, end in pairwise(ends)]


def _float(view: TableView, part: Part, number: int, parts: int) -> list[str]:
    narrow, rows = part
    columns = len(narrow.columns)
    lines = [rf"\begin{{tabular}}{{@{{}}l*{{{columns}}}{{r}}@{{}}}}", r"\toprule", *_head(narrow)]
    for section, own in groupby(rows, key=lambda row: row.section):
        lines.append(r"\midrule")
        if section:
            lines += [rf"\multicolumn{{{columns + 1}}}{{@{{}}l}}{{\emph{{{escaped(section)}}}}} \\", r"\addlinespace"]
        lines += [line for row in own for line in _row(narrow, row)]
    title = view.title + (f", part {number} of {parts}" if parts > 1 else "")
    label = f"{_slug(view)}{f'-{number}' * (number > 1)}"
    return _floated(title, label, [*lines, r"\bottomrule", r"\end{tabular}"])


_BOX = r"\ifdefined\cxrbenchbox\else\newsavebox{\cxrbenchbox}\fi"
_FITTED = (
    r"\ifdim\wd\cxrbenchbox>\linewidth\resizebox{\linewidth}{!}{\usebox{\cxrbenchbox}}"
    r"\else\usebox{\cxrbenchbox}\fi"
)


def _floated(title: str, label: str, tabular: Sequence[str]) -> list[str]:
    """A `table*` with its caption; the tabular is made smaller where it is wider than the line."""
    return [
        r"\begin{table*}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escaped(title)}.}}",
        rf"\label{{tab:cxrbench-{label}}}\smallskip",
        r"\begin{lrbox}{\cxrbenchbox}",
        *tabular,
        r"\end{lrbox}",
        _FITTED,
        r"\end{table*}",
    ]


def sheet_as_latex(title: str, label: str, head: Sequence[str], rows: Sequence[Sequence[str]], source: str) -> str:
    """A `table*` of texts, the last column in paragraphs, with its source below; packages as in `as_latex`."""
    columns = rf"@{{}}{'l' * (len(head) - 1)}p{{0.3\linewidth}}@{{}}"
    body = [_line(escaped(first), [escaped(text) for text in rest]) for first, *rest in rows]
    tabular = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _line(escaped(head[0]), map(escaped, head[1:]))]
    tabular += [r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    lines = _floated(title, label, tabular)
    lines[-1:-1] = [rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\scriptsize {escaped(source)}\end{{minipage}}"]
    return "\n".join([_NEEDS, _BOX, *lines]) + "\n"


_NEEDS = r"% Needs \usepackage{booktabs,graphicx}."


def _slug(view: TableView) -> str:
    """The end of its label."""
    return (
        re.sub(r"[^a-z0-9]+", "-", view.title.removeprefix(MADE).lower())[:40].strip("-")
        if view.number is None
        else str(view.number)
    )


def _head(view: TableView) -> Iterator[str]:
    """Two lines where titles share a first word, such as `NIH-LT B` and `NIH-LT N`, or what a comma ends; else one."""
    between = ", " if any(", " in title for _, title in view.columns) else " "
    parts = [title.partition(between) for _, title in view.columns]
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
    named = list(zip(cells, view.columns, strict=True))
    name = escaped(row.name)
    if any(cell.measured is not None for cell in cells):
        yield _line(name, [_measured(cell) for cell in cells])
        name = ""
        if any(cell.interval is not None for cell in cells):
            yield _line(_covers(cells), [_ends(cell.interval, view.format_of(name)) for cell, (name, _) in named])
        if any(cell.beside for cell in cells):
            beside = [rf"{{\scriptsize {escaped(cell.beside)}}}" if cell.beside else "" for cell in cells]
            yield _line(r"\quad{\scriptsize over}", beside)
    if any(cell.published != MISSING for cell in cells):
        yield _line(name or r"\quad{\scriptsize as printed}", [_printed(cell) for cell in cells])
    elif name:
        yield _line(name, [escaped(MISSING) for _ in cells])


def _covers(cells: Sequence[TableCell]) -> str:
    told = covers_short(cell.interval for cell in cells)
    return rf"\quad{{\scriptsize {escaped(f'95 %, {told}')}}}"


def _line(name: str, values: Iterable[str]) -> str:
    return " & ".join([name, *values]) + r" \\"


def _measured(cell: TableCell) -> str:
    if cell.measured is None:
        return escaped(MISSING)
    value = str(cell.measured)
    bold = rf"\textbf{{{value}}}" if cell.standing == "best" else value + _KEPT * (cell.standing == "not worse")
    return bold + _FLAWED * bool(cell.flaws) + _SEEN * cell.seen + escaped(cell.marks)


def _ends(interval: Interval | None, how: NumberFormat) -> str:
    """Both ends with a decimal less than the number."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    less = replace(how, decimals=max(1, how.decimals - 1))
    return rf"{{\scriptsize [{number_text(interval.low, less)}, {number_text(interval.high, less)}]}}"


def _printed(cell: TableCell) -> str:
    mark = _SEEN if cell.seen and cell.measured is None and cell.published != MISSING else ""
    return rf"{{\scriptsize {escaped(cell.published)}{mark}{_COPIED * cell.copied}}}"


def _notes(view: TableView) -> list[str]:
    """What bold, brackets and marks mean, then the notes of the view; more than a few stand below as plain text."""
    cells = [cell for row in view.rows for cell in row.cells.values()]
    means = "; averages speak of these tasks" if view.number is not None else ""
    told = [f"Settings: {view.variant}. Small type without brackets: as printed."]
    if any(cell.standing for cell in cells):
        told.append(
            "Bold: the best of the column. ~ Not shown to be worse than another row (paired, 5 % over a row's "
            "comparisons)."
        )
    if any(cell.interval is not None for cell in cells):
        told.append(f"Brackets: 95 % intervals: {covering(view.intervals)}{means}.")
    if any(cell.seen for cell in cells):
        told.append(f"† {PRETRAINED.capitalize()}.")
    if any(cell.flaws for cell in cells):
        told.append("* Not comparable with the other numbers.")
    return [escaped(note) for note in (*told, *view.notes)]
