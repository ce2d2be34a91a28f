"""Every format carries every printed and measured number."""

import csv
import io
import json

import pytest
from made_records import made_record

from cxrbench.analysis.paper_tables import table_view
from cxrbench.records.record import Record
from cxrbench.reports.tables import Format, render
from cxrbench.specs.paper import published_table

FORMATS: tuple[Format, ...] = ("terminal", "markdown", "latex", "csv", "json")


def named(model: str, **changes: object) -> Record:
    """A record of a model whose title is its name."""
    return made_record(model__name=model, model__title=model, **changes)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", [2, 3, 4])
def test_every_printed_cell_stands_in_the_output(form: Format, number: int) -> None:
    table = published_table(number)
    text = render(table_view(table, [], "paper-code", synthetic=False), form)
    for row in table.rows:
        assert row.name in text
        assert all(value in text for value in row.cells.values() if value != "–")


@pytest.mark.parametrize("form", FORMATS)
def test_measured_and_difference_stand_beside(form: Format) -> None:
    text = render(table_view(published_table(2), [made_record()], "paper-code", synthetic=False), form)
    assert "93.20" in text
    assert "90.50" in text
    assert "-2.70" in text or form == "latex"  # a table for a paper has no line of differences


def test_without_records_nothing_is_called_measured() -> None:
    assert "measured" not in render(table_view(published_table(2), [], "paper-code", synthetic=False), "terminal")


@pytest.mark.parametrize("form", FORMATS)
def test_negative_controls_follow_the_models_under_a_heading_of_their_own(form: Format) -> None:
    records = [
        named("zzz"),
        named("blank", id="b" * 16, model__control=True),
    ]
    text = render(table_view(published_table(2), records, "paper-code", synthetic=False), form)
    heading = "(b) linear probing, K = 16: negative controls, which must do badly"
    assert text.index("zzz") < text.index(heading) < text.index("blank")
    if form == "csv":
        assert {row["row"] for row in csv.DictReader(io.StringIO(text)) if row["control"]} == {"blank"}


def test_csv_and_json_hold_the_same_cells() -> None:
    view = table_view(published_table(4), [named("gloria")], "paper-code", synthetic=False)
    rows = list(csv.DictReader(io.StringIO(render(view, "csv"))))
    cells = json.loads(render(view, "json"))["cells"]
    assert [{k: v or "" for k, v in c.items()} for c in cells] == rows
    assert len(rows) == 13 * 8
    (filled,) = [row for row in rows if row["measured"]]
    assert (filled["row"], filled["column"], filled["record"]) == ("GLoRIA (C)", "RSNA", "0123456789abcdef")
