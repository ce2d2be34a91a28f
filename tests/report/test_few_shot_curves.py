"""Figure 3: a point is a record, lines join what was measured, and the drawing is the same each time."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from made_predictions import restated, scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.analysis.cell import measurement
from cxrbench.analysis.few_shot_curves import Curve, FewShotCurves, PrintedCurve, few_shot, printed
from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.selection import CellFilter
from cxrbench.reports.figures import write_few_shot
from cxrbench.specs import catalog
from cxrbench.specs.paper import published_table
from cxrbench.types import Shots

MODELS, TASKS, SHOTS = ("clip_cm", "gloria"), ("rsna", "covid"), (1, 2, 4, 8, 16)


def results(out: Path, without: tuple[str, str, int] | None = None, **changes: object) -> None:
    for number, model in enumerate(MODELS):
        card = catalog.load_card(model)
        for seed, task in enumerate(TASKS):
            for shots in SHOTS:
                if (model, task, shots) != without:
                    folds = [
                        scored_fold(0.4 * shots**0.5, seed, number=k, noise=99 * number + shots + k) for k in (0, 1)
                    ]
                    told = {"data__task": task, "protocol__shots": shots}
                    written(out, model, folds, **told, model__pretraining="+".join(card.pretraining), **changes)


def drawn(out: Path) -> FewShotCurves:
    asked = CellFilter(("all",), catalog.load_variant("paper-code"), protocol="linear-probe")
    return few_shot(out, read_results(out, out).records, asked)


def shots_of(found: FewShotCurves, model: str, task: str | None) -> list[int]:
    return [point.shots for point in curve(found, model, task).points]


def probe(out: Path, model: str, task: str, shots: int, **changes: object) -> None:
    written(out, model, [scored_fold(1.0, shots)], data__task=task, protocol__shots=shots, **changes)


def curve(found: FewShotCurves, model: str, task: str | None) -> Curve:
    return next(c for c in found.curves if (c.model, c.task) == (model, task))


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["figure", "3", "--out", str(out), *words])


def test_every_point_is_its_record_and_the_average_is_of_the_tasks(tmp_path: Path) -> None:
    results(tmp_path)
    found = drawn(tmp_path)
    assert (found.models, found.tasks) == (MODELS, TASKS)
    assert len(found.curves) == 2 * 3
    records = {r.id: r for r in read_results(tmp_path, tmp_path).records}
    for point in curve(found, "gloria", "covid").points:
        record = records[point.record or ""]
        assert record.protocol.shots == point.shots
        assert measurement(read_cell(tmp_path, record), BALANCED_ACCURACY).number.interval == point.interval
    for place, point in enumerate(curve(found, "gloria", None).points):
        own = [curve(found, "gloria", task).points[place].interval.estimate for task in TASKS]  # type: ignore[union-attr]
        assert point.interval is not None
        assert point.interval.estimate == pytest.approx(np.mean(own))  # type: ignore[arg-type]


def test_what_the_paper_prints_stands_beside(tmp_path: Path) -> None:
    results(tmp_path)
    points = curve(drawn(tmp_path), "clip_cm", "rsna").points
    assert [p.printed for p in points] == [(), (), (), (), (PrintedCurve(2, Decimal("93.20")),)]
    table = {row.model: row.cells for row in published_table(4).rows}
    everything = [column.task for column in published_table(4).columns]
    assert printed("gloria", everything, 16) == (PrintedCurve(4, Decimal(table["gloria"]["avg"])),)
    assert printed("gloria", everything[1:], 16) == printed("gloria", ("rsna",), 8) == ()
    assert printed("gloria", ("nih_lt",), 16) == (PrintedCurve(4, Decimal(table["gloria"]["nih"])),)


@pytest.mark.parametrize("without", [None, ("gloria", "rsna", 16)])
def test_made_numbers_stand_beside_nothing_printed(without: tuple[str, str, int] | None, tmp_path: Path) -> None:
    results(tmp_path, without, model__synthetic=True)
    asked = CellFilter(("all",), catalog.load_variant("paper-code"), protocol="linear-probe", synthetic=True)
    found = few_shot(tmp_path, read_results(tmp_path, tmp_path).records, asked)
    assert found.synthetic and not any(p.printed for c in found.curves for p in c.points)


def test_a_line_joins_the_shots_that_were_measured_and_says_which_are_absent(tmp_path: Path) -> None:
    results(tmp_path, without=("gloria", "covid", 4))
    found = drawn(tmp_path)
    assert shots_of(found, "gloria", "covid") == shots_of(found, "gloria", None) == [1, 2, 8, 16]
    assert shots_of(found, "gloria", "rsna") == shots_of(found, "clip_cm", "covid") == list(SHOTS)
    assert [note for note in found.notes if "no record" in note] == ["no record: gloria, covid, K = 4"]
    assert cli(tmp_path, "--to", str(tmp_path / "a.svg")).exit_code == 0


def test_shots_other_than_the_papers_are_drawn(tmp_path: Path) -> None:
    for shots in (3, 100):
        probe(tmp_path, "clip_cm", "rsna", shots)
    found = drawn(tmp_path)
    assert found.shots == (3, 100) and shots_of(found, "clip_cm", "rsna") == [3, 100] and found.notes == ()
    assert cli(tmp_path, "--to", str(tmp_path / "a.svg")).exit_code == 0
    text = (tmp_path / "a.svg").read_text()
    assert ">3<" in text and ">100<" in text


def test_negative_controls_stand_apart_and_lack_nothing(tmp_path: Path) -> None:
    for task in TASKS:
        for shots in (1, 4, 16):
            probe(tmp_path, "clip_cm", task, shots)
        probe(tmp_path, "blank", task, 16, model__control=True)
    found = drawn(tmp_path)
    assert (found.models, found.controls) == (("clip_cm",), ("blank",))
    assert not any("no record" in note for note in found.notes)
    assert shots_of(found, "blank", None) == [16] and curve(found, "blank", "rsna").control
    assert not curve(found, "clip_cm", "rsna").control
    assert cli(tmp_path, "--to", str(tmp_path / "a.svg")).exit_code == 0
    assert "control: blank" in (tmp_path / "a.svg").read_text()


def test_a_probe_of_one_number_of_shots_is_a_point(tmp_path: Path) -> None:
    probe(tmp_path, "clip_cm", "rsna", 16)
    assert cli(tmp_path, "--to", str(tmp_path / "a.svg")).exit_code == 0
    assert shots_of(drawn(tmp_path), "clip_cm", "rsna") == [16]


def test_an_average_leaves_out_no_flawed_task(tmp_path: Path) -> None:
    results(tmp_path)
    for shots in SHOTS:
        for record in (r for r in read_results(tmp_path, tmp_path).records if r.protocol.shots == shots):
            if (record.model.name, record.data.task) == ("gloria", "rsna"):
                flawed = record.data.model_copy(update={"missing": 3})
                restated(tmp_path, record, data=flawed)
    found = drawn(tmp_path)
    assert shots_of(found, "gloria", "rsna") == list(SHOTS) == shots_of(found, "clip_cm", None)
    assert not any(c.model == "gloria" and c.task is None for c in found.curves)
    assert any("3 images have no file" in note for note in found.notes)


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_figure_is_drawn_the_same_each_time(ending: str, tmp_path: Path) -> None:
    results(tmp_path)
    files = [tmp_path / f"{k}.{ending}" for k in range(2)]
    for file in files:
        assert cli(tmp_path, "--to", str(file)).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    if ending == "svg":
        text = files[0].read_text()
        told = ("clip_cm", "gloria", "rsna", "covid", "average of 2 tasks", "printed in the paper", "95 % intervals")
        assert all(word in text for word in told)
        assert "<dc:date>" not in text


def test_models_tasks_and_the_default_place_are_chosen(tmp_path: Path) -> None:
    results(tmp_path)
    done = cli(tmp_path, "--model", "gloria", "--task", "rsna")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "figure3.svg").read_text()
    assert "gloria" in text and "clip_cm" not in text and "average of" not in text
    refused = cli(tmp_path, "--to", str(tmp_path / "x.gif"))
    assert isinstance(refused.exception, SpecError)


def test_shares_of_the_training_part_stand_apart_on_the_right(tmp_path: Path) -> None:
    asked: tuple[Shots, ...] = ("all", 16, "10%", 2, "2.5%")
    for task in TASKS:
        for shots in asked:
            if (task, shots) != (TASKS[0], "10%"):
                written(tmp_path, "gloria", [scored_fold(1.0, 3)], data__task=task, protocol__shots=shots)
    written(tmp_path, "medclip", [scored_fold(1.0, 3)], data__task=TASKS[0], protocol__shots="10%")
    found = drawn(tmp_path)
    assert found.shots == (2, 16, "2.5%", "10%", "all")
    assert shots_of(found, "gloria", TASKS[1]) == [2, 16, "2.5%", "10%", "all"]
    assert shots_of(found, "gloria", None) == [2, 16, "2.5%", "all"]
    assert f"no record: gloria, {TASKS[0]}, 10 % of the training part" in found.notes
    assert any("K = 2, 16, 2.5 % of the training part, whole training part" in note for note in found.notes)
    write_few_shot(found, [tmp_path / "f.svg"])
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    places = [text.index(f">{told}<") for told in ("2.5%", "10%", "all")]
    assert places == sorted(places) and "images per class, K | of the training part" in text


def test_shares_alone_make_a_figure(tmp_path: Path) -> None:
    for shots in ("1%", "all"):
        written(tmp_path, "gloria", [scored_fold(1.0, 3)], data__task=TASKS[0], protocol__shots=shots)
    assert cli(tmp_path).exit_code == 0
    assert "images per class" not in (tmp_path / "figure3.svg").read_text(encoding="utf-8")
