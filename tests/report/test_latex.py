"""Tables for papers: the same bytes each time, nothing that LaTeX takes for a command, and it compiles."""

import re
import shutil
import subprocess
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import scored_fold, written
from made_records import made_record
from made_tables import made_table

from cxrbench.analysis.paper_tables import TableCell, TableView, ViewRow, table_view, with_intervals
from cxrbench.records.integrity import read_results
from cxrbench.reports.latex import as_latex, escaped
from cxrbench.reports.tables import sizes
from cxrbench.specs import catalog
from cxrbench.specs.paper import published_table, table1

GOLDEN = Path(__file__).parent.parent / "fixtures" / "tables"
NASTY = r"100 % of {x} & $y_1$ #2 ~ ^ \input{z} [a] <b> | " + '"quoted" – † it\'s'


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_table_is_the_golden_one(number: int, tmp_path: Path) -> None:
    assert as_latex(made_table(tmp_path, number)) == (GOLDEN / f"table{number}.tex").read_text()


def test_bold_is_the_best_alone_and_a_tilde_marks_what_is_not_worse(tmp_path: Path) -> None:
    view = made_table(tmp_path, 4)
    text = as_latex(view)
    standing = [c.standing for row in view.rows for c in row.cells.values() if c.measured is not None]
    assert {"best", "worse"} <= set(standing)
    assert text.count(r"\textbf{") == standing.count("best")
    assert text.count(r"$^{\sim}$") == standing.count("not worse") > 0


def test_equal_numbers_are_all_the_best(tmp_path: Path) -> None:
    printed, same = published_table(4), [scored_fold(1.0, 0, number=k) for k in (0, 1)]
    for model in ("one", "two"):
        written(tmp_path, model, same, data__task="rsna")
    written(tmp_path, "three", [scored_fold(0.0, 0, number=k) for k in (0, 1)], data__task="rsna")
    records = read_results(tmp_path, tmp_path).records
    view = with_intervals(table_view(printed, records, "paper-code", synthetic=False), printed, records, tmp_path)
    standing = {row.model: row.cells["rsna"].standing for row in view.rows if row.model in ("one", "two", "three")}
    assert standing == {"one": "best", "two": "best", "three": "worse"}


def test_a_model_of_ones_own_is_called_by_its_title_and_by_its_name_where_two_share_one() -> None:
    told = {"mine": "My encoder", "other": "Twin", "third": "Twin", "fourth": "GLoRIA (C)", "fifth": ""}
    records = [made_record(model__name=name, model__title=title) for name, title in told.items()]
    view = table_view(published_table(4), records, "paper-code", synthetic=False)
    own = {row.model: row.name for row in view.rows if row.model in told}
    assert own == {
        "mine": "My encoder",
        "other": "Twin (other)",
        "third": "Twin (third)",
        "fourth": "GLoRIA (C) (fourth)",
        "fifth": "fifth",
    }
    assert len({(row.section, row.name) for row in view.rows}) == len(view.rows)


def wide(columns: int, rows: int) -> TableView:
    names = tuple((f"c{place}", f"Task{place}") for place in range(columns))
    cells = {name: TableCell("–", Decimal("50.00"), "r") for name, _ in names}
    models = tuple(ViewRow("", f"model{place}", f"model{place}", cells) for place in range(rows))
    return TableView(4, "Wide", "here", "paper-code", names, models, ())


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (12, 20), (13, 3), (40, 100)])
def test_a_table_of_any_size_is_cut_so_that_each_part_fits_a_page(columns: int, rows: int) -> None:
    parts = as_latex(wide(columns, rows)).split(r"\begin{table*}")[1:]
    shown = []
    for part in parts:
        head = re.search(r"\{l\*\{(\d+)\}", part.replace("@{}", ""))
        assert head and 1 <= int(head[1]) <= 12
        lines = re.findall(r"(?m)^(model\d+) (.*)\\\\$", part)
        assert 1 <= len(lines) <= 48
        tasks = re.findall(r"Task\d+", part)
        assert len(tasks) == int(head[1]) == lines[0][1].count("&")
        shown += [(model, task) for model, _ in lines for task in tasks]
        assert r"\ifdim\wd\cxrbenchbox>\linewidth\resizebox{\linewidth}{!}" in part
    assert len(shown) == len(set(shown)) == columns * rows
    assert (len(parts) > 1) == (columns > 12 or rows > 47)


def test_the_sizes_of_the_data_sets_are_a_table_with_a_caption(tmp_path: Path) -> None:
    text = sizes(catalog.load_variant("paper-code"), {}, tmp_path, "latex")
    assert r"\caption{Evaluation sets, printed and here.}" in text and r"\label{tab:cxrbench-1}" in text
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(table1().rows) + len(table1().pretraining)
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {6}


def test_many_notes_stand_below_the_table_as_text_that_a_page_may_break() -> None:
    few, many = (replace(wide(2, 2), notes=("a note that is read",) * number) for number in (2, 60))
    assert as_latex(few).rstrip().endswith(r"\end{table*}") and r"\begin{minipage}" in as_latex(few)
    assert as_latex(many).rstrip().endswith(r"\endgroup") and r"\begin{minipage}" not in as_latex(many)


def test_a_negative_control_is_never_bold(tmp_path: Path) -> None:
    printed, before = published_table(4), as_latex(made_table(tmp_path, 4))
    blank = {"model__title": "blank", "model__control": True}
    for place, column in enumerate(printed.columns):
        folds = [scored_fold(9.0, place, number=k, noise=900 + k, images=30) for k in range(2)]
        written(
            tmp_path,
            "blank",
            folds,
            data__task=column.task,
            data__group=column.group,
            **blank,
        )
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
    known = r"\\[&%$#_{}]|\\text[a-z]+\{\}|\{\[\}|\{\]\}|\$\^\{\\d?dagger\}\$|\$\\approx\$|\\textsuperscript\{\\S\}"
    bare = re.sub(known, "", escaped(text))
    assert not set(bare) & set('&%$#_{}\\~^[]<>|"†‡≈§°–—')
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
    views += [replace(wide(40, 100), number=6), replace(wide(3, 60), number=7, notes=(NASTY,) * 60)]
    views.append(TableView(5, NASTY, NASTY, NASTY, last.columns, last.rows, (NASTY,)))
    for number, view in enumerate(views):
        (tmp_path / f"t{number}.tex").write_text(as_latex(view))
    views.append(views[0])
    (tmp_path / f"t{len(views) - 1}.tex").write_text(sizes(catalog.load_variant("paper-code"), {}, tmp_path, "latex"))
    inputs = "\n".join(rf"\input{{t{number}}}" for number in range(len(views)))
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "all.tex").write_text(f"{head}{inputs}\n\\end{{document}}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Undefined control sequence" not in done.stdout
    assert not re.findall(r"Overfull \\[hv]box.*|Float too large.*", done.stdout)
