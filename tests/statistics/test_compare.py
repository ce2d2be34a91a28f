"""Comparisons from records and predictions: what may be set side by side, and what comes of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_predictions import LABELS, scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.analysis.cell import cell_calibration
from cxrbench.analysis.compare import Comparison, compare
from cxrbench.analysis.leaderboard import Leaderboard, leaderboard
from cxrbench.cli.main import app
from cxrbench.errors import DataError, IntegrityError, NotApplicableError, SpecError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, record_path
from cxrbench.records.scores import FoldScores
from cxrbench.records.selection import CellFilter, every_setting, select, why_not_paired
from cxrbench.reports.comparisons import render
from cxrbench.reports.figures import write_diagram
from cxrbench.specs import catalog

TASKS = ("rsna", "siim", "covid")
SKILL = {"good": 3.0, "fair": 1.5, "poor": 0.2}


def folds(skill: float, seed: int, **how: Any) -> list[FoldScores]:
    return [scored_fold(skill, seed, number=k, noise=int(10 * skill) + k, **how) for k in range(5)]


def results(out: Path, models: Sequence[str] = ("good", "fair"), **changes: Any) -> list[Record]:
    return [
        written(out, model, folds(SKILL[model], seed), data__task=task, **changes)
        for seed, task in enumerate(TASKS)
        for model in models
    ]


def asked(*models: str, **how: Any) -> CellFilter:
    return CellFilter(models, catalog.load_variant("paper-code"), **how)


def compared(out: Path, *models: str, **how: Any) -> Comparison:
    (selected,) = select(read_results(out, out).records, asked(*models, **how))
    return compare(out, selected, BALANCED_ACCURACY)


def board(out: Path, *models: str, **how: Any) -> Leaderboard:
    (selected,) = select(read_results(out, out).records, asked(*models, **how))
    return leaderboard(out, selected, BALANCED_ACCURACY)


def cli(*words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words])


def mean(record: Record) -> float:
    return float(np.mean([fold.metrics["balanced_accuracy"] for fold in record.folds]))


def test_two_models_are_told_apart_on_every_task(tmp_path: Path) -> None:
    records = results(tmp_path)
    found = compared(tmp_path, "good", "fair")
    assert [task.task for task in found.tasks] == ["siim", "rsna", "covid"]  # the paper's order
    for task in found.tasks:
        a, b = (next(r for r in records if r.data.task == task.task and r.model.name == m) for m in ("good", "fair"))
        assert task.a.interval.estimate == pytest.approx(mean(a))
        assert task.difference.estimate == pytest.approx(mean(a) - mean(b))
        assert task.difference.low > 0  # type: ignore[operator]
        assert (task.verdict, task.a.spread.relation, task.a.spread.folds) == ("a", "one test set", 5)
        assert task.p is not None and task.p_holm is not None and task.p_holm >= task.p
    assert found.mean.estimate == pytest.approx(np.mean([t.difference.estimate for t in found.tasks]))
    assert found.sign_flip == 2 / 2**3
    assert compared(tmp_path, "fair", "good").tasks[0].verdict == "b"


def test_equal_records_give_equal_figures(tmp_path: Path) -> None:
    results(tmp_path)
    one, two = (cli("good", "fair", "--out", str(tmp_path), "--json").stdout for _ in range(2))
    assert one == two


def test_patients_are_the_units_where_all_are_known(tmp_path: Path) -> None:
    scored = folds(3.0, 1), folds(1.5, 1)
    patients = {image: f"patient{i // 3}" for i, image in enumerate(scored[0][0].ids)}
    records = [written(tmp_path, m, f, patients) for m, f in zip(("good", "fair"), scored, strict=True)]
    (task,) = compared(tmp_path, "good", "fair").tasks
    assert (task.difference.over, task.difference.units) == ("patient", 40)
    some = dict(list(patients.items())[1:])
    cell = read_cell(tmp_path, written(tmp_path, "poor", folds(0.2, 1), some))
    assert (cell.over, len(cell.units)) == ("image", 120)
    assert read_cell(tmp_path, records[0]).units[:2] == ("patient0", "patient1")


def refusal(out: Path, **changes: Any) -> str:
    """Why `good` and a `fair` with these changes are not compared."""
    written(out, "good", folds(3.0, 1))
    written(out, "fair", changes.pop("folds", folds(1.5, 1)), **changes)
    with pytest.raises(NotApplicableError) as error:
        compared(out, "good", "fair")
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data__partition_digest": "9" * 64}, "other split digests"),
        ({"data__split": "gloria"}, "other splits"),
        ({"data__contents_digest": "9" * 64}, "the image files had other bytes"),
        ({"data__labels": LABELS[::-1]}, "other labels"),
        ({"protocol__part": "train"}, "other scored parts"),
    ],
)
def test_other_data_are_never_compared(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol__shots": 1}, "other shots: 16 and 1"),
        ({"data__group": "base"}, "other groups"),
        ({"data__task": "siim"}, "other tasks"),
        ({"variant": "cxrbench-v1"}, "other variants"),
        ({"data__synthetic": True}, "other made and measured numbers"),
    ],
)
def test_cells_of_other_settings_are_no_pair(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Selection keeps them apart already; a caller that brings its own cells is told."""
    cells = [
        read_cell(tmp_path, written(tmp_path, model, folds(1.5, 1), **more))
        for model, more in (("good", {}), ("fair", changes))
    ]
    assert reason in "; ".join(why_not_paired(*cells))


