"""Any exception in any part of a run ends that part alone: its name is told, and the others' results are as ever.

Each part of a run is made to fail with each kind of exception: by one model alone for some of the pairs, by a model for
each kind in one run for all of them.
"""

import ast
import errno
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Mapping
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

CELL = "{victim} / covid / all / linear-probe / K = 1"
MODELS, TASKS = ("steady", "victim"), ("covid", "vindr")


class Steady(made_adapters.Sound):
    """Goes on beside the victim."""


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

CROWD = {f"victim{number:02}": kind for number, kind in enumerate(KINDS)}
VICTIMS = {name: type(name, (made_adapters.Sound,), {}) for name in ("victim", *CROWD)}  # each is made to fail
globals().update(VICTIMS)  # where cards find them

Patch = pytest.MonkeyPatch
Failing = Mapping[str, Callable[[], BaseException]]  # of a victim's name: what it is to raise
Lost = Callable[[str, str], bool]  # of task and protocol: whether a victim's cell cannot be measured


@dataclass(frozen=True)
class Part:
    """How a part of some models is made to fail, which cells go with it, and the words that name it."""

    fail: Callable[[Patch, Failing], None]
    lost: Lost
    named: str = "{victim}"


def _raising(patch: Patch, owner: object, name: str, which: Callable[..., Callable[[], BaseException] | None]) -> None:
    """Let a function raise where its arguments say so, and what they say."""
    real = getattr(owner, name)

    def instead(*arguments: Any, **named: Any) -> Any:
        if (error := which(*arguments, **named)) is not None:
            raise error()
        return real(*arguments, **named)

    patch.setattr(owner, name, instead)


def _method(name: str) -> Callable[[Patch, Failing], None]:
    def fail(patch: Patch, failing: Failing) -> None:
        for victim, error in failing.items():

            def instead(*_: Any, error: Callable[[], BaseException] = error, **__: Any) -> NoReturn:
                raise error()

            patch.setattr(VICTIMS[victim], name, instead)

    return fail


def _of_model(owner: object, name: str) -> Callable[[Patch, Failing], None]:
    return lambda patch, failing: _raising(patch, owner, name, lambda model, *_: failing.get(model.card.name))


def _of_cell(owner: object, name: str) -> Callable[[Patch, Failing], None]:
    def which(failing: Failing, cell: Cell) -> Callable[[], BaseException] | None:
        return failing.get(cell.model.card.name) if cell.name.endswith(CELL.removeprefix("{victim}")) else None

    return lambda patch, failing: _raising(patch, owner, name, lambda cell, *_: which(failing, cell))


def _whose(failing: Failing, key: Key) -> Callable[[], BaseException] | None:
    return failing.get(key.adapter.rpartition(":")[2])


def _in_store(*steps: str) -> Callable[[Patch, Failing], None]:
    """Let steps of the victims' writers fail."""

    def fail(patch: Patch, failing: Failing) -> None:
        real, theirs = Store.writer, list[tuple[Writer, Callable[[], BaseException]]]()

        def writer(self: Store, key: Key, *arguments: Any) -> Writer:
            made = real(self, key, *arguments)
            if (error := _whose(failing, key)) is not None:
                theirs.append((made, error))
            return made

        patch.setattr(Store, "writer", writer)
        for step in steps:
            _raising(patch, Writer, step, lambda self, *_: next((e for one, e in theirs if self is one), None))

    return fail


def _anyone(failing: Failing) -> Callable[[], BaseException]:
    (error,) = failing.values()
    return error


def _all(task: str, protocol: str) -> bool:
    return True


def _probe(task: str, protocol: str) -> bool:
    return (task, protocol) == ("covid", "linear-probe")


def _texts(task: str, protocol: str) -> bool:
    return protocol == "zero-shot"


