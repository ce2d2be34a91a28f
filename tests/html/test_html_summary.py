"""The first screen says what was measured, what may be concluded and what may not, as the boards below it have it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from made_board import write_board

from cxrbench.records.integrity import found_results
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.page import Report, report
from cxrbench.reports.html.render import render
from cxrbench.reports.html.summary import Answer, answer, sentence

TASKS = ("rsna", "covid")
PROBED: Mapping[str, object] = {"shots": (16,), "prompts": ()}


def made(out: Path) -> Report:
    return report(ReportWork(out), found_results(out), None)


def told(page: Report) -> Answer:
    return answer(page, page.chapters[0])


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One model far above two that are alike, and a negative control that does better than it may."""
    out = tmp_path_factory.mktemp("results")
    write_board(out, ("gloria", "medclip"), TASKS, best=0.4, **PROBED)  # type: ignore[arg-type]
    write_board(out, ("clip_cm",), TASKS, best=3.0, **PROBED)  # type: ignore[arg-type]
    write_board(out, ("class_prior",), TASKS, best=4.0, model__control=True, **PROBED)  # type: ignore[arg-type]
    return made(out)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("results")
    write_board(out, ("clip_cm", "gloria", "medclip"), TASKS, data__synthetic=True, **PROBED)  # type: ignore[arg-type]
    return made(out)


def test_who_is_better_is_who_the_board_tells_apart(apart: Report) -> None:
    board = apart.chapters[0].first
    assert board.ranking is not None
    pairs = {(better, worse) for better, worse in board.ranking.places.apart}
    assert {better for better, _ in pairs} == {"clip_cm"} and len(pairs) == 2
    found = told(apart).may
    assert found[0].startswith("2 of 3 pairs of encoders are told apart on the mean over RSNA, COVID")
    assert found[1:] == ("CLIP loss (M+C) is better than all others", "May be the best: CLIP loss (M+C)")


def test_a_control_above_chance_is_a_reason_for_doubt(apart: Report, alike: Report) -> None:
    assert any("RSNA, COVID need a look at disease: Control: class prior" in one for one in told(apart).may_not)
    assert any("no negative control was measured" in one for one in told(alike).may_not)
    assert not any("no negative control" in one for one in told(apart).may_not)


def test_no_difference_is_said_to_be_none_that_is_shown(alike: Report) -> None:
    (found,) = told(alike).may
    assert found.startswith("No difference is shown on the mean over RSNA, COVID: none of 3 pairs")
    assert found.endswith("which does not mean equal")


def test_too_few_models_for_places_say_so(tmp_path: Path) -> None:
    write_board(tmp_path, ("clip_cm", "gloria"), ("rsna",), shots=(16,), prompts=())
    (found,) = told(made(tmp_path)).may
    assert "three models" in found and found.startswith("No encoder is shown to be better")


def test_synthetic_marked_and_left_out_are_no_conclusions(alike: Report, apart: Report) -> None:
    first = told(alike).may_not[0]
    assert first == "Anything about patients or published models: the images are phantoms"
    assert not any("phantoms" in one or "synthetic" in one for one in told(apart).may_not)
    marked = [page for page in apart.chapters[0].pages.values() if page.marked]
    assert bool(marked) == any("†" in one for one in told(apart).may_not)
    less = replace(apart, unsound={"a": ("gone",)})
    assert any("1 record left out" in one for one in told(less).may_not)


def test_marks_of_cells_are_told_with_their_reasons(tmp_path: Path) -> None:
    write_board(tmp_path, ("gloria",), ("rsna",), shots=(16,), prompts=(), data__missing=3, model__pretraining="NIH")
    found = told(made(tmp_path)).may_not
    assert "What was asked, from 1 cell with *: 3 images have no file" in " ".join(found)
    assert any("RSNA had pre-training not seen that collection (†)" in one for one in found)


def test_what_was_measured_counts_names_and_controls(apart: Report) -> None:
    found = told(apart).measured
    assert found[0].startswith("3 encoders: ") and "CLIP loss (M+C)" in found[0] and "class prior" not in found[0]
    assert found[1:] == ("2 tasks: RSNA, COVID", "1 negative control: class prior", "8 cells in 1 setting")


def test_a_title_and_authors_stand_at_the_top_and_break_out_of_nothing(alike: Report) -> None:
    text = render(replace(alike, named="<b>Mine</b>", authors=('A "B" <i>', "C")))
    assert "<title>&lt;b&gt;Mine&lt;/b&gt;" in text and "<h1>&lt;b&gt;Mine&lt;/b&gt;</h1>" in text
    assert "A &#34;B&#34; &lt;i&gt;, C" in text and '<meta name=author content="A &#34;B&#34; &lt;i&gt;">' in text
    assert "<h1>cxrbench report</h1>" in render(alike)


def test_models_of_one_title_are_told_apart_by_name(tmp_path: Path) -> None:
    write_board(tmp_path, ("a", "b"), ("rsna",), shots=(16,), prompts=(), model__title="Twin")
    assert told(made(tmp_path)).measured[0] == "2 encoders: Twin (a), Twin (b)"


@pytest.mark.parametrize(("text", "found"), [("a b", "A b."), ("Ends.", "Ends."), ("e.g. x..", "E.g. x.")])
def test_a_sentence_has_one_full_stop(text: str, found: str) -> None:
    assert sentence(text) == found
