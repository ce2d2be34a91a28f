"""`cxrbench report`: one HTML file of everything that a results folder holds."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Models,
    Out,
    PromptSets,
    Protocols,
    ShotNumbers,
    Tasks,
    TheseDraws,
    asked_cells,
    chosen_variant,
    metrics,
    tell_left_out,
    words,
)
from cxrbench.errors import SpecError


def report(
    model: Models = None,
    task: Tasks = None,
    protocol: Protocols = None,
    shots: ShotNumbers = None,
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="Label groups. [default: each]")] = None,
    prompts: PromptSets = None,
    out: Out = Path("results"),
    to: Annotated[Path, typer.Option("--to", help="The file to write.")] = Path("report.html"),
    site: Annotated[
        Path | None,
        typer.Option("--site", metavar="DIR", help="Write a leaderboard of static pages here instead of one file."),
    ] = None,
    predictions: Annotated[
        bool,
        typer.Option("--predictions", help="Of --site: publish predictions too. They hold image ids and true labels."),
    ] = False,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="Findings of `cxrbench audit --report FILE.json`, to be shown.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Another metric to show in each cell, as of `compare --metric`; repeatable.",
            autocompletion=metrics,
        ),
    ] = None,
    these_draws: TheseDraws = False,
    title: Annotated[str | None, typer.Option("--title", help="Its heading.")] = None,
    author: Annotated[list[str] | None, typer.Option("--author", help="Who wrote it; repeatable.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0: one a core.")] = 0,
) -> None:
    """Write what was measured into one HTML file.

    All of it, or the cells that are chosen: leaderboards, the paper's tables, curves, classes, sources; no network is
    needed to open it. Everything is computed from the records and predictions below --out; no model runs.
    Equal records give equal bytes.
    """
    from cxrbench.checks.audit import read_findings
    from cxrbench.evaluate.metric_table import load_metric
    from cxrbench.records.integrity import found_results
    from cxrbench.records.record import WAY_OUT
    from cxrbench.records.selection import narrowed
    from cxrbench.reports.html.chapters import ReportWork
    from cxrbench.reports.html.page import report as made
    from cxrbench.reports.html.render import write
    from cxrbench.reports.site.write import TITLE, earlier, write_site
    from cxrbench.system import cpu
    from cxrbench.system.printable import one_line

    if site is None and predictions:
        raise SpecError("--predictions belongs to --site DIR; the one file never holds predictions")
    if site is not None and audit is not None:
        raise SpecError("--audit belongs to the one file; a leaderboard (--site) does not show its findings")
    if site is not None:
        earlier(site, out)  # before anything is computed for a folder that is refused
    further = tuple(load_metric(name).name for name in dict.fromkeys(words(metric)))
    audited = None if audit is None else read_findings(audit)
    work = ReportWork(out, workers or cpu.cores(), these_draws, further)
    found = found_results(out)
    tell_left_out(out, found)
    if any((model, task, protocol, shots, group, prompts)):
        asked = asked_cells(chosen_variant("paper-code", None), model, task, group, protocol, shots, prompts)
        found = replace(found, records=tuple(narrowed(found.records, asked)))
    page = made(work, found, audited)
    named = title or (page.named if site is None else TITLE)
    page = replace(page, named=one_line(named), authors=tuple(map(one_line, author or ())))
    for ident, reasons in page.unsound.items():
        if ident not in found.left_out:
            echo(f"left out: record {ident}: {'; '.join(reasons)}. {WAY_OUT}", err=True)
    if site is None:
        echo(f"{to}: {write(to, page) / 1e6:.2f} MB")
        return
    done = write_site(site, page, out, predictions=predictions)
    echo(f"{site}: {done.pages} pages, {done.records} records, {done.size / 1e6:.2f} MB; open {site / 'index.html'}")
