"""One request by processes of this machine, by SLURM and by Ray, all real, on this machine: are the records bit-equal?

    python -m benchmarks.clusters [local slurm ray throughput ...]

SLURM is Debian's `slurm-wlm` (with munge), started here as root in a scratch folder; Ray (`pip install
'cxrbench[ray]'`) is a head and a second node of one core each. In each of them a worker is killed by SIGKILL in its
first batches, and the same command is given again. `throughput`: two parts at once over one, when decoding is the cost;
start-up is left out. Exit code 1 if records differ.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from benchmarks.rounds import ONE_THREAD, ROOT

MODELS = ("small_unimodal", "small_clip")
PARTS = 4
PICTURES = 2000
SLURM = """ClusterName=here
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName=localhost CPUs={cores} RealMemory=4000
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}  # all of it on this machine's own address
PATIENCE_S = 300.0


class Bench:
    """The tests' small bench, and what one run of it comes to."""

    def __init__(self, folder: Path) -> None:
        sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "bench")]
        from lab import build  # type: ignore[import-not-found]
        from made_weights import TEXT_ENCODER  # type: ignore[import-not-found]

        self.folder, self.lab, self._text = folder, build(folder / "lab"), TEXT_ENCODER
        self.expected = self.records(folder / "alone")

    def words(self, place: Path) -> list[str]:
        """The request, and where its vectors go."""
        lab = self.lab
        told = [word for model in MODELS for word in ("-m", lab.model(model))]
        told += [word for task in ("covid", "chexpert5x200") for word in ("-t", lab.task(task))]
        told += [*lab.roots, "--variant", str(lab.variant), "--shots", "1,2", "--prompts", "names", "--batch-size", "2"]
        told += [
            "--text-encoder",
            str(self._text),
            "--cache",
            str(place / "cache"),
            "--device",
            "cpu",
            "--workers",
            "1",
        ]
        return told

    def records(self, place: Path) -> Any:
        """What `run` measures from the store of a place; it must find everything there unless the store is new."""
        from test_kill import outcome  # type: ignore[import-not-found]

        new = not (place / "cache" / "embeddings").exists()
        told = called("run", *self.words(place), "--out", str(place / "results"))
        assert new or " 0 images decoded, 0 encoded" in told, told
        return outcome(place)


def called(*words: str, env: Mapping[str, str] | None = None) -> str:
    """What the program says; it must leave with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "cxrbench", *words],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(place: Path) -> int:
    """Rows that are durable."""
    from cxrbench.store.embeddings import Store

    store = Store(place / "cache")
    return sum(len(store.read(key)) for key, _ in store.entries())


def kill_one(place: Path, pattern: str) -> bool:
    """Kill a process by a pattern of its command line as soon as some rows are there; False if none lived so long."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(Exception):  # a shard that is being begun
            if rows(place) >= 4:
                break
        time.sleep(0.01)
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if pattern in found.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                os.kill(int(found.parent.name), signal.SIGKILL)
                return True
    return False


def local(bench: Bench) -> bool:
    """Two processes of this machine; one is killed, and begun again by itself."""
    place = bench.folder / "local"
    words = [*bench.words(place)]
    words[words.index("--device") + 1] = "cpu,cpu"
    with subprocess.Popen(
        [sys.executable, "-m", "cxrbench", "encode", *words],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ) as process:
        killed = kill_one(place, "executors import child")
        assert process.wait(PATIENCE_S) == 0
    return told("local, cpu,cpu", bench, place, killed)


