"""Published multi-label numbers: what the file holds, and beside which measured number one may stand."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from made_records import made_record
from typer.testing import CliRunner

from cxrbench.analysis.against_paper import against_paper
from cxrbench.analysis.multilabel import MultiLabel, multilabel, why_not_beside
from cxrbench.analysis.paper_tables import TableCell
from cxrbench.cli.main import app
from cxrbench.errors import DataError
from cxrbench.records.record import Record
from cxrbench.reports.published import render
from cxrbench.specs import catalog
from cxrbench.specs.published import PublishedList, PublishedRow, published_lists

VARIANT = catalog.load_variant("paper-code")
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


def measured(model: str = "gloria", labels: Sequence[str] = COMPETITION, rows: int = 500, **changes: Any) -> Record:
    """A zero-shot record of CheXpert's 500 test studies as a run writes it, by prototypes."""
    aurocs = changes.pop("aurocs", [0.8] * len(labels))
    fold = {"fold": 0, "test_rows": rows, "test_digest": "d" * 64, "metrics": {"auroc": aurocs}}
    told = {
        "data__task": "chexpert_test500",
        "data__split": "official",
        "data__group": "competition",
        "data__labels": list(labels),
        "data__rows_per_label": {},
        "model__title": model,
        "protocol": {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits"},
        "prompts": {"set": "prototypes", "digest": "0" * 64, "source": "prototypes"},
        "data__kind": "multi-label",
        "folds": [fold],
        "summary": {"macro_auroc": {"mean": 0.76543, "std": None, "folds": 1}},
    }
    return made_record(model__name=model, **{**told, **changes})


def table(*records: Record, **how: Any) -> MultiLabel:
    return multilabel(Path("nowhere"), records, VARIANT, intervals=False, **how)


def cell(found: MultiLabel, model: str, column: str = "chexpert_test500: competition") -> TableCell:
    return next(row.cells[column] for row in found.view.rows if row.model == model)


def competition() -> PublishedList:
    return next(one for one in published_lists() if (one.group, one.metric) == ("competition", "macro_auroc"))


def test_a_number_of_the_same_list_labels_and_average_stands_beside_the_measured_one() -> None:
    found = cell(table(measured()), "gloria")
    assert (found.measured, found.published, found.difference) == (Decimal("76.54"), "75.0", Decimal("1.54"))
    assert found.copied and "RadZero" in (found.source or "")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": 448}, "500 images, and 448 were scored here"),
        ({"labels": COMPETITION[:4]}, "over 5 labels, and here over 4"),
        ({"aurocs": [0.8, 0.7, None, 0.9, 0.6]}, "Consolidation has no AUROC"),
        ({"data__reference": "differs"}, "not those of the known split"),
        ({"data__missing": 3}, "3 images have no file"),
    ],
)
def test_another_list_or_average_keeps_the_published_number_away_and_says_why(changes: Any, told: str) -> None:
    found = table(measured(**changes))
    assert cell(found, "gloria").published == "–" and cell(found, "gloria").difference is None
    assert any(told in note and "is not beside it" in note for note in found.view.notes)


@pytest.mark.parametrize("group", ["all", "other"])
def test_other_labels_are_another_column(group: str) -> None:
    record = measured(data__group=group)
    assert why_not_beside(competition(), record)[0] == "it is of chexpert_test500, group competition"
    assert cell(table(record), "gloria", f"chexpert_test500: {group}").published == "–"


def test_every_column_is_a_list_here_and_published_models_keep_their_row() -> None:
    found = table()
    columns = {name for name, _ in found.view.columns}
    assert {"openi: all", "padchest_physician: without-normal", "padchest_physician: padchest20"} < columns
    assert {"nih14_lineage: all", "nih14_official: all", "chexpert_test500: competition"} < columns
    shown = {row.name: row for row in found.view.rows}
    assert shown["MAVL"].cells["chexpert_test500: competition"].published == "90.13"
    assert not shown["MAVL"].cells["chexpert_test500: competition"].copied
    assert all(cell.measured is None for row in found.view.rows for cell in row.cells.values())


def test_a_number_read_first_hand_goes_before_a_copy_and_only_such_may_decide() -> None:
    for row in table().view.rows:
        for name, shown in row.cells.items():
            own = [
                line
                for one in published_lists()
                for line in one.rows
                if (one.metric, one.protocol, f"{one.task}: {one.group}") == ("macro_auroc", "zero-shot", name)
                and (line.card or line.model) == row.model
            ]
            assert shown.copied == (bool(own) and not any(one.first_hand for one in own))


