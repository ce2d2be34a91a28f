"""The store filled in parts, by whoever: what `run` makes of it is bit for bit what it makes alone."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import made_adapters
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lab import COVID_IMAGES, Lab, numbers, predictions, records_of
from made_weights import TEXT_ENCODER
from torch import Tensor
from typer.testing import CliRunner
from written_facts import write_facts

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.models.features import ImageFeatures
from cxrbench.runner.filling import FilePart, Waiting, part_numbers
from cxrbench.runner.model import devices

MODELS = ("small_unimodal", "small_clip")
Outcome = dict[str, tuple[dict[str, Any], bytes]]


def words(lab: Lab, place: Path, models: Sequence[str] = MODELS, *, shots: str = "1,2") -> list[str]:
    """What `encode`, `status` and `run` have in common."""
    told = [word for model in models for word in ("-m", lab.model(model) if "/" not in model else model)]
    told += ["-t", lab.task("covid"), *lab.roots, "--variant", str(lab.variant), "--shots", shots, "--prompts", "names"]
    return [*told, "--text-encoder", str(TEXT_ENCODER), "--cache", str(place / "cache")]


def call(*told: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(told))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def run(lab: Lab, place: Path, *more: str) -> str:
    own = ["--device", "cpu", "--batch-size", "8", "--out", str(place / "results"), *more]
    return call("run", *words(lab, place), *own)


def outcome(place: Path) -> Outcome:
    return {r.id: (numbers(r), predictions(place, r).read_bytes()) for r in records_of(place)}


@pytest.fixture(scope="module")
def alone(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    place = tmp_path_factory.mktemp("alone")
    run(lab, place)
    return outcome(place)


def test_parts_in_any_order_come_to_the_records_of_one_run(lab: Lab, alone: Outcome, tmp_path: Path) -> None:
    own = [*words(lab, tmp_path), "--device", "cpu", "--batch-size", "8"]
    assert "0 of 3 parts" not in call("status", *words(lab, tmp_path), "--parts", "3", code=1)
    for number in (2, 0, 1):
        told = call("encode", *own, "--shard", f"{number}/3")
        assert f"part {number}/3: " in told and " 0 problems" in told
    assert call("encode", *own, "--shard", "1/3").strip() == (
        "part 1/3: 0 images decoded, 0 encoded, 0 unreadable, 0 missing, 0 problems"
    )
    assert call("status", *words(lab, tmp_path), "--parts", "7").splitlines()[-1] == "nothing is missing"
    told = run(lab, tmp_path)
    assert " 0 images decoded, 0 encoded" in told
    assert outcome(tmp_path) == alone


def test_status_names_the_parts_that_lack_anything_and_reads_no_image(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("encode", *words(lab, tmp_path), "--shard", "0/4")
    call("encode", *words(lab, tmp_path), "--shard", "2/4")
    monkeypatch.setattr("cxrbench.runner.decoding.read_bytes", lambda path: pytest.fail("an image was read"))
    *lines, last = call("status", *words(lab, tmp_path), "--parts", "4", code=1).splitlines()
    assert last == "2 of 4 parts: --array=1,3"
    assert [line.partition(":")[0] for line in lines] == [f"{model} (reality-check)" for model in MODELS]
    there, wanted = (int(n) for n in lines[0].split()[2:5:2])
    assert 0 < there < wanted == COVID_IMAGES


def test_a_file_that_nobody_can_read_is_done_and_tried_again(lab: Lab, tmp_path: Path) -> None:
    from shutil import copytree

    own = lab.on("covid", Path(copytree(lab.data[""], tmp_path / "data")))
    bad = own.files("covid")["COVID/images/COVID-1.png"]
    whole = bad.read_bytes()
    bad.write_bytes(b"no picture")
    told = call("encode", *words(own, tmp_path), "--shard", "0/1")
    assert "1 unreadable" in told
    told = call("status", *words(own, tmp_path), "--parts", "2")
    assert "1 files are no pictures" in told and told.splitlines()[-1] == "nothing is missing"
    bad.write_bytes(b"another one that is none")
    assert "--array=" in call("status", *words(own, tmp_path), "--parts", "2", code=1), "it changed"
    bad.write_bytes(whole)
    assert "2 encoded, 0 unreadable" in call("encode", *words(own, tmp_path), "--shard", "0/1")


def test_several_devices_of_one_machine_share_the_files(lab: Lab, alone: Outcome, tmp_path: Path) -> None:
    own = [*words(lab, tmp_path), "--batch-size", "8", "--out", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-m", "cxrbench", "run", *own, "--device", "cpu,cpu"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    parts = [line for line in done.stdout.splitlines() if line.startswith("part ")]
    assert sorted(line.partition(":")[0] for line in parts) == ["part 0/2", "part 1/2"]
    assert all(" 0 encoded" not in line for line in parts) and " 0 images decoded, 0 encoded" in done.stdout
    assert outcome(tmp_path) == alone


def test_a_part_is_shared_by_all_devices(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[list[str], tuple[str, ...]]]()

    def local(job: Any, parts: Sequence[FilePart], devices: tuple[str, ...], told: Any) -> None:
        seen.append(([*map(str, parts)], devices))

    monkeypatch.setattr("cxrbench.runner.executors.local", local)
    for shard in ([], ["--shard", "1/3"]):
        call("encode", *words(lab, tmp_path), "--device", "cpu,cpu", *shard)
    assert seen == [(["0/2", "1/2"], ("cpu", "cpu")), (["1/6", "4/6"], ("cpu", "cpu"))]


class Dying(made_adapters.Sound):
    """Kills its own process at the first batch, unless a file says that this was done."""

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        marker = Path(os.environ["DYING_MARKER"])
        if len(list(marker.parent.glob(f"{marker.name}*"))) < int(os.environ["DYING_TIMES"]):
            marker.with_name(f"{marker.name}{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_image(pixels)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "code"), [(2, 0), (9, 5)])
def test_a_worker_that_is_killed_is_begun_again_and_given_up_at_last(
    times: int, code: int, lab: Lab, tmp_path: Path
) -> None:
    card = write_facts(
        tmp_path / "models" / "dying.toml", made_adapters.card(Dying, adapter=f"{__name__}:{Dying.__name__}")
    )
    done = subprocess.run(
        [sys.executable, "-m", "cxrbench", "encode", *words(lab, tmp_path, [str(card)]), "--device", "cpu,cpu"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]),
            "DYING_MARKER": str(tmp_path / "died"),
            "DYING_TIMES": str(times),
        },
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert ("its process on cpu died 3 times" in done.stderr) == (code == 5)


def sbatch(folder: Path) -> Path:
    """A stand-in for SLURM: it does the parts of an array one after the other, and tells a job's number."""
    path = folder / "bin" / "sbatch"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, re, subprocess, sys\n"
        "text = open(sys.argv[-1]).read()\n"
        "array = re.search(r'^#SBATCH --array=(.*)$', text, re.M)[1]\n"
        "for run in array.split(','):\n"
        "    first, _, last = run.partition('-')\n"
        "    for n in range(int(first), int(last or first) + 1):\n"
        "        env = {**os.environ, 'SLURM_ARRAY_TASK_ID': str(n)}\n"
        "        subprocess.run(['bash', sys.argv[-1]], env=env, check=True, stdout=subprocess.DEVNULL)\n"
        "print('4711;cluster')\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.slow
