"""ROC and precision-recall curves of the report: the numbers beside them are those of its tables."""

import re
from pathlib import Path
from statistics import fmean
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest
from made_board import write_board
from made_findings import FindingLaw
from made_means import cell_of
from made_predictions import scored_fold

from cxrbench.evaluate.findings import FindingRows, finding_metrics
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.integrity import found_results
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.operating import operating
from cxrbench.reports.html.page import Report, report
from cxrbench.reports.html.render import render

MODELS = tuple(f"model_{letter}" for letter in "abcdefgh")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("results")
    write_board(out, MODELS, ("rsna", "covid"), shots=(16,), prompts=(), images=10)
    write_board(out, ("class_prior",), ("rsna",), shots=(16,), prompts=(), images=10, model__control=True)
    return report(ReportWork(out), found_results(out), None)


@pytest.fixture(scope="module")
def root(made: Report) -> Element:
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(render(made))


def items(root: Element) -> dict[str, tuple[float, float]]:
    """AUROC and average precision beside each model's curves."""
    lists = [part for part in root.iter("ul") if (part.get("class") or "") == "legend upright"]
    told = [(item.get("data-model") or "", "".join(item.itertext())) for part in lists for item in part.iter("li")]
    found = {model: re.findall(r"\d+\.\d+", text.rpartition(":")[2]) for model, text in told}
    return {model: (float(area), float(precision)) for model, (area, precision) in found.items()}


def test_the_number_beside_a_curve_is_the_tables(root: Element) -> None:
    table = next(part for part in root.iter("table") if "AUROC of each class" in (part.findtext("caption") or ""))
    rows = {
        row.get("data-model"): [(cell.text or "").strip() for cell in row.iterfind("td")] for row in table.iter("tr")
    }
    found = items(root)
    assert set(found) == set(MODELS)
    for model in MODELS:
        assert f"{found[model][0]:.1f}" == rows[model][-1]


def test_binary_tasks_alone_have_curves_and_six_models_a_panel(root: Element) -> None:
    panels = [svg for svg in root.iter("{http://www.w3.org/2000/svg}svg") if "ROC curves" in svg.get("aria-label", "")]
    assert ["RSNA, Pneumonia against Normal" in svg.get("aria-label", "") for svg in panels] == [True, True]
    drawn = [[g.get("class") for g in svg.iter("{http://www.w3.org/2000/svg}g")] for svg in panels]
    assert [len(classes) for classes in drawn] == [6, 2]
    assert all(len(set(classes)) == len(classes) for classes in drawn)


def test_a_multi_label_curve_is_the_mean_over_folds_of_macro_means() -> None:
    law = FindingLaw(shares=(0.3, 0.4, 0.02), patients=60, folds=3, unknown=0.1)
    (folds,) = law.draw(np.random.default_rng(3))
    found = operating(cell_of("chestxray14", folds))
    assert found is not None
    told = [finding_metrics(fold.scores, fold.labels) for fold in folds]
    assert found.area == pytest.approx(fmean(one.macro_auroc or 0 for one in told), abs=1e-12)
    assert found.precision == pytest.approx(fmean(one.macro_average_precision or 0 for one in told), abs=1e-12)
    assert "3 findings" in found.of


def test_a_fold_without_a_number_leaves_no_curve() -> None:
    rng = np.random.default_rng(0)
    unit, labels = np.arange(20), rng.integers(0, 2, size=(20, 2))
    good = FindingRows(unit, labels, rng.normal(size=(20, 2)))
    assert operating(cell_of("chestxray14", [good])) is not None
    assert operating(cell_of("chestxray14", [good, FindingRows(unit, labels * 0, good.scores)])) is None


def test_more_than_two_classes_have_no_curve() -> None:
    fold = scored_fold(1.0, 0, images=5, classes=3)
    assert operating(cell_of("covid", [ScoredRows(np.arange(15), fold.labels, fold.scores)])) is None


def test_the_path_runs_from_corner_to_corner() -> None:
    fold = scored_fold(1.0, 0, images=50, classes=2)
    found = operating(cell_of("rsna", [ScoredRows(np.arange(100), fold.labels, fold.scores)]))
    assert found is not None and found.share == 0.5
    steps = [int(one) for one in re.findall(r"-?\d+", found.roc)]
    assert (sum(steps[0::2]), sum(steps[1::2])) == (200, 0) and steps[:2] == [0, 200]
    assert re.fullmatch(r"M\d+ \d+l[-\d ]+", found.precision_recall)


def test_no_image_stands_in_a_report(made: Report, tmp_path: Path) -> None:
    text = render(made)
    assert "<img" not in text and "data:image" not in text
