"""Probes on K images, a share of the training part and all of it, from files to records, on each form of task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, add_findings, by_id, records_of
from typer.testing import CliRunner

from cxrbench.cli.main import app
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.records.record import Record, record_path
from cxrbench.runner.folds import id_folds
from cxrbench.specs import catalog
from cxrbench.types import Shots

ASKED: tuple[Shots, ...] = (2, "75%", "all")
PROBES: Mapping[str, Any] = {"protocols": ["linear-probe"], "groups": ["all"]}


def budgets(place: Path) -> dict[Shots | None, Record]:
    return {record.protocol.shots: record for record in records_of(place)}


def test_a_task_with_a_fixed_test_part_has_five_shares_and_one_whole(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["covid"], shots=ASKED, **PROBES)
    assert not report.problems and report.decoded > 0
    found = budgets(tmp_path)
    assert {shots: [len(fold.train) for fold in one.folds] for shots, one in found.items()} == {
        2: [8] * 5,
        "75%": [12] * 5,
        "all": [16],
    }
    assert found[2].protocol.trained == {} == found["75%"].protocol.short
    assert set(found["all"].protocol.trained.values()) == {(4, 4)} and len(found["all"].protocol.trained) == 4
    told = found["75%"].protocol.trained.values()
    assert sum(few for few, _ in told) <= 12 <= sum(most for _, most in told)
    tests = {fold.test_digest for one in found.values() for fold in one.folds}
    assert len(tests) == 1, "the scored images do not depend on what is trained on"


def test_a_task_without_a_test_part_keeps_its_five_resplits(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["chexpert5x200"], shots=ASKED, **PROBES)
    assert not report.problems
    found = budgets(tmp_path)
    assert [len(fold.train) for fold in found["all"].folds] == [35] * 5
    assert [len(fold.train) for fold in found["75%"].folds] == [27] * 5
    digests = {shots: [fold.test_digest for fold in one.folds] for shots, one in found.items()}
    assert digests[2] == digests["75%"] == digests["all"] and len(set(digests[2])) == 5


def test_findings_are_probed_on_shares_and_all(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], [add_findings(lab)], shots=(1, "90%", "all"), **PROBES)
    assert not report.problems, report.problems
    found = budgets(tmp_path)
    whole, part = found["all"], found["90%"]
    rows = sum(whole.data.rows_per_label["train"].values())
    assert sum(most for _, most in whole.protocol.trained.values()) == rows
    assert [len(fold.train) for fold in whole.folds] > [len(part.folds[0].train)]
    assert len({fold.train for fold in part.folds}) == 5
    for label, (few, most) in part.protocol.trained.items():
        assert 0 < few <= most <= whole.protocol.trained[label][1]


@pytest.mark.parametrize("task", ["covid", "chexpert5x200"])
def test_budgets_do_not_disturb_one_another_and_are_found_again(task: str, lab: Lab, tmp_path: Path) -> None:
    for one in ASKED:
        lab.run(tmp_path / str(one), ["small_unimodal"], [task], shots=(one,), **PROBES)
    alone = {r.id: r.folds for one in ASKED for r in records_of(tmp_path / str(one))}
    lab.run(tmp_path / "part", ["small_unimodal"], [task], shots=ASKED[:1], **PROBES)
    whole = lab.run(tmp_path / "part", ["small_unimodal"], [task], shots=ASKED, **PROBES)
    assert (whole.cached, len(whole.records)) == (1, 3)
    assert {r.id: r.folds for r in whole.records} == alone
    again = lab.run(tmp_path / "part", ["small_unimodal"], [task], shots=ASKED[::-1], **PROBES)
    assert (again.cached, again.encoded) == (3, 0) and by_id(again) == by_id(whole)


@pytest.mark.parametrize(("rule", "folds"), [("mgca", 1), ("cxr-clip", 1), ("mavl", 1), ("hash-rank-v1", 5)])
def test_the_setting_names_the_rule_of_shares(rule: str, folds: int, lab: Lab, tmp_path: Path) -> None:
    lab.run(tmp_path, ["small_unimodal"], ["covid"], shots=("80%", 2), settings={"fewshot.share": rule}, **PROBES)
    found = budgets(tmp_path)
    assert (len(found["80%"].folds), len(found[2].folds)) == (folds, 5)


def test_draws_of_twenty_folds_run_and_unequal_ones_say_what_they_took(lab: Lab, tmp_path: Path) -> None:
    for draw in ("standard", "relaxed"):
        report = lab.run(
            tmp_path / draw, ["small_unimodal"], ["covid", "chexpert5x200"], shots=(2, "all"),
            settings={"fewshot.draw": draw}, **PROBES,
        )  # fmt: skip
        assert not report.problems
        told = {(r.data.task, r.protocol.shots): r for r in report.records}
        assert len(told["covid", 2].folds) == len(told["chexpert5x200", 2].folds) == 20
        assert (len(told["covid", "all"].folds), len(told["chexpert5x200", "all"].folds)) == (1, 5)
        trained = told["covid", 2].protocol.trained
        assert trained == ({} if draw == "standard" else dict.fromkeys(trained, (2, 2)))


def test_each_resplit_is_scored_on_the_images_that_the_setting_says(lab: Lab, tmp_path: Path) -> None:
    asked = {"shots": (2,), "protocols": ["linear-probe", "zero-shot"], "groups": ["all"]}
    found = {}
    for resplit in ("released", "patient-partition-v1"):
        for draw in ("released", "standard"):
            settings = {"fewshot.draw": draw, "5x200.folds": resplit, "zs.ensemble": "all"}
            place = tmp_path / resplit / draw
            report = lab.run(place, ["small_clip"], ["chexpert5x200"], settings=settings, **asked)
            assert not report.problems
            for one in report.records:
                found[resplit, draw, one.protocol.protocol] = [fold.test_digest for fold in one.folds]
        old, new = found[resplit, "released", "linear-probe"], found[resplit, "standard", "linear-probe"]
        assert len(old) == 5 and len(new) == 20 and new[:5] == old
        assert (new[5:10] == old) == (resplit == "patient-partition-v1")
        assert found[resplit, "released", "zero-shot"] == found[resplit, "standard", "zero-shot"]


def test_no_training_image_is_a_test_image_of_its_fold(lab: Lab) -> None:
    task = catalog.load_task(lab.task("chexpert5x200"))
    partition = load_partition(lab.data[""], task, "phantom")
    for resplit in ("released", "patient-partition-v1"):
        for draw in catalog.draw_points():
            choices = {"fewshot.draw": draw, "5x200.folds": resplit}
            settings = catalog.chosen_variant(str(lab.variant), choices).settings
            for shots in ((1, 2), ("30%",), ("all",)):
                for fold in id_folds(task, partition, "all", shots, settings, "test"):
                    for images, _ in fold.train.values():
                        assert images and not set(images) & set(fold.test[0]), (resplit, draw, shots)


def test_draws_of_single_classes_are_not_for_findings_but_shares_are(lab: Lab, tmp_path: Path) -> None:
    name = add_findings(lab)
    settings = {"fewshot.draw": "realistic"}
    report = lab.run(tmp_path, ["small_unimodal"], [name], shots=(1, "all"), settings=settings, **PROBES)
    assert [record.protocol.shots for record in report.records] == ["all"] and not report.problems
    (reason,) = report.skipped.values()
    assert "takes images class by class" in reason and "--shots all" in reason
    task = catalog.load_task(lab.task(name))
    partition = load_partition(lab.data[""], task, "phantom")
    with pytest.raises(NotApplicableError):
        id_folds(task, partition, "all", (1,), catalog.chosen_variant("phantom", settings).settings, "test")


def test_a_share_that_misses_a_class_is_the_probes_own_error(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["covid"], shots=("1%", "all"), **PROBES)
    (problem,) = report.problems
    assert isinstance(problem, DataError) and "fold 0, 1 % of the training part: class" in str(problem)
    assert "ask for more by --shots" in str(problem)
    assert [record.protocol.shots for record in report.records] == ["all"]


def test_shares_show_in_tables_figures_info_check_export_and_report(lab: Lab, tmp_path: Path) -> None:
    lab.run(tmp_path, ["small_unimodal", "small_clip"], ["covid"], shots=(1, *ASKED), **PROBES)
    out = ["--out", str(tmp_path / "results")]
    common = [*out, "--variant", str(lab.variant), "--synthetic"]

    def spoken(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return str(done.output)

    table = spoken("table", "--shots", "all,75%", *common)
    assert "whole training part" in table and "75 % of the training part" in table and "K = 1" not in table
    compared = spoken("compare", "small_clip", "small_unimodal", "--shots", "75.0 %", *common)
    assert "75 % of the training part" in compared and "whole" not in compared
    spoken("figure", 3, "--to", tmp_path / "f.svg", *common)
    drawn = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert "75%" in drawn and "all" in drawn and "of the training part" in drawn
    spoken("export", "--to", tmp_path / "cells.csv", *out)
    assert {"75%", "all", "1"} <= set((tmp_path / "cells.csv").read_text().replace('"', "").split(","))
    for update in (["--update"], []):
        spoken("check", "--against", "baseline", *out, "--baseline", tmp_path / "b.toml", *update)
    assert 'shots = "all"' in (tmp_path / "b.toml").read_text()
    spoken("report", *out, "--to", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Linear probe, whole training part" in page and "or of the training part" in page
    record = next(one for one in records_of(tmp_path) if one.protocol.shots == "75%")
    told = spoken("info", record_path(tmp_path / "results", "covid", record.model.name, record.id))
    assert "trained on   " in told and "COVID " in told and "images a fold" in told
