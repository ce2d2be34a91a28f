"""One command from request to records: plan, one decoding sweep, then every cell from the store."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cxrbench.bench.cells import Cell
from cxrbench.bench.forward import Asked
from cxrbench.bench.identity import NO_FILE
from cxrbench.bench.measure import Basis, measure
from cxrbench.bench.plan import Plan, plan
from cxrbench.bench.recording import Outcome, cached, written
from cxrbench.bench.request import Request
from cxrbench.encode import Encoder, encode
from cxrbench.errors import CxrBenchError, NotApplicableError
from cxrbench.ledger import Ledger
from cxrbench.progress import Progress, Quiet
from cxrbench.record import Record
from cxrbench.store import Embeddings, Key, Store


@dataclass(slots=True)
class Report:
    """What a run came to; `skipped` are cells that cannot be scored, with the reason, `problems` what went wrong.

    `failed` are the cells that it went wrong with, after they were laid out.
    """

    records: list[Record] = field(default_factory=list)
    cached: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[CxrBenchError] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    decoded: int = 0
    encoded: int = 0
    unreadable: dict[Path, str] = field(default_factory=dict)


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


class _Desk:
    """The store, the ledgers and the plan's needs, worked out once."""

    def __init__(self, made: Plan) -> None:
        self.plan, cache = made, made.request.places.cache
        self.store, self._cache = Store(cache), cache
        self._ledgers: dict[Path, Ledger] = {}
        self._roots: dict[Path, Path] = {}
        self.names: dict[Key, str] = {}
        self.demands: dict[Path, dict[Key, None]] = {}
        self._asked: dict[Key, dict[Key, Asked]] = {}  # sets of texts by the key of the vectors
        self._sources: dict[Key, Cell] = {}
        for cell in made.cells:
            self._need(cell)

    def _need(self, cell: Cell) -> None:
        vectors = cell.model.key(cell.recipe)
        self._sources.setdefault(vectors, cell)
        for key, asked, images in self.plan.readings(cell):
            name = f"{cell.model.card.name} ({cell.recipe_name})"
            self.names.setdefault(key, name if asked is None else f"{name}, scores of {len(asked.texts)} texts")
            if asked is not None:
                self._asked.setdefault(vectors, {})[key] = asked
            for image in images:
                path = cell.data.partition.paths.get(image)
                if path is not None:
                    self._roots.setdefault(path, cell.data.root)
                    self.demands.setdefault(path, {})[key] = None

    @property
    def encoders(self) -> list[Encoder]:
        """One for each model and recipe, with all that is wanted of it."""
        sources = self._sources.items()
        return [cell.model.encoder(cell.recipe, self._asked.get(vectors)) for vectors, cell in sources]

    def embeddings(self) -> dict[Key, Embeddings]:
        """What the store holds under every key that is wanted."""
        return {key: self.store.read(key) for key in self.names}

    def ledger(self, path: Path) -> Ledger:
        root = self._roots[path]
        if root not in self._ledgers:
            self._ledgers[root] = Ledger(self._cache, root)
        return self._ledgers[root]


def run(request: Request, progress: Progress | None = None, say: Callable[[str], None] = lambda line: None) -> Report:
    """Measure every cell of the request; finished work of earlier runs is reused, and nothing finished is lost.

    `say` is told a line per cell. Raises SpecError for names that do not exist; everything else that goes wrong is in
    the report, after all that could be done was done.
    """
    started, began = datetime.now(UTC), time.monotonic()
    made = plan(request)
    report = Report(problems=list(made.problems), skipped=dict(made.skipped))
    for name, reason in made.skipped.items():
        say(f"{name}: not applicable: {reason.partition(';')[0]}")
    desk = _Desk(made)
    sweep = encode(
        {path: list(keys) for path, keys in desk.demands.items()},
        desk.encoders,
        desk.store,
        desk.ledger,
        batch_size=request.engine.batch_size,
        workers=request.engine.threads,
        progress=progress or Quiet(),
    )
    if sweep.reader == "reference":
        say("this machine's fast image decoders failed their self-test: the plain ones were used")
    report.decoded, report.encoded, report.unreadable = sweep.decoded, sweep.encoded, sweep.unreadable
    outcome = Outcome(made, sweep, desk.embeddings(), started, began)
    for cell in made.cells:
        _settle(cell, outcome, report, say)
    return report


def _settle(cell: Cell, outcome: Outcome, report: Report, say: Callable[[str], None]) -> None:
    """Measure one cell and write its record, or take the one that an equal run left."""
    made, left_out = outcome.plan, outcome.left_out(cell)
    try:
        if (broken := outcome.broken(cell)) is not None:
            raise broken
        known = cached(cell, made, left_out, outcome.contents(cell)) if made.request.resume else None
        if known is not None:
            report.records.append(known)
            report.cached += 1
            say(f"{cell.name}: {_told(known)} (recorded before)")
            return
        basis = Basis(made.folds(cell), made.words(cell), made.test_part(cell), set(left_out), made.variant.settings)
        measured = measure(cell, basis, outcome.stored(cell))
        record = written(cell, outcome, measured, left_out)
    except NotApplicableError as error:
        report.skipped[cell.name] = str(error)
        say(f"{cell.name}: not applicable: {str(error).partition(';')[0]}")
        return
    except CxrBenchError as error:
        if error not in report.problems:
            report.problems.append(error)
        report.failed.append(cell.name)
        say(f"{cell.name}: failed: {error}")
        return
    report.records.append(record)
    say(f"{cell.name}: {_told(record)}")


def _told(record: Record) -> str:
    mean = record.summary["balanced_accuracy"]["mean"]
    return "balanced accuracy undefined" if mean is None else f"balanced accuracy {100 * mean:.2f} %"


def forecast(request: Request) -> Forecast:
    """What `run` would compute, what is in the store already, and what is missing; reads no image."""
    made = plan(request)
    desk = _Desk(made)
    embeddings = desk.embeddings()
    images: dict[str, tuple[int, int]] = {}
    for path, keys in desk.demands.items():
        content = desk.ledger(path).known(path)
        for key in keys:
            there, waiting = images.get(desk.names[key], (0, 0))
            have = content is not None and content in embeddings[key]
            images[desk.names[key]] = (there + have, waiting + (not have))
    problems = list(made.problems)
    ready = [cell.name for cell in made.cells if _recorded(cell, made, desk, problems)]
    names = tuple(cell.name for cell in made.cells)
    return Forecast(names, tuple(ready), images, tuple(problems), dict(made.skipped))


def _recorded(cell: Cell, made: Plan, desk: _Desk, problems: list[CxrBenchError]) -> bool:
    """Whether a run would find the cell's record; what keeps it from being looked for joins the problems."""
    paths = {image: cell.data.partition.paths.get(image) for image in made.wanted(cell)}
    contents = {image: desk.ledger(path).known(path) for image, path in paths.items() if path is not None}
    read = {image: content for image, content in contents.items() if content is not None}
    left_out = {image: NO_FILE for image, path in paths.items() if path is None}
    try:
        return len(read) == len(contents) and cached(cell, made, left_out, read) is not None
    except CxrBenchError as error:
        if str(error) not in map(str, problems):
            problems.append(error)
        return False