def test_folds_and_patients_must_be_the_same(tmp_path: Path) -> None:
    plain, turned, known = folds(1.5, 1), folds(1.5, 1), folds(1.5, 1)
    halves = [
        [FoldScores(k, f.ids[k::2], f.labels[k::2], f.scores[k::2]) for k in (0, 1)] for f in (plain[0], turned[0])
    ]
    halves[1].reverse()
    halves[1] = [FoldScores(k, f.ids, f.labels, f.scores) for k, f in enumerate(halves[1])]
    partition = {"data__partition_digest": "e" * 64}
    a, b = (read_cell(tmp_path, written(tmp_path, f"m{k}", half, **partition)) for k, half in enumerate(halves))
    assert why_not_paired(a, b) == ("their folds test other images",)
    patients = {image: f"patient{i // 3}" for i, image in enumerate(known[0].ids)}
    one, two = (read_cell(tmp_path, written(tmp_path, f"n{k}", known, who)) for k, who in enumerate((None, patients)))
    assert why_not_paired(one, two) == ("patients are known in one record and not, or otherwise, in the other",)


def test_other_images_are_never_compared(tmp_path: Path) -> None:
    fewer = [scored_fold(1.5, 1, number=k, images=50) for k in range(2)]
    digest = {"data__partition_digest": written(tmp_path, "good", folds(3.0, 1)).data.partition_digest}
    told = refusal(tmp_path, folds=fewer, **digest)
    assert "other test images: 20 only of good, 0 only of fair" in told


