"""Training goes on from any step as if never stopped, and stops with help where it must."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from socket import socket

import numpy as np
import pytest
import torch
from forks import Fork, fork
from made_lessons import made_corpus, small_choices, triage_choices
from made_training import made_loop
from made_training import main as train

from cxrbench.errors import IntegrityError, RunError, SpecError, StoppedError
from cxrbench.models.dlilp_layout import named_trunk
from cxrbench.pretrain.batches import Batch
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.log import LogRow, read_rows
from cxrbench.pretrain.loop import PATIENCE_S, Loop
from cxrbench.pretrain.state import read_head, read_state, write_state
from cxrbench.store import digest

ROWS = 118


def loop(folder: Path, rows: int = ROWS, **more: str) -> Loop:
    return made_loop(folder, build_config(None, small_choices(folder.parent / "text", **more)), rows)


def curve(folder: Path) -> list[LogRow]:
    return [row.model_copy(update={"images_per_second": None}) for row in read_rows(folder)]


def same_weights(one: Path, other: Path) -> bool:
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("objective", ["clip", "unicl", "unimodal", "dlilp", "sat"])
def test_every_objective_learns(objective: str, tmp_path: Path) -> None:
    choices = triage_choices if objective == "sat" else small_choices
    told = choices(tmp_path / "text", objective=objective, saving__every_steps="50")
    run = made_loop(tmp_path / "run", build_config(None, told), ROWS)
    position = run.run()
    rows = curve(tmp_path / "run")
    assert position.finished
    assert [row.step for row in rows if row.kind == "step"] == list(range(1, 15))
    validations = [row.loss for row in rows if row.kind == "validation"]
    assert len(validations) == 2
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


TWO_VALIDATION_BATCHES = {"data__validation": "0.15", "data__batch_size": "8", "saving__every_steps": "50"}


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with half the images, and two batches of them held out."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    loop(folder, 60, **TWO_VALIDATION_BATCHES).run()
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


def begun(out: Path, *words: str, **environment: object) -> Fork:
    """A process that trains in `out`."""
    told = {name: str(value) for name, value in environment.items()}
    said = out.parent / f"said{told.get('RANK', '')}"
    return fork(train, str(out), str(ROWS), *words, said=said, cwd=out.parent, environment=told)


def alone(out: Path, *words: str, kill: int = 0) -> int:
    """The exit status of a process that trains in `out`."""
    return begun(out, *words, KILL=kill).ended(300)


def two_ranks(out: Path, *words: str, stop: int = 0) -> list[int]:
    """The exit status of each of two processes that train in `out`; nobody stops the one for the other."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    as_torchrun = {"TORCHELASTIC_RUN_ID": "none", "STOP": stop, **meet}
    both = [begun(out, *words, RANK=rank, LOCAL_RANK=rank, **as_torchrun) for rank in (0, 1)]
    return [process.ended(300) for process in both]


@pytest.mark.slow
def test_kill_9_at_any_time_costs_nothing_but_time(tmp_path: Path) -> None:
    assert alone(tmp_path / "whole", "objective=dlilp") == 0
    for last in np.random.default_rng(4).integers(2, 8, 2).tolist():
        assert alone(tmp_path / "cut", "objective=dlilp", kill=last) == -signal.SIGKILL
    assert alone(tmp_path / "cut", "objective=dlilp") == 0
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "cut/last.pth", tmp_path / "whole/last.pth")


