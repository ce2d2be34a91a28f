"""Figure 3 with several protocols and prompt sets: each has its own curve, none are mixed, a legend tells them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_predictions import restated, scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.analysis.cell import measurement
from cxrbench.analysis.few_shot_curves import Curve, FewShotCurves, Method, few_shot
from cxrbench.cli.main import app
from cxrbench.errors import DataError, NotApplicableError, SpecError
from cxrbench.evaluate.metric_table import load_metric, main_metric
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, Reordered
from cxrbench.records.row_order import REORDERED
from cxrbench.records.selection import CellFilter
from cxrbench.specs import catalog

VARIANT = catalog.load_variant("paper-code")
MODELS, TASKS, SHOTS = ("clip_cm", "gloria"), ("rsna", "covid"), (1, 4, 16)
PROBE, KNN = Method("linear-probe"), Method("knn-10")
CLAP, ZERO, ZERO_WORDS = Method("clap", "names"), Method("zero-shot", "names"), Method("zero-shot", "description")


def cell(out: Path, model: str, task: str, method: Method, shots: int | None, **changes: Any) -> Record:
    """A record by a method, of two folds where it learns from images."""
    seed, noise = TASKS.index(task), sum(f"{model}{method}{shots}".encode())
    folds = [scored_fold(1.0, seed, number=k, noise=noise + k) for k in range(1 if shots is None else 2)]
    if method.prompts == "prototypes":
        changes["prompts"] = {"set": "prototypes", "digest": "0" * 64, "source": "prototypes"}
    elif method.prompts is not None:
        digest = catalog.load_prompts(method.prompts).digest
        changes["prompts"] = {"set": method.prompts, "digest": digest, "source": "prompts"}
    if shots is None:
        changes["protocol"] = {"protocol": method.protocol, "tap": "joint", "part": "test", "scores": "logits"}
    else:
        changes |= {"protocol__protocol": method.protocol, "protocol__shots": shots}
    return written(out, model, folds, data__task=task, **changes)


def results(out: Path, methods: Sequence[Method], models: Sequence[str] = MODELS) -> None:
    for method in methods:
        for model in models:
            for task in TASKS:
                for shots in (None,) if method.protocol == "zero-shot" else SHOTS:
                    cell(out, model, task, method, shots)


def drawn(out: Path, protocol: Any = ("all",), metric: str | None = None, **how: Any) -> FewShotCurves:
    asked = CellFilter(("all",), VARIANT, protocol=protocol, **how)
    return few_shot(out, read_results(out, out).records, asked, None if metric is None else load_metric(metric))


def curve(found: FewShotCurves, model: str, method: Method, task: str | None) -> Curve:
    (one,) = [c for c in found.curves if (c.model, c.method, c.task) == (model, method, task)]
    return one


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["figure", "3", "--out", str(out), "--to", str(out / "f.svg"), *words])


def text(out: Path) -> str:
    return (out / "f.svg").read_text(encoding="utf-8")


def test_every_point_is_of_its_own_protocol_and_prompt_set(tmp_path: Path) -> None:
    methods = (PROBE, CLAP, Method("clap", "description"), ZERO)
    results(tmp_path, methods)
    found = drawn(tmp_path, ("linear-probe", "clap", "zero-shot"))
    assert found.methods == (PROBE, Method("clap", "description"), CLAP, ZERO) and found.shots == SHOTS
    assert len(found.curves) == len(methods) * len(MODELS) * (len(TASKS) + 1)
    records = {r.id: r for r in read_results(tmp_path, tmp_path).records}
    for one in (c for c in found.curves if c.task):
        assert [p.shots for p in one.points] == ([None] if one.method == ZERO else list(SHOTS))
        for point in one.points:
            record = records[point.record or ""]
            own = (record.model.name, record.protocol.protocol, record.data.task, record.protocol.shots)
            assert own == (one.model, one.method.protocol, one.task, point.shots)
            assert (record.prompts and record.prompts.set) == one.method.prompts
            number = measurement(read_cell(tmp_path, record), main_metric("single-label", "all")).number
            assert point.interval == number.interval
    for method in methods:
        for place, point in enumerate(curve(found, "gloria", method, None).points):
            own_tasks = [curve(found, "gloria", method, task).points[place].interval.estimate for task in TASKS]
            assert point.interval.estimate == pytest.approx(np.mean(own_tasks))  # type: ignore[arg-type]


def test_without_a_protocol_the_figure_is_of_linear_probes(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, KNN))
    assert cli(tmp_path).exit_code == 0
    assert "linear probes" in text(tmp_path) and "knn-10" not in text(tmp_path)


NARROWED = [
    ({"shots": (4,)}, {PROBE: [4], CLAP: [4], ZERO: [None], ZERO_WORDS: [None]}),
    ({"prompts": ("names",)}, {PROBE: [1, 4, 16], CLAP: [1, 4, 16], ZERO: [None]}),
    ({"prompts": "desc*"}, {PROBE: [1, 4, 16], ZERO_WORDS: [None]}),
    ({"prompts": ("names",), "shots": (1, 16)}, {PROBE: [1, 16], CLAP: [1, 16], ZERO: [None]}),
]


@pytest.mark.parametrize(("how", "wanted"), NARROWED)
def test_shots_and_prompts_narrow_what_has_them_alone(
    how: Any, wanted: dict[Method, list[Any]], tmp_path: Path
) -> None:
    results(tmp_path, (PROBE, CLAP, ZERO, ZERO_WORDS))
    found = drawn(tmp_path, **how)
    assert {c.method: [p.shots for p in c.points] for c in found.curves} == wanted


def test_what_cannot_be_drawn_is_refused_with_the_reason(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, ZERO))
    for words, kind, told in (
        (("-p", "zero-shot"), DataError, "need a protocol that has shots, which zero-shot has not"),
        (("--prompts", "names"), DataError, "prompts names: linear-probe is given none"),
        (("-p", "all", "--prompts", "namse"), SpecError, "did you mean names"),
        (("-p", "linear-prob"), SpecError, "did you mean linear-probe"),
    ):
        done = cli(tmp_path, *words)
        assert isinstance(done.exception, kind) and told in str(done.exception), words


def test_class_vectors_of_a_model_stand_in_the_curves_of_the_one_prompt_set(tmp_path: Path) -> None:
    own = Method("clap", "prototypes")
    for model, method in (("clip_cm", CLAP), ("gloria", own)):
        cell(tmp_path, model, "rsna", method, 4)
    assert {c.model: c.method for c in drawn(tmp_path).curves} == {"clip_cm": CLAP, "gloria": CLAP}
    cell(tmp_path, "gloria", "rsna", CLAP, 4)  # by prompts, too: now the two are told apart
    assert drawn(tmp_path).methods == (CLAP, own)


def test_two_prompt_sets_leave_class_vectors_a_curve_of_their_own(tmp_path: Path) -> None:
    words, own = Method("clap", "description"), Method("clap", "prototypes")
    for model, method in (("clip_cm", CLAP), ("clip_cm", words), ("gloria", own)):
        cell(tmp_path, model, "rsna", method, 4)
    assert drawn(tmp_path).methods == (words, CLAP, own)


def test_what_a_protocol_lacks_is_said_and_has_no_average(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, ZERO))
    for task, shots in (("rsna", 1), ("rsna", 4), ("covid", 4)):
        cell(tmp_path, "clip_cm", task, KNN, shots)
    cell(tmp_path, "gloria", "rsna", KNN, 1)
    found = drawn(tmp_path)
    told = [note for note in found.notes if note.startswith("no record")]
    assert told == ["no record: gloria, knn-10, rsna, covid, K = 4"]
    assert [p.shots for p in curve(found, "clip_cm", KNN, None).points] == [4]
    assert not any((c.model, c.method, c.task) == ("gloria", KNN, None) for c in found.curves)


def test_a_task_that_a_protocol_was_not_measured_on_is_said(tmp_path: Path) -> None:
    results(tmp_path, (PROBE,))
    for model in MODELS:
        cell(tmp_path, model, "rsna", ZERO, None)
    told = [note for note in drawn(tmp_path).notes if note.startswith("no record")]
    assert told == [f"no record: {model}, zero-shot (names), covid" for model in MODELS]


def test_a_task_that_the_metric_does_not_fit_leaves_the_others(tmp_path: Path) -> None:
    for method in (PROBE, KNN):
        for task, labels in (("rsna", ("Normal", "Pneumonia")), ("covid", ("Normal", "COVID"))):
            for shots in SHOTS:
                cell(tmp_path, "clip_cm", task, method, shots, data__labels=labels)

    def asked_of(words: str) -> FewShotCurves:
        own = replace(load_metric("accuracy"), why_not=lambda classes: "" if words in classes else f"no {words}")
        asked = CellFilter(("all",), VARIANT)
        return few_shot(tmp_path, read_results(tmp_path, tmp_path).records, asked, own)

    found = asked_of("Pneumonia")
    assert found.tasks == ("rsna",) and len(found.curves) == 2
    assert not any(note.startswith("no record") for note in found.notes)
    assert [note for note in found.notes if "no Pneumonia" in note] == ["covid: accuracy does not fit: no Pneumonia"]
    with pytest.raises(NotApplicableError, match="no Effusion"):
        asked_of("Effusion")


def test_curves_that_hang_on_the_order_of_rows_are_marked_with_a_note(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, CLAP))
    (record,) = (
        r
        for r in read_results(tmp_path, tmp_path).records
        if (r.model.name, r.data.task, r.protocol.protocol, r.protocol.shots) == ("gloria", "covid", "clap", 4)
    )
    told = Reordered(changed=5, metric="balanced_accuracy", value=0.6)
    restated(tmp_path, record, folds=tuple(f.model_copy(update={"reordered": told}) for f in record.folds))
    found = drawn(tmp_path)
    assert {(c.model, c.task) for c in found.curves if c.unsettled} == {("gloria", "covid"), ("gloria", None)}
    assert [n for n in found.notes if "≈" in n] == [REORDERED, "≈ gloria, clap (names): covid (K = 4)"]
    done = cli(tmp_path, "-p", "all")
    assert done.exit_code == 0 and "≈ gloria, clap (names): covid (K = 4)" in done.stderr
    assert "clap (names) ≈ (gloria)" in text(tmp_path) and REORDERED in text(tmp_path)


WORDS = ("clip_cm", "gloria", "linear-probe", "zero-shot (names)", ">0<", "images per class, K", "95 % intervals")


def test_one_panel_a_task_while_its_curves_are_few(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, KNN, ZERO))
    assert cli(tmp_path, "-p", "all").exit_code == 0
    first = text(tmp_path)
    assert all(word in first for word in (*WORDS, "knn-10", ">rsna<", "average of 2 tasks"))
    assert all(first.count(f">{model}<") == 1 for model in MODELS)
    assert cli(tmp_path, "-p", "all").exit_code == 0 and text(tmp_path) == first


def test_many_curves_are_drawn_model_by_model(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, KNN, CLAP, ZERO))
    assert cli(tmp_path, "-p", "all").exit_code == 0
    first = text(tmp_path)
    titles = [f">{model}: {task}<" for model in MODELS for task in (*TASKS, "average of 2 tasks")]
    assert all(first.count(one) == 1 for one in titles)
    assert all(first.count(f">{method}<") == 1 for method in (PROBE, KNN, CLAP, ZERO))
    assert cli(tmp_path, "-p", "all").exit_code == 0 and text(tmp_path) == first


def test_the_protocols_of_one_model_have_its_name_above(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, KNN, CLAP), models=("clip_cm",))
    cell(tmp_path, "gloria", "rsna", PROBE, 4)
    assert cli(tmp_path, "-p", "all", "-m", "clip_cm").exit_code == 0
    first = text(tmp_path)
    assert "clip_cm, few-shot protocols" in first and ">rsna<" in first and "gloria" not in first


def test_a_control_is_named_beside_several_protocols(tmp_path: Path) -> None:
    results(tmp_path, (PROBE, KNN), models=("clip_cm",))
    for task in TASKS:
        cell(tmp_path, "blank", task, PROBE, 16, model__control=True)
    assert cli(tmp_path, "-p", "all").exit_code == 0
    assert "control: blank" in text(tmp_path)
    assert not any("blank" in note for note in drawn(tmp_path).notes)


def test_more_protocols_than_markers_are_refused(tmp_path: Path) -> None:
    for k in range(12):
        cell(tmp_path, "clip_cm", "rsna", Method(f"own-{k}"), 4)
    done = cli(tmp_path, "-p", "own-*")
    assert isinstance(done.exception, SpecError) and "12 protocols" in str(done.exception)
    assert not (tmp_path / "f.svg").exists()
    assert cli(tmp_path, "-p", "own-?").exit_code == 0