def test_an_array_of_slurm_comes_to_the_records_of_one_run(
    lab: Lab, alone: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{sbatch(tmp_path).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    logs = tmp_path / "logs"
    own = [*words(lab, tmp_path), "--device", "cpu", "--batch-size", "8"]
    call("encode", *own, "--shard", "1/3")
    handed = ["--executor", "slurm", "--parts", "3", "--logs", str(logs), "--sbatch=--gres=gpu:1"]
    assert "job 4711: 2 of 3 parts, --array=0,2;" in call("encode", *own, *handed)
    script = (logs / "encode.sbatch").read_text()
    assert "#SBATCH --gres=gpu:1\n" in script and f"#SBATCH --output={logs}/encode-%A_%a.log\n" in script
    assert call("encode", *own, *handed).strip() == "nothing is missing"
    assert " 0 images decoded, 0 encoded" in run(lab, tmp_path)
    assert outcome(tmp_path) == alone


def test_without_slurm_the_way_out_is_told(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["encode", *words(lab, tmp_path), "--executor", "slurm"])
    assert "no `sbatch` here" in str(done.exception)


@pytest.mark.slow
def test_ray_comes_to_the_records_of_one_run(lab: Lab, alone: Outcome, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    own = [*words(lab, tmp_path), "--device", "cpu", "--batch-size", "8"]
    with TemporaryDirectory(prefix="ray") as short:  # its sockets lie there, whose names have at most 107 bytes
        done = subprocess.run(
            [sys.executable, "-m", "cxrbench", "encode", *own, "--executor", "ray", "--parts", "4", "--actors", "2"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"},
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    assert sorted(line.partition(":")[0] for line in done.stdout.splitlines()) == [f"part {n}/4" for n in range(4)]
    assert " 0 images decoded, 0 encoded" in run(lab, tmp_path)
    assert outcome(tmp_path) == alone


@pytest.fixture
def archive(lab: Lab, tmp_path: Path) -> list[Path]:
    """Three pictures in folders, a copy of the first, and one that is none."""
    folder = tmp_path / "archive"
    sources = sorted(lab.files("covid").values())[:3]
    names = ["a/1.png", "a/2.png", "b/3.png", "b/copy.png"]
    for name, source in zip(names, [*sources, sources[0]], strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.read_bytes())
    (folder / "b" / "bad.png").write_bytes(b"no picture")
    return [folder / name for name in names]


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
def test_an_archive_becomes_a_table_of_vectors(kind: str, lab: Lab, archive: list[Path], tmp_path: Path) -> None:
    folder, names = tmp_path / "archive", ["a/1.png", "a/2.png", "b/3.png", "b/bad.png", "b/copy.png"]
    images = folder
    if kind != "folder":
        names = [*reversed(names), "gone.png"]
        images = folder / f"list.{kind}"
        if kind == "csv":
            images.write_text("id,path\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)))
        else:
            import pyarrow as pa

            pq.write_table(pa.table({"path": names, "age": [1] * len(names)}), images)
    target = tmp_path / "vectors.parquet"
    own = [
        "-m",
        lab.model("small_clip"),
        "-m",
        lab.model("small_unimodal"),
        "--images",
        str(images),
        "--to",
        str(target),
    ]
    own += ["--text-encoder", str(TEXT_ENCODER), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    told = call("encode", *own)
    assert f"{len(names)} rows in {target}" in told
    table = pq.read_table(target)
    assert table.column("path").to_pylist() == names
    rows = {row["path"]: row for row in table.to_pylist()}
    assert rows["b/bad.png"]["small_clip.pooled"] is None and "bad.png" in rows["b/bad.png"]["problem"]
    assert kind == "folder" or rows["gone.png"]["sha256"] is None
    assert [rows[name]["problem"] for name in names if not name.endswith(("bad.png", "gone.png"))] == [None] * 4
    for name in ("small_clip", "small_unimodal"):
        model = cxrbench.load_model(lab.model(name), text_encoder=TEXT_ENCODER, device="cpu")
        vectors = model.encode_image(archive).taps
        for tap in ("pooled", "joint"):
            stored = np.array([rows[f"{p.parent.name}/{p.name}"][f"{name}.{tap}"] for p in archive], np.float32)
            assert torch.equal(torch.from_numpy(stored), vectors[tap])
    about = json.loads(table.schema.metadata[b"cxrbench"])
    assert set(about) == {"small_clip", "small_unimodal"} and len(about["small_clip"]["weights"]) == 64
    assert "0 images decoded, 0 encoded" in call("encode", *own)
    assert pq.read_table(target).equals(table)


def test_a_damaged_row_of_an_archive_is_encoded_again(lab: Lab, archive: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "vectors.parquet"
    own = ["-m", lab.model("small_unimodal"), "--images", str(tmp_path / "archive"), "--to", str(target)]
    own += ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    call("encode", *own)
    before = pq.read_table(target)
    (taps,) = (tmp_path / "cache").rglob("pooled.npy")
    data = bytearray(taps.read_bytes())
    data[-1] ^= 1
    taps.write_bytes(data)
    assert "1 encoded" in call("encode", *own)
    assert pq.read_table(target).equals(before)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (["--images", "nowhere"], "no such folder or table"),
        (["--images", "empty"], "holds no image"),
        (["--images", "table.csv"], "has none of the columns path, file, image"),
        (["--images", "empty", "--to", "vectors.csv"], "ends in .parquet"),
        (["--images", "empty", "-t", "covid"], "either --task, or --images"),
        (["--to", "vectors.parquet", "-t", "covid"], "vectors are written for --images"),
        (["--images", "empty", "--shard", "3/3"], "I from 0 to N - 1"),
        (["--images", "empty", "--shard", "one"], "I from 0 to N - 1"),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_the_way_out(
    told: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("id,picture\n1,a.png\n")
    if "--shard" in told:
        (tmp_path / "empty" / "a.png").write_bytes(b"")
    done = CliRunner().invoke(app, ["encode", "-m", "random_resnet50", *told, "--cache", "cache"])
    assert reason in str(done.exception)


@given(st.lists(st.text(), unique=True, max_size=60), st.integers(1, 9))
def test_every_file_is_of_one_part_whatever_else_there_is(names: list[str], count: int) -> None:
    found = part_numbers(names, count)
    assert ((found >= 0) & (found < count)).all()
    assert [int(part_numbers([name], count)[0]) for name in names] == found.tolist()


@given(st.lists(st.text(), unique=True, max_size=60), st.integers(1, 9), st.integers(1, 4))
def test_a_part_that_is_shared_is_the_same_files(names: list[str], count: int, devices: int) -> None:
    for number in range(count):
        own = part_numbers(names, count) == number
        shares = [part_numbers(names, one.count) == one.number for one in FilePart(number, count).shared(devices)]
        assert np.array_equal(np.sum(shares, axis=0), own.astype(int))


@given(st.sets(st.integers(0, 40)))
def test_the_parts_are_told_as_sbatch_takes_them(numbers: set[int]) -> None:
    told = Waiting({}, tuple(sorted(numbers)), 0).array
    read = [(*map(int, run.split("-")),) for run in told.split(",") if run]
    assert {n for run in read for n in range(run[0], run[-1] + 1)} == numbers
    assert len(read) == sum(n - 1 not in numbers for n in numbers)


def test_a_problem_of_one_part_is_told_and_ends_no_other(lab: Lab, tmp_path: Path) -> None:
    """Whatever its kind, it passes from one process to another."""
    from cxrbench.errors import UnexpectedError
    from cxrbench.runner.executors import local
    from cxrbench.runner.filling import Filled, RequestJob

    found = list[Filled]()
    bad = lab.request(tmp_path, ["small_unimodal"], ["covid"])
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    local(RequestJob(bad), [FilePart(n, 3) for n in range(3)], ("cpu", "cpu"), found.append)
    assert sorted(one.part for one in found) == ["0/3", "1/3", "2/3"]
    assert all(isinstance(one.problems[0], UnexpectedError) and one.problems[0].trace for one in found)


def test_devices_are_named_in_one_word() -> None:
    assert devices("cpu") == ("cpu",) and devices("cpu,cpu") == ("cpu", "cpu")
    with pytest.raises(SpecError, match="sees no CUDA device"):
        devices("cuda:0,1")


def test_parts_are_read_from_words() -> None:
    assert FilePart.parse("3/8") == FilePart(3, 8) and str(FilePart(3, 8)) == "3/8"
    for word in ("8/8", "-1/8", "1", "a/b", "1/0"):
        with pytest.raises(SpecError, match="I/N"):
            FilePart.parse(word)
