"""Training goes on from any step as if never stopped, and stops with help where it must."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_lessons import made_corpus, small_choices
from made_training import made_loop

from cxrbench.errors import IntegrityError, RunError, SpecError
from cxrbench.pretrain.config import configured
from cxrbench.pretrain.log import Row, read_rows
from cxrbench.pretrain.loop import Loop
from cxrbench.pretrain.state import read_state

ROWS = 118
TESTS = Path(__file__).parents[1]


def loop(folder: Path, rows: int = ROWS, **more: str) -> Loop:
    return made_loop(folder, configured(None, small_choices(folder.parent / "text", **more)), rows)


def curve(folder: Path) -> list[Row]:
    return [row.model_copy(update={"images_per_second": None}) for row in read_rows(folder)]


def same_weights(one: Path, other: Path) -> bool:
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("objective", ["clip", "unicl", "unimodal", "dlilp"])
def test_every_objective_learns(objective: str, tmp_path: Path) -> None:
    run = loop(tmp_path / "run", objective=objective, schedule__epochs="3", saving__every_steps="50")
    position = run.run()
    rows = curve(tmp_path / "run")
    assert position.finished
    assert [row.step for row in rows if row.kind == "step"] == list(range(1, 22))
    validations = [row.loss for row in rows if row.kind == "validation"]
    assert len(validations) == 3
    assert min(v for v in validations if v is not None) == position.best
    losses = [row.loss for row in rows if row.kind == "step" and row.loss is not None]
    assert np.mean(losses[-7:]) < np.mean(losses[:7])
    assert (tmp_path / "run/best.pth").is_file()
    assert (tmp_path / "run/last.pth").is_file()


class CutError(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of seven steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    loop(folder).run()
    return folder


def cut_after(step: int, cut: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_step, count = cut.engine.step, 0

    def failing(*args: object) -> object:
        nonlocal count
        count += 1
        if count > step:
            raise CutError
        return whole_step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cut.engine, "step", failing)
    with pytest.raises(CutError):
        cut.run()


@pytest.mark.parametrize(("step", "saved"), [(1, 0), (7, 7), (13, 12)])
def test_a_run_that_was_cut_ends_as_if_it_had_not_been(
    step: int, saved: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_after(step, loop(tmp_path / "cut"), monkeypatch)
    torch.rand(7)  # what else the process draws must not matter
    again = loop(tmp_path / "cut")
    assert again.resume()
    assert again.position.step == saved
    again.run()
    assert curve(tmp_path / "cut") == curve(whole)
    assert same_weights(tmp_path / "cut/last.pth", whole / "last.pth")
    assert same_weights(tmp_path / "cut/best.pth", whole / "best.pth")


def program(out: Path, *words: str, kill: int = 0) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KILL": str(kill)}
    command = [sys.executable, "made_training.py", str(out), str(ROWS), *words]
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, timeout=300).returncode


@pytest.mark.slow
def test_kill_9_at_any_time_costs_nothing_but_time(tmp_path: Path) -> None:
    assert program(tmp_path / "whole", "objective=dlilp") == 0
    for last in np.random.default_rng(4).integers(2, 8, 2).tolist():
        assert program(tmp_path / "cut", "objective=dlilp", kill=last) == -signal.SIGKILL
    assert program(tmp_path / "cut", "objective=dlilp") == 0
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "cut/last.pth", tmp_path / "whole/last.pth")


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    loop(tmp_path / "run", schedule__epochs="1").run()
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    again = loop(tmp_path / "run", schedule__epochs="1")
    assert again.resume()
    assert again.run().finished
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_a_run_may_go_on_for_longer(whole: Path, tmp_path: Path) -> None:
    loop(tmp_path / "more", schedule__epochs="1").run()
    again = loop(tmp_path / "more")
    assert again.resume()
    again.run()
    assert curve(tmp_path / "more") == curve(whole)
    assert same_weights(tmp_path / "more/last.pth", whole / "last.pth")


def test_the_best_epoch_is_that_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    run, told = loop(tmp_path / "run", objective="unimodal"), iter([[1.0, 2.0], [1.5, 1.7]])
    run.engine.losses = lambda batches: next(told)  # type: ignore[method-assign]
    position = run.run()
    assert (position.best, position.best_epoch, position.waited) == (1.5, 0, 1)
    assert not same_weights(tmp_path / "run/best.pth", tmp_path / "run/last.pth")


def test_patience_ends_a_run(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", schedule__epochs="9", schedule__patience="2", schedule__first_best="-1.0")
    assert run.run().epoch == 2
    assert not (tmp_path / "run/best.pth").exists()


@pytest.mark.parametrize(
    ("more", "rows", "says"),
    [
        ({"optimiser__learning_rate": "3e-3"}, ROWS, "another configuration"),
        ({"data__batch_size": "8"}, ROWS, "16 images a step, not 8"),
        ({}, ROWS + 2, "another corpus"),
    ],
)
def test_another_run_is_not_continued(more: dict[str, str], rows: int, says: str, tmp_path: Path) -> None:
    loop(tmp_path / "run", schedule__epochs="1").run()
    with pytest.raises(SpecError, match=says):
        loop(tmp_path / "run", rows, **{"schedule__epochs": "1", **more}).resume()


def test_a_loss_that_is_no_number_ends_the_run_and_breaks_no_checkpoint(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", saving__every_steps="1")
    whole_step = run.engine.step

    def poisoned(batch: object, rate: float, step: int) -> object:
        if step == 4:
            with torch.no_grad():
                next(run.engine.network.parameters()).fill_(float("nan"))
        return whole_step(batch, rate, step)  # type: ignore[arg-type]

    run.engine.step = poisoned  # type: ignore[method-assign, assignment]
    with pytest.raises(RunError, match=r"the loss is nan.*at step 5 of epoch 1"):
        run.run()
    found = read_state(tmp_path / "run")
    assert found is not None
    assert found.position.step == 4
    assert all(torch.isfinite(t).all() for t in found.network.values())


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", schedule__epochs="1", saving__every_steps="4")
    before, (soft, hard) = signal.getsignal(signal.SIGXFSZ), resource.getrlimit(resource.RLIMIT_FSIZE)
    whole_step = run.engine.step

    def filling(batch: object, rate: float, step: int) -> object:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        return whole_step(batch, rate, step)  # type: ignore[arg-type]

    run.engine.step = filling  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(RunError, match=r"state\.pt: the checkpoint cannot be written.*the one before it is whole"):
            run.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    found = read_state(tmp_path / "run")
    assert found is not None
    assert found.position.step == 0
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["metrics.jsonl", "state.pt"]
    again = loop(tmp_path / "run", schedule__epochs="1", saving__every_steps="4")
    assert again.resume()
    assert again.run().finished


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/state.pt").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(IntegrityError, match=r"state\.pt: no checkpoint"):
        loop(tmp_path / "run").resume()


def test_below_two_report_sentences_nothing_of_the_text_side_moves(tmp_path: Path) -> None:
    run = loop(tmp_path / "run")
    rows = np.flatnonzero(np.array(made_corpus(ROWS).source) != "MIMIC")[:9]
    batch = next(run._feed.training(rows, 0))
    assert batch.tokens is None
    run.engine.step(batch, 1e-3, 0)
    moved = {name for name, p in run.engine.network.named_parameters() if p.grad is not None}
    assert not [name for name in moved if name.startswith("text_model.") or name == "logit_scale"]
    assert {"logit_scale_head2", "class_prototypes"} <= moved


def test_bfloat16_trains_and_keeps_weights_whole(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", engine__precision="bf16-mixed")
    assert run.run().finished
    losses = [row.loss for row in curve(tmp_path / "run") if row.kind == "step" and row.loss is not None]
    assert np.mean(losses[-7:]) < np.mean(losses[:7])
    assert {p.dtype for p in run.engine.network.parameters()} == {torch.float32}


def test_steps_that_overflow_are_left_out_and_the_scaler_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(name: str) -> Loop:
        return loop(tmp_path / name, engine__precision="16-mixed", objective="unimodal")

    halved("whole").run()
    rows = [row for row in curve(tmp_path / "whole") if row.kind == "step"]
    assert {row.skipped for row in rows} == {True, False}
    counted = [sum(not row.skipped for row in rows[:n]) for n in range(len(rows))]
    fresh = halved("fresh")
    assert [row.rate for row in rows] == [fresh._schedule.rate(n) for n in counted]
    cut_after(5, halved("cut"), monkeypatch)
    again = halved("cut")
    assert again.resume()
    again.run()
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "cut/last.pth", tmp_path / "whole/last.pth")
