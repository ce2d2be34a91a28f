"""The demonstration, step by step: the same code path as real data, on data that is made."""

from collections.abc import Sequence
from pathlib import Path

from cxrbench import catalog, cpu
from cxrbench.bench.request import Engine, Places, Request
from cxrbench.bench.run import Report, run
from cxrbench.data.phantom.write import write
from cxrbench.demo.encoders import Folders, Say, encoders
from cxrbench.demo.seen import seen_and_unseen, sheets
from cxrbench.pretrain.export import CARD
from cxrbench.pretrain.frequencies import read
from cxrbench.pretrain.job import FREQUENCIES
from cxrbench.progress import Progress
from cxrbench.published import published_table
from cxrbench.record import Record, read_records
from cxrbench.report.render import render
from cxrbench.report.view import table_view

VARIANT = "phantom"


def demo(out: Path, progress: Progress, say: Say) -> Report:
    """Draw the phantoms, train the encoders, measure them on all seven tasks, print what came out; all below `out`.

    What an earlier call finished is reused.
    """
    folders = Folders(out)
    for task in catalog.task_files():
        summary = write(task, folders.evaluation, workers=cpu.cores())
        say(f"phantom of {task}: {summary.images} images in {summary.root}")
    runs = encoders(folders, progress, say)
    request = Request(
        models=tuple(str(run_ / CARD) for run_ in runs.values()),
        tasks=("all",),
        variant=VARIANT,
        groups=("*",),
        prompts=tuple(catalog.prompt_files()),
        places=Places(data={"": folders.evaluation}, out=folders.results, cache=folders.cache),
        engine=Engine(device="cpu"),
    )
    report = run(request, progress, say)
    digest = catalog.load_variant(VARIANT).digest
    records = [record for record in read_records(folders.results)[0] if record.variant_digest == digest]
    tables(records, folders.results, say)
    say("\n" + seen_and_unseen(records, folders.results))
    shares = {name: found.share for name, found in read(runs["clip"] / FREQUENCIES).all.of_images.items()}
    say("\n" + sheets(records, shares))
    say(f"made images and weights: these numbers say nothing about any real model. Records: {folders.results}/records")
    return report


def tables(records: Sequence[Record], results: Path, say: Say) -> None:
    """Tables 2 to 4 of the records, to the terminal and as Markdown below `results`/tables."""
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for number in (2, 3, 4):
        view = table_view(published_table(number), records, VARIANT, synthetic=True)
        say("\n" + render(view, "terminal"))
        (folder / f"table{number}.md").write_text(render(view, "markdown"), encoding="utf-8")
