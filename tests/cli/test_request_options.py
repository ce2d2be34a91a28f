"""One list of options for a request: the command line and Python offer the same, with the same defaults."""

import inspect
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import cxrbench
import cxrbench.cli.run
import cxrbench.notebook.run
from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.runner.options import (
    OPTIONS,
    REQUIRED,
    NamesOption,
    Option,
    PairsOption,
    PathOption,
    PathsOption,
    ShotsOption,
    SwitchOption,
)
from cxrbench.runner.request import Request, build_request
from cxrbench.specs import catalog

ALONE_ON_THE_COMMAND_LINE = {"dry_run": "returns nothing: it prints a forecast in place of a run"}
ALONE_IN_PYTHON = {"progress": "the command line always shows how it goes, on stderr"}
GIVEN: dict[str, tuple[list[str], Any]] = {  # of each option: words of the command line, and the value in Python
    "protocols": (["--protocol", "zero-shot"], ["zero-shot"]),
    "shots": (["-k", "1,2", "-k", "4"], [1, 2, 4]),
    "groups": (["--group", "all,base"], ["all", "base"]),
    "trained_on": (["--trained-on", "nih_lt,siim", "--trained-on", "own.toml"], ["nih_lt", "siim", "own.toml"]),
    "mapping": (["--mapping", "as-named"], "as-named"),
    "variant": (["--variant", "phantom"], "phantom"),
    "settings": (["--set", "vindr.polarity=released"], {"vindr.polarity": "released"}),
    "prompts": (["--prompts", "names"], ["names"]),
    "data_root": (["--data-root", "/data", "--data-root", "rsna=/fast"], {"": "/data", "rsna": Path("/fast")}),
    "weights": (["--weights", "/models"], "/models"),
    "text_encoder": (["--text-encoder", "/bert"], Path("/bert")),
    "device": (["--device", "cpu"], "cpu"),
    "precision": (["--precision", "bfloat16"], "bfloat16"),
    "batch_size": (["--batch-size", "7"], 7),
    "workers": (["--workers", "3"], 3),
    "out": (["--out", "here"], "here"),
    "cache": (["--cache", "/fast/cache"], "/fast/cache"),
    "allow_missing": (["--allow-missing"], True),
    "max_unreadable": (["--max-unreadable", "0.5"], 0.5),
    "resume": (["--no-resume"], False),
    "rehash": (["--rehash"], True),
}


def offered(verb: str) -> Mapping[str, Any]:
    """The parameters of a verb by name, as the command line has them."""
    group = typer.main.get_command(app)
    return {one.name: one for one in group.commands[verb].params if one.name != "help"}  # type: ignore[attr-defined]


