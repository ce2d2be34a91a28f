"""How much of a zero-shot number is wording: over prompt sets, and over single prompts of one set."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, pstdev

from cxrbench.analysis.cell import cell_interval
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import main_metric
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record


@dataclass(frozen=True, slots=True)
class Spread:
    """Numbers 0 to 1 over wordings: how many, mean, standard deviation (ddof 0), least and greatest.

    `undefined` of the wordings have no number, since a class has no image in a fold.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    undefined: int = 0


@dataclass(frozen=True, slots=True)
class SetNumber:
    """One prompt set: the main metric with all its prompts (None where a fold has none), and with one a class.

    `interval` is None where the predictions are gone; `singles` None where no class has a choice.
    """

    prompts: str
    record: str
    value: float | None
    interval: Interval | None
    singles: Spread | None


@dataclass(frozen=True, slots=True)
class PromptSpread:
    """A model on a task and group: every prompt set measured, the best first, and the spread over them."""

    model: str
    task: str
    group: str
    sets: tuple[SetNumber, ...]
    over_sets: Spread | None


def prompt_spreads(out: Path, records: Sequence[Record], *, these_draws: bool = False) -> list[PromptSpread]:
    """By model, task and group in the order of the records; class vectors of a model's own take no part.

    Nor does what learns from images, with or without words.

    Raises DataError where no record was scored by prompts, IntegrityError for predictions that changed.
    """
    worded = [
        r for r in records if r.prompts is not None and r.prompts.source == "prompts" and r.protocol.shots is None
    ]
    if not worded:
        raise DataError(
            "none of these records was scored by prompts; `cxrbench run` with --prompts all measures every prompt set"
        )
    found = []
    order = list(dict.fromkeys(map(_place, worded)))
    for (model, task, group), own in groupby(sorted(worded, key=lambda r: order.index(_place(r))), key=_place):
        sets = sorted((_number(out, record, these_draws=these_draws) for record in own), key=_best_first)
        found.append(PromptSpread(model, task, group, tuple(sets), spread_of([one.value for one in sets])))
    return found


def spread_of(values: Sequence[float | None]) -> Spread | None:
    """The spread of some numbers; None where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(len(known), fmean(known), pstdev(known), min(known), max(known), len(values) - len(known))


def _place(record: Record) -> tuple[str, str, str]:
    return record.model.name, record.data.task, record.data.group


def _best_first(found: SetNumber) -> tuple[bool, float, str]:
    return found.value is None, -(found.value or 0.0), found.prompts


def _number(out: Path, record: Record, *, these_draws: bool) -> SetNumber:
    assert record.prompts is not None
    metric = main_metric(record.data.kind, record.data.group)
    values = [fold.metrics[metric.name] for fold in record.folds]
    try:
        interval = cell_interval(read_cell(out, record), metric, these_draws=these_draws)
    except DataError:
        interval = None
    value = None if None in values else fmean(values)
    return SetNumber(record.prompts.set, record.id, value, interval, spread_of(record.single_prompts))
