"""Processes that begin at once: forks of a server, one a test process, that has imported the slow libraries.

A process of its own is what tests that kill it need; four seconds of imports are not.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest.mock import patch

LIBRARIES = ("torchvision", "transformers", "lightning_fabric", "timm", "pandas", "sklearn.linear_model")
OWN = ("cxrbench.cli.main", "cxrbench.runner.run", "cxrbench.pretrain.job")


@dataclass(frozen=True)
class Fork:
    """A running process, and the files in which what it says ends up."""

    process: ForkServerProcess
    said: Path
    warned: Path

    def ended(self, timeout_s: float) -> int:
        """Its exit status, negative for a signal; fails where it does not end in time."""
        self.process.join(timeout_s)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"no end within {timeout_s} s: {self.told}")
        return code

    @property
    def told(self) -> str:
        """Both of its streams."""
        return self.said.read_text(encoding="utf-8") + self.warned.read_text(encoding="utf-8")


def fork(
    work: Callable[..., None], *args: object, said: Path, cwd: Path, environment: Mapping[str, str] | None = None
) -> Fork:
    """Begin `work(*args)`, a function of a module, in the folder `cwd`.

    Its output goes to `said`, its complaints to a file beside it.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, *OWN])
    with patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}):
        forkserver.ensure_running()
    warned = said.with_name(f"{said.name}.stderr")
    told = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    process = context.Process(target=_begin, args=(work, args, str(said), str(warned), str(cwd), told))
    process.start()
    return Fork(process, said, warned)


def _begin(
    work: Callable[..., None], args: tuple[object, ...], said: str, warned: str, cwd: str, told: dict[str, str]
) -> None:
    assert "transformers" in sys.modules, "the server has imported nothing"
    for descriptor, name in ((1, said), (2, warned)):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(told)
    os.chdir(cwd)
    work(*args)


def command_line(words: tuple[str, ...]) -> None:
    """`cxrbench WORDS`."""
    from cxrbench.cli.main import main

    sys.argv = ["cxrbench", *words]
    main()