def test_no_published_multi_label_number_decides_a_check(tmp_path: Path) -> None:
    findings = against_paper(tmp_path, [measured()])
    assert all(found.verdict == "missing" and found.record is None for found in findings)


def test_what_stands_in_no_column_is_told_with_its_reason() -> None:
    found, lists = table(), published_lists()
    total = sum(len(one.rows) for one in lists)
    shown = [one for one in lists if one.task and (one.protocol, one.metric) == ("zero-shot", "macro_auroc")]
    assert len(found.elsewhere) == total - sum(len(one.rows) for one in shown)
    reasons = Counter(one.reason for one in found.elsewhere)
    assert all(reasons)
    assert any("no protocol here fits the encoder" in reason for reason in reasons)
    assert any("no split of the task rsna_pneumonia" in reason for reason in reasons)


def test_synthetic_numbers_stand_beside_nothing_published() -> None:
    found = table(measured(data__synthetic=True), synthetic=True)
    assert found.view.title.startswith("PHANTOM") and len(found.view.rows) == 1
    assert all(shown.published == "–" for row in found.view.rows for shown in row.cells.values())
    with pytest.raises(DataError, match="no synthetic record of a multi-label task"):
        table(measured(), synthetic=True)


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "csv", "json"])
def test_every_format_has_both_numbers_and_the_mark(form: Any) -> None:
    text = render(table(measured()), form)
    assert "76.54" in text and "75.0" in text
    if form == "csv":
        (row,) = [r for r in csv.DictReader(io.StringIO(text)) if r["model"] == "gloria" and r["measured"]]
        assert (row["published"], row["group"]) == ("75.0", "competition") and "copied" in row["source"]
    elif form == "json":
        assert len(json.loads(text)["elsewhere"]) == len(table().elsewhere)
    else:
        assert (r"$^{\ddagger}$" if form == "latex" else "75.0‡") in text
    if form == "terminal":
        assert "published numbers stand in no column" in text


def test_the_verb_prints_the_table_and_lists_the_rest_when_asked(tmp_path: Path) -> None:
    short, whole = (
        CliRunner().invoke(app, ["table", "multilabel", "--out", str(tmp_path), *words]) for words in ([], ["--all"])
    )
    assert short.exit_code == whole.exit_code == 0
    assert "92.3‡" in short.stdout and "torchxrayvision" not in short.stdout
    assert "torchxrayvision" in whole.stdout and "not the official test" in whole.stdout


def test_the_file_says_each_number_as_printed_and_how_it_is_known(shared: Path) -> None:
    text = (shared / "parity" / "protocols" / "published_multilabel.json").read_text(encoding="utf-8")
    told = Counter(
        (v["model"], Decimal(v["value"]), v["source"], v["eval_set"], v["dataset"])
        for v in json.loads(text, parse_float=str, parse_int=str)["values"]
        if "retrieval" not in v["kind"] and "computed" not in v["source"]
    )
    here = Counter(
        (row.model, Decimal(row.value), one.source, one.list, one.data_set)
        for one in published_lists()
        for row in one.rows
        if row.known != "computed"
    )
    assert here == told and here.total() == 539


def test_what_was_not_read_at_its_source_is_not_called_first_hand() -> None:
    for one in published_lists():
        for row in one.rows:
            assert not (one.read_in.startswith(("memory", "aggregator")) and row.first_hand)
            assert (row.known == "memory") == one.read_in.startswith("memory")
            if one.source.startswith("RadZero") and one.task is not None:  # the rows that it copies from CARZero
                assert row.first_hand == row.model.startswith("RadZero")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": None}, "go together"),
        ({"task": None, "group": None, "images": None, "labels": None}, "says `why`"),
        ({"why": "no"}, "and no other does"),
    ],
)
def test_a_list_without_its_place_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PublishedList.model_validate({**competition().model_dump(), **changes})


def test_a_value_is_text_as_printed() -> None:
    for bad in ("", "75,0", "-1", "7e1", ".5"):
        with pytest.raises(ValueError, match="value"):
            PublishedRow(model="x", value=bad, known="copied")
    assert str(competition().percent(PublishedRow(model="x", value="0.750", known="copied"))) == "75.0"
