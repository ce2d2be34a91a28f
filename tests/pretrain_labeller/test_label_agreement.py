"""`cxrbench pretrain labels`: figures by hand, tables of several forms, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_corpus import CHEXPERT, subject_of
from made_corpus import table as write_table
from typer.testing import CliRunner, Result

from cxrbench.cli.main import app
from cxrbench.errors import DataError
from cxrbench.pretrain.corpus.label_tables import RawText, compare
from cxrbench.pretrain.corpus.variants import corpus_variant
from cxrbench.pretrain.labeller.agreement import Agreement, agreements

HEADINGS = corpus_variant("as-published").mimic.headings
CASES = json.loads((Path(__file__).parents[1] / "fixtures/labeller/cases.json").read_text())


def values(*found: int | None) -> list[dict[str, int | None]]:
    return [{"Edema": one} for one in found]


def test_the_figures_are_those_worked_out_by_hand() -> None:
    theirs, ours = values(1, 1, 0, 0, -1, None, None, None), values(1, 0, 0, None, 1, None, None, -1)
    (found,) = agreements(theirs, ours)
    assert found.counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 2]]
    # agreeing 4 of 8; by chance (2 x 2 + 2 x 2 + 1 x 1 + 3 x 3) / 64
    assert found.kappa == pytest.approx((4 / 8 - 18 / 64) / (1 - 18 / 64))
    assert found.f1_mention == pytest.approx(2 * 4 / (5 + 5))
    assert (found.f1(1), found.f1(0), found.f1(-1)) == (2 * 1 / 4, 2 * 1 / 4, 0)


def test_what_nobody_mentions_has_no_figure() -> None:
    (found,) = agreements(values(None, None), values(None, None))
    assert (found.kappa, found.f1_mention, found.f1(1)) == (None, None, None)


def published(path: Path, column: str) -> Path:
    rows = [{column: case["report"], **case["labels"]} for case in CASES["published"]["cases"]]
    return write_table(path, [column, *reversed(CHEXPERT)], rows)


@pytest.mark.parametrize(
    ("column", "whose"),
    [("Reports", "the CheXpert labeller"), ("Report Impression", "CheXbert"), ("sentences", "")],
)
def test_tables_of_the_original_and_of_chexbert_are_read_by_name(tmp_path: Path, column: str, whose: str) -> None:
    found = compare(published(tmp_path / "labeled_reports.csv", column), None)
    assert (found.reports, found.left_out) == (4, 0)
    assert (f"in the form of {whose}" in found.table) == bool(whose)
    assert sum(int(one.counts.trace()) for one in found.findings) == 56
    kappas = [one.kappa for one in found.findings]
    assert (kappas.count(1.0), kappas.count(None)) == (8, 6)


REPORT = """                                 FINAL REPORT
 INDICATION:  Rule out pneumonia.
 FINDINGS:  Small left effusion.  No pneumothorax.
 IMPRESSION:  Mild edema.
"""


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """A table of four studies as MIMIC-CXR-JPG has it, and the reports of three."""
    texts = {"50000001": REPORT, "50000002": "FINDINGS:  Edema.\n", "50000003": "INDICATION: Cough.\n"}
    rows = [
        {"subject_id": subject_of(study), "study_id": study, "Edema": 1.0, "Pneumothorax": 0.0}
        for study in (*texts, "50000004")
    ]
    write_table(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", ["subject_id", "study_id", *CHEXPERT], rows)
    for study, text in texts.items():
        subject = subject_of(study)
        path = tmp_path / "mimic-cxr-reports/files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def of(found: Sequence[Agreement], name: str) -> list[list[int]]:
    counts: list[list[int]] = next(one.counts.tolist() for one in found if one.finding == name)
    return counts


@pytest.mark.parametrize(
    ("rule", "reports", "no_pneumothorax", "edema", "pneumonia"),
    [
        ("impression-or-findings", 2, 0, 2, 0),
        ("impression", 1, 0, 1, 0),
        ("findings", 2, 1, 1, 0),
        ("findings-and-impression", 2, 1, 2, 0),
        ("whole", 3, 1, 2, 1),
    ],
)
def test_sections_of_raw_reports_by_rule(
    mimic: Path, rule: str, reports: int, no_pneumothorax: int, edema: int, pneumonia: int
) -> None:
    raw = RawText(mimic / "mimic-cxr-reports", rule, HEADINGS)  # type: ignore[arg-type]
    found = compare(mimic / "mimic-cxr-2.0.0-chexpert.csv", raw)
    assert (found.read, found.reports, found.left_out) == (rule, reports, 4 - reports)
    assert of(found.findings, "Pneumothorax")[1] == [0, no_pneumothorax, 0, reports - no_pneumothorax]
    assert of(found.findings, "Edema")[0][0] == edema
    assert sum(map(sum, of(found.findings, "Pneumonia"))) - of(found.findings, "Pneumonia")[3][3] == pneumonia


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["pretrain", "labels", *words])


def test_the_command_prints_and_writes_all_figures(mimic: Path) -> None:
    out = mimic / "figures.json"
    table = str(mimic / "mimic-cxr-2.0.0-chexpert.csv")
    done = run(table, "--reports", str(mimic / "mimic-cxr-reports"), "--out", str(out), "--cache", str(mimic / "cache"))
    assert done.exit_code == 0, done.output
    assert "2 reports, read: impression-or-findings; 2 without such a text are left out" in done.stdout
    assert "rule labeller after CheXpert" in done.stdout and "rules: not mentioned" in done.stdout
    told = json.loads(out.read_text())
    edema = next(one for one in told["findings"] if one["finding"] == "Edema")
    assert (told["reports"], edema["f1_positive"], edema["counts"][0]) == (2, 1.0, [2, 0, 0, 0])
    row = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["Edema"])
    assert row == ["Edema", "–", "1.000", "–", "–", "1.000"]


def test_what_cannot_be_compared_is_refused(mimic: Path) -> None:
    table = mimic / "mimic-cxr-2.0.0-chexpert.csv"
    with pytest.raises(DataError, match="the reports named by --reports"):
        compare(table, None)
    with pytest.raises(DataError, match="needs columns of findings"):
        compare(write_table(mimic / "t.csv", ["text"], [{"text": "Edema."}]), None)
    with pytest.raises(DataError, match="none of its 1 reports has a text"):
        compare(write_table(mimic / "u.csv", ["text", "Edema"], [{"text": "", "Edema": 1}]), None)
    with pytest.raises(DataError, match="Edema is '3'"):
        compare(write_table(mimic / "v.csv", ["text", "Edema"], [{"text": "Edema.", "Edema": 3}]), None)
