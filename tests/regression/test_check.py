"""`cxrbench check`: every verdict is found, and leaves with its exit code."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import tomli_w
from junitparser import JUnitXml
from made_results import scores, write_result
from typer.testing import CliRunner, Result

from cxrbench.cli.main import app
from cxrbench.errors import CxrBenchError
from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.specs.card_facts import recipe_for
from cxrbench.store.sealed import CHECKSUM, with_checksum

OTHER = "9" * 64


def check(place: Path, *words: str) -> Result:
    """The verb as the program runs it: an error of ours becomes its exit code."""
    done = CliRunner().invoke(app, ["check", "--out", str(place / "results"), *words])
    if isinstance(done.exception, CxrBenchError):
        done.exit_code = done.exception.exit_code
    elif done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def findings(place: Path, *words: str) -> tuple[int, list[dict[str, object]]]:
    done = check(place, "--format", "json", *words)
    return done.exit_code, json.loads(done.stdout)["findings"]


def only(place: Path, against: str = "baseline") -> tuple[int, dict[str, object]]:
    code, found = findings(place, "--against", against) if against != "predictions" else findings(place)
    own = [one for one in found if one["against"] == against and one["verdict"] != "missing"]
    assert len(own) == 1, own
    return code, own[0]


def preprocessing() -> str:
    card, task = catalog.load_card("clip_cm"), catalog.load_task("rsna")
    return recipe_for(card, catalog.load_variant("paper-code").settings, task.released_polarity)[1].digest


def result(place: Path, /, **changes: object) -> Record:
    return write_result(place / "results", **{"preprocessing__digest": preprocessing(), **changes})  # type: ignore[arg-type]


def emptied(place: Path) -> Path:
    shutil.rmtree(place / "results" / "records")
    return place


def edited(place: Path, **changes: object) -> None:
    """The baseline's only cell with entries replaced, by dotted name."""
    path = place / "results" / "baseline.toml"
    content = tomllib.loads(path.read_text())
    for name, value in changes.items():
        where = content["cells"][0]
        *folders, last = name.split("__")
        for folder in folders:
            where = where[folder]
        where[last] = value
    del content[CHECKSUM]
    path.write_text(tomli_w.dumps(with_checksum(content)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A results folder with one record, and the baseline made from it."""
    result(tmp_path)
    done = check(tmp_path, "--update")
    assert done.exit_code == 0, done.output
    return tmp_path


def test_the_same_records_match_and_pass(place: Path) -> None:
    code, found = only(place)
    assert (code, found["verdict"], found["moved"]) == (0, "match", 0)


def test_a_moved_number_is_found(place: Path) -> None:
    emptied(place)
    result(place, folds=scores(errors=61))
    code, found = only(place)
    assert (code, found["verdict"]) == (1, "differs")
    assert found["moved"] == pytest.approx(-100 / 400)


def test_a_better_number_has_moved_too(place: Path) -> None:
    emptied(place)
    result(place, folds=scores(errors=59))
    assert only(place)[0] == 1


def test_moved_images_and_code_are_named_beside_a_moved_number(place: Path) -> None:
    emptied(place)
    result(place, folds=scores(errors=61), data__contents_digest="8" * 64, code__sources="1" * 16)
    reasons = " ".join(only(place)[1]["reasons"])  # type: ignore[arg-type]
    assert "images are other bytes" in reasons and "code is other" in reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model__weights_tensors": OTHER}, "other weights"),
        ({"data__partition_digest": OTHER}, "other split"),
        ({"preprocessing__digest": OTHER}, "other preprocessing"),
        ({"variant_digest": OTHER}, "other variant"),
        ({"data__synthetic": True, "data__partition_digest": OTHER}, "synthetic images or weights"),
    ],
)
def test_other_inputs_are_not_comparable(place: Path, changes: dict[str, object], reason: str) -> None:
    emptied(place)
    result(place, **changes)
    code, found = only(place)
    assert (code, found["verdict"]) == (1, "not comparable")
    assert reason in found["reasons"]  # type: ignore[operator]


def test_the_record_with_the_baselines_inputs_is_taken_among_newer_ones(place: Path) -> None:
    result(place, model__weights_tensors=OTHER, runtime__started="2027-01-01T00:00:00+00:00")
    assert only(place)[1]["verdict"] == "match"


def test_a_sound_record_is_taken_before_a_newer_flawed_one(place: Path) -> None:
    late = {"runtime__started": "2027-01-01T00:00:00+00:00"}
    result(place, folds=scores(errors=61), data__missing=3, **late)
    assert only(place)[1]["verdict"] == "match"


def test_a_cell_that_was_not_run_is_missing_unless_the_check_is_partial(place: Path) -> None:
    emptied(place)
    code, found = findings(place, "--against", "baseline")
    assert (code, [one["verdict"] for one in found]) == (1, ["missing"])
    assert findings(place, "--against", "baseline", "--partial")[0] == 0


def test_a_cell_that_the_baseline_has_not_is_new_and_passes(place: Path) -> None:
    result(place, protocol__shots=4)
    code, found = findings(place, "--against", "baseline")
    assert (code, sorted(one["verdict"] for one in found)) == (0, ["match", "new"])  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digests__variant": OTHER}, "the variant paper-code is another now"),
        ({"digests__preprocessing": OTHER}, "preprocess otherwise now"),
        ({"split": "kaggle"}, "has no split 'kaggle' any more"),
        ({"prompts": "names", "digests__prompts": OTHER}, "the prompt set names is another now"),
    ],
)
def test_a_stale_baseline_is_found_though_a_record_matches_it(
    place: Path, changes: dict[str, object], reason: str
) -> None:
    edited(place, **changes)
    code, found = findings(place, "--against", "baseline")
    assert (code, found[0]["verdict"]) == (1, "stale")
    assert reason in " ".join(found[0]["reasons"])  # type: ignore[arg-type]


@pytest.mark.parametrize(("what", "name", "hint"), [("task", "rnsa", "rsna"), ("model", "clip_mc", "clip_cm")])
def test_a_renamed_task_or_model_is_found_by_its_name(place: Path, what: str, name: str, hint: str) -> None:
    emptied(place)
    edited(place, **{f"{what}": name})
    code, found = only(place)
    assert (code, found["verdict"]) == (1, "renamed")
    assert f"there is no {what} '{name}' here; did you mean" in " ".join(found["reasons"])  # type: ignore[arg-type]
    assert hint in " ".join(found["reasons"])  # type: ignore[arg-type]


def test_a_renamed_task_is_found_by_its_digests(place: Path) -> None:
    edited(place, task="pneumonia_of_2018")
    code, found = findings(place, "--against", "baseline")
    assert (code, [one["verdict"] for one in found]) == (1, ["renamed", "new"])
    assert "recorded as clip_cm / rsna" in " ".join(found[0]["reasons"])  # type: ignore[arg-type]


def test_another_model_of_the_same_cell_is_no_new_name_of_a_missing_one(place: Path) -> None:
    emptied(place)
    result(place, model__name="unicl_cm", model__weights_tensors=OTHER)
    code, found = findings(place, "--against", "baseline")
    assert (code, [one["verdict"] for one in found]) == (1, ["missing", "new"])


def test_a_name_that_nothing_bears_any_more_is_stale(place: Path) -> None:
    emptied(place)
    edited(place, model="zzzzzz")
    assert only(place)[1]["verdict"] == "stale"


def test_a_card_of_the_users_own_is_not_stale_as_long_as_a_record_bears_it(tmp_path: Path) -> None:
    result(tmp_path, model__name="my_encoder")
    assert check(tmp_path, "--update").exit_code == 0
    assert only(tmp_path)[1]["verdict"] == "match"


@pytest.mark.parametrize("how", ["absent", "other bytes", "other metrics", "other mean", "other std"])
def test_a_record_that_its_predictions_belie_is_an_integrity_error(place: Path, how: str) -> None:
    path = next((place / "results" / "records").glob("*/*/*.json"))
    if how == "absent":
        path.with_suffix(".parquet").unlink()
    elif how == "other bytes":
        path.with_suffix(".parquet").write_bytes(b"PAR1")
    else:
        body = json.loads(path.read_text())
        if how == "other metrics":
            body["folds"][0]["metrics"]["macro_auroc"] += 1e-6
        else:
            body["summary"]["accuracy"][how.removeprefix("other ")] += 1e-6
        del body[CHECKSUM]
        path.write_text(json.dumps(with_checksum(body)))  # an editor can do that, but the predictions tell
    done = check(place, "--format", "json")
    assert done.exit_code == 4
    found = json.loads(done.stdout)["findings"]
    assert found[0]["against"] == "predictions" and found[0]["verdict"] == "broken"
    assert check(place, "--update").exit_code == 4  # and no baseline is made of it


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}'])
def test_a_damaged_record_is_an_integrity_error_and_not_a_cell_that_was_not_run(content: str, place: Path) -> None:
    next((place / "results" / "records").glob("*/*/*.json")).write_text(content)
    before = (place / "results" / "baseline.toml").read_bytes()
    code, found = findings(place, "--partial")
    assert (code, found[0]["verdict"]) == (4, "broken")
    assert "Delete it with its predictions, and run its cell again" in " ".join(found[0]["reasons"])  # type: ignore[arg-type]
    assert check(place, "--update").exit_code == 4
    assert (place / "results" / "baseline.toml").read_bytes() == before


def test_a_folder_of_damaged_records_alone_is_no_empty_one(place: Path) -> None:
    next((place / "results" / "records").glob("*/*/*.json")).write_text("{")
    (place / "results" / "baseline.toml").unlink()
    assert check(place).exit_code == 4


def test_records_of_another_format_are_left_out_and_counted(place: Path) -> None:
    path = next((place / "results" / "records").glob("*/*/*.json"))
    body = {name: value for name, value in json.loads(path.read_text()).items() if name != CHECKSUM}
    path.with_name("0000000000000000.json").write_text(json.dumps(with_checksum({**body, "format": 2})))
    done = check(place, "--against", "baseline")
    assert (done.exit_code, "1 files" in done.stderr) == (0, True)
    path.unlink()
    assert check(place, "--against", "baseline").exit_code == 1  # the cell is missing, and not taken from the other


def test_an_empty_results_folder_leaves_every_cell_of_the_baseline_missing(place: Path) -> None:
    shutil.rmtree(place / "results" / "records")
    assert check(place).exit_code == 1
    (place / "results" / "records").mkdir()
    assert check(place, "--partial").exit_code == 0


@pytest.mark.parametrize(
    ("errors", "verdict", "code"),
    [(28, "agrees", 0), (44, "cannot tell", 0), (60, "differs", 1)],
    ids=["93.00", "89.00", "85.00"],
)
def test_a_printed_number_is_a_second_measurement_where_its_images_are_not_known(
    errors: int, verdict: str, code: int, tmp_path: Path
) -> None:
    result(tmp_path, folds=scores(errors=errors))
    left, found = only(tmp_path, "paper")
    assert (left, found["verdict"], found["expected"], found["kind"]) == (code, verdict, 93.2, "two measurements")
    share = 1 - errors / 400
    reach = 100 * 1.6449 * (2 * share * (1 - share) / 400) ** 0.5  # both folds score the same rows alike: 400 images
    low, high = found["between"]  # type: ignore[misc]
    assert high - low == pytest.approx(2 * reach, rel=0.03)
    assert low < 100 * share - 93.2 < high


def test_the_reasons_of_a_second_measurement_say_what_is_compared_and_how(tmp_path: Path) -> None:
    result(tmp_path, folds=scores(errors=44))
    reasons = only(tmp_path, "paper")[1]["reasons"]
    assert isinstance(reasons, list)
    assert reasons[0].startswith("two measurements: it is not known that the rows are the paper's own (Table 1 prints")
    assert reasons[1] == "allowed for, of both numbers: other test images and training images"
    assert re.fullmatch(r"p 0\.0\d\d after Holm over 1 cell", reasons[2])
    assert re.fullmatch(r"90 % interval of the difference -\S+ to -\S+, not within the margin of 5 points", reasons[3])


def test_the_margin_is_a_choice_and_is_told_with_the_verdict(tmp_path: Path) -> None:
    result(tmp_path, folds=scores(errors=44))
    done = check(tmp_path, "--against", "paper", "--margin", "12.5")
    assert done.exit_code == 0
    assert "paper agrees within 12.5 points 1" in done.stdout
    assert check(tmp_path, "--margin", "-1").exit_code == 2


def test_patients_are_the_units_where_they_are_known(tmp_path: Path) -> None:
    patients = {f"image{row:04}": f"patient{row // 4}" for row in range(400)}
    result(tmp_path, folds=scores(errors=28), patients=patients)
    assert "other test patients" in " ".join(only(tmp_path, "paper")[1]["reasons"])  # type: ignore[arg-type]


def test_a_check_of_many_cells_corrects_for_their_number(tmp_path: Path) -> None:
    """One cell alone differs at 5 %; as one of four that were compared it does not."""
    result(tmp_path, folds=scores(errors=48))
    code, found = only(tmp_path, "paper")
    assert (code, found["verdict"]) == (1, "differs")
    for model in ("unicl_cm", "unimodal_cm", "dlilp_cm"):
        result(tmp_path, model__name=model, folds=scores(errors=20))
    code, many = findings(tmp_path, "--against", "paper")
    own = next(one for one in many if one["record"] == found["record"])
    assert (code, own["verdict"]) == (0, "cannot tell")
    assert own["p"] == pytest.approx(4 * float(found["p"]))  # type: ignore[arg-type]


def test_a_pull_request_and_a_test_report_do_not_fail_for_what_cannot_be_told(tmp_path: Path) -> None:
    result(tmp_path, folds=scores(errors=44))
    files = [tmp_path / f"check.{suffix}" for suffix in ("md", "xml")]
    words = [word for file in files for word in ("--report", str(file))]
    assert check(tmp_path, "--against", "paper", *words).exit_code == 0
    assert "|" not in files[0].read_text()
    suite = next(iter(JUnitXml.fromfile(str(files[1]))))
    assert (suite.failures, suite.skipped) == (0, suite.tests)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"data__synthetic": True}, "the images are synthetic"),
        ({"protocol__labels": "shuffled"}, "the probe was fitted to shuffled labels"),
    ],
)
def test_made_records_and_controls_are_not_compared_with_the_paper(
    made: dict[str, object], reason: str, tmp_path: Path
) -> None:
    result(tmp_path, **made)
    code, found = only(tmp_path, "paper")
    assert (code, found["verdict"], found["reasons"]) == (0, "not comparable", [reason])


def test_an_update_leaves_flawed_cells_out_and_says_why(tmp_path: Path) -> None:
    result(tmp_path, data__missing=3)
    result(tmp_path, protocol__shots=1)
    done = check(tmp_path, "--update")
    assert done.exit_code == 0 and "3 images have no file" in done.stderr
    assert len(tomllib.loads((tmp_path / "results" / "baseline.toml").read_text())["cells"]) == 1


def test_a_partial_update_keeps_the_other_cells(place: Path) -> None:
    emptied(place)
    result(place, protocol__shots=1)
    before = (place / "results" / "baseline.toml").read_text()
    check(place, "--update", "--partial")
    assert len(tomllib.loads((place / "results" / "baseline.toml").read_text())["cells"]) == 2
    check(place, "--update")
    assert len(tomllib.loads((place / "results" / "baseline.toml").read_text())["cells"]) == 1
    assert (place / "results" / "baseline.toml").read_text() != before


def test_the_same_records_give_the_same_baseline(place: Path) -> None:
    before = (place / "results" / "baseline.toml").read_bytes()
    check(place, "--update")
    assert (place / "results" / "baseline.toml").read_bytes() == before


def test_reports_are_written_in_every_format(place: Path) -> None:
    emptied(place)
    result(place, folds=scores(errors=61))
    files = [place / f"check.{suffix}" for suffix in ("txt", "md", "xml", "json")]
    done = check(place, "--against", "baseline", *(word for file in files for word in ("--report", str(file))))
    assert done.exit_code == 1
    suites = list(JUnitXml.fromfile(str(files[2])))
    assert [(suite.tests, suite.failures) for suite in suites] == [(1, 1)]
    assert "| differs" in files[1].read_text()
    assert json.loads(files[3].read_text())["passed"] is False
    assert check(place, "--report", str(place / "check.pdf")).exit_code == 2


def test_markdown_tells_only_what_changed(place: Path) -> None:
    assert check(place, "--against", "baseline", "-f", "markdown").stdout.count("\n") == 1
    result(place, protocol__shots=4)
    told = check(place, "--against", "baseline", "-f", "markdown").stdout
    assert "K = 4" in told and "K = 16" not in told


@pytest.mark.parametrize(
    ("words", "code"), [([], 3), (["--update"], 3), (["--against", "baseline"], 3), (["--format", "pdf"], 2)]
)
def test_nothing_to_check_is_an_error_not_a_pass(words: list[str], code: int, tmp_path: Path) -> None:
    assert check(tmp_path, *words).exit_code == code


@pytest.mark.parametrize("name", ["value", "width", "weights"])
def test_an_edited_baseline_is_refused(name: str, place: Path) -> None:
    path = place / "results" / "baseline.toml"
    text = path.read_text()
    changed = re.sub(rf"^({name} = .*?)([0-9a])", lambda m: m[1] + ("1" if m[2] != "1" else "2"), text, flags=re.M)
    assert changed != text
    path.write_text(changed)
    done = check(place)
    assert done.exit_code == 4 and f"{path}: is damaged or was edited" in str(done.exception)


def test_a_malformed_baseline_is_refused(place: Path) -> None:
    edited(place, value="high")
    assert check(place).exit_code == 2
    path = place / "results" / "baseline.toml"
    check(place, "--update")
    cell = path.read_text().split("[[cells]]")[1]
    path.write_text(path.read_text() + "[[cells]]" + cell)
    assert check(place).exit_code == 2
