"""The report computes everything at once, and says what the other verbs say of each cell alone."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from made_board import write_board

from cxrbench.analysis.cell import cell_interval, measurement
from cxrbench.analysis.leaderboard import leaderboard
from cxrbench.analysis.means import Weighted, mean_interval
from cxrbench.analysis.subgroups import subgroups
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, Metric
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.records import predictions
from cxrbench.records.integrity import found_results, read_results
from cxrbench.records.predictions import read_cell
from cxrbench.reports.html import boards
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.page import Report, report
from cxrbench.reports.html.render import render
from cxrbench.specs import catalog

MODELS = ("clip_cm", "dlilp_cm", "gloria", "medclip")
KIN = ("rsna", "nih_lt", "siim")  # the first two name their patients alike
METRIC: Metric = BALANCED_ACCURACY


def about(images: int) -> dict[str, dict[str, str]]:
    ids = [f"image{i:04d}" for i in range(images)]
    return {
        "sex": {name: "FM"[i % 2] for i, name in enumerate(ids)},
        "age": {name: str(i % 90) for i, name in enumerate(ids)},
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients of two images each, who are the same in all tasks."""
    folder = tmp_path_factory.mktemp("results")
    known = {"patients": {f"image{i:04d}": f"patient{i // 2}" for i in range(600)}, "about": about(600)}
    write_board(folder, MODELS, KIN, shots=(1, 16), prompts=(), images=20, folds=2, **known)
    return folder


@pytest.fixture(scope="module")
def made(out: Path) -> Report:
    return report(ReportWork(out), found_results(out), None)


def test_every_number_is_that_of_its_cell_alone(out: Path, made: Report) -> None:
    pages = made.chapters[0].pages
    assert len(pages) == len(MODELS) * len(KIN) * 2
    for page in pages.values():
        cell = read_cell(out, page.record)
        assert page.interval == cell_interval(cell, METRIC)
        assert page.area == cell_interval(cell, MACRO_AUROC)
        assert page.interval.over == "patient"
        if page.record.protocol.shots == 16:
            assert list(page.subgroups) == [subgroups(cell, by) for by in ("sex", "age")]


def test_every_board_is_that_of_compare(out: Path, made: Report) -> None:
    for board, selected in zip(made.chapters[0].boards, made.chapters[0].chapter.settings, strict=True):
        expected = leaderboard(out, replace(selected, models=MODELS), METRIC)
        found = board.ranking
        assert found is not None
        assert found.models == expected.models == tuple(line.model for line in board.lines)
        assert found.values == expected.values
        assert found.best == expected.best
        assert found.best_mean == expected.best_mean == board.best()
        assert (found.told_apart, found.compared) == (expected.told_apart, expected.compared)
        assert {line.model: line.place for line in board.lines} == expected.places.of
        assert set(found.places.apart) == set(expected.places.apart)
        assert found.refused == expected.refused == {}


def close(one: Interval | None, other: Interval | None) -> bool:
    """Whether two intervals are the same but for rounding."""
    assert one is not None and other is not None
    numbers = [(i.estimate, i.low, i.high, i.error) for i in (one, other)]
    return numbers[0] == pytest.approx(numbers[1], abs=1e-9) and replace(
        one, estimate=0, low=0, high=0, error=0
    ) == replace(other, estimate=0, low=0, high=0, error=0)


def test_every_mean_is_that_of_the_tables_and_of_the_ranking_with_shared_patients_counted_once(
    out: Path, made: Report
) -> None:
    for board in made.chapters[0].boards:
        assert board.ranking is not None
        means = dict(zip(board.ranking.models, board.ranking.means, strict=True))
        for line in board.lines:
            cells = [measurement(read_cell(out, page.record), METRIC) for page in line.pages.values()]
            assert close(line.mean, mean_interval([Weighted(cell, 1 / len(cells)) for cell in cells]))
            assert close(line.mean, means[line.model])


def test_these_draws_ask_for_the_narrow_interval_everywhere(out: Path, made: Report) -> None:
    narrow = report(ReportWork(out, these_draws=True), found_results(out), None)
    assert narrow.these_draws and not made.these_draws
    longer = list[float]()
    for board, wide in zip(narrow.chapters[0].boards, made.chapters[0].boards, strict=True):
        for line in board.lines:
            before = next(one for one in wide.lines if one.model == line.model)
            pairs = [(line.mean, before.mean), *((line.interval(task), before.interval(task)) for task in board.tasks)]
            for one, other in pairs:
                assert one is not None and other is not None
                assert one.covers == ("these draws",) and other.covers == ("draws",)
                assert one.low is not None and other.low is not None and one.high is not None and other.high is not None
                longer.append(other.high - other.low - (one.high - one.low))
    assert min(longer) >= 0 and max(longer) > 0
    for page in narrow.chapters[0].pages.values():
        cell = read_cell(out, page.record)
        assert page.interval == cell_interval(cell, METRIC, these_draws=True)
        assert page.area == cell_interval(cell, MACRO_AUROC, these_draws=True)
        for found in page.subgroups:
            assert found == subgroups(cell, found.by, these_draws=True)


def test_a_standing_names_those_that_a_model_is_told_apart_from(made: Report) -> None:
    for board in made.chapters[0].boards:
        assert board.ranking is not None
        told = {(line.model, worse.model) for line, _, below in board.standings() for worse in below}
        assert told == set(board.ranking.places.apart)
        assert [line.model for line, _, _ in board.standings()] == list(board.ranking.models)


def test_each_file_is_read_once(out: Path) -> None:
    read: list[str] = []
    before = predictions._scored

    def counted(record: predictions.Record, content: bytes) -> predictions.ScoredCell:
        read.append(record.id)
        return before(record, content)

    with patch.object(predictions, "_scored", counted):
        report(ReportWork(out), found_results(out), None)
    assert sorted(read) == sorted(record.id for record in read_results(out, out).records)


def test_shares_of_any_size_and_processes_of_any_number_give_one_page(
    out: Path, made: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "MOST_BYTES", 1)
    assert render(report(ReportWork(out), found_results(out), None)) == render(made)


@pytest.mark.slow
def test_two_processes_give_the_page_of_one(out: Path, made: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrbench.reports.html.chapters.WORTH", 1)
    assert render(report(ReportWork(out, workers=2), found_results(out), None)) == render(made)


@pytest.mark.slow
def test_twenty_models_with_groups_and_subgroups_stay_below_three_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All classes in every setting; base and new classes, where a task parts them, as Tables 3 and 4 ask for them.

    Nothing is synced to the disk: 1,280 records took two minutes of waiting for that.
    """
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None, raising=False)
    models = list(catalog.card_files())[:20]
    wordings = ("names", "description", "ensemble")
    tasks = {name: catalog.load_task(name) for name in catalog.PAPERS_TASKS}
    known: Mapping[str, object] = {"images": 20, "about": about(20 * max(len(t.groups["all"]) for t in tasks.values()))}
    cells = 0
    for group, how in (
        ("all", {"shots": (1, 2, 4, 8, 16), "prompts": wordings}),
        ("base", {"shots": (16,), "prompts": wordings[1:2]}),
        ("new", {"shots": (16,), "prompts": wordings[1:2]}),
    ):
        own = [name for name, task in tasks.items() if group in task.groups]
        cells += len(write_board(tmp_path, models, own, group=group, **how, **known))
    assert cells == 20 * (7 * 8 + 2 * 2 * 2)
    text = render(report(ReportWork(tmp_path), found_results(tmp_path), None))
    assert "By sex" in text and "base classes" in text
    size = len(text.encode())
    assert size < 3_000_000, size