@pytest.mark.parametrize(
    ("heard_in", "stands_at"),
    [(4, (4, 0, 4)), (7, (7, 0, 7)), (8, (7, 0, 7)), (9, (7, 1, 0))],  # the second and the last validation batch
)
def test_sigterm_stops_a_run_at_the_end_of_its_step_and_costs_nothing(
    heard_in: int, stands_at: tuple[int, int, int], whole_of_two: Path, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cut = loop(tmp_path / "cut", 60, **TWO_VALIDATION_BATCHES)
    of_batch, count = cut.engine._loss, 0

    def heard(batch: Batch) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == heard_in:
            os.kill(os.getpid(), signal.SIGTERM)
        return of_batch(batch)

    cut.engine._loss = heard  # type: ignore[method-assign]
    with pytest.raises(StoppedError, match=rf"stopped by SIGTERM after step {stands_at[0]} .*--resume"):
        cut.run()
    assert signal.getsignal(signal.SIGTERM) is before
    found = read_state(tmp_path / "cut")
    assert found is not None
    assert (found.position.step, found.position.epoch, found.position.batch) == stands_at
    again = loop(tmp_path / "cut", 60, **TWO_VALIDATION_BATCHES)
    assert again.resume()
    again.run()
    assert curve(tmp_path / "cut") == curve(whole_of_two)
    assert same_weights(tmp_path / "cut/last.pth", whole_of_two / "last.pth")


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_stops_both_after_one_step(tmp_path: Path) -> None:
    told = ("data.batch_size=8", "saving.every_steps=50")
    codes = two_ranks(tmp_path / "cut", *told, stop=12)
    assert 0 not in codes and -signal.SIGTERM not in codes  # the fourth batch of the second epoch of seven
    found = read_state(tmp_path / "cut")
    assert found is not None
    assert 7 <= found.position.step <= 11  # batches are read ahead of their steps
    assert found.position.step == 7 or found.position.batch == found.position.step - 7
    assert two_ranks(tmp_path / "cut", *told) == [0, 0]
    assert [row.step for row in curve(tmp_path / "cut") if row.kind == "step"] == list(range(1, 15))


def test_a_finished_run_stays_as_it_is(whole: Path) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    again = loop(whole)
    assert again.resume()
    assert again.run().finished
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_run_may_go_on_for_longer(whole: Path, tmp_path: Path) -> None:
    loop(tmp_path / "more", schedule__epochs="1").run()
    again = loop(tmp_path / "more")
    assert again.resume()
    again.run()
    assert curve(tmp_path / "more") == curve(whole)
    assert same_weights(tmp_path / "more/last.pth", whole / "last.pth")


def test_the_best_epoch_is_that_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    run, told = loop(tmp_path / "run", 40, objective="unimodal"), iter([[1.0, 2.0], [1.5, 1.7]])
    run.engine.losses = lambda batches: next(told)  # type: ignore[method-assign]
    position = run.run()
    assert (position.best, position.best_epoch, position.waited) == (1.5, 0, 1)
    assert not same_weights(tmp_path / "run/best.pth", tmp_path / "run/last.pth")


def test_patience_ends_a_run(tmp_path: Path) -> None:
    impatient = {"schedule__epochs": "9", "schedule__patience": "2", "schedule__first_best": "-1.0"}
    run = loop(tmp_path / "run", 40, objective="unimodal", **impatient)
    assert run.run().epoch == 2
    assert not (tmp_path / "run/best.pth").exists()


@pytest.mark.parametrize(
    ("more", "rows", "says"),
    [
        ({"optimiser__learning_rate": "3e-3"}, ROWS, "another configuration"),
        ({"data__batch_size": "8"}, ROWS, "16 images a step, not 8"),
        ({"engine__precision": "64-true"}, ROWS, "precision 32-true, not 64-true"),
        ({}, ROWS + 2, "another corpus"),
    ],
)
def test_another_run_is_not_continued(more: dict[str, str], rows: int, says: str, whole: Path) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    with pytest.raises(SpecError, match=says):
        loop(whole, rows, **more).resume()
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_run_goes_on_from_the_same_files_wherever_they_lie(tmp_path: Path) -> None:
    def weights(name: str) -> Path:
        torch.save(named_trunk("timm:test_resnet").module.state_dict(), tmp_path / name)
        return tmp_path / name

    def again(weights: Path) -> Loop:
        choices = {"objective": "clip", "schedule__epochs": "1", "image__weights": str(weights)}
        return loop(tmp_path / "run", 24, **choices)

    first, moved = again(weights("one.pth")), tmp_path / "moved.pth"
    first.run()
    assert first.identity.weights == digest.of_file(tmp_path / "one.pth")
    assert (first.config.engine.precision, first.identity.precision) == ("auto", "32-true")
    assert again((tmp_path / "one.pth").rename(moved)).resume()
    content = moved.read_bytes()
    with pytest.raises(SpecError, match=r"another file image\.weights"):
        again(weights("moved.pth")).resume()
    moved.write_bytes(content)
    assert again(moved).resume()
    with (tmp_path / "text/vocab.txt").open("a") as words:
        words.write("thorax\n")
    told = (tmp_path / "text/config.json").read_text()
    size = len((tmp_path / "text/vocab.txt").read_text().splitlines())
    (tmp_path / "text/config.json").write_text(json.dumps({**json.loads(told), "vocab_size": size}))
    with pytest.raises(SpecError, match="other files of the text encoder"):
        again(moved).resume()


def test_a_loss_that_is_no_number_ends_the_run_and_breaks_no_checkpoint(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", objective="unimodal", saving__every_steps="1")
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
    told = {"objective": "unimodal", "schedule__epochs": "1", "saving__every_steps": "4"}
    run = loop(tmp_path / "run", **told)
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
    again = loop(tmp_path / "run", **told)
    assert again.resume()
    assert again.run().finished


def test_a_broken_checkpoint_is_refused_and_left(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    data = bytearray((tmp_path / "run/state.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "run/state.pt").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"state\.pt: is damaged: its tensors do not have their checksum"):
        loop(tmp_path / "run").resume()
    assert (tmp_path / "run/state.pt").read_bytes() == data


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, whole: Path) -> None:
    found = read_state(whole)
    assert found is not None
    (tmp_path / "run").mkdir()
    write_state(tmp_path / "run", replace(found, network={"strange": torch.zeros(2)}))
    with pytest.raises(IntegrityError, match="does not fit this network and optimiser"):
        loop(tmp_path / "run").resume()


def test_a_run_does_not_go_on_from_other_images(tmp_path: Path) -> None:
    config = build_config(None, small_choices(tmp_path / "text", objective="unimodal", schedule__epochs="1"))
    first = made_loop(tmp_path / "run", config, 40)
    first.material = replace(first.material, images="a" * 64)
    first.identity = replace(first.identity, images="a" * 64)
    first.run()
    with pytest.raises(SpecError, match="other images: files changed"):
        made_loop(tmp_path / "run", config, 40).resume()


def test_a_run_that_goes_on_with_other_code_keeps_that(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr("cxrbench.pretrain.identity.training_code", lambda: "other")
    again = loop(tmp_path / "run", schedule__epochs="3")
    assert again.resume()
    again.run()
    head = read_head(tmp_path / "run")
    assert head is not None
    assert [(one.since, one.code == "other") for one in head.history] == [(0, False), (14, True)]


def test_a_log_that_lost_rows_ends_no_run_in_silence(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    log = tmp_path / "run/metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl: holds 15 of the 16 rows before the checkpoint"):
        loop(tmp_path / "run").resume()
    log.unlink()
    assert loop(tmp_path / "run").resume()


def test_below_two_report_sentences_nothing_of_the_text_side_moves(tmp_path: Path) -> None:
    run = loop(tmp_path / "run")
    rows = np.flatnonzero(np.array(made_corpus(ROWS).source) != "MIMIC")[:9]
    batch = next(run._feed.training(rows, 0))
    assert batch.tokens is None
    run.engine.step(batch, 1e-3, 0)
    moved = {name for name, p in run.engine.network.named_parameters() if p.grad is not None}
    assert not [name for name in moved if name.startswith("text_model.") or name == "logit_scale"]
    assert {"logit_scale_head2", "class_prototypes"} <= moved


def test_weight_decay_is_on_everything_temperatures_and_prototypes_too(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", optimiser__weight_decay="0.25")
    (group,) = run.engine.optimiser.param_groups
    assert group["weight_decay"] == 0.25
    assert {id(p) for p in group["params"]} == {id(p) for p in run.engine.network.parameters()}


def test_bfloat16_trains_and_keeps_weights_whole(tmp_path: Path) -> None:
    run = loop(tmp_path / "run", engine__precision="bf16-mixed", saving__every_steps="50")
    assert run.run().finished
    losses = [row.loss for row in curve(tmp_path / "run") if row.kind == "step" and row.loss is not None]
    assert np.mean(losses[-7:]) < np.mean(losses[:7])
    assert {p.dtype for p in run.engine.network.parameters()} == {torch.float32}


def test_steps_that_overflow_are_left_out_and_the_scaler_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(name: str) -> Loop:
        told = {"engine__precision": "16-mixed", "objective": "unimodal", "schedule__epochs": "1"}
        return loop(tmp_path / name, **told)

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


@pytest.mark.parametrize(("wait_s", "ended"), [(0.0, False), (PATIENCE_S, True)])
def test_a_later_second_sigterm_ends_a_process_that_hangs(wait_s: float, ended: bool) -> None:
    program = f"""
import os, signal, time
from cxrbench.pretrain import loop
clock = iter([100.0, 100.0 + {wait_s}])
loop.time.monotonic = lambda: next(clock)
with loop.StopRequest(None).heard():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode == -signal.SIGTERM, "still here" in done.stdout) == (ended, not ended), done.stderr
