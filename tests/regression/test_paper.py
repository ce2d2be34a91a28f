"""Printed numbers: which are repeated row by row, and whether a repeat finds what was altered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_records import made_record
from made_results import write_result

from cxrbench.analysis import against_paper as paper
from cxrbench.analysis.against_paper import CellVerdict, against_paper, why_not_exact
from cxrbench.analysis.cell import measurement
from cxrbench.checks.verdicts import summary
from cxrbench.evaluate.logistic_regression import STRENGTH, fit, probe_scores
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.scores import FoldScores
from cxrbench.specs.paper import Column, PublishedTable, Row

CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
CHEXPERT = {"data__task": "chexpert5x200", "data__split": "gloria", "data__labels": list(CLASSES)}
Scores = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # from training rows, their labels and test rows


def prints(monkeypatch: pytest.MonkeyPatch, value: str, task: str = "chexpert5x200") -> None:
    """Let Table 2 be one cell, and the others empty."""
    column = Column(id="one", title="One", task=task, group="all")
    row = Row(name="CLIP", model="clip_cm", protocol="linear-probe", shots=16, cells={"one": value})
    tables = {
        number: PublishedTable(table=number, title="", source="", columns=(column,), rows=(row,) * (number == 2))
        for number in paper.TABLES
    }
    monkeypatch.setattr(paper, "published_table", tables.__getitem__)


def probe(C: float = STRENGTH, features: int = 64) -> Scores:
    """The paper's probe, or one with another penalty or on the first features alone."""

    def scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        return probe_scores(fit(train[:, :features], labels, len(CLASSES), C), test[:, :features])

    return scores


def as_released(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The released call, stopping where scikit-learn 1.3 did: at 1e-4 of a sum over rows, and not of their mean."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=STRENGTH, max_iter=1000, class_weight="balanced", tol=1e-4 / len(train))
    return model.fit(train, labels).predict_proba(test)


def probed(out: Path, scores: Scores, draw: int = 0) -> Record:
    """Five resplits of 1,000 images with 64 features, 16 a class to fit on and 40 a class to score."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(5), 200)
    images = rng.normal(size=(5, 64))[labels] * 0.25 + rng.normal(size=(1000, 64))
    folds = []
    for fold in range(5):
        rows = np.random.default_rng([draw, fold]).permuted(np.arange(1000).reshape(5, 200), axis=1)
        test, train = rows[:, :40].ravel(), rows[:, 40:56].ravel()
        found = scores(images[train], labels[train], images[test])
        folds.append(FoldScores(fold, tuple(f"image{row:04}" for row in test), labels[test], found))
    return write_result(out, folds, **CHEXPERT)


def shown(record: Record) -> str:
    return f"{100 * record.summary['balanced_accuracy']['mean']:.2f}"


def only(out: Path, record: Record) -> CellVerdict:
    (found,) = against_paper(out, [record])
    return found


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The number of the paper's probe stands in Table 2."""
    prints(monkeypatch, shown(probed(tmp_path / "paper", probe())))
    return tmp_path


def test_the_same_probe_on_the_same_rows_agrees_to_arithmetic(printed: Path) -> None:
    found = only(printed, probed(printed, probe()))
    assert (found.verdict, found.kind) == ("agrees", "exact reproduction")
    assert found.tolerance is not None and found.tolerance < 1
    told = " ".join(found.reasons)
    assert "exact reproduction: the paper's own images and draws" in told
    assert "rows are decided by less than 0.003" in told and "stops within 0.003 of the optimum" in told


def test_the_released_solver_agrees_with_the_optimum(printed: Path) -> None:
    found = only(printed, probed(printed, as_released))
    assert (found.verdict, found.kind) == ("agrees", "exact reproduction")


@pytest.mark.parametrize(
    ("scores", "draw"),
    [(probe(C=0.0316), 0), (probe(C=3.16), 0), (probe(features=32), 0), (probe(), 1)],
    ids=["a tenth of C", "ten times C", "half of the features", "another draw"],
)
def test_one_altered_constant_is_found_on_the_papers_own_rows(printed: Path, scores: Scores, draw: int) -> None:
    found = only(printed, probed(printed, scores, draw))
    assert (found.verdict, found.kind) == ("differs", "exact reproduction")


def test_another_draw_agrees_as_a_second_measurement(printed: Path) -> None:
    """The alteration that is found above is none where the paper's rows are not known."""
    record = probed(printed, probe(), 1)
    unknown = record.model_copy(update={"data": record.data.model_copy(update={"reference": "unknown"})})
    found = only(printed, unknown)
    assert found.kind == "two measurements" and found.verdict != "differs"


def zero_shot(*drawn: str) -> dict[str, object]:
    """A zero-shot cell with one prompt for its class in each fold."""
    prompts = {"set": "names", "digest": "", "source": "prompts", "drawn": [{"Normal": [word]} for word in drawn]}
    return {
        "protocol": {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits"},
        "prompts": prompts,
    }


COVID = {"data__task": "covid", "data__split": "dlilp-author-list"}
NIH = {"data__task": "nih_lt", "data__split": "dlilp"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (CHEXPERT, None),
        (COVID, None),
        (CHEXPERT | {"data__reference": "unknown"}, "the digest of the paper's rows is not known"),
        ({"data__task": "mimic5x200", "data__split": "dlilp", "data__reference": "unknown"}, "digest"),
        ({"data__task": "my_task"}, "digest"),
        ({}, "Table 1 prints 8,400"),
        ({"data__task": "siim", "data__split": "dlilp-rows"}, "stage 1"),
        (NIH, "the digest of the paper's train rows is not known"),
        (NIH | zero_shot("one wording"), None),
        (NIH | zero_shot("first draw", "second draw"), "train rows"),
    ],
)
def test_a_repeat_has_the_papers_rows_and_draws(changes: dict[str, object], reason: str | None) -> None:
    found = why_not_exact(made_record(**changes))
    assert (found == ()) if reason is None else (reason in " ".join(found)), found


def test_a_number_that_two_tables_print_is_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints(monkeypatch, "50.00", task="rsna")
    single = paper.published_table(2)
    monkeypatch.setattr(paper, "published_table", {2: single, 3: single, 4: single}.__getitem__)
    record = write_result(tmp_path)
    found = against_paper(tmp_path, [record])
    assert len(found) == 3 and len({one.p for one in found}) == 1
    assert all("after Holm over 1 cell" in " ".join(one.reasons) for one in found)


def test_known_estimates_give_the_same_findings(tmp_path: Path) -> None:
    record = write_result(tmp_path)
    cell = read_cell(tmp_path, record)
    known = {record.id: (measurement(cell, BALANCED_ACCURACY).estimate, cell.over)}
    assert against_paper(tmp_path, [record], known) == against_paper(tmp_path, [record])
    sure = {record.id: (known[record.id][0].fixed(), cell.over)}
    assert against_paper(tmp_path, [record], sure) != against_paper(tmp_path, [record])


def test_a_summary_says_what_an_agreement_is(printed: Path) -> None:
    found = against_paper(printed, [probed(printed, probe())])
    assert summary(found, partial=False) == "check passed: paper agrees as a repeat 1"
