"""A record whose name, content, folds and predictions do not agree is shown by no verb, and named by each."""

import ast
import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_predictions import scored_fold, written
from made_results import scores, write_result
from typer.testing import CliRunner, Result

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import CxrBenchError, IntegrityError
from cxrbench.evaluate.metrics import generalised
from cxrbench.records.integrity import faults, place_of, read_results, sound_record
from cxrbench.store.sealed import CHECKSUM, with_checksum

Files = tuple[Path, Path]  # of gloria's and of clip_cm's record


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Records of two models on one task: gloria's is the one to be spoilt, a third stays as it is."""
    made = [
        written(tmp_path, name, [scored_fold(1.0, 1, number=fold, noise=10 * place + fold) for fold in (0, 1)])
        for place, name in enumerate(("gloria", "clip_cm", "dlilp_cm"))
    ]
    return tmp_path / place_of(made[0]), tmp_path / place_of(made[1])


def _edit(path: Path, change: Callable[[dict[str, Any]], None], *, reseal: bool) -> None:
    body = json.loads(path.read_text())
    change(body)
    if reseal:
        del body[CHECKSUM]
        body = with_checksum(body)
    path.write_text(json.dumps(body))


def _best(body: dict[str, Any]) -> None:
    for fold in body["folds"]:
        fold["metrics"]["balanced_accuracy"] = 0.999


def _mean(body: dict[str, Any]) -> None:
    body["summary"]["balanced_accuracy"]["mean"] = 0.999


def _all_folds(body: dict[str, Any]) -> None:
    _best(body)
    _mean(body)
    body["summary"]["balanced_accuracy"]["std"] = 0.0


def _states(**values: Any) -> Callable[[Files], None]:
    """Another value of a field, by dotted name, that the numbers do not hang on, with its checksum."""

    def change(body: dict[str, Any]) -> None:
        for name, value in values.items():
            *path, last = name.split("__")
            place = body
            for part in path:
                place = place[part]
            assert place[last] != value
            place[last] = value

    return lambda files: _edit(files[0], change, reseal=True)


def _one_fold(body: dict[str, Any]) -> None:
    body["folds"] = body["folds"][:1]


def _fewer_metrics(body: dict[str, Any]) -> None:
    del body["summary"]["kappa"]


def _swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _moved(files: Files) -> None:
    folder = files[0].parent.with_name("medclip")
    files[0].parent.rename(folder)


def _renamed(files: Files) -> None:
    for suffix in (".json", ".parquet"):
        files[0].with_suffix(suffix).rename(files[0].with_name(f"{'0' * 16}{suffix}"))


def _predictions_of_the_other(files: Files) -> None:
    files[0].with_suffix(".parquet").write_bytes(files[1].with_suffix(".parquet").read_bytes())


def _predictions_and_digest_of_the_other(files: Files) -> None:
    _predictions_of_the_other(files)
    other = json.loads(files[1].read_text())["predictions_sha256"]
    _edit(files[0], lambda body: body.update(predictions_sha256=other), reseal=True)


def _pipe(files: Files) -> None:
    files[0].unlink()
    os.mkfifo(files[0])


