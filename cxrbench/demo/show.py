"""The demonstration, step by step: the same code path as real data, on data that is made."""

import os
from collections.abc import Callable
from pathlib import Path

from cxrbench import catalog
from cxrbench.bench.request import Engine, Places, Request
from cxrbench.bench.run import Report, run
from cxrbench.data.phantom.write import write
from cxrbench.progress import Progress
from cxrbench.published import published_table
from cxrbench.recipe import Canvas
from cxrbench.record import read_records
from cxrbench.report.render import render
from cxrbench.report.view import table_view

Say = Callable[[str], None]

MODEL = "demo_unimodal"
RECIPE = Canvas(size=64)
PRETRAINING_SEED, PRETRAINING_IMAGES = 1, 110  # another seed: other patients than in the evaluation sets


def demo(out: Path, progress: Progress, say: Say) -> Report:
    """Draw the phantoms, train the encoder, measure it on all seven tasks, print Tables 2 to 4; everything below `out`.

    What an earlier call finished is reused.
    """
    for task in catalog.task_files():
        summary = write(task, out / "data", workers=_cores())
        say(f"phantom of {task}: {summary.images} images in {summary.root}")
    card = encoder(out, say)
    request = Request(
        models=(str(card),),
        tasks=("all",),
        variant="phantom",
        groups=("*",),
        prompts=("all",),
        places=Places(data={"": out / "data"}, out=out / "results", cache=out / "cache"),
        engine=Engine(device="cpu"),
    )
    report = run(request, progress, say)
    tables(out / "results", say)
    return report


def encoder(out: Path, say: Say) -> Path:
    """The card of the small encoder, trained now unless it is there."""
    card = out / "model" / f"{MODEL}.toml"
    if card.is_file():
        return card
    from safetensors.torch import save_file

    from cxrbench.demo.encoder import Training, card_text, corpus, trained

    how = Training()
    summary = write(
        "chexpert5x200",
        out / "pretraining",
        images_per_class=PRETRAINING_IMAGES,
        seed=PRETRAINING_SEED,
        workers=_cores(),
    )
    say(f"training {MODEL} on {summary.images} phantom radiographs, {how.epochs} epochs, seed {how.seed}")
    tensors = trained(corpus(summary.root, RECIPE), how)
    card.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, card.with_suffix(".safetensors"))
    card.write_text(card_text(MODEL, f"{MODEL}.safetensors", RECIPE, (("pooled", 512), ("joint", how.dimension))))
    return card


def tables(results: Path, say: Say) -> None:
    """Tables 2 to 4 of the phantom records, to the terminal and as Markdown below `results`/tables."""
    variant = catalog.load_variant("phantom")
    records = [record for record in read_records(results)[0] if record.variant_digest == variant.digest]
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for number in (2, 3, 4):
        view = table_view(published_table(number), records, variant.name, synthetic=True)
        say("\n" + render(view, "terminal"))
        (folder / f"table{number}.md").write_text(render(view, "markdown"), encoding="utf-8")
    say(f"made images and weights: these numbers say nothing about any real model. Records: {results / 'records'}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
