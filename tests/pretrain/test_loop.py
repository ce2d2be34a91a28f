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
    run = loop(tmp_path / "run", objective=objective, schedule__epochs="3")
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


@pytest.mark.parametrize("step", [1, 5, 7, 8, 13])
def test_a_run_that_was_cut_ends_as_if_it_had_not_been(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop(tmp_path / "whole").run()
    cut = loop(tmp_path / "cut")
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
    torch.rand(7)  # what else the process draws must not matter
    again = loop(tmp_path / "cut")
    assert again.resume()
    assert again.position.step == step // 7 * 7 or again.position.step % 3 == 0
    again.run()
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "cut/last.pth", tmp_path / "whole/last.pth")
    assert same_weights(tmp_path / "cut/best.pth", tmp_path / "whole/best.pth")


def program(out: Path, *words: str, kill: int = 0) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KILL": str(kill)}
    command = [sys.executable, "made_training.py", str(out), str(ROWS), *words]
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, timeout=300).returncode


@pytest.mark.slow
def test_kill_9_at_any_time_costs_nothing_but_time(tmp_path: Path) -> None:
    assert program(tmp_path / "whole", "objective=dlilp") == 0
    for last in np.random.default_rng(4).integers(2, 8, 3).tolist():
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


def test_a_run_may_go_on_for_longer(tmp_path: Path) -> None:
    loop(tmp_path / "whole").run()
    loop(tmp_path / "more", schedule__epochs="1").run()
    again = loop(tmp_path / "more")
    assert again.resume()
    again.run()
    assert curve(tmp_path / "more") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "more/last.pth", tmp_path / "whole/last.pth")


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


def test_sixteen_bit_floats_train_too_where_the_device_has_them(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", engine__precision="bf16-mixed", schedule__epochs="3")
    assert run.run().finished
    losses = [row.loss for row in curve(tmp_path / "run") if row.kind == "step" and row.loss is not None]
    assert np.mean(losses[-7:]) < np.mean(losses[:7])
    assert {p.dtype for p in run.engine.network.parameters()} == {torch.float32}
    with pytest.raises(SpecError, match="16-mixed needs a CUDA device"):
        loop(tmp_path / "other", engine__precision="16-mixed")
