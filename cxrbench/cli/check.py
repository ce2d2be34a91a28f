"""`cxrbench check`: whether a number moved."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import Out
from cxrbench.errors import DataError, IntegrityError

if TYPE_CHECKING:
    from cxrbench.analysis.against_paper import CellVerdict
    from cxrbench.checks.baseline import Baseline
    from cxrbench.records.record import Record

MOVED = 1  # the exit code of a check that found something


def check(
    out: Out = Path("results"),
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="Committed numbers. [default: baseline.toml in the results]")
    ] = None,
    against: Annotated[
        Literal["both", "baseline", "paper"], typer.Option("--against", help="What records are held against.")
    ] = "both",
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline from the records instead of checking them.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Let cells of the baseline without a record be; with --update, keep them.")
    ] = False,
    closeness: Annotated[
        float | None,
        typer.Option(
            "--closeness",
            min=0,
            help="With --update: how far scores may differ on another machine, as a share of the largest. "
            "[default: 0.0001]",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            min=0,
            help="Within how many points of a printed number one from other images or draws agrees with it. "
            "[default: 5]",
        ),
    ] = None,
    form: Annotated[
        Literal["table", "markdown", "junit", "json"], typer.Option("--format", "-f", help="Output format.")
    ] = "table",
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", help="Also write a file, by its suffix .txt, .md, .xml (JUnit) or .json; repeatable."),
    ] = None,
) -> None:
    """Say whether a number moved.

    Records are held against their own predictions, the baseline and the paper's cells. Exit code 1 if a number moved or
    differs from the printed one, 4 if a record is not what its predictions say.
    """
    from cxrbench.checks.verdicts import render, write

    place = baseline or out / "baseline.toml"
    records, damaged = _records(out)
    if update:
        _update(place, out, records, damaged, partial=partial, closeness=closeness)
        return
    known = _baseline(place, needed=baseline is not None or against == "baseline") if against != "paper" else None
    nothing = damaged and not records and known is None
    findings = [*damaged, *([] if nothing else _findings(out, records, known, margin, paper=against != "baseline"))]
    for path in report or ():
        write(path, findings, partial=partial)
    echo(render(findings, form, partial=partial), nl=False)
    _leave(findings, partial)


def _records(out: Path) -> "tuple[list[Record], list[CellVerdict]]":
    """The records, and a finding for each file that should be one and is damaged."""
    from cxrbench.analysis.against_paper import CellVerdict
    from cxrbench.records.integrity import found_results

    found = found_results(out)
    if found.foreign:
        echo(f"{found.foreign} files in {out / 'records'} are of another version and were left out", err=True)
    damaged = [CellVerdict("predictions", name, "broken", reasons=(why,)) for name, why in found.left_out.items()]
    return list(found.records), damaged


def _baseline(path: Path, *, needed: bool) -> "Baseline | None":
    from cxrbench.checks.baseline import read_baseline

    if path.is_file():
        return read_baseline(path)
    if needed:
        raise DataError(f"{path}: there is no baseline. Make one from records that you trust: cxrbench check --update")
    echo(f"{path}: there is no baseline; cxrbench check --update makes one", err=True)
    return None


def _findings(
    out: Path, records: "list[Record]", known: "Baseline | None", margin: float | None, *, paper: bool
) -> "list[CellVerdict]":
    from cxrbench.analysis.against_paper import MARGIN, against_paper
    from cxrbench.checks.verdicts import against_baseline, against_predictions

    if not records and (known is None or not known.cells):
        raise DataError(f"{out}: there are no records to check. `cxrbench run` writes them; --out says where they are.")
    broken = against_predictions(out, records)
    unsound = {found.record for found in broken}
    sound = [record for record in records if record.id not in unsound]
    kept = against_baseline(known, sound) if known is not None else []
    if not paper:
        return [*broken, *kept]
    return [*broken, *kept, *against_paper(out, sound, margin=MARGIN if margin is None else margin)]


def _update(
    path: Path,
    out: Path,
    records: "list[Record]",
    damaged: "list[CellVerdict]",
    *,
    partial: bool,
    closeness: float | None,
) -> None:
    from cxrbench.analysis.against_paper import CLOSENESS
    from cxrbench.checks.baseline import Baseline, read_baseline, update

    if damaged:
        told = "; ".join(found.reasons[0] for found in damaged)
        raise IntegrityError(f"{told}. The baseline stays as it was: delete the file and run its cell again.")
    if not records:
        raise DataError(f"{out}: there are no records to make a baseline of; --out says where they are.")
    kept = read_baseline(path) if partial and path.is_file() else Baseline()
    made = update(path, out, records, kept, CLOSENESS if closeness is None else closeness)
    for reason, names in made.left_out.items():
        echo(f"left out: {len(names)} cells, such as {names[0]}: {reason}", err=True)
    echo(f"{path}: {len(made.entries)} cells")


def _leave(findings: "list[CellVerdict]", partial: bool) -> None:
    from cxrbench.checks.verdicts import failed

    bad = failed(findings, partial=partial)
    if any(found.verdict == "broken" for found in bad):
        raise typer.Exit(IntegrityError.exit_code)
    if bad:
        raise typer.Exit(MOVED)
