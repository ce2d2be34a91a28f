"""Models that are in memory: what names them, what is refused before a run, and what their records say afterwards."""

import copy
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab
from made_package import CHECKOUT
from torch import Tensor, nn
from typer.testing import CliRunner

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.models.in_memory import InMemory
from cxrbench.runner.run import RunResult

WIDTH = 6
SHAPE: dict[str, Any] = {"width": WIDTH, "size": 32, "mean": 0.5, "std": 0.25}
ON: dict[str, Any] = {"groups": ("2-class",), "shots": (2,)}


class Cells(nn.Module):
    """A tiny network with a norm, a dropout and an attribute that decides."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, stride=2)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.drop = nn.Dropout(0.5)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.first(x))).mean((2, 3)) * self.scale


def network() -> Cells:
    torch.manual_seed(0)
    return Cells()


class Words(nn.Module):
    """Texts by the counts of their letters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.letters = nn.Linear(26, WIDTH)

    def forward(self, texts: list[str]) -> Tensor:
        counts = [[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts]
        return self.letters(torch.tensor(counts, dtype=torch.float32))


def held(given: Any, **facts: Any) -> InMemory:
    return cxrbench.in_memory("mine", given, **{**SHAPE, **facts})


def measured(lab: Lab, place: Path, *models: Any, **changes: Any) -> RunResult:
    return lab.run(place, [], ["covid"], models=[*models], **{**ON, "protocols": ["linear-probe"], **changes})


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult, Cells]:
    """One run of a network in training mode with a text side, beside the same without one and a card."""
    own, place = network().train(), tmp_path_factory.mktemp("held")
    own.norm.eval()
    own.first.weight.requires_grad_(False)
    model = held(own, encode_text=Words(), pretraining=["M"])
    other = cxrbench.in_memory("told_nothing", own, **SHAPE)
    report = measured(lab, place, model, other, "image_statistics", protocols=["zero-shot", "linear-probe"])
    assert not report.problems
    return place, report, own


def test_records_say_that_it_was_in_memory_and_which_it_was(ran: tuple[Path, RunResult, Cells]) -> None:
    place, report, own = ran
    by_name = {(r.model.name, r.protocol.protocol): r.model for r in report.records}
    assert {("mine", "zero-shot"), ("mine", "linear-probe"), ("told_nothing", "linear-probe")} <= by_name.keys()
    told = by_name["mine", "linear-probe"]
    assert told.weights_file == "in memory: no card and no file" and told.weights_sha256 is None
    assert told.weights_tensors == held(own, encode_text=Words()).seen().state
    assert (told.pretraining, by_name["told_nothing", "linear-probe"].pretraining) == ("M", "not told")
    assert told.code != by_name["told_nothing", "linear-probe"].code
    assert [*(place / "results" / "records").glob("covid/mine/*.json")] and not told.synthetic


def test_the_network_is_as_it_was(ran: tuple[Path, RunResult, Cells]) -> None:
    _, _, own = ran
    assert own.training and own.drop.training and not own.norm.training
    assert not own.first.weight.requires_grad and own.norm.weight.requires_grad
    assert all(not tensor.is_inference() for tensor in own.state_dict().values())
    assert all(
        torch.equal(a, b) for a, b in zip(own.state_dict().values(), network().state_dict().values(), strict=True)
    )


def test_its_records_are_read_without_it(ran: tuple[Path, RunResult, Cells], lab: Lab, tmp_path: Path) -> None:
    place, report, _ = ran
    out = str(place / "results")
    frame = cxrbench.load_records(out).to_dataframe().set_index("record")
    assert {*frame.index} == {record.id for record in report.records}
    assert set(frame[frame.model == "mine"].weights) == {"in memory: no card and no file"}
    told = cxrbench.compare("mine", "told_nothing", out, group="2-class", variant=str(lab.variant), synthetic=True)
    assert len(told) == 1
    page, rows = tmp_path / "page.html", tmp_path / "cells.csv"
    for words in (["report", "--workers", "1", "--to", str(page)], ["export", "--to", str(rows)]):
        done = CliRunner().invoke(app, [*words, "--out", out])
        assert done.exit_code == 0, done.output
    assert all("in memory: no card and no file" in path.read_text(encoding="utf-8") for path in (page, rows))
    assert "the model was in memory: give it to cxrbench.run" in page.read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["check", "--out", out])
    assert "broken" not in done.stdout and "Traceback" not in done.output


def test_a_changed_weight_is_measured_anew_and_an_equal_network_is_not(lab: Lab, tmp_path: Path) -> None:
    first = measured(lab, tmp_path, held(network()))
    again = measured(lab, tmp_path, held(copy.deepcopy(network()).train()))
    assert (again.cached, again.encoded) == (len(first.records), 0)
    other = network()
    with torch.no_grad():
        other.first.bias[0] += 1e-3
    changed = measured(lab, tmp_path, held(other))
    assert changed.encoded and changed.cached == 0
    assert {r.id for r in changed.records}.isdisjoint(r.id for r in first.records)


