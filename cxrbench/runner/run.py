"""One command from request to records: plan, one decoding sweep, then every cell from the store."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cxrbench.errors import CxrBenchError
from cxrbench.runner.encode import encode
from cxrbench.runner.identity import NO_FILE
from cxrbench.runner.lay_out import lay_out
from cxrbench.runner.plan import Demand, Plan
from cxrbench.runner.protocol import Cell
from cxrbench.runner.recording import Inputs, Outcome, cached, cell_id
from cxrbench.runner.request import Request
from cxrbench.runner.settle import Clerk, RunResult, Say
from cxrbench.system.contained import Logbook
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
    made = lay_out(request)
    report = RunResult(skipped=dict(made.skipped))
    clerk = Clerk(report, say, Logbook(request.places.out / "logs"))
    for problem in made.problems:
        clerk.add(problem)
    for name, reason in made.skipped.items():
        say(f"{name}: not applicable: {reason.partition(';')[0]}")
    needs = Demand(made)
    encoders = needs.encoders
    sweep = encode(
        {path: [key for key in keys if key not in needs.broken] for path, keys in needs.demands.items()},
        encoders,
        needs.store,
        needs.hashes,
        batch_size=request.engine.batch_size,
        workers=request.engine.threads,
        progress=progress or Quiet(),
    )
    if sweep.reader == "reference":
        say("this machine's fast image decoders failed their self-test: the plain ones were used")
    report.decoded, report.encoded = sweep.decoded, sweep.encoded
    report.unreadable, report.missing = sweep.unreadable, sweep.missing
    for problem in sweep.problems:
        clerk.add(problem)
    outcome = Outcome(made, sweep, needs.embeddings(), started, began)
    sweep.broken |= needs.broken
    for cell in made.cells:
        clerk.settle(cell, outcome, needs.refused.get(cell))
    return report


def forecast(request: Request) -> Forecast:
    """What `run` would compute, what is in the store already, and what is missing; reads no image."""
    made = lay_out(request)
    needs = Demand(made)
    embeddings = needs.embeddings()
    images: dict[str, tuple[int, int]] = {}
    for path, keys in needs.demands.items():
        content = needs.hashes(path).known(path)
        for key in keys:
            there, waiting = images.get(needs.names[key], (0, 0))
            have = content is not None and content in embeddings[key]
            images[needs.names[key]] = (there + have, waiting + (not have))
    for problem in (*needs.refused.values(), *needs.broken.values()):
        made.add(problem)
    laid_out = [cell for cell in made.cells if cell not in needs.refused]
    ready = [cell.name for cell in laid_out if _recorded(cell, made, needs)]
    names = tuple(cell.name for cell in laid_out)
    return Forecast(names, tuple(ready), images, tuple(made.problems), dict(made.skipped))


def _recorded(cell: Cell, made: Plan, needs: Demand) -> bool:
    """Whether a run would find the cell's record; what keeps it from being looked for joins the plan's problems."""
    with made.part(cell.name):
        paths = {image: cell.data.partition.paths.get(image) for image in made.wanted(cell)}
        contents = {image: needs.hashes(path).known(path) for image, path in paths.items() if path is not None}
        read = {image: content for image, content in contents.items() if content is not None}
        left_out = {image: NO_FILE for image, path in paths.items() if path is None}
        inputs = Inputs(left_out, read)
        return len(read) == len(contents) and cached(cell, made, cell_id(cell, made, inputs)) is not None
    return False
