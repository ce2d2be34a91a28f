"""Any exception in any part of a run ends that part alone: its name is told, and the others' results are as ever.

Each part of a run is made to fail with each kind of exception. A few of the pairs run always, all of them with the
slow tests.
"""

import ast
import errno
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import made_adapters
import pytest
import torch
from lab import Lab, numbers, predictions
from typer.testing import CliRunner
from written_facts import write_facts

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import (
    CxrBenchError,
    DataError,
    ImageError,
    IntegrityError,
    RunError,
    SpecError,
    UnexpectedError,
    gravest,
)
from cxrbench.runner import decoding, lay_out, settle
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Cell
from cxrbench.runner.run import RunResult
from cxrbench.store.embeddings import Key, Store
from cxrbench.store.file_hashes import FileHashes
from cxrbench.store.shard import Writer
from cxrbench.system.contained import contained, containing

CELL = "victim / covid / all / linear-probe / K=1"
MODELS, TASKS = ("steady", "victim"), ("covid", "vindr")


class Steady(made_adapters.Sound):
    """Goes on beside the victim."""


class Victim(made_adapters.Sound):
    """Is made to fail."""


class OddError(Exception):
    """Of a library of its own, and cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


class PlainError(Exception):
    """Of an adapter of the user's."""


class PanicError(BaseException):
    """As a library in Rust ends: no Exception."""