def zero_shot(name: str, digest: str, source: str = "prompts") -> dict[str, Any]:
    return {
        "protocol": {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits", "logit_scale": 20.0},
        "prompts": {"set": name, "digest": digest * 64, "source": source},
    }


def test_other_prompts_of_one_name_are_refused_and_prototypes_are_noted(tmp_path: Path) -> None:
    written(tmp_path, "good", folds(3.0, 1), **zero_shot("mine", "1"))
    written(tmp_path, "fair", folds(1.5, 1), **zero_shot("mine", "2"))
    with pytest.raises(NotApplicableError, match="other prompts: mine 11111111 and mine 22222222"):
        compared(tmp_path, "good", "fair")
    written(tmp_path, "poor", folds(0.2, 1), **zero_shot("prototypes", "3", "prototypes"))
    found = compared(tmp_path, "good", "poor")
    assert found.setting.prompts == "mine"
    assert "class vectors of its own" in found.notes[-1]


def test_prompt_sets_and_shots_are_settings_of_their_own(tmp_path: Path) -> None:
    for model, skill in (("good", 3.0), ("fair", 1.5)):
        for words in ("names", "ensemble"):
            written(tmp_path, model, folds(skill, 1), **zero_shot(words, words[0].replace("n", "a")))
        for shots in (1, 16):
            written(tmp_path, model, folds(skill, 1), protocol__shots=shots)
    records = read_results(tmp_path, tmp_path).records
    assert len(select(records, asked("good", "fair"))) == 4
    assert [s.setting.shots for s in select(records, asked("good", "fair", shots=1))] == [1]
    assert [s.setting.prompts for s in select(records, asked("good", "fair", prompts="names"))] == ["names"]
    with pytest.raises(DataError, match="no two of"):
        select(records, asked("good", "fair", shots=8))


def test_variants_and_made_records_never_meet_others(tmp_path: Path) -> None:
    written(tmp_path, "good", folds(3.0, 1))
    written(tmp_path, "fair", folds(1.5, 1), variant="cxrbench-v1")
    with pytest.raises(SpecError, match="no measured model 'fair'"):
        compared(tmp_path, "good", "fair")
    written(tmp_path, "poor", folds(0.2, 1), model__synthetic=True)
    with pytest.raises(SpecError, match="no measured model 'poor'"):
        compared(tmp_path, "good", "poor")
    with pytest.raises(DataError, match="there are records of: paper-code"):
        select(
            read_results(tmp_path, tmp_path).records,
            CellFilter(["poor"], catalog.load_variant("phantom"), synthetic=True),
        )


def test_made_records_are_compared_on_request_and_marked(tmp_path: Path) -> None:
    results(tmp_path, data__synthetic=True)
    refused = cli("good", "fair", "--out", str(tmp_path))
    assert isinstance(refused.exception, DataError)
    assert "--synthetic" in str(refused.exception)
    shown = cli("good", "fair", "--out", str(tmp_path), "--synthetic", "--format", "markdown").stdout
    assert shown.startswith("## PHANTOM, synthetic images or weights, no result: good and fair")
    assert json.loads(cli("good", "fair", "--out", str(tmp_path), "--synthetic", "--json").stdout)[0]["synthetic"]


def test_predictions_that_changed_or_went_are_noticed(tmp_path: Path) -> None:
    record = written(tmp_path, "good", folds(3.0, 1))
    path = record_path(tmp_path, "rsna", "good", record.id).with_suffix(".parquet")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="digest differs"):
        read_cell(tmp_path, record)
    path.unlink()
    with pytest.raises(DataError, match="run the cell again"):
        read_cell(tmp_path, record)


def test_a_task_without_a_partner_is_told_and_the_newest_record_counts(tmp_path: Path) -> None:
    results(tmp_path)
    written(tmp_path, "good", folds(3.0, 5), data__task="vindr")
    newer = written(tmp_path, "good", folds(2.0, 0), runtime__started="2026-02-01T00:00:00+00:00")
    found = compared(tmp_path, "good", "fair")
    assert found.refused == {"vindr": ("no record of fair",)}
    assert newer.id in [task.a.record for task in found.tasks]
    assert any("good, rsna: 1 older record" in note for note in found.notes)


def test_three_models_are_ranked(tmp_path: Path) -> None:
    results(tmp_path, tuple(SKILL))
    found = board(tmp_path, "poor", "fair", "good")
    assert found.models == ("good", "fair", "poor")
    assert found.ranks.ranks.tolist() == [1, 2, 3]
    assert found.values[0][0].estimate > found.values[0][1].estimate > found.values[0][2].estimate  # type: ignore[operator]
    assert (found.told_apart, found.compared) == (9, 9)
    assert found.places.of == {"good": (1, 1), "fair": (2, 2), "poor": (3, 3)}
    assert (found.best, found.best_mean) == ((("good",),) * 3, ("good",))
    assert [mean.estimate for mean in found.means] == [
        pytest.approx(np.mean([row[place].estimate for row in found.values])) for place in range(3)
    ]