def _tensor(name: str) -> Callable[[Cells], object]:
    def change(own: Cells) -> None:
        tensor = own.state_dict()[name].view(-1)
        tensor[-1] += 1

    return change


STATES: dict[str, Callable[[Cells], object]] = {
    **{name: _tensor(name) for name in network().state_dict()},
    "an attribute": lambda own: setattr(own, "scale", 2.0),
    "of a part": lambda own: setattr(own.first, "stride", (1, 1)),
    "a norm's eps": lambda own: setattr(own.norm, "eps", 1e-3),
    "float64": lambda own: own.norm.register_buffer("more", torch.zeros(1, dtype=torch.float64)),
    "a hidden buffer": lambda own: own.register_buffer("more", torch.zeros(1), persistent=False),
    "a bare tensor": lambda own: setattr(own, "more", torch.ones(2)),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES.keys())
def test_every_value_of_a_network_is_in_its_state(change: Callable[[Cells], object]) -> None:
    before, own = held(network()).seen(), network()
    change(own)
    after = held(own).seen()
    assert after.state != before.state and after.code == before.code


FACTOR = 2.0
NET = network()


def _by(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: NET(x) * factor


def test_a_hook_is_seen_by_what_it_does_and_not_by_its_number() -> None:
    plain, hooked = held(network()).seen(), list[Any]()
    for _ in range(2):
        own = network()
        own.first.register_forward_hook(_doubled)
        hooked.append(held(own).seen())
    assert hooked[0].state == hooked[1].state != plain.state
    assert hooked[0].code == hooked[1].code != plain.code


def _doubled(_: object, __: object, out: Tensor) -> Tensor:
    return out * 2


def test_functions_are_named_by_what_they_do_capture_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(source: str, **names: Any) -> tuple[str, str]:
        """Of a function as a notebook's cell, or a prompt without a file, defines it."""
        space: dict[str, Any] = {"__name__": "__main__", "torch": torch, "net": network(), **names}
        exec(source, space)
        found = held(space["f"]).seen()
        return found.state, found.code

    plain = seen("def f(x):\n    return net(x) * k\n", k=2.0)
    assert seen("def f(x):\n    '''Text.'''\n    # why\n    return net(x) * k\n", k=2.0) == plain
    state, code = seen("def f(x):\n    return net(x) * k\n", k=3.0)
    assert state != plain[0] and code == plain[1]
    assert seen("def f(x):\n    return net(x) + k\n", k=2.0)[1] != plain[1]
    helped = "def g(x):\n    return x + {}\ndef f(x):\n    return g(net(x))\n"
    assert seen(helped.format(1))[1] != seen(helped.format(2))[1]
    assert held(_by(1.0)).seen().state != held(_by(2.0)).seen().state
    assert held(_by(1.0)).seen().code == held(_by(2.0)).seen().code
    default = "def f(x, k={}):\n    return net(x) * k\n"
    assert seen(default.format(1))[0] != seen(default.format(2))[0]
    changed = network()
    changed.scale = 3.0
    assert seen("f = lambda x: net(x)", net=changed)[0] != seen("f = lambda x: net(x)")[0]


def test_a_class_is_named_by_all_its_methods_and_by_those_it_inherits() -> None:
    def code(forward: str, above: str) -> str:
        space: dict[str, Any] = {"__name__": "__main__", "nn": nn}
        methods = f"def forward(self, x):\n        return {forward}"
        exec(
            f"class A(nn.Module):\n    def g(self, x):\n        return {above}\n\n"
            f"class B(A):\n    {methods}\n\nfound = B()",
            space,
        )
        return held(space["found"]).seen().code

    plain = code("self.g(x)", "x.mean((2, 3))")
    assert plain == code("self.g(x)", "x.mean((2, 3))")
    assert plain != code("self.g(x) + 1", "x.mean((2, 3))")
    assert plain != code("self.g(x)", "x.amax((2, 3))")


def test_a_method_in_place_of_a_librarys_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(network()).seen()
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: self._conv_forward(x, self.weight, self.bias) * 2)
    assert held(network()).seen().code != before.code


def test_what_a_hook_keeps_may_be_taken_out_again_and_not_left(lab: Lab, tmp_path: Path) -> None:
    own, kept = network(), dict[str, Tensor]()
    own.first.register_forward_hook(lambda _, __, out: kept.__setitem__("out", out))
    taken = cxrbench.in_memory("taken", lambda x: (own(x), kept.pop("out").mean((2, 3)))[1], **SHAPE)
    left = cxrbench.in_memory("left", lambda x: (own(x), kept["out"].mean((2, 3)))[1], **SHAPE)
    with pytest.warns(cxrbench.CxrBenchWarning, match=r"left: encoding changes what it holds .* features.pop\(name\)"):
        report = measured(lab, tmp_path, taken, left)
    assert [record.model.name for record in report.records] == ["taken"]