PARTS: Mapping[str, Part] = {
    "model load": Part(_method("load"), _all),
    "model options": Part(_method("options_digest"), _all),
    "model forward": Part(_method("encode_image"), _all),
    "model key": Part(_of_model(BenchModel, "key"), _all),
    "encoder": Part(_of_model(BenchModel, "encoder"), _all),
    "text side": Part(_method("encode_text"), _texts),
    "logit scale": Part(_method("logit_scale"), _texts),
    "cells of a model on a task": Part(
        lambda p, failing: _raising(
            p,
            lay_out,
            "cells",
            lambda r, ps, v, data, model, w: failing.get(model.card.name) if data.task.name == "covid" else None,
        ),
        lambda task, protocol: task == "covid",
        "{victim} / covid",
    ),
    "cell": Part(_of_cell(settle, "measure"), _probe, CELL),
    "known record": Part(_of_cell(settle, "cached"), _probe, CELL),
    "record write": Part(_of_cell(settle, "written"), _probe, CELL),
    "store read": Part(
        lambda p, failing: _raising(p, Store, "read", lambda store, key, *_: _whose(failing, key)), _all
    ),
    "store write": Part(_in_store("append"), _all),
    "store write and close": Part(_in_store("append", "close"), _all),
}
OF_NO_MODEL: Mapping[str, Part] = {  # such a fault is not a model's: the cells of all models are lost, or none
    "task": Part(
        lambda p, failing: _raising(
            p,
            lay_out,
            "load_partition",
            lambda root, task, *_: _anyone(failing) if task.name == "covid" else None,
        ),
        lambda task, protocol: task == "covid",
        "covid",
    ),
    "file_hashes": Part(
        lambda p, failing: _raising(p, FileHashes, "add", lambda *_: _anyone(failing)),
        lambda task, protocol: False,
        "hashes of images",
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


def bench_of(lab: Lab, folder: Path, names: Iterable[str]) -> Bench:
    kinds = {"steady": Steady, **VICTIMS}
    cards = [
        write_facts(
            folder / f"{n}.toml", made_adapters.card(kinds[n], adapter=f"{__name__}:{kinds[n].__name__}", name=n)
        )
        for n in names
    ]
    return Bench(lab, tuple(map(str, cards)))


@pytest.fixture(scope="module")
def bench(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench_of(lab, tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def crowd(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A victim for each kind of exception, and one model that goes on beside them."""
    return bench_of(lab, tmp_path_factory.mktemp("crowd"), ("steady", *CROWD))


Told = dict[tuple[str, str, str], tuple[dict[str, Any], bytes]]


def told(place: Path, report: RunResult) -> Told:
    """Numbers and predictions of each record, by model, task and protocol."""
    return {
        (r.model.name, r.data.task, r.protocol.protocol): (numbers(r), predictions(place, r).read_bytes())
        for r in report.records
    }


def sound(bench: Bench, place: Path) -> Told:
    report = bench.run(place)
    assert report.problems == [] and len(report.records) == 4 * len(bench.cards)
    assert not (place / "results" / "logs").exists()
    return told(place, report)


@pytest.fixture(scope="module")
def undisturbed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return sound(bench, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def undisturbed_crowd(crowd: Bench, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return sound(crowd, tmp_path_factory.mktemp("undisturbed_crowd"))


def assert_told(problem: CxrBenchError, kind: str, named: str, place: Path) -> None:
    """The problem says what was raised and where, and holds nothing of what it was raised in."""
    error = KINDS[kind]()
    assert problem.__traceback__ is problem.__cause__ is problem.__context__ is None  # they would hold its tensors
    if isinstance(error, CxrBenchError):
        assert type(problem) is type(error) and problem.exit_code == error.exit_code
        return
    assert isinstance(problem, UnexpectedError) and problem.exit_code == 5 and named in str(problem)
    assert problem.log is not None and problem.log.parent == place / "results" / "logs"
    log = problem.log.read_text()
    assert str(problem.log) in str(problem) and "Traceback" in log and type(error).__name__ in log


ALWAYS = {("model load", "exit"), ("model forward", "panic"), ("text side", "exit"), ("store read", "panic")}
QUICK = {"KeyError", "panic"}
ALONE = [(part, kind) for part, kind in zip(PARTS, KINDS, strict=False)] + sorted(ALWAYS)


@pytest.mark.parametrize(("part", "kind"), ALONE, ids=[", ".join(pair) for pair in ALONE])
def test_a_fault_ends_its_own_part_and_no_other(
    part: str, kind: str, bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PARTS[part].fail(monkeypatch, {"victim": KINDS[kind]})
    report = bench.run(tmp_path)
    assert told(tmp_path, report) == {
        cell: found for cell, found in undisturbed.items() if cell[0] != "victim" or not PARTS[part].lost(*cell[1:])
    }
    assert report.problems
    for problem in report.problems:
        assert_told(problem, kind, PARTS[part].named.format(victim="victim"), tmp_path)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        pytest.param(
            part, kind, marks=[] if kind in {"KeyError", "panic"} else [pytest.mark.slow], id=f"{part}, {kind}"
        )
        for part in OF_NO_MODEL
        for kind in KINDS
    ],
)
def test_a_fault_of_no_model_ends_its_own_part_and_no_other(
    part: str, kind: str, bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OF_NO_MODEL[part].fail(monkeypatch, {"all": KINDS[kind]})
    report = bench.run(tmp_path)
    assert told(tmp_path, report) == {
        cell: found for cell, found in undisturbed.items() if not OF_NO_MODEL[part].lost(*cell[1:])
    }
    assert report.problems
    for problem in report.problems:
        assert_told(problem, kind, OF_NO_MODEL[part].named, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_faults_of_all_kinds_at_once_end_their_own_parts_alone(
    part: str, crowd: Bench, undisturbed_crowd: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run with a victim for each kind: each is told as its own, and takes nothing of any other with it."""
    PARTS[part].fail(monkeypatch, {victim: KINDS[kind] for victim, kind in CROWD.items()})
    report = crowd.run(tmp_path)
    assert told(tmp_path, report) == {
        cell: found
        for cell, found in undisturbed_crowd.items()
        if cell[0] not in CROWD or not PARTS[part].lost(*cell[1:])
    }
    left = list(report.problems)
    for victim, kind in CROWD.items():
        named, error = PARTS[part].named.format(victim=victim), KINDS[kind]()
        own = [
            problem
            for problem in left
            if (type(problem) is type(error) if isinstance(error, CxrBenchError) else named in str(problem))
        ]
        assert own, f"nothing is said of {kind}"
        for problem in own:
            assert_told(problem, kind, named, tmp_path)
            left.remove(problem)
    assert left == []


COVID_1 = "COVID/images/COVID-1.png"  # of the test part


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[] if k in {"TypeError", "DataError", "exit"} else [pytest.mark.slow]) for k in KINDS],
)
def test_a_fault_of_one_image_leaves_out_that_image(
    kind: str, bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that raises what no decoder should: the image counts as unreadable, and the run says so."""
    _raising(monkeypatch, decoding, "pixels", lambda data, name, *_: KINDS[kind] if name == "COVID-1.png" else None)
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
    cut = lambda: ImageError("cut")  # noqa: E731
    _raising(monkeypatch, decoding, "pixels", lambda data, name, *_: cut if name == "COVID-1.png" else None)
    report = bench.run(tmp_path)
    assert report.problems == [] and len(report.records) == len(undisturbed) and len(report.unreadable) == 1


def test_a_decoder_with_a_bug_is_one_problem_not_one_an_image(
    bench: Bench, undisturbed: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = KINDS["TypeError"]
    _raising(monkeypatch, decoding, "pixels", lambda data, name, *_: bad if name.startswith("COVID-") else None)
    report = bench.run(tmp_path)
    bug, *rest = report.problems
    assert isinstance(bug, UnexpectedError) and len(report.unreadable) == 9
    assert all("cannot be read, more than --max-unreadable" in str(problem) for problem in rest)
    assert told(tmp_path, report) == {cell: found for cell, found in undisturbed.items() if cell[1] == "vindr"}


@pytest.mark.parametrize("kind", ["KeyError", "no space", "IntegrityError", "CUDA memory", "exit", "panic"])
def test_the_command_line_leaves_with_the_code_and_names_part_and_log(
    kind: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PARTS["model forward"].fail(monkeypatch, {"victim": KINDS[kind]})
    words = [w for card in bench.cards for w in ("-m", card)] + [w for t in TASKS for w in ("-t", bench.lab.task(t))]
    places = ["--data-root", str(bench.lab.data[""]), "--out", str(tmp_path / "results")]
    how = ["--variant", str(bench.lab.variant), "--shots", "1", "--group", "all", "--prompts", "names"]
    done = CliRunner().invoke(app, ["run", *words, *places, *how, "--device", "cpu"])
    error = KINDS[kind]()
    assert done.exit_code == getattr(error, "exit_code", 5)
    assert "failed: victim / covid / all / linear-probe / K = 1\n" in done.stderr and "4 cells" in done.stdout
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
    PARTS["model forward"].fail(monkeypatch, {"victim": KINDS["KeyError"]})
    report = bench.run(tmp_path)
    (problem,) = report.problems
    assert isinstance(problem, UnexpectedError) and problem.log is None
    assert "victim (reality-check): KeyError: 'token' (test_fault_matrix.py:" in str(problem)
    assert len(report.records) == 4