def test_each_mean_of_a_board_says_what_it_covers_itself(tmp_path: Path) -> None:
    """One model is scored by class vectors of its own, the others by prompts: no other prompts could move it."""
    for seed, task in enumerate(TASKS):
        for model, words in (("good", "prototypes"), ("fair", "mine"), ("poor", "mine")):
            source = "prototypes" if words == "prototypes" else "prompts"
            written(tmp_path, model, folds(SKILL[model], seed), data__task=task, **zero_shot(words, "1", source))
    found = board(tmp_path, "poor", "fair", "good", protocol="zero-shot")
    covers = {model: mean.covers for model, mean in zip(found.models, found.means, strict=True)}
    assert covers == {"good": ("images",), "fair": ("one wording",), "poor": ("one wording",)}


def test_twins_cannot_be_told_apart(tmp_path: Path) -> None:
    for seed, task in enumerate(TASKS):
        for twin in range(3):
            rows = [scored_fold(1.5, seed, number=0, noise=twin + 1)]
            written(tmp_path, f"twin{twin}", rows, data__task=task)
    found = board(tmp_path, "twin*")
    assert (found.told_apart, found.compared) == (0, 9)
    assert found.places.of == dict.fromkeys(("twin0", "twin1", "twin2"), (1, 3))
    assert found.best_mean == found.models
    assert found.ranks.nemenyi.min() > 0.05


def test_ranks_need_two_tasks_that_all_share(tmp_path: Path) -> None:
    results(tmp_path)
    written(tmp_path, "poor", folds(0.2, 0), data__task="rsna")
    with pytest.raises(NotApplicableError, match="covid: no record of poor"):
        board(tmp_path, "all")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_diagram_is_drawn_the_same_each_time(ending: str, tmp_path: Path) -> None:
    results(tmp_path, tuple(SKILL))
    drawn, found = [tmp_path / f"{k}.{ending}" for k in range(2)], board(tmp_path, "all")
    for path in drawn:
        write_diagram(found, path)
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


def test_the_diagram_is_drawn_on_request_and_names_all_models(tmp_path: Path) -> None:
    results(tmp_path, tuple(SKILL))
    path = tmp_path / "ranks.svg"
    assert cli("all", "--out", str(tmp_path), "--figure", str(path)).exit_code == 0
    assert all(model in path.read_text() for model in SKILL)


def test_a_task_whose_fold_lacks_a_class_is_told_not_compared(tmp_path: Path) -> None:
    results(tmp_path)
    rows = scored_fold(1.5, 9)
    lone = FoldScores(1, rows.ids[:60], rows.labels[:60], rows.scores[:60])  # the first class alone
    for model in ("good", "fair"):
        written(tmp_path, model, [rows, lone], data__task="vindr")
    for metric in (BALANCED_ACCURACY, MACRO_AUROC):
        (selected,) = select(read_results(tmp_path, tmp_path).records, asked("good", "fair"))
        found = compare(tmp_path, selected, metric)  # type: ignore[arg-type]
        assert "a class has no test image in a fold" in found.refused["vindr"][0]
        assert "vindr" not in [task.task for task in found.tasks]
        assert found.mean.estimate is not None
    (selected,) = select(read_results(tmp_path, tmp_path).records, asked("good", "fair", tasks=("vindr",)))
    with pytest.raises(NotApplicableError, match="no task has this balanced accuracy"):
        compare(tmp_path, selected, BALANCED_ACCURACY)