@contextlib.contextmanager
def slurm_here(folder: Path) -> Iterator[None]:
    """A SLURM of one node in a scratch folder, with munge."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    config.write_text(SLURM.format(folder=folder, cores=os.cpu_count()))
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=False)
    subprocess.run(["/usr/sbin/slurmctld", "-f", str(config)], check=True)
    subprocess.run(["/usr/sbin/slurmd", "-N", "localhost", "-f", str(config)], check=True)
    os.environ["SLURM_CONF"] = str(config)
    try:
        end = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False).stdout:
            assert time.monotonic() < end, (folder / "slurmctld.log").read_text()
            time.sleep(0.5)
        yield
    finally:
        for name in ("slurmd.pid", "slurmctld.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / name).read_text()), signal.SIGTERM)
        subprocess.run(["pkill", "munged"], check=False)


def slurm(bench: Bench) -> bool:
    """An array of parts; one is killed, `status` names it, and the same command hands in what is missing."""
    place = bench.folder / "slurm"
    handed = [
        "encode",
        *bench.words(place),
        "--executor",
        "slurm",
        "--parts",
        str(PARTS),
        "--logs",
        str(place / "logs"),
    ]
    with slurm_here(Path(mkdtemp(prefix="slurm"))):
        told_first = called(*handed)
        killed = kill_one(place, "cxrbench encode")
        waited()
        missing = _status(bench, place)
        told_second = called(*handed)
        waited()
    print(f"  {told_first.strip()}\n  after one was killed: {missing}\n  {told_second.strip()}", flush=True)
    return told("SLURM array", bench, place, killed)


def waited() -> None:
    """Wait until no job is left."""
    end = time.monotonic() + PATIENCE_S
    while subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout.strip():
        assert time.monotonic() < end
        time.sleep(0.5)


def _status(bench: Bench, place: Path) -> str:
    words, left_out = [], 0
    for word in bench.words(place):
        left_out = 2 if word in ("--device", "--workers", "--batch-size") else max(left_out - 1, 0)
        words += [word] if not left_out else []
    done = subprocess.run(
        [sys.executable, "-m", "cxrbench", "status", *words, "--parts", str(PARTS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr


@contextlib.contextmanager
def ray_here(folder: Path) -> Iterator[str]:
    """A Ray cluster of a head and a second node, of one core each; gives its address."""
    address = "127.0.0.1:6399"
    ray = str(Path(sys.executable).with_name("ray"))
    common = ["--node-ip-address=127.0.0.1", "--num-cpus=1"]
    env = {**os.environ, **ONE_THREAD, **RAY, "PYTHONPATH": str(ROOT)}
    head = ["--head", "--port=6399", "--include-dashboard=false", f"--temp-dir={folder}"]
    try:
        subprocess.run([ray, "start", *head, *common], env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([ray, "start", f"--address={address}", *common], env=env, check=True, stdout=subprocess.DEVNULL)
        yield address
    finally:
        subprocess.run([ray, "stop", "--force"], env=env, check=False, stdout=subprocess.DEVNULL)


def ray(bench: Bench) -> bool:
    """Actors on two nodes; one is killed, and begun again by Ray."""
    place = bench.folder / "ray"
    with ray_here(Path(mkdtemp(prefix="ray"))) as address:
        words = ["encode", *bench.words(place), "--executor", "ray", "--address", address, "--parts", str(PARTS)]
        with subprocess.Popen(
            [sys.executable, "-m", "cxrbench", *words],
            env={**os.environ, **ONE_THREAD, **RAY, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            killed = kill_one(place, "ray::Actor")
            out, _ = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, out
    return told("Ray, two nodes", bench, place, killed)


def told(name: str, bench: Bench, place: Path, killed: bool) -> bool:
    """Say whether the records are those of one run."""
    equal = bench.records(place) == bench.expected
    about = "a worker was killed" if killed else "NO WORKER WAS KILLED"
    print(f"{name}: {len(bench.expected)} records, {about}, {'bit-equal' if equal else 'DIFFER'}", flush=True)
    return equal and killed


def throughput(bench: Bench) -> bool:
    """Images a second of two parts at once over one, one decoding thread each; PNG of a radiograph's size."""
    import numpy as np
    from PIL import Image

    from cxrbench.runner.archive import ArchiveJob
    from cxrbench.runner.filling import FilePart
    from cxrbench.runner.request import Engine, Places

    folder, rng = bench.folder / "pictures", np.random.default_rng(0)
    folder.mkdir()
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 8, (2400, 2400), np.uint8)).save(out, "PNG")
    for number in range(PICTURES):
        (folder / f"{number}.png").write_bytes(out.getvalue() + number.to_bytes(4, "little"))  # its own content
    os.environ.update(ONE_THREAD)
    found = []
    for round_ in range(3):
        for count in (1, 2):
            cache = bench.folder / f"cache {round_} {count}"
            job = ArchiveJob(("image_statistics",), folder, Places(cache=cache), Engine("cpu", workers=1))
            with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
                list(pool.map(_warm, range(count)))
                took = list(pool.map(_timed, [job] * count, [FilePart(n, count) for n in range(count)]))
            found.append((count, PICTURES / max(took)))
            shutil.rmtree(cache)
    ratios = [two / one for (_, one), (_, two) in zip(found[::2], found[1::2], strict=True)]
    rates = ", ".join(f"{rate:.1f}" for _, rate in found)
    print(f"throughput of 2 parts over 1: {', '.join(f'{r:.2f}' for r in ratios)} (images/s: {rates})", flush=True)
    return True


def _warm(_: int) -> None:
    import torch

    from cxrbench.images.decoder_check import self_test

    torch.set_num_threads(1)
    self_test()
    time.sleep(1.0)  # so that every process of the pool has a share


def _timed(job: Any, part: Any) -> float:
    from cxrbench.runner.filling import fill
    from cxrbench.system.progress import Quiet

    filling = job.filling()
    began = time.monotonic()
    found = fill(filling, part, Quiet())
    assert not found.problems, found
    return time.monotonic() - began


KINDS: Mapping[str, Callable[[Bench], bool]] = {"local": local, "slurm": slurm, "ray": ray, "throughput": throughput}


def main(words: Sequence[str] | None = None) -> int:
    """Run what is named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    asked = parser.parse_args(words)
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        sound = [KINDS[name](bench) for name in asked.kinds or KINDS]
        return int(not all(sound))


if __name__ == "__main__":
    sys.exit(main())