SPOILT: dict[str, Callable[[Files], None]] = {
    "an edited mean": lambda files: _edit(files[0], _mean, reseal=False),
    "an edited mean with its checksum": lambda files: _edit(files[0], _mean, reseal=True),
    "edited folds": lambda files: _edit(files[0], _all_folds, reseal=False),
    "edited folds with their checksum": lambda files: _edit(files[0], _all_folds, reseal=True),
    "one fold alone, with its checksum": lambda files: _edit(files[0], _one_fold, reseal=True),
    "a metric less, with its checksum": lambda files: _edit(files[0], _fewer_metrics, reseal=True),
    "another model's name": lambda files: _edit(files[0], lambda b: b["model"].update(name="kad"), reseal=True),
    "other shots": _states(protocol__shots=1),
    "another group": _states(data__group="base"),
    "another variant": _states(variant="as-meant", variant_digest="0" * 64),
    "a setting": _states(**{"settings__lp.features": "raw"}),
    "other weights": _states(model__weights_sha256="0" * 64),
    "complete where images were missing": _states(data__missing=3),
    "measured where made": _states(model__synthetic=True),
    "a printed number": _states(published=[{"table": 4, "row": "a", "column": "b", "value": "99.9"}]),
    "other code": _states(code__version="9.9"),
    "no checksum": lambda files: _edit(files[0], lambda body: body.pop(CHECKSUM), reseal=False),
    "another model's folder": _moved,
    "another id's name": _renamed,
    "swapped records": lambda files: _swap(*files),
    "swapped predictions": lambda files: _swap(*(file.with_suffix(".parquet") for file in files)),
    "another's predictions": _predictions_of_the_other,
    "another's predictions, with their digest": _predictions_and_digest_of_the_other,
    "no predictions": lambda files: files[0].with_suffix(".parquet").unlink(),
    "a pipe": _pipe,
    "deep JSON": lambda files: files[0].write_text("[" * 10**6) and None,
}
VERBS = {
    "table": ["table", "4", "--no-intervals", "-f", "json"],
    "compare": ["compare", "all", "--json"],
    "calibration": ["calibration", "-f", "json"],
    "audit": ["audit", "-t", "covid", "-f", "json"],
    "figure": ["figure", "3", "--to", "f.svg"],
    "report": ["report", "--to", "r.html"],
}


def typed(place: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, [*words, "--out", str(place)])
    if done.exception is not None and not isinstance(done.exception, SystemExit | CxrBenchError):
        raise done.exception
    return done


@pytest.mark.parametrize("how", SPOILT)
def test_what_does_not_hold_is_left_out_by_name(how: str, files: Files, tmp_path: Path) -> None:
    whole = read_results(tmp_path, tmp_path)
    assert len(whole.records) == 3 and not whole.left_out
    SPOILT[how](files)
    found = read_results(tmp_path, tmp_path)
    assert "gloria" not in {record.model.name for record in found.records}
    assert "dlilp_cm" in {record.model.name for record in found.records}
    assert [r for r in found.records if r not in whole.records] == []
    assert found.left_out
    for place, why in found.left_out.items():
        assert place in why and "run" in why and ("elete" in why or "Move it back" in why)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", ["edited folds with their checksum", "an edited mean", "a pipe"])
