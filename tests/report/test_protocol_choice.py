"""Every reader takes protocols by names, lists and globs, and refuses a word with the nearest of what was measured."""

import json
from pathlib import Path

import pytest
from made_predictions import scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.records.integrity import read_results
from cxrbench.records.selection import chosen_protocols

PROTOCOLS = ("linear-probe", "knn-10", "knn-20", "clap")
READERS = {
    "table": ["table", "-f", "json"],
    "transfer": ["table", "transfer"],
    "compare": ["compare", "clip_cm", "gloria", "--json"],
    "report": ["report"],
    "figure": ["figure", "3"],
    "subgroups": ["subgroups", "-f", "json"],
    "calibration": ["calibration", "-f", "json"],
}


def results(out: Path) -> None:
    for place, model in enumerate(("clip_cm", "gloria")):
        for protocol in PROTOCOLS:
            fold = scored_fold(1.0, 4, noise=place)
            sex = {"sex": {name: "FM"[n % 2] for n, name in enumerate(fold.ids)}}
            written(out, model, [fold], protocol__protocol=protocol, about=sex)


def cli(out: Path, *words: str) -> Result:
    to = ["--to", str(out / "report.html")] if words[0] == "report" else []
    return CliRunner().invoke(app, [*words, *to, "--out", str(out)])


@pytest.mark.parametrize("reader", READERS)
def test_a_word_that_fits_nothing_is_refused_with_the_nearest_measured(reader: str, tmp_path: Path) -> None:
    results(tmp_path)
    for word, told in (("knn-100", "did you mean knn-10"), ("simpleshot-*", "known are: clap, knn-10, knn-20")):
        done = cli(tmp_path, *READERS[reader], "--protocol", word)
        assert isinstance(done.exception, SpecError), done.output
        assert f"there is no measured protocol '{word}'" in str(done.exception) and told in str(done.exception)


WAYS = [
    (("--protocol", "knn-*"), {"knn-10", "knn-20"}),
    (("-p", "knn-10", "-p", "clap"), {"knn-10", "clap"}),
    (("-p", "clap,knn-2?"), {"knn-20", "clap"}),
    (("-p", "paper"), {"linear-probe"}),
    (("-p", "all"), set(PROTOCOLS)),
]


@pytest.mark.parametrize(("asked", "wanted"), WAYS)
def test_globs_and_lists_choose_the_same_everywhere(asked: tuple[str, ...], wanted: set[str], tmp_path: Path) -> None:
    results(tmp_path)
    told = {name: cli(tmp_path, *READERS[name], *asked) for name in ("table", "compare", "subgroups", "calibration")}
    assert all(done.exit_code == 0 for done in told.values()), {name: done.output for name, done in told.items()}
    table = json.loads(told["table"].stdout)
    assert {cell["protocol"] for cell in table["cells"]} == wanted
    assert {part["setting"]["protocol"] for part in json.loads(told["compare"].stdout)} == wanted
    for name in ("subgroups", "calibration"):
        assert {p for p in PROTOCOLS if f", {p}, " in told[name].stdout} == wanted
    assert cli(tmp_path, "report", *asked).exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert {p for p in PROTOCOLS if f"--protocol {p} " in page} == wanted


def test_protocols_are_in_the_order_asked_for_each_once(tmp_path: Path) -> None:
    results(tmp_path)
    records = read_results(tmp_path, tmp_path).records
    assert chosen_protocols(records, ["linear-probe", "knn-*,linear-probe"]) == ("linear-probe", "knn-10", "knn-20")
    assert chosen_protocols(records, "knn-*") == ("knn-10", "knn-20")
    assert chosen_protocols(records, None) is None