def by_command_line(words: list[str]) -> Request:
    with patch.object(cxrbench.cli.run, "_run") as taken:
        result = CliRunner().invoke(app, ["run", "-m", "medclip", "-t", "rsna", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    request: Request = taken.call_args.args[0]
    return request


def by_python(**options: Any) -> Request:
    with patch.object(cxrbench.notebook.run, "run") as taken:
        cxrbench.run(["medclip"], ["rsna"], **options)
    request: Request = taken.call_args.args[0]
    return request


def test_the_command_line_and_python_have_the_same_options() -> None:
    verb, function = offered("run"), inspect.signature(cxrbench.run).parameters
    assert verb.keys() - ALONE_ON_THE_COMMAND_LINE == function.keys() - ALONE_IN_PYTHON
    assert verb.keys() - function.keys() == ALONE_ON_THE_COMMAND_LINE.keys()
    assert function.keys() - verb.keys() == ALONE_IN_PYTHON.keys()
    assert verb.keys() - ALONE_ON_THE_COMMAND_LINE == {*REQUIRED, *OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_has_one_default_and_one_help(name: str) -> None:
    option, told = OPTIONS[name], inspect.signature(cxrbench.run).parameters[name]
    here = offered("run")[name]
    assert told.default == option.default
    assert option.value(here.default) == option.default
    assert here.help == option.help
    assert " ".join(option.help.split()) in " ".join((cxrbench.run.__doc__ or "").split())
    assert option.flag in here.opts


@pytest.mark.parametrize("verb", ["encode", "status"])
def test_the_store_is_filled_by_the_same_options(verb: str) -> None:
    run, other = offered("run"), offered(verb)
    shared = other.keys() & run.keys()
    assert {"models", "tasks", "shots", "prompts", "data_root", "precision", "cache"} <= shared
    for name in shared - {"tasks"}:  # which --images can stand for
        assert (other[name].opts, other[name].default, other[name].help, other[name].required) == (
            run[name].opts, run[name].default, run[name].help, run[name].required,
        )  # fmt: skip


def test_defaults_make_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_command_line([]) == by_python()
    monkeypatch.setenv("CXRBENCH_DATA", "/from/the/environment")
    monkeypatch.setenv("CXRBENCH_WEIGHTS", "/weights/too")
    monkeypatch.setenv("CXRBENCH_CACHE", "/and/the/cache")
    request = by_command_line([])
    assert request == by_python()
    places = request.places
    assert (places.data_root(catalog.load_task("rsna")), places.weights[""], places.cache) == tuple(
        map(Path, ("/from/the/environment", "/weights/too", "/and/the/cache"))
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_makes_the_same_request(name: str) -> None:
    words, value = GIVEN[name]
    request = by_command_line(words)
    assert request == by_python(**{name: value})
    assert request != by_python(), "the option changes nothing"


@pytest.mark.parametrize("verb", ["encode", "status"])
@pytest.mark.parametrize(
    "name", ["shots", "trained_on", "mapping", "prompts", "settings", "data_root", "variant", "allow_missing"]
)
def test_images_of_no_task_take_no_choice_of_tasks(verb: str, name: str, tmp_path: Path) -> None:
    words, _ = GIVEN[name]
    with pytest.raises(SpecError, match=rf"{OPTIONS[name].flag}: choices of tasks, which --images has none of"):
        CliRunner().invoke(app, [verb, "-m", "medclip", "--images", str(tmp_path), *words], catch_exceptions=False)


def test_python_refuses_what_is_no_option() -> None:
    with pytest.raises(TypeError, match="prompt: there is no such option; nearest: prompts"):
        cxrbench.run(["medclip"], ["rsna"], prompt=["names"])  # type: ignore[call-arg]


@pytest.mark.parametrize("name", [n for n, o in {**REQUIRED, **OPTIONS}.items() if isinstance(o, NamesOption)])
def test_python_refuses_a_text_for_a_list(name: str) -> None:
    asked = {"models": ["medclip"], "tasks": ["rsna"], name: "all"}
    with pytest.raises(TypeError, match=f"{name}: a list of "):
        cxrbench.run(**asked)  # type: ignore[arg-type]


_NAMES = st.text("abcdefghij0123456789_-", min_size=1, max_size=8).filter(lambda name: name[0] not in "_-")
_PATHS = st.builds(lambda parts: Path("/", *parts), st.lists(_NAMES, min_size=1, max_size=3))
_VALUES: dict[type[Option], st.SearchStrategy[Any]] = {
    NamesOption: st.lists(_NAMES, min_size=1).map(tuple),
    ShotsOption: st.lists(
        st.one_of(st.integers(1, 64), st.just("all"), st.integers(1, 999).map(lambda share: f"{share / 10:g}%")),
        min_size=1,
        unique=True,
    ).map(tuple),
    PairsOption: st.dictionaries(_NAMES, _NAMES, min_size=1),
    PathsOption: st.dictionaries(st.one_of(st.just(""), _NAMES), _PATHS, min_size=1),
    PathOption: _PATHS,
    SwitchOption: st.booleans(),
}


@settings(max_examples=40)
@given(st.data())
def test_words_that_are_written_are_read_back(data: st.DataObject) -> None:
    """What `encode` hands to a cluster's jobs is what it was asked."""
    name = data.draw(st.sampled_from([n for n, o in OPTIONS.items() if type(o) in _VALUES]))
    option = OPTIONS[name]
    value = ("linear-probe",) if name == "protocols" else data.draw(_VALUES[type(option)])
    request = by_command_line(shlex.split(shlex.join(option.write(value))))
    assert request == build_request(["medclip"], ["rsna"], {name: value})  # type: ignore[misc]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("0", "must be at least 1"),
        ("-2", "must be at least 1"),
        ("0%", "more than 0%"),
        ("100%", "called all, not 100%"),
        ("250%", "less than 100%"),
        ("1.5", "1% (of the training part)"),
        ("half", "is no number of training images"),
        ("1%%", "is no number of training images"),
        ("%", "is no number of training images"),
        ("nan%", "is no number of training images"),
    ],
)
def test_what_is_no_number_of_training_images_says_what_is(word: str, told: str) -> None:
    with pytest.raises(SpecError, match=re.escape(told)):
        OPTIONS["shots"].value([word])
    with pytest.raises(SpecError, match=re.escape(told)):
        by_python(shots=[word])


@pytest.mark.parametrize("value", [0.01, True, None, 1.0])
def test_python_takes_no_other_kind_for_shots(value: Any) -> None:
    with pytest.raises(SpecError, match="is no number of training images"):
        by_python(shots=[value])


@given(st.integers(1, 99_999), st.booleans())
def test_a_share_is_spelt_in_one_way(thousandths: int, padded: bool) -> None:
    word = f"{thousandths // 1000}.{thousandths % 1000:03d}"
    (found,) = OPTIONS["shots"].value([f"0{word} %" if padded else f"{word}%"])
    assert OPTIONS["shots"].value([found, f"{word}%"]) == (found,)
    assert float(found.removesuffix("%")) == thousandths / 1000 and "e" not in found.lower()
    assert found == found.removesuffix("%").rstrip("0").rstrip(".") + "%" or "." not in found
