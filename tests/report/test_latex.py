"""Tables for papers: the same bytes each time, nothing that LaTeX takes for a command, and it compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import scored_fold, written
from made_records import made_record
from made_tables import made_table

from cxrbench.analysis.paper_tables import TableView, table_view, with_intervals
from cxrbench.records.integrity import read_results
from cxrbench.reports.tables import as_latex, escaped
from cxrbench.specs.paper import published_table

GOLDEN = Path(__file__).parent.parent / "fixtures" / "tables"
NASTY = r"100 % of {x} & $y_1$ #2 ~ ^ \input{z} [a] <b> | " + '"quoted" – † it\'s'


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_table_is_the_golden_one(number: int, tmp_path: Path) -> None:
    assert as_latex(made_table(tmp_path, number)) == (GOLDEN / f"table{number}.tex").read_text()


def test_bold_is_the_best_and_what_is_not_worse(tmp_path: Path) -> None:
    view = made_table(tmp_path, 4)
    text = as_latex(view)
    standing = [c.standing for row in view.rows for c in row.cells.values() if c.measured is not None]
    assert {"best", "worse"} <= set(standing)
    assert text.count(r"\textbf{") == sum(s in ("best", "not worse") for s in standing)


def test_a_negative_control_is_never_bold(tmp_path: Path) -> None:
    printed, before = published_table(4), as_latex(made_table(tmp_path, 4))
    for place, column in enumerate(printed.columns):
        folds = [scored_fold(9.0, place, number=k, noise=900 + k, images=30) for k in range(2)]
        written(tmp_path, "blank", folds, data__task=column.task, data__group=column.group, model__control=True)
    records = read_results(tmp_path, tmp_path).records
    view = with_intervals(table_view(printed, records, "paper-code", synthetic=False), printed, records, tmp_path)
    text = as_latex(view)
    models, _, controls = text.partition(r"\emph{negative controls, which must do badly}")
    assert "blank & " in controls and "blank" not in models
    assert r"\textbf" not in controls and models.count(r"\textbf") == before.count(r"\textbf") > 0
    assert models.endswith("\\midrule\n\\multicolumn{9}{@{}l}{")


def test_booktabs_and_no_vertical_line() -> None:
    text = as_latex(table_view(published_table(2), [], "paper-code", synthetic=False))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert "|" not in text and r"\hline" not in text
    assert text.count(r"\midrule") == 2


def test_every_line_has_as_many_cells_as_columns() -> None:
    for number in (2, 3, 4):
        view = table_view(published_table(number), [made_record()], "paper-code", synthetic=False)
        for line in as_latex(view).splitlines():
            if line.endswith(r"\\"):
                spans = sum(int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
                cells = len(re.split(r"(?<!\\)&", line)) - line.count(r"\multicolumn") + spans
                assert cells == len(view.columns) + 1, line


def test_a_flawed_number_is_marked() -> None:
    view = table_view(published_table(4), [made_record(model__name="gloria", data__missing=1)], "x", synthetic=False)
    assert r"90.50\textsuperscript{*}" in as_latex(view)
    assert "* Not comparable" in as_latex(view)


@given(st.text())
def test_escaped_text_has_no_bare_special_letter(text: str) -> None:
    bare = re.sub(r"\\[&%$#_{}]|\\text[a-z]+\{\}|\{\[\}|\{\]\}|\$\^\{\\dagger\}\$", "", escaped(text))
    assert not set(bare) & set('&%$#_{}\\~^[]<>|"†–—')
    assert "\n" not in bare


def test_escaping_keeps_the_letters() -> None:
    assert escaped("a_b & 5 %") == r"a\_b \& 5 \%"


@pytest.mark.slow
def test_it_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip(
            "there is no pdflatex on this machine: apt-get install texlive-latex-base texlive-latex-recommended"
        )
    views = [made_table(tmp_path, number) for number in (2, 3, 4)]
    last = views[-1]
    views.append(TableView(5, NASTY, NASTY, NASTY, last.columns, last.rows, (NASTY,)))
    for number, view in enumerate(views):
        (tmp_path / f"t{number}.tex").write_text(as_latex(view))
    inputs = "\n".join(rf"\input{{t{number}}}" for number in range(len(views)))
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "all.tex").write_text(f"{head}{inputs}\n\\end{{document}}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Undefined control sequence" not in done.stdout
