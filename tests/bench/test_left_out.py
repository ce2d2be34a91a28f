"""Whole runs over data with broken and missing files: what is left out, and what is told of it."""

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_adapters
import numpy as np
import pyarrow.parquet as pq
import pytest
from lab import COVID_IMAGES, Lab, by_id, copied, numbers, predictions
from PIL import Image
from written_facts import write_facts

from cxrbench.errors import DataError, SpecError, UnreadableError, gravest
from cxrbench.images.pixels import _Source
from cxrbench.runner import decoding
from cxrbench.runner.run import RunResult, forecast


@pytest.mark.parametrize("spoilt", ["cut", "login page", "empty"])
def test_a_bad_image_is_reported_counted_and_ends_nothing(spoilt: str, lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    path = folder / "COVID" / "images" / "COVID-1.png"
    sound = path.read_bytes()
    page = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    path.write_bytes({"cut": sound[: len(sound) // 2], "login page": page, "empty": b""}[spoilt])
    report = own.run(tmp_path, ["small_unimodal"], ["covid"])
    whole = lab.run(tmp_path / "whole", ["small_unimodal"], ["covid"])
    assert list(report.unreadable) == [path]
    assert report.problems == [] and len(report.records) == len(whole.records)
    assert report.encoded == COVID_IMAGES - 1
    image = "COVID/images/COVID-1.png"
    for record in report.records:
        assert list(record.data.left_out) == [image] and record.data.missing == 0
        assert "COVID-1.png" in record.data.left_out[image]
        assert image not in pq.read_table(predictions(tmp_path, record))["image"].to_pylist()
    rows = {(r.data.group, r.protocol.shots): r.folds[0].test_rows for r in whole.records}
    assert all(r.folds[0].test_rows == rows[r.data.group, r.protocol.shots] - 1 for r in report.records)
    again = own.run(tmp_path, ["small_unimodal"], ["covid"])
    assert (again.decoded, again.encoded, again.cached) == (0, 0, len(report.records))
    assert list(again.unreadable) == [path]


def test_bad_images_in_every_class_end_no_probe(lab: Lab, tmp_path: Path) -> None:
    """Each class has four training images, three of them readable: K = 4 is measured on what is there."""
    own, folder = copied(lab, tmp_path / "data")
    train = [image for image in sorted(own.files("covid")) if image.endswith(("-6.png", "-7.png", "-8.png", "-9.png"))]
    for image in train[::4]:
        (folder / image).write_bytes(b"")
    allowed: dict[str, Any] = {"groups": ["all"], "protocols": ["linear-probe"], "max_unreadable": 0.25}
    report = own.run(tmp_path, ["small_unimodal"], ["covid"], shots=(4,), **allowed)
    assert report.problems == []
    (record,) = report.records
    assert {len(fold.train) for fold in record.folds} == {12}
    too_many = own.run(tmp_path, ["small_unimodal"], ["covid"], shots=(5,), **allowed)
    assert [type(problem) for problem in too_many.problems] == [DataError]


def test_copies_of_a_bad_image_are_all_left_out(lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    bad = [folder / "COVID" / "images" / "COVID-1.png", folder / "Normal" / "images" / "Normal-2.png"]
    for path in bad:
        path.write_bytes(b"\x89PNG\r\n\x1a\nnothing that follows")
    for _ in range(2):
        report = own.run(tmp_path, ["small_unimodal"], ["covid"], max_unreadable=0.5)
        assert set(report.unreadable) == set(bad)
        assert {len(record.data.left_out) for record in report.records} == {2}


def test_a_bad_image_that_was_mended_is_scored(lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    path = folder / "COVID" / "images" / "COVID-1.png"
    sound = path.read_bytes()
    path.write_bytes(sound[:100])
    assert own.run(tmp_path, ["small_unimodal"], ["covid"]).unreadable
    path.write_bytes(sound)
    mended = own.run(tmp_path, ["small_unimodal"], ["covid"])
    assert (mended.encoded, mended.cached, mended.unreadable) == (1, 0, {})
    assert by_id(mended) == by_id(lab.run(tmp_path / "whole", ["small_unimodal"], ["covid"]))


def lost(lab: Lab, place: Path) -> Lab:
    """The bench without three of VinDr's test images; its label tables still name them."""
    shutil.copytree(lab.data[""] / "vindr-pcxr", place / "vindr-pcxr")
    own = lab.on("vindr", place)
    for path in sorted(path for path in own.files("vindr").values() if path.parent.name == "test")[:3]:
        path.unlink()
    return own


def test_missing_files_are_a_problem_that_counts_them(lab: Lab, tmp_path: Path) -> None:
    own = lost(lab, tmp_path / "data")
    report = own.run(tmp_path, ["small_unimodal"], ["vindr", "covid"])
    (problem,) = report.problems
    assert isinstance(problem, DataError)
    assert "vindr: 3 images of the split have no file" in str(problem) and "--allow-missing" in str(problem)
    assert {record.data.task for record in report.records} == {"covid"}


def test_missing_files_are_recorded_where_they_are_allowed(lab: Lab, tmp_path: Path) -> None:
    own = lost(lab, tmp_path / "data")
    report = own.run(tmp_path, ["small_unimodal"], ["vindr"], allow_missing=True, groups=["all"])
    whole = lab.run(tmp_path / "whole", ["small_unimodal"], ["vindr"], groups=["all"])
    assert report.problems == [] and len(report.records) == len(whole.records) > 0
    for record, other in zip(report.records, whole.records, strict=True):
        assert record.data.missing == 3 and other.data.missing == 0
        assert record.data.left_out == {}
        assert record.id != other.id
        assert record.data.partition_digest == other.data.partition_digest
    again = own.run(tmp_path, ["small_unimodal"], ["vindr"], allow_missing=True, groups=["all"])
    assert again.cached == len(report.records)


def test_a_forecast_says_what_is_missing(lab: Lab, tmp_path: Path) -> None:
    own = lost(lab, tmp_path / "data")
    told = forecast(own.request(tmp_path, ["small_unimodal"], ["vindr", "covid"]))
    assert len(told.problems) == 1 and "vindr" in str(told.problems[0])
    assert all(" / covid / " in name for name in told.cells)


def test_a_task_of_pointers_is_refused_and_the_other_measured(lab: Lab, tmp_path: Path) -> None:
    """As a clone without `git lfs pull` leaves it: no image of the task can be read."""
    own, folder = copied(lab, tmp_path / "data")
    for path in folder.rglob("*.png"):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 1\n")
    report = own.run(tmp_path, ["small_unimodal"], ["covid", "vindr"])
    assert {record.data.task for record in report.records} == {"vindr"}
    assert {type(problem) for problem in report.problems} == {DataError} and gravest(report.problems) == 3
    assert any("covid, group all: 20 of 20 test images cannot be read" in str(problem) for problem in report.problems)
    allowed = own.run(tmp_path, ["small_unimodal"], ["covid", "vindr"], max_unreadable=1)
    assert {record.data.task for record in allowed.records} == {"vindr"}
    assert any("none of its test images could be read" in str(problem) for problem in allowed.problems)


@pytest.mark.parametrize(
    ("count", "limit", "measured"), [(1, 0.0, True), (2, 0.05, False), (2, 0.1, True), (3, 0.1, False)]
)
def test_how_many_images_may_be_unreadable_is_a_choice(
    count: int, limit: float, measured: bool, lab: Lab, tmp_path: Path
) -> None:
    """Of twenty scored images. A single one never ends a cell."""
    own, folder = copied(lab, tmp_path / "data")
    for number in range(1, count + 1):
        (folder / "COVID" / "images" / f"COVID-{number}.png").write_bytes(b"")
    asked = {"groups": ["all"], "protocols": ["zero-shot"], "max_unreadable": limit}
    report = own.run(tmp_path, ["small_unimodal"], ["covid"], **asked)
    assert bool(report.records) is measured is not bool(report.problems)
    if not measured:
        told = str(report.problems[0])
        assert f"{count} of 20 test images cannot be read, more than --max-unreadable {limit:g}" in told
        assert "COVID-1.png" in told


def test_too_many_unreadable_training_images_are_refused_by_their_part(lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    train = [image for image in sorted(own.files("covid")) if image.endswith(("-6.png", "-7.png", "-8.png", "-9.png"))]
    for image in train[::4]:
        (folder / image).write_bytes(b"")
    report = own.run(tmp_path, ["small_unimodal"], ["covid"], shots=(4,), groups=["all"])
    assert {record.protocol.protocol for record in report.records} == {"zero-shot"}
    assert "4 of 16 4-shot training images cannot be read" in str(report.problems[0])


def test_a_limit_that_is_no_share_is_refused(lab: Lab, tmp_path: Path) -> None:
    for limit in (-0.1, 5.0, float("nan")):
        with pytest.raises(SpecError, match="--max-unreadable is a share"):
            lab.run(tmp_path, ["small_unimodal"], ["covid"], max_unreadable=limit)


@pytest.fixture
def vanishing(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lab, list[Path]]:
    """The bench with three images of COVID that go when the first file is read, after all were listed."""
    own, folder = copied(lab, tmp_path / "data")
    gone = [folder / "COVID" / "images" / f"COVID-{number}.png" for number in (1, 2, 3)]
    real = decoding.read_bytes

    def read(path: Path) -> bytes:
        for lost in gone:
            lost.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(decoding, "read_bytes", read)
    return own, gone


def test_images_that_vanish_during_a_run_are_missing_not_unreadable(
    vanishing: tuple[Lab, list[Path]], tmp_path: Path
) -> None:
    own, gone = vanishing
    report = own.run(tmp_path, ["small_unimodal"], ["covid", "vindr"])
    assert set(report.missing) == set(gone) and report.unreadable == {}
    assert {record.data.task for record in report.records} == {"vindr"}
    (problem,) = report.problems
    assert "covid: 3 images of the split have no file" in str(problem) and problem.exit_code == 3


def test_images_that_vanish_are_counted_as_missing_where_that_is_allowed(
    vanishing: tuple[Lab, list[Path]], tmp_path: Path
) -> None:
    own, gone = vanishing
    report = own.run(tmp_path, ["small_unimodal"], ["covid"], allow_missing=True, groups=["all"])
    assert report.problems == [] and len(report.missing) == len(gone)
    assert {(record.data.missing, len(record.data.left_out)) for record in report.records} == {(3, 0)}


def test_rehash_reads_what_size_and_time_stamps_hide(lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    one, other = (folder / "COVID" / "images" / f"COVID-{number}.png" for number in (1, 2))
    before = own.run(tmp_path, ["small_unimodal"], ["covid"], groups=["all"])
    stamp = one.stat()
    same = own.run(tmp_path, ["small_unimodal"], ["covid"], groups=["all"], rehash=True)
    assert (same.decoded, same.encoded, same.cached) == (0, 0, len(before.records))
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = own.run(tmp_path, ["small_unimodal"], ["covid"], groups=["all"], rehash=True)
    assert after.cached == 0 and len(after.records) == len(before.records)


RECIPES = {
    "strict": {"size": 32},  # the released arithmetic, which has no result for a strip
    "lenient": {"size": 32, "decode": "radiograph", "polarity": "header"},
}


@pytest.fixture
def two(lab: Lab, tmp_path: Path) -> tuple[Lab, Path, Callable[..., RunResult]]:
    """The bench with two models that differ in their recipe alone, and how to run some of them."""
    own, folder = copied(lab, tmp_path / "data")
    cards = {}
    for name, recipe in RECIPES.items():
        card = made_adapters.card(made_adapters.Sound, name=name, recipes={"reality-check": recipe})
        cards[name] = str(write_facts(tmp_path / f"{name}.toml", card))

    def run(place: str, *names: str) -> RunResult:
        asked = {"models": [cards[name] for name in names], "groups": ["all"], "max_unreadable": 0.2}
        return own.run(tmp_path / place, [], ["covid"], **asked)

    return own, folder, run


def _of(report: RunResult, model: str) -> list[dict[str, Any]]:
    return sorted((numbers(r) for r in report.records if r.model.name == model), key=lambda told: told["id"])


Two = tuple[Lab, Path, Callable[..., RunResult]]


def test_what_one_recipe_refuses_is_left_out_for_its_model_alone(two: Two, tmp_path: Path) -> None:
    """Also its copies, and on a warm store: a model's records are the same whoever is measured beside it."""
    _, folder, run = two
    stream = io.BytesIO()
    Image.fromarray(np.tile(np.arange(6000, dtype=np.uint16) // 24, (4, 1)).astype(np.uint8)).save(stream, "PNG")
    strips = [folder / "COVID" / "images" / "COVID-1.png", folder / "Normal" / "images" / "Normal-2.png"]
    for path in strips:
        path.write_bytes(stream.getvalue())
    both = run("both", *RECIPES)
    assert both.problems == [] and set(both.unreadable) == set(strips)
    assert all("[strict (reality-check); others read it]" in why for why in both.unreadable.values())
    alone = {name: run(name, name) for name in RECIPES}
    for name, report in alone.items():
        assert _of(both, name) == _of(report, name) != []
        for record in report.records:
            beside = next(other for other in both.records if other.id == record.id)
            assert (
                predictions(tmp_path / name, record).read_bytes() == predictions(tmp_path / "both", beside).read_bytes()
            )
    assert alone["lenient"].unreadable == {} and set(alone["strict"].unreadable) == set(strips)
    lost = {name: {len(record.data.left_out) for record in report.records} for name, report in alone.items()}
    assert lost == {"strict": {2}, "lenient": {0}}
    for order in (tuple(RECIPES), tuple(RECIPES)[::-1], ("strict",), ("lenient",)):
        again = run("both", *order)
        assert (again.encoded, again.cached) == (0, len(again.records))
        assert [_of(again, name) for name in order] == [_of(both, name) for name in order]


def test_a_bug_in_the_steps_of_one_recipe_loses_an_image_of_its_model(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, run = two
    whole = run("whole", *RECIPES)
    spoilt = (folder / "COVID" / "images" / "COVID-1.png").read_bytes()
    real = _Source._official

    def bug(self: Any, recipe: Any) -> Any:
        if self._data == spoilt:
            raise KeyError("token")
        return real(self, recipe)

    monkeypatch.setattr(_Source, "_official", bug)
    report = run("bug", *RECIPES)
    assert _of(report, "lenient") == _of(whole, "lenient") and len(report.unreadable) == 1
    assert {tuple(r.data.left_out) for r in report.records if r.model.name == "strict"} == {
        ("COVID/images/COVID-1.png",)
    }


@pytest.mark.parametrize("where", ["reading", "decoding"])
@pytest.mark.parametrize("name", ["memory", "EMFILE", "ENFILE", "ENOMEM", "EIO", "ESTALE"])
def test_what_the_machine_lacks_is_a_problem_and_no_fault_of_an_image(
    name: str, where: str, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, run = two
    number = getattr(errno, name, 0)
    short = OSError(number, os.strerror(number)) if number else MemoryError()
    images = [folder / "COVID" / "images" / f"COVID-{n}.png" for n in (1, 2)]
    contents = [path.read_bytes() for path in images]
    real, made = os.open, _Source.__init__

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        if path in images:
            raise short
        return real(path, *arguments, **named)

    def begun(self: Any, data: bytes, *arguments: Any) -> None:
        if data in contents:
            raise short
        made(self, data, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "open", opened) if where == "reading" else (_Source, "__init__", begun)))
        report = run("out", "strict")
    (problem,) = report.problems  # of two images
    assert isinstance(problem, UnreadableError) and gravest(report.problems) == 5
    assert set(report.unreadable) == set(images)
    assert run("out", "strict").problems == []


def test_what_is_stored_is_measured_whoever_else_cannot_read_the_file_now(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, run = two
    first, image = run("out", "strict"), folder / "COVID" / "images" / "COVID-1.png"
    real = decoding.read_bytes

    def read(path: Path) -> bytes:
        if path == image:
            raise UnreadableError(path, "Input/output error")
        return real(path)

    monkeypatch.setattr(decoding, "read_bytes", read)
    report = run("out", "lenient", "strict")
    assert _of(report, "strict") == _of(first, "strict") and report.cached == len(first.records)
    assert "[lenient (reality-check); others read it]" in report.unreadable[image]