def test_several_settings_say_that_p_are_not_corrected_over_them(tmp_path: Path) -> None:
    results(tmp_path)
    results(tmp_path, protocol__shots=1)
    chosen = select(read_results(tmp_path, tmp_path).records, asked("good", "fair"))
    found = [compare(tmp_path, selected, BALANCED_ACCURACY) for selected in chosen]
    assert "not over the 2 settings" in render(found, "terminal")
    assert "not over the" not in render(found[:1], "terminal")


def test_the_verdict_is_by_the_corrected_p(tmp_path: Path) -> None:
    results(tmp_path)
    task = compared(tmp_path, "good", "fair").tasks[0]
    assert task.p is not None and task.p < 0.05
    assert [replace(task, p_holm=p).verdict for p in (0.049, 0.05, None)] == ["a", "undecided", "undecided"]


def test_figures_of_nothing_to_draw_are_refused(tmp_path: Path) -> None:
    results(tmp_path)
    for words, reason in ((["--figure", "x.gif"], ".svg"), (["--figure", str(tmp_path / "x.svg")], "three or more")):
        refused = cli("good", "fair", "--out", str(tmp_path), *words)
        assert isinstance(refused.exception, SpecError)
        assert reason in str(refused.exception)
    assert not (tmp_path / "x.svg").exists()


def test_the_table_says_what_its_brackets_and_deviations_are(tmp_path: Path) -> None:
    results(tmp_path)
    text = cli("good", "fair", "--out", str(tmp_path)).stdout
    assert "120 images" in text
    assert "std over folds, no standard error" in text
    assert "(5 and 5 folds, one test set)" in text


@pytest.mark.parametrize("metric", ["accuracy", "macro_auroc", "macro_f1", "kappa"])
def test_every_metric_is_compared(metric: str, tmp_path: Path) -> None:
    results(tmp_path)
    (found,) = json.loads(cli("good", "fair", "--out", str(tmp_path), "--metric", metric, "--json").stdout)
    assert found["metric"] == metric
    assert {task["verdict"] for task in found["tasks"]} == {"a"}


def test_calibration_takes_scores_as_the_protocol_says(tmp_path: Path) -> None:
    probe = read_cell(tmp_path, written(tmp_path, "good", folds(3.0, 1)))
    assert len(cell_calibration(probe)) == 5
    logits = [FoldScores(f.fold, f.ids, f.labels, np.log(f.scores) + 3) for f in folds(3.0, 1)]
    words = read_cell(tmp_path, written(tmp_path, "good", logits, **zero_shot("names", "1")))
    assert cell_calibration(words)[0].brier == pytest.approx(cell_calibration(probe)[0].brier)
    fused = zero_shot("names", "1")
    fused["protocol"] |= {"standardised": True, "scores": "other"}
    with pytest.raises(NotApplicableError, match="neither probabilities nor logits"):
        cell_calibration(read_cell(tmp_path, written(tmp_path, "good", logits, **fused)))
    with pytest.raises(DataError, match="no probabilities"):
        cell_calibration(read_cell(tmp_path, written(tmp_path, "fair", logits)))


@pytest.mark.slow
def test_comparing_loads_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    results(tmp_path, tuple(SKILL))
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom cxrbench.cli.main import app\n"
        f"done = CliRunner().invoke(app, ['compare', 'all', '--out', {str(tmp_path)!r}])\n"
        "assert done.exit_code == 0, done\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_its_help_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom cxrbench.cli.main import app\n"
        "assert 'balanced_accuracy' in CliRunner().invoke(app, ['compare', '--help']).stdout\n"
        "assert not {'torch', 'pandas', 'scipy', 'matplotlib', 'statsmodels'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_one_image_of_a_class_leaves_its_task_open_and_is_named(tmp_path: Path) -> None:
    """Holm is over all tasks, and the mean is as unsure as that one."""
    results(tmp_path)
    before = compared(tmp_path, "good", "fair").mean
    for model, skill in (("good", 3.0), ("fair", 0.2)):
        few = [FoldScores(0, f.ids[:61], f.labels[:61], f.scores[:61]) for f in folds(skill, 1)[:1]]
        written(tmp_path, model, few, data__task="vindr")
    found = compared(tmp_path, "good", "fair")
    vindr = next(task for task in found.tasks if task.task == "vindr")
    assert vindr.verdict == "undecided" and vindr.p is not None
    assert vindr.a.interval.reason.startswith("few test images: Pneumonia 1.")
    assert found.mean.low is not None and before.low is not None
    assert (found.mean.high or 0) - found.mean.low > 2 * ((before.high or 0) - before.low)