KINDS: Mapping[str, Callable[[], BaseException]] = {
    "KeyError": lambda: KeyError("token"),
    "ValueError": lambda: ValueError("matmul: Input operand 1 has a mismatch in its core dimension 0"),
    "RuntimeError": lambda: RuntimeError("Expected all tensors to be on the same device"),
    "MemoryError": MemoryError,
    "CUDA memory": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    "CPU memory": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "no space": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "no quota": lambda: OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "disk": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "stale": lambda: OSError(errno.ESTALE, os.strerror(errno.ESTALE), "/mnt/data"),
    "forbidden": lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/mnt/data"),
    "pipe": lambda: BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
    "OSError alone": lambda: OSError("something"),
    "RecursionError": lambda: RecursionError("maximum recursion depth exceeded"),
    "AssertionError": AssertionError,
    "TypeError": lambda: TypeError("unsupported operand"),
    "AttributeError": lambda: AttributeError("'NoneType' object has no attribute 'max_tokens'"),
    "ImportError": lambda: ImportError("cannot import name"),
    "IndexError": lambda: IndexError("list index out of range"),
    "ZeroDivisionError": lambda: ZeroDivisionError("division by zero"),
    "OverflowError": lambda: OverflowError("math range error"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "StopIteration": StopIteration,
    "EOFError": lambda: EOFError("Ran out of input"),
    "SystemError": lambda: SystemError("error return without exception set"),
    "TimeoutError": lambda: TimeoutError("timed out"),
    "warning": lambda: UserWarning("made an error by a filter"),
    "group": lambda: ExceptionGroup("several", [KeyError("a"), ValueError("b")]),
    "own": lambda: PlainError("two lines\nof it"),
    "unprintable": OddError,
    "exit": lambda: SystemExit(0),
    "panic": lambda: PanicError("called `Option::unwrap()` on a `None` value"),
    "SpecError": lambda: SpecError("malformed"),
    "DataError": lambda: DataError("not there"),
    "IntegrityError": lambda: IntegrityError("other bytes"),
    "RunError": lambda: RunError("could not be finished"),
}

Patch = pytest.MonkeyPatch
Lost = Callable[[str, str, str], bool]  # of model, task and protocol: whether the cell cannot be measured


@dataclass(frozen=True)
class Part:
    """How a part is made to fail, which cells go with it, and the words that name it."""

    fail: Callable[[Patch, Callable[[], BaseException]], None]
    lost: Lost
    named: str


def _raising(
    patch: Patch, owner: object, name: str, error: Callable[[], BaseException], when: Callable[..., bool]
) -> None:
    """Let a function raise where its arguments say so."""
    real = getattr(owner, name)

    def instead(*arguments: Any, **named: Any) -> Any:
        if when(*arguments, **named):
            raise error()
        return real(*arguments, **named)

    patch.setattr(owner, name, instead)


def _method(name: str) -> Callable[[Patch, Callable[[], BaseException]], None]:
    def fail(patch: Patch, error: Callable[[], BaseException]) -> None:
        def instead(*_: Any, **__: Any) -> NoReturn:
            raise error()

        patch.setattr(Victim, name, instead)

    return fail


def _of_victim(store: Store, key: Key, *_: Any) -> bool:
    return key.adapter.endswith(":Victim")


def _one_cell(cell: Cell, *_: Any) -> bool:
    return cell.name == CELL


def _in_store(*steps: str) -> Callable[[Patch, Callable[[], BaseException]], None]:
    """Let steps of the victim's writers fail."""

    def fail(patch: Patch, error: Callable[[], BaseException]) -> None:
        real, theirs = Store.writer, list[Writer]()

        def writer(self: Store, key: Key, *arguments: Any) -> Writer:
            made = real(self, key, *arguments)
            if _of_victim(self, key):
                theirs.append(made)
            return made

        patch.setattr(Store, "writer", writer)
        for step in steps:
            _raising(patch, Writer, step, error, lambda self, *_: any(self is one for one in theirs))

    return fail


def _model(model: str, task: str, protocol: str) -> bool:
    return model == "victim"


def _probe(model: str, task: str, protocol: str) -> bool:
    return (model, task, protocol) == ("victim", "covid", "linear-probe")


PARTS: Mapping[str, Part] = {
    "model load": Part(_method("load"), _model, "victim"),
    "model options": Part(_method("options_digest"), _model, "victim"),
    "model forward": Part(_method("encode_image"), _model, "victim"),
    "model key": Part(
        lambda p, e: _raising(p, BenchModel, "key", e, lambda m, *_: m.card.name == "victim"), _model, "victim"
    ),
    "encoder": Part(
        lambda p, e: _raising(p, BenchModel, "encoder", e, lambda m, *_: m.card.name == "victim"), _model, "victim"
    ),
    "text side": Part(_method("encode_text"), lambda m, t, p: m == "victim" and p == "zero-shot", "victim"),
    "logit scale": Part(_method("logit_scale"), lambda m, t, p: m == "victim" and p == "zero-shot", "victim"),
    "task": Part(
        lambda p, e: _raising(p, lay_out, "load_partition", e, lambda root, task, *_: task.name == "covid"),
        lambda m, t, p: t == "covid",
        "covid",
    ),
    "cells of a model on a task": Part(
        lambda p, e: _raising(
            p,
            lay_out,
            "cells",
            e,
            lambda r, ps, v, data, model, w: (model.card.name, data.task.name) == ("victim", "covid"),
        ),
        lambda m, t, p: (m, t) == ("victim", "covid"),
        "victim / covid",
    ),
    "cell": Part(lambda p, e: _raising(p, settle, "measure", e, _one_cell), _probe, CELL),
    "known record": Part(lambda p, e: _raising(p, settle, "cached", e, _one_cell), _probe, CELL),
    "record write": Part(lambda p, e: _raising(p, settle, "written", e, _one_cell), _probe, CELL),
    "store read": Part(lambda p, e: _raising(p, Store, "read", e, _of_victim), _model, "victim"),
    "store write": Part(_in_store("append"), _model, "victim"),
    "store write and close": Part(_in_store("append", "close"), _model, "victim"),
    "file_hashes": Part(
        lambda p, e: _raising(p, FileHashes, "add", e, lambda *_: True), lambda m, t, p: False, "hashes of images"
    ),
}


@dataclass(frozen=True)
class Bench:
    lab: Lab
    cards: tuple[str, ...]

    def arguments(self) -> dict[str, Any]:
        return {"models": list(self.cards), "groups": ["all"], "shots": (1,), "prompts": ["names"], "batch_size": 4}

    def run(self, place: Path) -> RunResult:
        return self.lab.run(place, [], TASKS, **self.arguments())


@pytest.fixture(scope="module")
def bench(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"steady": Steady, "victim": Victim}
    cards = [
        write_facts(folder / f"{n}.toml", made_adapters.card(kinds[n], adapter=f"{__name__}:{kinds[n].__name__}"))
        for n in MODELS
    ]
    return Bench(lab, tuple(map(str, cards)))


Told = dict[tuple[str, str, str], tuple[dict[str, Any], bytes]]


def told(place: Path, report: RunResult) -> Told:
    """Numbers and predictions of each record, by model, task and protocol."""
    return {
        (r.model.name, r.data.task, r.protocol.protocol): (numbers(r), predictions(place, r).read_bytes())
        for r in report.records
    }


@pytest.fixture(scope="module")
def undisturbed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Told:
    place = tmp_path_factory.mktemp("undisturbed")
    report = bench.run(place)
    assert report.problems == [] and len(report.records) == 8
    assert not (place / "results" / "logs").exists()
    return told(place, report)


ALWAYS = {("model load", "exit"), ("model forward", "panic"), ("text side", "exit"), ("store read", "panic")}


def _pairs() -> list[Any]:
    """Each part with one kind always, with the others when there is time."""
    return [
        pytest.param(
            part,
            kind,
            marks=[] if row == column or (part, kind) in ALWAYS else [pytest.mark.slow],
            id=f"{part}, {kind}",
        )
        for row, part in enumerate(PARTS)
        for column, kind in enumerate(KINDS)
    ]


@pytest.mark.parametrize(("part", "kind"), _pairs())
def test_a_fault_ends_its_own_part_and_no_other(
    part: str, kind: str, bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PARTS[part].fail(monkeypatch, KINDS[kind])
    report = bench.run(tmp_path)
    assert told(tmp_path, report) == {cell: found for cell, found in undisturbed.items() if not PARTS[part].lost(*cell)}
    assert report.problems
    error = KINDS[kind]()
    ours = isinstance(error, CxrBenchError)
    assert gravest(report.problems) == (error.exit_code if isinstance(error, CxrBenchError) else 5)
    for problem in report.problems:
        assert problem.__traceback__ is problem.__cause__ is problem.__context__ is None  # they would hold its tensors
        if ours:
            assert type(problem) is type(error)
            continue
        assert isinstance(problem, UnexpectedError) and PARTS[part].named in str(problem)
        assert problem.log is not None and problem.log.parent == tmp_path / "results" / "logs"
        log = problem.log.read_text()
        assert str(problem.log) in str(problem) and "Traceback" in log and type(error).__name__ in log


COVID_1 = "COVID/images/COVID-1.png"  # of the test part


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[] if k in {"TypeError", "DataError", "exit"} else [pytest.mark.slow]) for k in KINDS],
)
def test_a_fault_of_one_image_leaves_out_that_image(
    kind: str, bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that raises what no decoder should: the image counts as unreadable, and the run says so."""
    _raising(monkeypatch, decoding, "pixels", KINDS[kind], lambda data, name, *_: name == "COVID-1.png")
    report = bench.run(tmp_path)
    assert [path.name for path in report.unreadable] == ["COVID-1.png"]
    found = told(tmp_path, report)
    assert {cell for cell, one in found.items() if one == undisturbed[cell]} == {c for c in found if c[1] == "vindr"}
    assert {tuple(r.data.left_out) for r in report.records if r.data.task == "covid"} == {(COVID_1,)}
    (problem,) = report.problems
    assert problem.exit_code == getattr(KINDS[kind](), "exit_code", 5)


def test_an_image_that_cannot_be_read_is_no_failure(
    bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, decoding, "pixels", lambda: ImageError("cut"), lambda data, name, *_: name == "COVID-1.png")
    report = bench.run(tmp_path)
    assert report.problems == [] and len(report.records) == len(undisturbed) and len(report.unreadable) == 1


def test_a_decoder_with_a_bug_is_one_problem_not_one_an_image(
    bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, decoding, "pixels", KINDS["TypeError"], lambda data, name, *_: name.startswith("COVID-"))
    report = bench.run(tmp_path)
    bug, *rest = report.problems
    assert isinstance(bug, UnexpectedError) and len(report.unreadable) == 9
    assert all("cannot be read, more than --max-unreadable" in str(problem) for problem in rest)
    assert told(tmp_path, report) == {cell: found for cell, found in undisturbed.items() if cell[1] == "vindr"}


@pytest.mark.parametrize("kind", ["KeyError", "no space", "IntegrityError", "CUDA memory", "exit", "panic"])
def test_the_command_line_leaves_with_the_code_and_names_part_and_log(
    kind: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PARTS["model forward"].fail(monkeypatch, KINDS[kind])
    words = [w for card in bench.cards for w in ("-m", card)] + [w for t in TASKS for w in ("-t", bench.lab.task(t))]
    places = ["--data-root", str(bench.lab.data[""]), "--out", str(tmp_path / "results")]
    how = ["--variant", str(bench.lab.variant), "--shots", "1", "--group", "all", "--prompts", "names"]
    done = CliRunner().invoke(app, ["run", *words, *places, *how, "--device", "cpu"])
    error = KINDS[kind]()
    assert done.exit_code == getattr(error, "exit_code", 5)
    assert "failed: victim / covid / all / linear-probe / K=1\n" in done.stderr and "4 cells" in done.stdout
    assert "Traceback" not in done.output
    assert isinstance(error, CxrBenchError) or f"[traceback: {tmp_path / 'results' / 'logs'}" in done.stderr
    if kind == "no space":
        assert "No space left on device; make room" in done.stderr
    if kind == "CUDA memory":
        assert "smaller --batch-size" in done.stderr


PACKAGE = Path(cxrbench.__file__).parent
CONTAINING = ["runner", "cli", "system", "testing", "checks"]
OF_THEIR_OWN = {"_trace", "_first_line"}  # an exception that cannot be printed


def test_every_part_contains_what_is_no_exception_too() -> None:
    """`sys.exit()` in an adapter and a panic in Rust are no Exception: whoever catches that alone lets them end all."""
    files = [path for name in CONTAINING for path in sorted((PACKAGE / name).rglob("*.py")) or [PACKAGE / name]]
    found = {
        f"{path.relative_to(PACKAGE)}: {function.name}"
        for path in files
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and function.name not in OF_THEIR_OWN
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    }
    assert found == set()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_what_ends_a_program_is_no_fault_of_a_part(stop: type[BaseException]) -> None:
    with pytest.raises(stop), containing("a part"):
        raise stop
    with pytest.raises(stop):
        contained(stop(), "a part")


def _kinds(kind: type[CxrBenchError]) -> list[type[CxrBenchError]]:
    return [kind, *(found for own in kind.__subclasses__() for found in _kinds(own))]


@pytest.mark.parametrize("kind", _kinds(CxrBenchError), ids=lambda kind: kind.__name__)
def test_every_error_passes_from_process_to_process(kind: type[CxrBenchError]) -> None:
    error = kind.__new__(kind)
    error.args, held = ("told",), {"reason": "cut", "path": Path("a"), "trace": "x", "log": None, "detail": (1, 2)}
    error.__dict__.update(held)
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind and found.args == ("told",) and found.__dict__ == held


def test_of_several_problems_the_highest_code_counts() -> None:
    assert gravest([SpecError("a"), IntegrityError("b"), DataError("c")]) == 4
    assert gravest([]) == 0


def test_a_fault_without_any_place_for_a_log_is_told_all_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "logs").write_bytes(b"a file where the folder should be")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere" / "\0"))
    PARTS["model forward"].fail(monkeypatch, KINDS["KeyError"])
    report = bench.run(tmp_path)
    (problem,) = report.problems
    assert isinstance(problem, UnexpectedError) and problem.log is None
    assert "victim (reality-check): KeyError: 'token' (test_fault_matrix.py:" in str(problem)
    assert len(report.records) == 4