def test_objects_are_seen_as_pickling_sees_them() -> None:
    def state(*objects: object) -> str:
        return held(_holding(objects)).seen().state

    plain = [re.compile("a"), Path("a"), {"b", "a"}, {1: [2.0]}, np.float32(1), np.arange(3), torch.float16, slice(1)]
    other = [re.compile("b"), Path("b"), {"c", "a"}, {1: [2.5]}, np.float32(2), np.arange(4), torch.float32, slice(2)]
    assert state(*plain) == state(*copy.deepcopy(plain))
    assert len({state(*plain[:n], changed, *plain[n + 1 :]) for n, changed in enumerate(other)} | {state(*plain)}) == 9
    around: list[object] = []
    around.append(around)
    assert state(around) == state(around)


class Counting(Cells):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def _counted(x: Tensor) -> Tensor:
    global FACTOR  # noqa: PLW0603
    FACTOR += 1
    return NET(x)


def _holding(value: object) -> Callable[[Tensor], Tensor]:
    return lambda x: NET(x) if value else x


REFUSED: dict[str, tuple[Any, str]] = {
    "another width": (nn.Flatten(), r"must give a floating-point tensor \(3, 6\) of 3 inputs, and gave \(3, 3072\)"),
    "no tensor": (lambda x: {"out": NET(x)}, "gave a dict; say which part of it, such as vectors="),
    "whole numbers": (lambda x: NET(x).long(), "gave .* torch.int64"),
    "NaN": (lambda x: NET(x) / 0 * 0, "finite"),
    "its batch mates": (lambda x: NET(x) - NET(x).mean(0), "batch independence"),
    "chance": (lambda x: NET(x) + torch.rand(1), "the same batch twice gives other bits"),
    "a counter": (Counting(), "encoding changes what it holds"),
    "a changed global": (_counted, "changes the global FACTOR"),
    "unseen state": (_holding(threading.Lock()), "value: is a _thread.lock, whose state cannot be seen"),
    "half precision": (network().half(), r"call .float\(\)"),
    "compiled": (torch.compile(network()), "give the network that it was made of"),
}


def test_what_would_give_wrong_numbers_is_refused_before_the_run_and_ends_no_other(lab: Lab, tmp_path: Path) -> None:
    models = [cxrbench.in_memory(f"m{n}", given, **SHAPE) for n, (given, _) in enumerate(REFUSED.values())]
    with pytest.warns(cxrbench.CxrBenchWarning, match=f"{len(REFUSED)} problems; 1 cells were measured"):
        report = measured(lab, tmp_path, *models, held(network()))
    assert [record.model.name for record in report.records] == ["mine"]
    for n, (what, (_, why)) in enumerate(REFUSED.items()):
        told = [str(problem) for problem in report.problems if str(problem).startswith(f"m{n}:")]
        assert len(told) == 1 and re.search(why, told[0]), (what, told)


def test_names_that_records_could_not_tell_apart_are_refused(lab: Lab, tmp_path: Path) -> None:
    for models in (
        [cxrbench.in_memory("gloria", network(), **SHAPE)],
        [held(network()), held(network())],
        [cxrbench.in_memory("small_unimodal", network(), **SHAPE), lab.model("small_unimodal")],
    ):
        with pytest.raises(SpecError, match="has the name of another model"):
            measured(lab, tmp_path, *models)


def test_what_is_asked_wrongly_is_told_with_the_way_out(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"give a network as cxrbench.in_memory\(name"):
        measured(lab, tmp_path, network())
    with pytest.raises(TypeError, match="a list is wanted"):
        cxrbench.run(held(network()), ["covid"])  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="size, mean and std go together"):
        cxrbench.in_memory("mine", network(), width=6, size=32)
    with pytest.raises(SpecError, match="write 'M' for 'mimic'"):
        held(network(), pretraining=["mimic"])
    with pytest.raises(SpecError, match="name"):
        cxrbench.in_memory("My Model", network(), **SHAPE)
    with pytest.raises(SpecError, match="other processes, SLURM and Ray cannot have it"):
        pickle.dumps(held(network()))


def test_several_devices_encode_by_name_and_leave_it_where_it_is(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[Any]()
    monkeypatch.setattr("cxrbench.runner.executors.local", lambda job, *others: sent.append(pickle.dumps(job)))
    report = measured(lab, tmp_path, held(network()), "image_statistics", device="cpu,cpu")
    assert len(sent) == 1 and {record.model.name for record in report.records} == {"mine", "image_statistics"}
    assert len(measured(lab, tmp_path, held(network()), device="cpu,cpu").records) == 1 == len(sent)


def test_the_lines_of_the_document_run(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (CHECKOUT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    (lines,) = [block for block in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if "in_memory" in block]
    assert len(lines.splitlines()) <= 10

    def run(models: list[Any], tasks: list[str], **asked: Any) -> RunResult:
        assert asked.pop("data_root") == "/data"
        return measured(lab, tmp_path, *models, tasks=[lab.task(task) for task in tasks], **asked)

    space: dict[str, Any] = {}
    measure = cxrbench.run
    monkeypatch.setattr(cxrbench, "run", lambda *a, **k: measure(*a, **k) if "progress" in k else run(*a, **k))
    exec(lines, space)
    assert {record.model.name for record in space["report"].records} == {"my_network", "image_statistics"}