@pytest.mark.parametrize("metric", [BALANCED_ACCURACY, MACRO_AUROC])
def test_p_goes_with_the_interval_beside_it_for_tasks_and_their_mean(metric: Any, tmp_path: Path) -> None:
    for seed, task in enumerate(TASKS):
        for model, skill in (("good", 1.1 + 0.4 * seed), ("fair", 1.0)):
            written(tmp_path, model, folds(skill, seed, images=100), data__task=task)
    (selected,) = select(read_results(tmp_path, tmp_path).records, asked("good", "fair"))
    for these_draws in (False, True):
        found = compare(tmp_path, selected, metric, these_draws=these_draws)
        for interval, p in ((found.mean, found.mean_p), *((task.difference, task.p) for task in found.tasks)):
            assert interval.low is not None and interval.high is not None and p is not None
            assert (p < 0.05) == (not interval.low <= 0 <= interval.high)


def test_the_narrow_comparison_says_so_and_is_narrower(tmp_path: Path) -> None:
    results(tmp_path)
    (selected,) = select(read_results(tmp_path, tmp_path).records, asked("good", "fair"))
    wide, narrow = (compare(tmp_path, selected, BALANCED_ACCURACY, these_draws=these) for these in (False, True))
    assert (wide.mean.words, narrow.mean.words) == (
        "other test images and training images",
        "other test images, these training images only",
    )
    for one, two in zip(wide.tasks, narrow.tasks, strict=True):
        assert one.difference.error >= two.difference.error  # type: ignore[operator]
        assert one.difference.low <= two.difference.low and one.difference.high >= two.difference.high  # type: ignore[operator]
        assert (one.mcnemar, two.mcnemar is None) == (None, False)
        assert one.a.interval.words == one.difference.words != two.difference.words
    assert any(one.difference.low < two.difference.low for one, two in zip(wide.tasks, narrow.tasks, strict=True))  # type: ignore[operator]


def test_what_a_mean_takes_as_independent_stands_beside_it(tmp_path: Path) -> None:
    results(tmp_path)
    shown = cli("good", "fair", "--out", str(tmp_path)).stdout
    assert "note: siim, rsna and covid hold images of one collection (nih); no id says which images" in shown
    alone = cli("good", "fair", "--task", "rsna", "--out", str(tmp_path)).stdout
    assert "collection" not in alone


def test_the_order_of_two_models_moves_no_p(tmp_path: Path) -> None:
    results(tmp_path)
    there, back = compared(tmp_path, "good", "fair"), compared(tmp_path, "fair", "good")
    assert [task.p for task in there.tasks] == pytest.approx([task.p for task in back.tasks])
    assert [task.p_holm for task in there.tasks] == pytest.approx([task.p_holm for task in back.tasks])
    assert there.mean_p == pytest.approx(back.mean_p)


def test_prototypes_are_shown_where_no_prompts_of_their_group_are(tmp_path: Path) -> None:
    written(tmp_path, "good", folds(3.0, 1), **zero_shot("mine", "1"))
    written(tmp_path, "poor", folds(0.2, 1), data__group="base", **zero_shot("prototypes", "3", "prototypes"))
    found = {(s.setting.group, s.setting.prompts) for s in every_setting(read_results(tmp_path, tmp_path).records)}
    assert found == {("all", "mine"), ("base", "prototypes")}
