"""Losses and gradients of single steps, by as many processes as torchrun starts: `made_ranks.py OUT TEXT BATCH`.

The first process saves them; BATCH is that of one process. Everything is in float64, so that only a wrong formula
differs.
"""

import sys
from itertools import islice
from pathlib import Path

import torch
from made_lessons import made_corpus, made_pixels, small_choices, triage_choices

from cxrbench.errors import RunError
from cxrbench.pretrain.batches import Feed, split
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.engine import Processes, TrainingEngine
from cxrbench.pretrain.network import find_text_encoder

ROWS = 118  # 107 to train on: six global batches of 16 and one of 11, which two processes share as 6 and 5


def main(out: Path, text: Path, batch: int) -> None:
    """Save loss and gradients of the first and the last batch of an epoch, for every objective."""
    found, processes = {}, None
    for objective in ("clip", "unicl", "unimodal", "dlilp", "sat"):
        made = triage_choices if objective == "sat" else small_choices
        told = made(
            text,
            objective=objective,
            data__batch_size=str(batch),
            optimiser__clip_norm="1e9",
            engine__precision="64-true",
        )
        config = build_config(None, told)
        processes = processes or Processes(config)
        corpus, files = made_corpus(ROWS), find_text_encoder(config)
        feed = Feed(corpus, made_pixels(corpus), config, processes.place, files)
        rows = split(corpus, config.data).train
        for number in (0, 6):
            engine = TrainingEngine(config, len(corpus.classes), files, processes)
            one = next(islice(feed.training(rows, 0), number, None))
            stepped = engine.step(one, 1e-3, 0)
            parameters = engine.network.named_parameters()
            found[f"{objective} {number}"] = {
                "loss": stepped.loss,
                **{name: p.grad for name, p in parameters if p.grad is not None},
                **{name: b for name, b in engine.network.named_buffers() if "running" in name},
            }
    assert processes is not None
    must_agree(processes)
    if processes.first:
        torch.save(found, out)


def must_agree(processes: Processes) -> None:
    """Several processes that hold different things are told so, all of them."""
    processes.agree("word", "same")
    assert processes.of_first("mine" if processes.first else None) == "mine"
    try:
        processes.agree("word", str(processes.place.rank))
    except RunError as error:
        assert "process 1 has another word" in str(error)
    else:
        assert processes.place.ranks == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