def test_every_verb_leaves_it_out_and_says_so(
    verb: str, how: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SPOILT[how](files)
    done = typed(tmp_path, VERBS[verb], monkeypatch)
    assert files[0].stem in done.stderr and "left out" in done.stderr
    assert "99.9" not in done.stdout


def test_check_calls_it_broken_and_info_refuses_it(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _edit(files[0], _all_folds, reseal=True)
    checked = typed(tmp_path, ["check", "--against", "paper", "-f", "json"], monkeypatch)
    assert checked.exit_code == IntegrityError.exit_code
    assert json.loads(checked.stdout)["findings"][0]["verdict"] == "broken"
    shown = CliRunner().invoke(app, ["info", str(files[0])])
    assert isinstance(shown.exception, IntegrityError)
    assert f"{files[0]}: fold 0: the predictions give another balanced_accuracy" in str(shown.exception)
    assert CliRunner().invoke(app, ["info", str(files[1])]).exit_code == 0


def test_a_record_is_found_from_any_folder(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, path in ((files[0].parent, files[0].name), (files[1].parent, f"../gloria/{files[0].name}")):
        monkeypatch.chdir(folder)
        assert sound_record(Path(path)).model.name == "gloria"


def test_base_and_new_classes_follow_from_the_predictions_too(tmp_path: Path) -> None:
    folds = scores(rows=80, errors=8, folds=1)
    told = generalised(folds[0].scores, folds[0].labels, [1])
    right = {"base": told.base, "new": told.new, "harmonic_mean": told.harmonic_mean, "new_classes": ["Pneumonia"]}
    assert not faults(tmp_path, write_result(tmp_path, folds, generalised=right))
    wrong = write_result(tmp_path, folds, generalised={**right, "base": 0.999})
    assert faults(tmp_path, wrong) == ("the predictions give another base in the joint label space",)


def test_no_module_reads_records_past_the_one_that_holds_them_together() -> None:
    """`read_record` believes the checksum alone: its callers are those that hold the rest, or have just written it."""
    root = Path(cxrbench.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == "cxrbench.records.record"
        and "read_record" in {alias.name for alias in node.names}
    }
    assert found == {"records/integrity.py", "runner/recording.py", "checks/contributed.py"}  # which tells each fault
    texts = {path: path.read_text() for path in root.rglob("*.py")}
    shallow = {path.parent.name for path, text in texts.items() if re.search(r"\bfound_results\b", text)}
    assert shallow == {"records", "cli", "html"}  # check and report, which hold each against its predictions later


@pytest.fixture
def seen(files: Files, tmp_path: Path) -> Files:
    """The same, held against their predictions once before."""
    assert len(read_results(tmp_path, tmp_path / "cache").records) == 3
    return files


def test_what_agreed_before_and_has_the_same_bytes_is_not_computed_again(
    seen: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrbench.records.integrity.metrics_of", lambda *_: pytest.fail("computed again"))
    assert len(read_results(tmp_path, tmp_path / "cache").records) == 3
    with pytest.raises(pytest.fail.Exception):
        read_results(tmp_path, tmp_path / "another cache")


@pytest.mark.parametrize("change", [_all_folds, _mean, _fewer_metrics])
def test_an_edit_after_that_is_found(change: Callable[[dict[str, Any]], None], seen: Files, tmp_path: Path) -> None:
    _edit(seen[0], change, reseal=True)
    found = read_results(tmp_path, tmp_path / "cache")
    assert len(found.records) == 2
    assert list(found.left_out) == [str(seen[0].relative_to(tmp_path))]


def test_other_predictions_after_that_are_found(seen: Files, tmp_path: Path) -> None:
    _swap(seen[0].with_suffix(".parquet"), seen[1].with_suffix(".parquet"))
    assert len(read_results(tmp_path, tmp_path / "cache").left_out) == 2


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b'{"sha256": "0", "content": ["0"]}'])
def test_a_damaged_list_of_what_agreed_costs_time_alone(content: bytes, seen: Files, tmp_path: Path) -> None:
    (kept,) = (tmp_path / "cache" / "verified").iterdir()
    kept.write_bytes(content)
    _edit(seen[0], _mean, reseal=True)
    assert len(read_results(tmp_path, tmp_path / "cache").records) == 2


def test_a_cache_that_cannot_be_written_is_none(files: Files, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    assert len(read_results(tmp_path, tmp_path / "cache").records) == 3


def test_a_record_that_the_system_refuses_is_left_out_by_name(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refusing(path: Any, *rest: Any, **more: Any) -> int:
        if Path(path) == files[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    found = read_results(tmp_path, tmp_path / "cache")
    assert len(found.records) == 2
    assert str(files[0]) in found.left_out[str(files[0].relative_to(tmp_path))]


def test_a_flipped_word_on_the_format_is_damage_and_no_other_version(files: Files, tmp_path: Path) -> None:
    text = files[0].read_text()
    files[0].write_text(text.replace('"format": 1', '"format": 3'))
    found = read_results(tmp_path, tmp_path / "cache")
    assert (len(found.records), len(found.left_out), found.foreign) == (2, 1, 0)
    _edit(files[0], lambda body: body.update(format=3), reseal=True)
    assert read_results(tmp_path, tmp_path / "another").foreign == 1
