"""What was asked to be compared, setting by setting: two models paired, more of them ranked."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cxrbench.analysis.compare import Comparison, compare
from cxrbench.analysis.leaderboard import Leaderboard, leaderboard
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.metric_table import Metric, main_metric
from cxrbench.records.record import Record
from cxrbench.records.selection import CellFilter, select


@dataclass(frozen=True, slots=True)
class BySetting:
    """The settings that can be compared, in order, and the reasons why others cannot."""

    found: tuple[Comparison | Leaderboard, ...]
    refused: tuple[NotApplicableError, ...]


def by_setting(
    out: Path, records: Iterable[Record], asked: CellFilter, metric: Metric | None = None, *, these_draws: bool = False
) -> BySetting:
    """Every setting in which the models were measured, from records and predictions below `out`.

    Without a `metric` it is the main one of the setting's tasks.

    Raises what `select` does, DataError and IntegrityError for predictions that are gone or changed, and the first
    NotApplicableError where no setting can be compared.
    """
    found, refused = list[Comparison | Leaderboard](), list[NotApplicableError]()
    for selected in select(records, asked):
        try:
            how = compare if len(selected.models) == 2 else leaderboard
            judged = metric or main_metric(selected.setting.kind, selected.setting.group)
            found.append(how(out, selected, judged, these_draws=these_draws))
        except NotApplicableError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    return BySetting(tuple(found), tuple(refused))
