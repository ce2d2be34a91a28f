"""A small training run as a program: `python made_training.py OUT CORPUS_ROWS [section.key=value ...]`.

It resumes what lies in OUT. With KILL=n in the environment it dies by SIGKILL while the n-th batch is read, which the
thread that makes batches does, so the step, log or checkpoint under way is cut anywhere. With STOP=n the last process
sends itself SIGTERM then.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
from made_lessons import made_corpus, made_pixels, small_choices
from numpy.typing import NDArray

from cxrbench.pretrain.batches import BatchPixels
from cxrbench.pretrain.config import Config, build_config
from cxrbench.pretrain.engine import Processes
from cxrbench.pretrain.log import Log
from cxrbench.pretrain.loop import Loop, Material
from cxrbench.pretrain.network import find_text_encoder
from cxrbench.system.progress import Quiet


class DeadlyPixels:
    """Rows, and a signal to the process at some number of readings (0: never)."""

    def __init__(self, rows: NDArray[np.uint8], last: int, sent: signal.Signals = signal.SIGKILL) -> None:
        self._rows, self._left, self._sent = rows, last, sent

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._sent)
        return self._rows[rows]


def made_loop(out: Path, config: Config, rows: int, last: int = 0, sent: signal.Signals = signal.SIGKILL) -> Loop:
    """A loop over the made corpus, ready to run."""
    corpus = made_corpus(rows)
    pixels: BatchPixels = DeadlyPixels(made_pixels(corpus, config.image.size), last, sent)
    material = Material(corpus, pixels, find_text_encoder(config))
    return Loop(config, material, out, Processes(config), Quiet(), Log(out))


def main(out: str, rows: str, *words: str) -> None:
    choices = small_choices(Path(out) / "text") | dict(word.split("=", 1) for word in words)
    told = {name: int(os.environ.get(name, "0")) for name in ("KILL", "STOP")}
    is_last = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
    stop = told["STOP"] if is_last else 0
    deadly = (stop, signal.SIGTERM) if stop else (told["KILL"], signal.SIGKILL)
    loop = made_loop(Path(out), build_config(None, choices), int(rows), *deadly)
    loop.resume()
    loop.run()
    loop.log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
