"""Who fills the parts of a job: processes of this machine, an array of SLURM, or actors of Ray."""

import contextlib
import pickle
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from cxrbench.errors import DataError, RunError
from cxrbench.runner.archive import ArchiveJob
from cxrbench.runner.filling import FilePart, Filled, Filling, RequestJob, fill, fill_part
from cxrbench.runner.request import Engine
from cxrbench.store.atomic import write_atomically
from cxrbench.system import cpu
from cxrbench.system.contained import contained
from cxrbench.system.extras import from_extra
from cxrbench.system.progress import Quiet

AnyJob = RequestJob | ArchiveJob
_RETRIES = 2  # of a part whose process died
_RAY_RESTARTS = 8  # of one actor
Told = Callable[[Filled], None]


def on_device(job: AnyJob, device: str, of: int = 1, workers: int = 0) -> AnyJob:
    """The job on one of so many devices, with `workers` decoding threads or its share of this machine's cores."""
    if isinstance(job, RequestJob):
        return RequestJob(replace(job.request, engine=_engine(job.request.engine, device, of, workers)))
    return replace(job, engine=_engine(job.engine, device, of, workers))


def _engine(engine: Engine, device: str, of: int, workers: int) -> Engine:
    return replace(engine, device=device, workers=workers or engine.workers or max(1, cpu.cores() // of))


def child(asked: str, answer: str) -> None:
    """What a process of this machine does: the job and part that lie in one file, and the answer into another."""
    job, part = pickle.loads(Path(asked).read_bytes())  # written by the process that started this one
    cpu.prepare()
    made = Path(f"{answer}.new")
    made.write_bytes(pickle.dumps(fill_part(job, part, Quiet())))
    made.replace(answer)


_CHILD = "import sys; sys.path[:] = {path!r}; from cxrbench.runner.executors import child; child({asked!r}, {answer!r})"


def local(job: AnyJob, parts: Sequence[FilePart], devices: Sequence[str], told: Told) -> None:
    """Parts by processes of this machine, one a device at a time; `told` of each as it ends.

    A part whose process dies is begun again, twice at most; then it is told as a problem.
    """
    waiting, ended = SimpleQueue[tuple[FilePart, int]](), SimpleQueue[Filled | BaseException]()
    for part in parts:
        waiting.put((part, 0))
    running, left = set[subprocess.Popen[bytes]](), len(parts)

    def work(device: str, folder: Path) -> None:
        try:
            while True:
                part, tries = waiting.get_nowait()
                while (found := _in_process(on_device(job, device, len(devices)), part, folder, running)) is None:
                    tries += 1
                    if tries > _RETRIES:
                        found = Filled(str(part), problems=[_lost(part, device, tries)])
                        break
                ended.put(found)
        except Empty:
            return
        except BaseException as error:
            ended.put(error)

    with TemporaryDirectory(prefix="cxrbench") as folder:
        threads = [Thread(target=work, args=(device, Path(folder)), daemon=True) for device in devices]
        for thread in threads:
            thread.start()
        try:
            while left:
                found = ended.get()
                if isinstance(found, BaseException):
                    raise found
                told(found)
                left -= 1
        finally:
            while not waiting.empty():
                waiting.get()
            for process in list(running):
                process.terminate()
            for thread in threads:
                thread.join()


def _in_process(job: AnyJob, part: FilePart, folder: Path, running: "set[subprocess.Popen[bytes]]") -> Filled | None:
    """What a process of its own makes of a part; None where it died. No module of the caller's is imported there."""
    name = uuid.uuid4().hex
    asked, answer = folder / f"{name}.job", folder / f"{name}.answer"
    asked.write_bytes(pickle.dumps((job, part)))
    program = _CHILD.format(path=sys.path, asked=str(asked), answer=str(answer))
    with subprocess.Popen([sys.executable, "-c", program], stdout=sys.stderr) as process:
        running.add(process)
        process.wait()
        running.discard(process)
    try:
        found: Filled = pickle.loads(answer.read_bytes())
    except FileNotFoundError:
        return None
    return found


def _lost(part: FilePart, device: str, tries: int) -> RunError:
    return RunError(
        f"part {part}: its process on {device} died {tries} times (too little memory, often). Finished rows are kept; "
        "the same command goes on."
    )


def slurm(words: Sequence[str], count: int, array: str, options: Sequence[str], folder: Path) -> str:
    """Hand parts to SLURM as one array job of `cxrbench encode WORDS --shard I/N`; returns the job's number.

    The script stays in `folder`, and each part's output beside it. Raises DataError where there is no `sbatch`,
    RunError for what it refuses.
    """
    if shutil.which("sbatch") is None:
        raise DataError(
            "--executor slurm: there is no `sbatch` here; log in to a node of the cluster that has it, or take the "
            "parts yourself with --shard"
        )
    folder = folder.resolve()
    script = folder / "encode.sbatch"
    write_atomically(script, sbatch_script(words, count, array, options, folder).encode())
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"sbatch refused {script}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]


def sbatch_script(words: Sequence[str], count: int, array: str, options: Sequence[str], folder: Path) -> str:
    """The script of an array job; `options` are further ones of sbatch."""
    head = ["--job-name=cxrbench-encode", f"--array={array}", f"--output={folder}/encode-%A_%a.log", *options]
    command = shlex.join([sys.executable, "-m", "cxrbench", "encode", *words])
    lines = [f"#SBATCH {option}" for option in head]
    return "\n".join(["#!/bin/bash", *lines, f"exec {command} --shard ${{SLURM_ARRAY_TASK_ID}}/{count}", ""])


def ray(job: AnyJob, parts: Sequence[FilePart], address: str | None, workers: int, told: Told) -> None:
    """Parts by actors of a Ray cluster, each of which lays the job out and loads the models once.

    An actor that dies is started again somewhere, and its part with it. `workers`: 0 takes one a GPU for a CUDA device,
    else one a core. Raises MissingExtraError where Ray is not installed, RunError for a cluster that is not there.
    """
    with from_extra("ray", "--executor ray"):
        import ray as engine

    with _connected(engine, address):
        there = engine.cluster_resources()
        asked = job.request.engine if isinstance(job, RequestJob) else job.engine
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        gpu = asked.device != "cpu" and gpus > 0
        share = asked.workers or (max(1, cores // gpus) if gpu else 1)  # cores an actor decodes with
        own = on_device(job, "cuda" if gpu else "cpu" if asked.device == "auto" else asked.device, 1, share)
        kind = engine.remote(num_cpus=share, num_gpus=int(gpu), max_restarts=_RAY_RESTARTS, max_task_retries=_RETRIES)(
            Actor
        )
        count = min(workers or (gpus if gpu else max(1, cores // share)), len(parts))
        for found in _spread(engine, [kind.remote(own) for _ in range(count)], parts):
            told(found)


@contextlib.contextmanager
def _connected(engine: Any, address: str | None) -> Iterator[None]:
    try:
        engine.init(address=address or "local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except ConnectionError as error:
        raise RunError(f"--address {address}: there is no Ray cluster: {error}") from error
    try:
        yield
    finally:
        engine.shutdown()


class Actor:
    """Fills one part after the other; the job is laid out at the first."""

    def __init__(self, job: AnyJob) -> None:
        cpu.prepare()
        self._job = job
        self._filling: Filling | None = None

    def here(self) -> None:
        """Answers once the actor has its place."""

    def fill(self, part: FilePart) -> Filled:
        """One part; what earlier ones brought is read anew."""
        if self._filling is None:
            self._filling = self._job.filling()
        return fill(self._filling, part, Quiet())


def _spread(engine: Any, actors: Sequence[Any], parts: Sequence[FilePart]) -> Iterator[Filled]:
    """Every part to the next actor that has its place and is free; actors go as soon as nothing waits for them."""
    waiting = list(parts)
    running: dict[Any, tuple[Any, FilePart | None]] = {actor.here.remote(): (actor, None) for actor in actors}
    left = len(parts)
    while left:
        (done,), _ = engine.wait(list(running), num_returns=1)
        actor, part = running.pop(done)
        found = None
        try:
            found = engine.get(done)
        except BaseException as error:
            failed = contained(error, f"part {part}" if part is not None else "an actor of Ray")
            if part is None and not running:
                raise failed from None
            found = None if part is None else Filled(str(part), problems=[failed])
            if part is None:
                continue
        if found is not None:
            left -= 1
            yield found
        if waiting:
            part = waiting.pop(0)
            running[actor.fill.remote(part)] = actor, part
        else:
            engine.kill(actor)
