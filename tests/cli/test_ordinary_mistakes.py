"""What a newcomer types, and what the program answers: help that shows its defaults, and errors that mend."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from made_results import write_result
from typer.testing import CliRunner

from cxrbench.cli import main, options
from cxrbench.cli.main import app
from cxrbench.records.integrity import place_of
from cxrbench.specs import catalog
from cxrbench.specs.paths import folder
from cxrbench.specs.settings import choosing
from cxrbench.system.progress import told_time

VERBS = [
    *["run", "models", "tasks", "info", "figure", "subgroups", "prompts", "calibration", "compare", "check", "audit"],
    *["export", "report", "doctor", "demo", "table", "pretrain", "data", "task", "cache", "weights", "validate"],
]
GROUPS = ["table", "pretrain", "data", "task", "cache", "weights"]


@dataclass(frozen=True)
class Told:
    code: int
    out: str
    err: str


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Told]:
    """The whole program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXRBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("CXRBENCH_DATA", "CXRBENCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["cxrbench", *words])
        code: object = 0
        try:
            main.main()
        except SystemExit as stop:
            code = stop.code or 0
        told = capsys.readouterr()
        assert isinstance(code, int)
        return Told(code, told.out, told.err)

    return run


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "cxrbench", "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout[0].isdigit()


@pytest.mark.parametrize("words", [[], *([group] for group in GROUPS)], ids=" ".join)
def test_every_line_of_a_list_of_verbs_is_whole(words: list[str]) -> None:
    text = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}, terminal_width=80).stdout
    listed = text.partition("Commands:")[2]
    assert listed
    assert "..." not in listed
    assert words or all(f"\n  {verb} " in listed for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["run"], ["[env: CXRBENCH_DATA]", "tokenizer_config.json"]),
        (["weights", "fetch"], ["CXRBENCH_WEIGHTS]", "CXRBENCH_CACHE]"]),
        (["compare"], ["[default: all]", "Protocols; repeatable, globs."]),
        (["check"], ["[default: baseline.toml", "[default: 0.0001]"]),
        (["subgroups"], ["[default: each that was"]),
    ],
)
def test_help_shows_defaults_and_variables(words: list[str], shown: list[str]) -> None:
    text = CliRunner().invoke(app, [*words, "--help"], terminal_width=80).stdout
    assert [part for part in shown if part not in text] == []


def test_lists_fit_80_columns() -> None:
    for verb in ("models", "tasks"):
        assert max(map(len, CliRunner().invoke(app, [verb]).stdout.splitlines())) <= 80


def test_info_of_a_task_says_where_to_get_it_and_of_a_model_what_it_needs(typed: Callable[..., Told]) -> None:
    task = typed("info", "rsna").out
    for part in ("Kaggle", "terms: ", "--data-root rsna=DIR", "cxrbench-v1", "[paper-code]", "all, 2 classes: Normal"):
        assert part in task
    model = typed("info", "medclip").out
    for part in ("terms: ", "cxrbench weights info medclip", "Bio_ClinicalBERT", "Table 4: MedCLIP (M+C)"):
        assert part in model


def test_info_takes_many_names_and_gives_every_key_as_json(typed: Callable[..., Told], tmp_path: Path) -> None:
    records = [write_result(tmp_path, model__name=name) for name in ("gloria", "clip_cm")]
    paths = [str(tmp_path / place_of(record)) for record in records]
    both = typed("info", *paths)
    assert both.code == 0
    assert [both.out.count(f"{name} on ") for name in ("gloria", "clip_cm")] == [1, 1]
    for name in ("rsna", "gloria", "paper-code", "names", "lp.solver", "sat", paths[0]):
        assert isinstance(json.loads(typed("info", name, "--json").out), dict)


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["info", "results/records/rsna/gloria/none.json"], 3, "`cxrbench run` writes them"),
        (["info", "odd.toml"], 2, "is no card (`adapter`)"),
        (["cache", "prune"], 2, "cxrbench cache list"),
        (["figure", "4"], 2, "Figure 3"),
        (["run", "-m", "clip_cm", "-t", "rsna", "--shots", "1,two"], 2, "'two' is no number of training images"),
        (["run", "-m", "clip_cm", "-t", "rsna", "--set", "resize.antialiased=on"], 2, "did you mean resize.antialias?"),
        (["data", "status", "-t", "own.toml", "--data-root", "."], 3, "Point --data-root at the data set's folder"),
        (["export"], 3, "`cxrbench run` writes records; --out says"),
        (["export", "--to", "cells.xlsx"], 2, "a table ends in .csv or .parquet"),
        (["compare", "gloria", "kad"], 3, "`cxrbench run` writes records; --out says"),
    ],
)
def test_an_ordinary_mistake_is_told_with_its_remedy(
    words: list[str], code: int, hint: str, typed: Callable[..., Told], tmp_path: Path
) -> None:
    (tmp_path / "odd.toml").write_text('name = "odd"\n')
    covid = (folder("tasks") / "covid.toml").read_text(encoding="utf-8")
    (tmp_path / "own.toml").write_text(covid.replace('name = "covid"', 'name = "own"', 1), encoding="utf-8")
    told = typed(*words)
    assert told.code == code
    assert hint in told.out + told.err


