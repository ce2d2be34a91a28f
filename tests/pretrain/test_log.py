"""Rows, trackers and curves of a run."""

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrbench.errors import IntegrityError, RunError, SpecError
from cxrbench.pretrain.identity import Identity
from cxrbench.pretrain.log import JSONL, Log, Logged, LogRow, number, read_rows, trackers
from cxrbench.pretrain.plot import plot
from cxrbench.pretrain.state import Head, Position, State, write_state


def rows(n: int) -> list[LogRow]:
    return [
        LogRow(kind="step", step=i + 1, epoch=i // 2, loss=1 / (i + 1), rate=1e-4, scale=14.0 + i, norm=1.0)
        for i in range(n)
    ]


def held(epoch: int) -> LogRow:
    return LogRow(kind="validation", step=2 * epoch + 2, epoch=epoch, loss=0.5)


def test_rows_come_back_and_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    log = Log(tmp_path / "run")
    log.write(rows(2))
    checkpoint = log.at
    log.write(rows(3)[2:])
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"kind":"step","st')
    assert read_rows(tmp_path / "run") == tuple(rows(3))
    again = Log(tmp_path / "run")
    again.rewind(checkpoint)
    assert read_rows(tmp_path / "run") == tuple(rows(2))
    again.write(rows(3)[2:])
    assert read_rows(tmp_path / "run") == tuple(rows(3))
    assert again.at == log.at


def test_rewinding_forgets_what_came_after_the_checkpoint_whatever_it_is(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write([*rows(2), held(0)])
    checkpoint = log.at
    log.write([*rows(4)[2:], held(1)])
    path = tmp_path / JSONL
    path.write_bytes(path.read_bytes()[:-40] + b"\xff" * 40 + b"\n")
    log.rewind(checkpoint)
    assert read_rows(tmp_path) == (*rows(2), held(0))


def damages(text: str) -> Iterator[str]:
    """The text with lines gone, doubled, swapped, edited, and cut."""
    lines = text.splitlines(keepends=True)
    yield "".join(lines[1:])
    yield "".join([*lines[:1], *lines[2:]])
    yield "".join([lines[0], *lines])
    yield "".join([lines[1], lines[0], *lines[2:]])
    yield text.replace('"step":2', '"step":3', 1)
    yield text.replace("\n", "", 1)
    yield "".join(lines[:-1])
    yield ""


@pytest.mark.parametrize("number", range(8))
def test_a_log_that_is_not_what_was_written_is_refused_by_name(number: int, tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write(rows(4))
    path, at = tmp_path / JSONL, log.at
    path.write_text(list(damages(path.read_text()))[number])
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl: .*Remove it: the run goes on without these rows"):
        read_rows(tmp_path, at)
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl"):
        Log(tmp_path).rewind(at)
    assert path.read_bytes() == before
    path.unlink()
    again = Log(tmp_path)
    again.rewind(at)
    again.write(rows(5)[4:])
    assert (read_rows(tmp_path, again.at), again.at.rows) == (tuple(rows(5)[4:]), 1)


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / JSONL)
    with pytest.raises(IntegrityError, match="a pipe or device"):
        read_rows(tmp_path)
    with pytest.raises(IntegrityError, match="a pipe or device"):
        Log(tmp_path).rewind(Logged())


def test_a_disk_without_room_is_told_with_the_files_name(tmp_path: Path) -> None:
    log = Log(tmp_path)
    (tmp_path / JSONL).symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written: No space left.*then --resume"):
        log.write(rows(1))


def test_closing_writes_the_same_as_csv(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write([*rows(2), held(0)])
    log.close()
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0].split(",")[:4] == ["kind", "step", "epoch", "loss"]
    assert lines[2].startswith("step,2,0,0.5,0.0001,15.0,")
    assert len(lines) == 4


def test_broken_rows_and_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"metrics\.jsonl: there is no such file"):
        read_rows(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"kind":"stop"}\n')
    with pytest.raises(IntegrityError, match="line 1 is not what was written"):
        read_rows(tmp_path)
    assert number(float("inf")) is None
    assert number(1.5) == 1.5


class FakeRun:
    def __init__(self) -> None:
        self.told: list[tuple[dict[str, float], int]] = []
        self.over = False

    def log(self, values: dict[str, float], step: int) -> None:
        self.told.append((values, step))

    def finish(self) -> None:
        self.over = True


def test_weights_and_biases_gets_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = FakeRun(), {}

    def init(**how: object) -> FakeRun:
        asked.update(how)
        return run

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    log = Log(tmp_path, trackers(tmp_path, False, "reality", {"seed": 0}))
    log.write([*rows(1), held(0)])
    log.close()
    assert asked["project"] == "reality"
    assert asked["config"] == {"seed": 0}
    assert [step for _, step in run.told] == [1, 2]
    assert run.told[1][0]["validation/loss"] == 0.5
    assert run.over


@pytest.mark.parametrize(
    ("module", "tensorboard", "wandb"), [("wandb", False, "x"), ("torch.utils.tensorboard", True, None)]
)
def test_a_tracker_that_is_not_installed_says_what_to_install(
    module: str, tensorboard: bool, wandb: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SpecError, match=r"pip install 'cxrbench\["):
        trackers(tmp_path, tensorboard, wandb, {})


def test_tensorboard_files_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    log = Log(tmp_path, trackers(tmp_path, True, None, {}))
    log.write(rows(3))
    log.close()
    assert [p.name.split(".")[0] for p in (tmp_path / "tensorboard").iterdir()] == ["events"]


def test_curves_are_drawn(tmp_path: Path) -> None:
    Log(tmp_path / "run").write([*rows(4), held(0), held(1)])
    drawn = plot(tmp_path / "run").read_bytes()
    assert drawn.startswith(b"<?xml") and b"validation" in drawn
    for name, begins in (("b.png", b"\x89PNG"), ("c.pdf", b"%PDF")):
        assert plot(tmp_path / "run", tmp_path / name).read_bytes().startswith(begins)


def test_curves_of_a_log_that_lost_its_end_are_refused(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write([*rows(4), held(0)])
    identity = Identity("c", "d", "e", 32, "32-true", "f", "g")
    write_state(tmp_path, State(Head(Position(best=0.5, step=4), identity, log.at), {}, {}, {}))
    log.write(rows(6)[4:])
    lines = (tmp_path / JSONL).read_bytes().splitlines(keepends=True)
    (tmp_path / JSONL).write_bytes(b"".join(lines[:-2]))
    plot(tmp_path)  # a kill may have lost what came after the checkpoint
    (tmp_path / JSONL).write_bytes(b"".join(lines[:-3]))
    with pytest.raises(IntegrityError, match="holds 4 of the 5 rows before the checkpoint"):
        plot(tmp_path)


def test_curves_of_nothing_and_of_another_kind_are_refused(tmp_path: Path) -> None:
    Log(tmp_path).write([])
    with pytest.raises(SpecError, match="no step is logged yet"):
        plot(tmp_path)
    with pytest.raises(SpecError, match=r"ends in \.svg, \.png, \.pdf"):
        plot(tmp_path, tmp_path / "curves.bmp")
