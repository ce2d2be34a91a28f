"""Which prompt sets a request means, for every model and for each of its own."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.runner import run as bench_run
from cxrbench.runner.lay_out import Wordings
from cxrbench.runner.request import Request
from cxrbench.runner.run import Forecast, RunResult
from cxrbench.specs import catalog

SHARED = ("description", "ensemble", "names")
ASKED = [
    (["names"], "kad", ("names",)),
    (["authors"], "kad", ("kad_names",)),
    (["authors"], "clip_cm", SHARED),
    (["names", "authors"], "clip_cm", SHARED),
    (["names,authors"], "kad", ("kad_names", "names")),
    (["all"], "kad", (*SHARED, "kad_names")),
    (["all"], "gloria", (*SHARED, "gloria_all", "gloria_readme")),
    (["all"], "clip_cm", SHARED),
    (["biovil_pair", "names"], "kad", ("biovil_pair", "names")),
    (["kad_names", "authors"], "kad", ("kad_names",)),
    (["*"], "kad", SHARED),
]


@pytest.mark.parametrize(("asked", "model", "meant"), ASKED)
def test_words_of_a_request(asked: list[str], model: str, meant: tuple[str, ...]) -> None:
    assert names_asked(asked, model, "rsna") == tuple(sorted(meant))


def names_asked(asked: Sequence[str], model: str, task: str) -> tuple[str, ...]:
    card: Any = SimpleNamespace(card=catalog.load_card(model))
    return tuple(sorted(one.name for one in Wordings.asked(asked).of(card, catalog.load_task(task))))


def test_sets_for_one_kind_of_task_are_asked_there_alone() -> None:
    assert names_asked(["presence", "names"], "kad", "rsna") == ("names",)
    assert names_asked(["presence", "names"], "kad", "openi") == ("names", "presence")
    told = Wordings.asked(["presence"]).why_none(catalog.load_task("rsna"))
    assert told == "rsna is a single-label task, and presence is for multi-label tasks"


def test_a_set_that_does_not_exist_is_named() -> None:
    with pytest.raises(SpecError, match="names"):
        Wordings.asked(["nams"])


def test_by_default_every_model_is_asked_the_same_three_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Request] = []

    def forecast(request: Request) -> Forecast:
        told.append(request)
        return Forecast((), (), {}, ())

    def run(request: Request, progress: object = None) -> RunResult:
        told.append(request)
        return RunResult()

    monkeypatch.setattr(bench_run, "forecast", forecast)
    monkeypatch.setattr(bench_run, "run", run)
    done = CliRunner().invoke(app, ["run", "-m", "kad", "-t", "rsna", "--data-root", ".", "--dry-run"])
    assert done.exit_code == 0, done.output
    with pytest.warns(cxrbench.CxrBenchWarning, match="nothing was measured"):
        cxrbench.run(["kad"], ["rsna"], data_root=".")
    assert [names_asked(request.prompts, "kad", "rsna") for request in told] == [SHARED, SHARED]
    assert not any(Wordings.asked(request.prompts).authors for request in told)