@pytest.mark.parametrize(
    "verb",
    [
        ["table", "4"],
        ["table", "4", "--synthetic", "-f", "latex"],
        ["figure", "3"],
        ["compare", "all"],
        ["subgroups", "--by", "sex"],
        ["calibration"],
        ["prompts"],
        ["export"],
        ["report"],
        ["check"],
    ],
    ids=" ".join,
)
def test_a_results_folder_that_is_not_there_is_named_and_the_verb_fails(
    verb: list[str], typed: Callable[..., Told]
) -> None:
    told = typed(*verb, "--out", "resluts")
    assert (told.code, told.out) == (3, "")
    assert "resluts: there is no such folder" in told.err


@pytest.mark.parametrize("verb", ["status", "prepare", "verify"])
def test_without_a_data_root_every_task_is_named(verb: str, typed: Callable[..., Told]) -> None:
    told = typed("data", verb)
    assert told.code == 3
    for task in catalog.task_files():
        assert f"{task}: no folder with its images; name it by --data-root" in told.out
    assert len(told.out.splitlines()) == len(catalog.task_files())


def test_a_table_that_shows_nothing_measured_says_which_options_would(
    typed: Callable[..., Told], tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    assert "`cxrbench run` writes records" in typed("table", "4").err
    write_result(tmp_path / "results", model__synthetic=True)
    told = typed("table", "4", "--no-intervals").err
    assert "no measured record of paper-code" in told
    assert "--variant paper-code --synthetic" in told
    assert typed("table", "4", "--no-intervals", "--synthetic").err == ""


def test_a_split_of_a_task_of_ones_own_can_be_asked_for_where_it_was_recorded(
    typed: Callable[..., Told], tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    words = ("table", "4", "--set", "own.split=x")
    refused = typed(*words)
    assert (refused.code, "there is no setting 'own.split'" in refused.err) == (2, True)
    write_result(tmp_path / "results", data__task="own")
    assert typed(*words).code == 0


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 5, "make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/ro/results"), 5, "/ro/results: Permission denied; name"),
        (KeyboardInterrupt(), 130, "interrupted; finished work is kept"),
    ],
    ids=["full disk", "read-only", "Ctrl-C"],
)
def test_what_the_system_refuses_is_no_traceback(
    error: BaseException, code: int, hint: str, typed: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = typer.Typer(pretty_exceptions_enable=False)

    @broken.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", broken)
    told = typed()
    assert told.code == code
    assert hint in told.err
    assert "Traceback" not in told.err


def test_shells_complete_names_and_comma_lists() -> None:
    assert {"medclip", "medclip_vit"} <= set(options.models("medcl"))
    assert options.tasks("rsna,cov") == ["rsna,covid"]
    assert options.variants("paper") == ["paper-code"]
    env = {**os.environ, "_CXRBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "cxrbench run -t sii", "COMP_CWORD": "3"}
    program = "from cxrbench.cli.main import app; app(prog_name='cxrbench')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.split() == ["siim", "siim_pneumothorax"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (125, "2 min 5 s"), (12_000, "3 h 20 min")]
)
def test_time_left_is_told_in_two_units(seconds: float, told: str) -> None:
    assert told_time(seconds) == told


def test_a_variant_renamed_by_its_choices_is_told_as_options() -> None:
    assert choosing("paper-code") == "--variant paper-code"
    assert choosing("phantom+lp.solver=scikit-learn,rsna.split=gloria") == (
        "--variant phantom --set lp.solver=scikit-learn --set rsna.split=gloria"
    )
