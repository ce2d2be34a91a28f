"""One command from request to records: plan, one decoding sweep, then every cell from the store."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cxrbench.errors import CxrBenchError
from cxrbench.runner.encode import Demands, encode
from cxrbench.runner.identity import NO_FILE
from cxrbench.runner.lay_out import lay_out
from cxrbench.runner.model import devices
from cxrbench.runner.plan import Demand, Plan
from cxrbench.runner.protocol import Cell
from cxrbench.runner.recording import Inputs, Outcome, cached, cell_id
from cxrbench.runner.request import Request
from cxrbench.runner.settle import Clerk, RunResult, Say
from cxrbench.system.contained import PASSING, Logbook
from cxrbench.system.progress import Progress, Quiet

__all__ = ["Forecast", "RunResult", "forecast", "run"]


def _say_nothing(line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do: cells, images by model and recipe that wait or are stored, and what stands in the way.

    `skipped`: what cannot be scored, and why.
    """

    cells: tuple[str, ...]
    cached: tuple[str, ...]
    images: Mapping[str, tuple[int, int]]  # encoder to (in the store, to be encoded or not yet read)
    problems: tuple[CxrBenchError, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


def run(request: Request, progress: Progress | None = None, say: Say = _say_nothing) -> RunResult:
    """Measure every cell of the request; finished work of earlier runs is reused, and nothing finished is lost.

    `say` is told a line per cell. Raises SpecError for names that do not exist; everything else that goes wrong, of
    whatever kind, is in the report after all that could be done was done, with tracebacks in a file below `out`/logs.
    """
    started, began = datetime.now(UTC), time.monotonic()
    request = _filled_by_all(request, say)
    made = lay_out(request)
    report = RunResult(skipped=dict(made.skipped))
    clerk = Clerk(report, say, Logbook(request.places.out / "logs"))
    for problem in made.problems:
        clerk.add(problem)
    for name, reason in made.skipped.items():
        say(f"{name}: not applicable: {reason.partition(';')[0]}")
    for line in _rows_left_out(made):
        say(line)
    needs = Demand(made)
    encoders = needs.encoders
    wanted = needs.table(made.cells)
    open_cells = [cell for cell in made.cells if not _settled(cell, made, needs)]
    sweep = encode(
        Demands(tuple(needs.files), needs.known, wanted, needs.table(open_cells)),
        encoders,
        needs.store,
        needs.hashes,
        batch_size=request.engine.batch_size,
        workers=request.engine.threads,
        progress=progress or Quiet(),
    )
    for remark in sweep.remarks:
        say(remark)
    if sweep.reader == "reference":
        say("this machine's fast image decoders failed their self-test: the plain ones were used")
    report.decoded, report.encoded = sweep.decoded, sweep.encoded
    report.unreadable, report.missing = sweep.unreadable, sweep.missing
    for problem in sweep.problems:
        clerk.add(problem)
    sweep.broken |= {**needs.mixed_up(sweep.content), **needs.broken}
    outcome = Outcome(made, sweep, started, began)
    last = {id(cell.model): number for number, cell in enumerate(made.cells)}
    for number, cell in enumerate(made.cells):
        clerk.settle(cell, outcome, needs.refused.get(cell))
        if number == last[id(cell.model)]:
            cell.model.leave()
    return report


def _rows_left_out(made: Plan) -> list[str]:
    """A line for each task and reason for which rows of its tables are in no part."""
    findings = {side.task.name: side.partition.findings for cell in made.cells for side in cell.data.sides}
    return [
        f"{task}: left out: {n} rows: {why}" for task, found in findings.items() for why, n in found.left_out.items()
    ]


def _filled_by_all(request: Request, say: Say) -> Request:
    """Where several devices are named, encode by all of them first; the rest goes by the first.

    Models in memory are in no other process: they stay where they are.
    """
    chosen = devices(request.engine.device)
    if len(chosen) > 1 and request.models:
        from cxrbench.runner.executors import local
        from cxrbench.runner.filling import FilePart, Filled, RequestJob

        def told(found: Filled) -> None:
            for line in (*found.remarks, *map(str, found.problems)):
                say(line)
            say(f"part {found.part}: {found.decoded} images decoded, {found.encoded} encoded")

        local(RequestJob(replace(request, held=())), FilePart().shared(len(chosen)), chosen, told)
    return replace(request, engine=replace(request.engine, device=chosen[0]))


def forecast(request: Request) -> Forecast:
    """What `run` would compute, what is in the store already, and what is missing; reads no image."""
    request = replace(request, engine=replace(request.engine, device=devices(request.engine.device)[0]))
    made = lay_out(request)
    needs = Demand(made)
    _ = needs.encoders  # tells what stands in their way
    embeddings = needs.embeddings()
    images = dict[str, tuple[int, int]]()
    for key, places in needs.table(made.cells).items():
        contents = [content for place in places.tolist() if (content := needs.known[place]) is not None]
        have = int(embeddings[key].has(contents).sum())
        there, waiting = images.get(needs.names[key], (0, 0))
        images[needs.names[key]] = (there + have, waiting + len(places) - have)
    for problem in (*needs.refused.values(), *needs.broken.values()):
        made.add(problem)
    laid_out = [cell for cell in made.cells if cell not in needs.refused]
    ready = list[str]()
    for cell in laid_out:
        with made.part(cell.name):
            ready += [cell.name] if _recorded(cell, made, needs) else []
    names = tuple(cell.name for cell in laid_out)
    return Forecast(names, tuple(ready), images, tuple(made.problems), dict(made.skipped))


def _settled(cell: Cell, made: Plan, needs: Demand) -> bool:
    """Whether the cell's record is there, so that nobody reads its rows; what goes wrong shows when it is measured."""
    try:
        return made.request.resume and _recorded(cell, made, needs)
    except PASSING:
        raise
    except BaseException:
        return False


def _recorded(cell: Cell, made: Plan, needs: Demand) -> bool:
    """Whether a run would find the cell's record, by what is remembered of its files."""
    paths = {image: cell.data.partition.paths.get(image) for image in made.wanted(cell)}
    contents = {image: needs.known[needs.files[path]] for image, path in paths.items() if path is not None}
    read = {image: content for image, content in contents.items() if content is not None}
    left_out = {image: NO_FILE for image, path in paths.items() if path is None}
    return len(read) == len(contents) and cached(cell, made, cell_id(cell, made, Inputs(left_out, read))) is not None
