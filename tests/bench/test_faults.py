"""What goes wrong ends only what it must, and no number claims inputs that did not make it."""

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import made_adapters
import made_hub
import numpy as np
import pytest
import torch
from lab import Lab, write_card
from made_weights import make_checkpoint, small_layout
from safetensors.torch import save_file
from typer.testing import CliRunner
from written_facts import write_facts

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import DataError, IntegrityError, SpecError, UnexpectedError
from cxrbench.models.dlilp import DLILP
from cxrbench.runner import folds
from cxrbench.runner.model import bench_model
from cxrbench.runner.request import Engine, Places
from cxrbench.specs import catalog
from cxrbench.specs.card import RecipeName
from cxrbench.types import Table


def two_models(lab: Lab, folder: Path) -> tuple[str, str]:
    """Cards of one layout with checkpoints of their own."""
    folder.mkdir()
    for seed, name in enumerate(("first", "second")):
        torch.save(make_checkpoint(small_layout("unimodal"), seed=seed), folder / f"{name}.pth")
        write_card(folder, name, "unimodal")
        card = folder / f"{name}.toml"
        card.write_text(card.read_text().replace("unimodal.pth", f"{name}.pth"))
    return str(folder / "first.toml"), str(folder / "second.toml")


def test_a_bad_checkpoint_ends_only_its_own_model(lab: Lab, tmp_path: Path) -> None:
    good, bad = two_models(lab, tmp_path / "models")
    whole = (tmp_path / "models" / "second.pth").read_bytes()
    (tmp_path / "models" / "second.pth").write_bytes(whole[: len(whole) // 2])
    report = lab.run(tmp_path, [], ["covid"], models=[good, bad])
    assert {record.model.name for record in report.records} == {"first"}
    assert [type(problem) for problem in report.problems] == [IntegrityError]
    assert report.encoded == report.decoded


def test_vectors_that_are_not_finite_end_only_their_own_model(lab: Lab, tmp_path: Path) -> None:
    good, bad = two_models(lab, tmp_path / "models")
    tensors = torch.load(tmp_path / "models" / "second.pth", weights_only=True)
    tensors["vision_model.model.conv1.weight"].fill_(float("nan"))
    torch.save(tensors, tmp_path / "models" / "second.pth")
    report = lab.run(tmp_path, [], ["covid"], models=[good, bad])
    assert {record.model.name for record in report.records} == {"first"}
    assert "finite" in str(report.problems[0])


def test_one_weights_file_serves_no_two_models(lab: Lab, tmp_path: Path) -> None:
    first, second = two_models(lab, tmp_path / "models")
    given = tmp_path / "models" / "first.pth"
    report = lab.run(tmp_path, [], ["covid"], models=[first, second], weights=given)
    files = {record.model.name: record.model.weights_file for record in report.records}
    assert files == {"first": "first.pth", "second": "second.pth"}


def test_weights_that_changed_unseen_are_refused(lab: Lab, tmp_path: Path) -> None:
    model, other = (Path(card) for card in two_models(lab, tmp_path / "models"))
    weights = model.with_suffix(".pth")
    assert lab.run(tmp_path, [], ["covid"], models=[str(model)]).records
    stamp = weights.stat()
    shutil.copyfile(other.with_suffix(".pth"), weights)
    os.truncate(weights, stamp.st_size)
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shutil.rmtree(tmp_path / "cache" / "embeddings")
    report = lab.run(tmp_path, [], ["covid"], models=[str(model)], resume=False)
    assert not report.records
    assert all(isinstance(problem, IntegrityError) for problem in report.problems)


def test_a_changed_task_is_measured_anew(lab: Lab, tmp_path: Path) -> None:
    before = lab.run(tmp_path, ["small_unimodal"], ["chexpert5x200"], prompts=["names"])
    task = tmp_path / "tasks" / "chexpert5x200.toml"
    task.parent.mkdir()
    text = Path(lab.task("chexpert5x200")).read_text()
    task.write_text(text.replace('"test_percent" = 20', '"test_percent" = 50'))
    assert task.read_text() != text
    after = lab.run(tmp_path, ["small_unimodal"], [], tasks=[str(task)], prompts=["names"])
    assert after.cached == 0
    assert {r.id for r in before.records}.isdisjoint(r.id for r in after.records)


def test_a_configuration_that_is_not_at_hand_ends_only_its_own_model(lab: Lab, tmp_path: Path) -> None:
    bare = made_hub.card("hf:HuggingFaceVision", {"pooled": "cls"}, {"pooled": 8})
    path = write_facts(tmp_path / "models" / "tiny.toml", bare)
    save_file({"a": torch.zeros(1)}, path.with_name("tiny.safetensors"))
    report = lab.run(tmp_path, [], ["covid"], models=[lab.model("small_unimodal"), str(path)])
    assert {record.model.name for record in report.records} == {"small_unimodal"}
    assert [type(problem) for problem in report.problems] == [DataError]
    assert "tiny: no config.json in" in str(report.problems[0])


def test_two_ways_of_using_a_network_share_no_vectors_even_for_equal_pixels(tmp_path: Path) -> None:
    card, places = catalog.load_card("random_resnet50"), Places(cache=tmp_path)
    recipe = card.recipe("reality-check")
    names: tuple[RecipeName, ...] = ("reality-check", "authors")
    plain, theirs = (bench_model(card, places, Engine(), "cpu", alone=True, recipe=name) for name in names)
    assert plain.key(recipe) != theirs.key(recipe)  # GLoRIA enlarges pixels for its authors' recipe alone


def test_a_device_with_too_little_memory_ends_only_its_own_model(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: DLILP, pixels: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("Tried to allocate 20.00 GiB.\nMore about it")

    monkeypatch.setattr(DLILP, "encode_image", full)
    report = lab.run(tmp_path, [], ["covid"], models=[lab.model("small_unimodal"), "class_prior"])
    assert {record.model.name for record in report.records} == {"class_prior"}
    assert [type(problem) for problem in report.problems] == [UnexpectedError]
    told = str(report.problems[0])
    assert "too little memory (Tried to allocate 20.00 GiB.). Choose a smaller --batch-size" in told
    assert "about 1e-6" in told  # it does move vectors


TOGETHER = {  # all texts of a group are one set, scored while the images are seen
    "views": {"text": {"tap": "joint", "scoring": "interaction", "classes": "prompts"}},
    "default": "text",
    "pooling": "mean",
}


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [
        (made_adapters.RefusesTexts, "these texts are not to be had", 2),
        (made_adapters.LosesTexts, "tap 'scores' holds values that are not finite", 4),
    ],
)
def test_a_set_of_texts_that_fails_ends_only_the_cells_that_ask_it(
    kind: type[made_adapters.Sound], reason: str, code: int, lab: Lab, tmp_path: Path
) -> None:
    card = write_facts(
        tmp_path / "models" / f"{kind.__name__.lower()}.toml", made_adapters.card(kind, zero_shot=TOGETHER)
    )
    report = lab.run(tmp_path, [], ["covid"], models=[str(card)], prompts=["names", "description"], batch_size=4)
    groups = ("all", "2-class", "3-class")
    lost = [f"{kind.__name__.lower()} / covid / {group} / zero-shot / names" for group in groups]
    assert report.failed == lost
    assert {str(problem) for problem in report.problems} <= {str(report.problems[0])}
    assert reason in str(report.problems[0])
    found = {(r.data.group, r.protocol.shots, r.prompts and r.prompts.set) for r in report.records}
    assert found == {(group, shots, None) for group in groups for shots in (1, 2)} | {
        (group, None, "description") for group in groups
    }
    words = ["run", "-m", str(card), "-t", lab.task("covid"), "--prompts", "names", "--prompts", "description"]
    places = ["--data-root", str(lab.data[""]), "--out", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    how = ["--variant", str(lab.variant), "--shots", "1,2", "--device", "cpu", "--batch-size", "4"]
    done = CliRunner().invoke(app, [*words, *places, *how])
    assert isinstance(done.exception, SystemExit) and done.exit_code == code
    assert all(f"failed: {name}\n" in done.stderr for name in lost) and "9 recorded before" in done.stdout


def test_a_set_of_texts_that_failed_is_not_asked_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(made_adapters.RefusesTexts, "refused", asked)
    card = made_adapters.card(made_adapters.RefusesTexts, zero_shot=TOGETHER)
    path = write_facts(tmp_path / "models" / "refusestexts.toml", card)
    report = lab.run(
        tmp_path,
        [],
        ["covid"],
        models=[str(path)],
        prompts=["names", "description"],
        protocols=["zero-shot"],
        batch_size=2,
    )
    assert len(asked) == len(set(asked)) == len(report.failed) == 3


def test_scores_that_cannot_be_standardised_say_why(lab: Lab, tmp_path: Path) -> None:
    how = {**TOGETHER, "standardised": True}
    card = made_adapters.card(made_adapters.BlindToTexts, zero_shot=how)
    path = write_facts(tmp_path / "models" / "blindtotexts.toml", card)
    report = lab.run(tmp_path, [], ["covid"], models=[str(path)], prompts=["names", "description"], groups=["2-class"])
    assert report.failed == ["blindtotexts / covid / 2-class / zero-shot / names"]
    (problem,) = report.problems
    assert "class Normal, COVID: all" in str(problem) and "test images have the same score" in str(problem)
    assert "zero_shot.standardised = false" in str(problem)
    assert {r.prompts.set for r in report.records if r.prompts} == {"description"}


def test_a_task_without_the_group_is_told_of(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["covid", "vindr"], groups=["2-class"])
    assert {record.data.task for record in report.records} == {"covid"}
    assert report.skipped == {"vindr": "it has none of the groups 2-class"}


def test_more_shots_than_images_are_refused(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["covid"], protocols=("linear-probe",), shots=(1, 10**6))
    assert {record.protocol.shots for record in report.records} == {1}
    assert any("fewer shots" in str(problem) for problem in report.problems)


def test_a_device_that_is_not_there_is_refused_even_when_all_is_stored(lab: Lab, tmp_path: Path) -> None:
    lab.run(tmp_path, ["small_unimodal"], ["covid"])
    for device in ("gpu0", "meta", "cuda:99"):
        with pytest.raises(SpecError, match=device):
            lab.run(tmp_path, ["small_unimodal"], ["covid"], device=device)


def test_a_missing_text_encoder_is_one_problem_before_anything_is_read(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    report = lab.run(tmp_path, ["small_clip"], ["covid"], text_encoder=tmp_path / "empty", protocols=("zero-shot",))
    assert report.decoded == 0
    assert [type(problem) for problem in report.problems] == [DataError]


def test_records_say_what_computed_the_vectors_and_which_text_files(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_clip"], ["covid"], batch_size=4)
    again = lab.run(tmp_path, ["small_clip"], ["covid"], batch_size=16, resume=False)
    assert again.encoded == 0
    for record in (*report.records, *again.records):
        assert [engine["batch_size"] for engine in record.runtime.engines] == ["4"]
        texts = record.runtime.text_engines
        assert [engine["sources"] for engine in texts] == [record.code.sources] * (record.prompts is not None)
        assert record.other_engines == ()
        assert (record.model.text_encoder_digest is None) == (record.prompts is None)


def test_places_for_names_that_do_not_exist_are_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="covid"):
        lab.run(tmp_path, ["small_unimodal"], ["covid"], data_root={**lab.data, "cvoid": tmp_path})


SCALES = [("inf", IntegrityError), ("nan", IntegrityError), ("overflow", UnexpectedError)]


@pytest.mark.parametrize(("scale", "kind"), SCALES)
def test_a_logit_scale_that_is_no_number_ends_zero_shot_alone(
    scale: str, kind: type[Exception], lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DLILP, view: str) -> float:
        return math.exp(1e9) if scale == "overflow" else float(scale)

    monkeypatch.setattr(DLILP, "logit_scale", broken)
    models = [lab.model("small_unimodal"), lab.model("small_clip"), "class_prior"]
    report = lab.run(tmp_path, [], ["covid"], models=models)
    assert {type(problem) for problem in report.problems} == {kind}
    assert "small_" in str(report.problems[0])
    found = {(record.model.name, record.protocol.protocol) for record in report.records}
    probed = {(name, "linear-probe") for name in ("small_unimodal", "small_clip")}
    assert {one for one in found if one[0].startswith("small")} == probed
    assert "class_prior" in {name for name, _ in found}


def test_scores_that_are_no_numbers_are_refused(lab: Lab, tmp_path: Path) -> None:
    card = write_facts(tmp_path / "models" / "losestexts.toml", made_adapters.card(made_adapters.LosesTexts))
    report = lab.run(
        tmp_path, [], ["covid"], models=[str(card)], protocols=["zero-shot"], groups=["all"], prompts=["names"]
    )
    assert report.records == []
    (problem,) = report.problems
    assert str(problem).startswith("losestexts / covid / all") and "20 of 20 images are not finite" in str(problem)


def test_a_class_without_rows_is_told_with_task_group_and_name(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draw knows classes by their places alone."""
    real = folds.labelled

    def without_third(table: Table, labels: Sequence[str]) -> folds.LabelledRows:
        rows = real(table, labels)
        return rows if "COVID" not in labels else folds.LabelledRows(*rows.at(np.flatnonzero(rows.labels != 2)), None)

    monkeypatch.setattr(folds, "labelled", without_third)
    report = lab.run(tmp_path, ["small_unimodal"], ["covid", "vindr"], groups=["all"])
    assert {record.data.task for record in report.records} == {"vindr"}
    third = catalog.load_task(lab.task("covid")).groups["all"][2]
    assert {str(problem) for problem in report.problems} == {
        f"covid, group all: class {third} has no row left to train on; check that all images are there"
    }


class NoTextSide(made_adapters.Sound):
    """Claims prompts on its card, and cannot encode any."""


def test_an_adapter_without_a_text_side_is_probed_all_the_same(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(made_adapters.Sound, "encode_text")
    card = made_adapters.card(NoTextSide, adapter=f"{__name__}:NoTextSide")
    path = write_facts(tmp_path / "models" / "notextside.toml", card)
    report = lab.run(tmp_path, [], ["covid"], models=[str(path)], groups=["all"])
    assert {record.protocol.protocol for record in report.records} == {"linear-probe"}
    (problem,) = report.problems
    assert isinstance(problem, SpecError) and "has no text side (`encode_text`)" in str(problem)


@pytest.mark.parametrize("field", ["models", "tasks", "groups"])
def test_a_bare_string_is_no_list_of_names(field: str, lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=field):
        cxrbench.run(**{**lab.arguments(tmp_path, ["small_unimodal"], ["covid"]), field: "covid"})


def test_reasons_in_a_record_hold_no_path_of_this_machine(lab: Lab, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(lab.data[""], root)
    victim = next(iter(lab.on("covid", root).files("covid").values()))
    victim.write_bytes(b"")
    report = lab.on("covid", root).run(tmp_path, ["small_unimodal"], ["covid"])
    reasons = [reason for record in report.records for reason in record.data.left_out.values()]
    assert reasons
    assert not any(str(tmp_path) in reason for reason in reasons)
