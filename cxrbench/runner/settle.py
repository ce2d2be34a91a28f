"""One cell from the store to its record, or to the reason why there is none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench.errors import CxrBenchError, DataError, NotApplicableError
from cxrbench.evaluate.metric_table import main_metric
from cxrbench.records.record import Record
from cxrbench.records.row_order import row_order_note
from cxrbench.runner.checks import where
from cxrbench.runner.identity import NO_FILE
from cxrbench.runner.measure import measure
from cxrbench.runner.protocol import Basis, Cell
from cxrbench.runner.recording import Outcome, cached, cell_id, written
from cxrbench.runner.requirements import files_missing
from cxrbench.runner.transfer import require_apart
from cxrbench.system.contained import Logbook, contained

Say = Callable[[str], None]


@dataclass(slots=True)
class RunResult:
    """What a run came to; `skipped` are cells that cannot be scored, with the reason, `problems` what went wrong.

    `failed` are the cells that it went wrong with, after they were laid out. `unreadable` files are there, `missing`
    ones are not, though they were listed.
    """

    records: list[Record] = field(default_factory=list)
    cached: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[CxrBenchError] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    decoded: int = 0
    encoded: int = 0
    unreadable: dict[Path, str] = field(default_factory=dict)
    missing: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clerk:
    """Fills the report of a run, tells of it line by line, and puts tracebacks into the log."""

    report: RunResult
    say: Say
    logbook: Logbook

    def add(self, problem: CxrBenchError) -> CxrBenchError:
        """Take a problem up; returns the one that was met before, where it is the same."""
        for known in self.report.problems:
            if known is problem or (type(known), known.args) == (type(problem), problem.args):
                return known
        self.logbook.enter(problem)
        self.report.problems.append(problem)
        return problem

    def settle(self, cell: Cell, outcome: Outcome, refused: CxrBenchError | None) -> None:
        """Measure one cell and write its record, or take the one that an equal run left; nothing is raised."""
        try:
            if refused is not None:
                raise refused
            self._settle(cell, outcome)
        except NotApplicableError as error:
            self.report.skipped[cell.name] = str(error)
            self.say(f"{cell.name}: not applicable: {str(error).partition(';')[0]}")
        except BaseException as error:
            problem = self.add(contained(error, cell.name))
            self.report.failed.append(cell.name)
            self.say(f"{cell.name}: failed: {problem}")

    def _settle(self, cell: Cell, outcome: Outcome) -> None:
        made, inputs = outcome.plan, outcome.inputs(cell)
        if (broken := outcome.broken(cell)) is not None:
            raise broken
        _require_there(cell, outcome)
        _require_readable(cell, outcome, inputs.left_out)
        require_apart(cell, made.folds(cell), inputs.contents)
        ident = cell_id(cell, made, inputs)
        known = cached(cell, made, ident) if made.request.resume else None
        if known is not None:
            self.report.records.append(known)
            self.report.cached += 1
            self.say(f"{cell.name}: {_told(known)} (recorded before)")
            return
        lost, settings = set(inputs.left_out), made.variant.settings
        basis = Basis(made.folds(cell), made.words(cell), made.test_part(cell), lost, settings)
        measured = measure(cell, basis, outcome.stored(cell))
        record = written(cell, outcome, measured, inputs, ident)
        self.report.records.append(record)
        self.say(f"{cell.name}: {_told(record)}")


def _require_there(cell: Cell, outcome: Outcome) -> None:
    """Without --allow-missing, raise DataError if files of the cell vanished since they were listed."""
    paths, gone = cell.data.partition.paths, outcome.sweep.missing
    if outcome.plan.request.allow_missing or not any(paths.get(i) in gone for i in outcome.plan.wanted(cell)):
        return
    lost = sorted(image for image, path in paths.items() if path in gone)
    side = cell.data.owner(lost[0])
    own = [image for image in lost if cell.data.owner(image) is side]
    raise files_missing(side.task.name, len(own), own[0], side.root)


def _require_readable(cell: Cell, outcome: Outcome, left_out: Mapping[str, str]) -> None:
    """Raise DataError if more of the scored or the training images are unreadable than the request allows.

    A single one never is too many.
    """
    folds, shots = outcome.plan.folds(cell), cell.shots
    scored = dict.fromkeys(image for fold in folds for image in fold.test[0])
    trained = dict.fromkeys(image for fold in folds for image in fold.train[shots][0]) if shots is not None else {}
    chosen_on = dict.fromkeys(image for fold in folds if fold.valid is not None for image in fold.valid[0])
    told = f"{shots}-shot training" if isinstance(shots, int) else "training"
    parts = ((outcome.plan.test_part(cell), scored), (told, trained), ("validation", chosen_on))
    if cell.model.card.given:
        _require_given(where(cell), left_out)
    for part, images in parts:
        _require_few(where(cell), part, list(images), left_out, outcome.plan.request.max_unreadable)


def _require_given(place: str, left_out: Mapping[str, str]) -> None:
    """Raise DataError for any image that is there and has no vector in the file: no part of the images is measured."""
    if lost := [reason for reason in left_out.values() if reason != NO_FILE]:
        raise DataError(f"{place}: {len(lost)} images without given vectors; the first: {lost[0]}")


def _require_few(place: str, part: str, images: Sequence[str], left_out: Mapping[str, str], limit: float) -> None:
    there = [image for image in images if left_out.get(image) != NO_FILE]
    lost = [image for image in there if image in left_out]
    if len(lost) > max(1, limit * len(there)):
        raise DataError(
            f"{place}: {len(lost)} of {len(there)} {part} images cannot be read, more than --max-unreadable {limit:g} "
            f"allows; the first: {left_out[lost[0]]}. Mend the files, or allow more (the record lists them)."
        )


def _told(record: Record) -> str:
    metric, how = main_metric(record.data.kind, record.data.group), record.protocol
    mean = record.summary[metric.name]["mean"]
    few = ", ".join(f"{label} {images}" for label, images in how.short.items())
    told = f"{metric.title} undefined" if mean is None else f"{metric.title} {100 * mean:.2f} %"
    told = f"{told} (fewer than {how.shots} training images of {few})" if few else told
    told = f"{told} ({unsettled})" if (unsettled := row_order_note(record)) else told
    shared, other = record.data.shared_patients, record.data.trained_on
    told = f"{told} ({shared} test patients were trained on, too: `cxrbench audit`)" if shared else told
    if other is None:
        return told
    words = [
        f"{len(record.data.labels)} shared labels",
        *(f"left out: {n} rows {why}" for why, n in other.left_out.items()),
    ]
    return f"{told} ({'; '.join([*words, other.doubt] if other.doubt else words)})"
