"""A run that tells how it goes, warns of its problems, and returns a report that shows itself."""

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.notebook.records import TOLD, CellTable, warn_of
from cxrbench.runner.settle import RunResult

if TYPE_CHECKING:
    import pandas as pd

    from cxrbench.runner.request import Request


@dataclass(slots=True, repr=False)
class RunReport(RunResult):
    """What a run came to, with the folder `out` that its records lie in; see `RunResult` for the rest."""

    out: Path = Path("results")
    _cells: CellTable | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        counts = f"{len(self.records)} cells ({self.cached} recorded before, {len(self.skipped)} not applicable)"
        problems = f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}"
        return f"<{counts}, {problems}; records in {self.out / 'records'}>"

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a cell with its numbers, intervals and all that made it; docs/export.md tells the columns.

        Raises DataError and IntegrityError for predictions that are gone or changed since.
        """
        return self._table().frame()

    def _repr_html_(self) -> str:
        return self._table().html(repr(self)[1:-1], [str(problem) for problem in self.problems[:TOLD]])

    def _table(self) -> CellTable:
        if self._cells is None:
            self._cells = CellTable(self.out, self.records)
        return self._cells


def run(request: "Request", *, progress: bool) -> RunReport:
    """The run of a request; with `progress` a bar where somebody watches and lines elsewhere. Warns of its problems."""
    from cxrbench.runner.run import run as measure
    from cxrbench.system.progress import progress_for

    report = measure(request, progress_for(sys.stderr) if progress else None)
    found = RunReport(**{f.name: getattr(report, f.name) for f in fields(report)}, out=request.places.out)
    _warn_of_run(found)
    return found


def _warn_of_run(report: RunReport) -> None:
    lost = (*report.unreadable.values(), *report.missing.values())
    told = list(dict.fromkeys([*map(str, report.problems), *lost]))  # one that lost files is told as theirs, too
    counts = {
        "problem": len(report.problems),
        "failed cell": len(report.failed),
        "unreadable image": len(report.unreadable),
        "missing image": len(report.missing),
    }
    head = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count)
    if head:
        warn_of(f"{head}; {len(report.records)} cells were measured:", told, "`problems`, `unreadable`, `missing`")
    elif not report.records:
        reasons = [f"{name}: {reason}" for name, reason in report.skipped.items()]
        warn_of("nothing was measured:" if reasons else "nothing was measured", reasons, "`skipped`")
