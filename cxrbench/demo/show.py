"""The demonstration, step by step: the same code path as real data, on data that is made."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cxrbench.analysis.paper_tables import table_view
from cxrbench.demo.drawing import draw
from cxrbench.demo.encoders import Folders, Say, encoders
from cxrbench.demo.seen import seen_and_unseen, sheets
from cxrbench.pretrain.export import CARD
from cxrbench.pretrain.frequencies import read
from cxrbench.pretrain.job import FREQUENCIES
from cxrbench.records.integrity import read_results
from cxrbench.records.record import Record
from cxrbench.reports.html.page import report as html_report
from cxrbench.reports.html.render import write as write_html
from cxrbench.reports.html.work import Work
from cxrbench.reports.tables import render
from cxrbench.runner.request import Engine, Places, Request
from cxrbench.runner.run import Report, run
from cxrbench.specs import catalog
from cxrbench.specs.paper import published_table
from cxrbench.system.progress import Progress

VARIANT = "phantom"
CONTROLS = ("class_prior", "image_statistics", "shuffled_labels")  # the random ResNet-50 takes longer than all the rest
FEWER_SHOTS = (1, 4)  # on all classes, for curves


def demo(out: Path, progress: Progress, say: Say) -> Report:
    """Draw the phantoms, train the encoders, measure them on all seven tasks, show what came out; all below `out`.

    What an earlier call finished is reused.
    """
    folders = Folders(out)
    draw(folders, say)
    runs = encoders(folders, progress, say)
    report = _measured([str(run_ / CARD) for run_ in runs.values()], folders, progress, say)
    found = read_results(folders.results, folders.cache)
    digest = catalog.load_variant(VARIANT).digest
    records = [record for record in found.records if record.variant_digest == digest]
    tables(records, folders.results, say)
    say("\n" + seen_and_unseen(records, folders.results))
    shares = {name: one.share for name, one in read(runs["clip"] / FREQUENCIES).all.of_images.items()}
    say("\n" + sheets(records, shares))
    say(f"made images and weights: these numbers say nothing about any real model. Records: {folders.results}/records")
    size = write_html(folders.report, html_report(Work(folders.results), found, None))
    say(
        f"report: {folders.report} ({size / 1e6:.1f} MB), all of it as one page with intervals; open it in a browser, "
        f"no network is needed: {folders.report.resolve().as_uri()}"
    )
    return report


def _measured(encoders_: Sequence[str], folders: Folders, progress: Progress, say: Say) -> Report:
    """What all runs came to together."""
    total = Report()
    for request in _requests(encoders_, folders):
        done = run(request, progress, say)
        total.records += done.records
        total.skipped |= done.skipped
        total.problems += done.problems
        total.failed += done.failed
        total.cached, total.decoded = total.cached + done.cached, total.decoded + done.decoded
        total.encoded += done.encoded
        total.unreadable |= done.unreadable
        total.missing |= done.missing
    return total


def _requests(encoders_: Sequence[str], folders: Folders) -> Iterator[Request]:
    """Everything beside the negative controls, then probes with fewer shots."""
    places = Places(data={"": folders.evaluation}, out=folders.results, cache=folders.cache)
    engine = Engine(device="cpu")
    yield Request(
        models=(*encoders_, *CONTROLS),
        tasks=("all",),
        variant=VARIANT,
        groups=("*",),
        prompts=tuple(catalog.prompt_files()),
        places=places,
        engine=engine,
    )
    yield Request(
        models=tuple(encoders_),
        tasks=("all",),
        protocols=("linear-probe",),
        shots=FEWER_SHOTS,
        variant=VARIANT,
        places=places,
        engine=engine,
    )


def tables(records: Sequence[Record], results: Path, say: Say) -> None:
    """Tables 2 to 4 of the records, to the terminal and as Markdown below `results`/tables."""
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for number in (2, 3, 4):
        view = table_view(published_table(number), records, VARIANT, synthetic=True)
        say("\n" + render(view, "terminal"))
        (folder / f"table{number}.md").write_text(render(view, "markdown"), encoding="utf-8")
