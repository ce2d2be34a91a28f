"""Measured cells as flat rows, for data frames and exported files: facts, numbers with intervals, scores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cxrbench.analysis.cell import cell_interval, harmonic_interval
from cxrbench.evaluate.metric_table import TABLE
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.records.integrity import place_of
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import PromptIdentity, Record
from cxrbench.records.row_order import reordered_decisions, reordered_mean
from cxrbench.records.selection import prompt_set
from cxrbench.records.validity import flaws, pretrained_on, why_not

HARMONIC = "harmonic_mean"
_PARTS = {"base": "base_balanced_accuracy", "new": "new_balanced_accuracy"}  # in a record, and as metrics


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What a record says of its cell beside the numbers; the fields are the first columns of every table of cells.

    `path` lies below the results folder. `published_percent` is the number that the paper prints, in percent, and
    `comparable` whether the measured one may be set beside it (None where nothing is printed). `valid` is false where
    `doubts` says what keeps the number from being the one of its variant, split, model and prompts. `seen`: †.
    `trained_on`: the task whose training images were fitted to where that is another, over the labels of `mapping`
    (None: the strict one); `apart`: what keeps the two apart, `unknown` is §.
    """

    record: str
    path: str
    model: str
    weights: str
    weights_sha256: str | None
    weights_tensors: str
    model_code: str
    card_digest: str
    task: str
    split: str
    group: str
    kind: str
    classes: int
    variant: str
    variant_digest: str
    protocol: str
    shots: str | None
    trained_images: str | None
    few_images: str | None
    reordered_changes: int | None
    reordered_value: float | None
    prompts: str | None
    prompts_digest: str | None
    class_prompts: str | None
    folds: int
    published_percent: float | None
    published_in: str | None
    comparable: bool | None
    not_comparable: str | None
    valid: bool
    doubts: str | None
    seen: bool
    trained_on: str | None
    mapping: str | None
    apart: str | None
    synthetic: bool
    control: bool
    given: bool
    version: str
    commit: str | None
    sources: str
    started: str


@dataclass(frozen=True, slots=True)
class Number:
    """A metric's mean over folds, 0 to 1 (kappa -1 to 1), its spread over them and its 95 % interval.

    None of it is there where a fold has none; there is no interval where none was asked for or the record has none.
    """

    mean: float | None
    std: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class CellRow:
    """One measured cell: its record, the facts, and its numbers by metric, the five of `TABLE` first."""

    measured: Record
    facts: CellFacts
    numbers: Mapping[str, Number]


@dataclass(frozen=True, slots=True)
class Value:
    """One metric of one fold, or with `fold` None of all folds: only then there are a spread and an interval.

    `covers` says in words what the interval speaks of, `units` over how many patients or images (`over`) it is, and
    `beware` what to beware of in it, or why there is none.
    """

    fold: int | None
    metric: str
    value: float | None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    covers: str | None = None
    units: int | None = None
    over: str | None = None
    beware: str | None = None


def cell_row(out: Path, record: Record, *, intervals: bool = True) -> CellRow:
    """The row of a record below the results folder; without `intervals` its predictions are not read.

    Raises DataError and IntegrityError for predictions that are gone or changed.
    """
    numbers = {name: Number(told["mean"], told["std"], None) for name, told in record.summary.items()}
    joint = record.generalised or {}
    numbers |= {name: Number(joint[part], None, None) for part, name in _PARTS.items() if part in joint}
    if HARMONIC in joint:
        numbers[HARMONIC] = Number(joint[HARMONIC], None, None)
    if intervals:
        cell = read_cell(out, record)
        found = {name: cell_interval(cell, metric) for name, metric in TABLE.items() if name in numbers}
        if (joined := harmonic_interval(cell)) is not None:
            found |= {HARMONIC: joined}
        numbers |= {name: replace(numbers[name], interval=interval) for name, interval in found.items()}
    return CellRow(record, cell_facts(record), numbers)


def cell_facts(record: Record) -> CellFacts:
    """What the record says of its cell, with the marks that every table gives it."""
    model, data, how, told = record.model, record.data, record.protocol, record.prompts
    doubts, reasons, printed = flaws(record), why_not(record), record.published
    return CellFacts(
        record=record.id,
        path=place_of(record),
        model=model.name,
        weights=model.weights_file,
        weights_sha256=model.weights_sha256,
        weights_tensors=model.weights_tensors,
        model_code=model.code,
        card_digest=model.card_digest,
        task=data.task,
        split=data.split,
        group=data.group,
        kind=data.kind,
        classes=len(data.labels),
        variant=record.variant,
        variant_digest=record.variant_digest,
        protocol=how.protocol,
        shots=None if how.shots is None else str(how.shots),
        trained_images=", ".join(f"{label} {few}-{most}" for label, (few, most) in how.trained.items()) or None,
        few_images=", ".join(f"{label} {images}" for label, images in how.short.items()) or None,
        reordered_changes=reordered_decisions(record),
        reordered_value=reordered_mean(record),
        prompts=prompt_set(record),
        prompts_digest=None if told is None else told.digest,
        class_prompts=None if told is None else _class_prompts(told),
        folds=len(record.folds),
        published_percent=float(printed[0].value) if printed else None,
        published_in="; ".join(f"Table {one.table}, {one.row}, {one.column}" for one in printed) or None,
        comparable=not reasons if printed else None,
        not_comparable="; ".join(reasons) or None if printed else None,
        valid=not doubts,
        doubts="; ".join(doubts) or None,
        seen=pretrained_on(model.name, record, data.task),
        trained_on=None if data.trained_on is None else data.trained_on.task,
        mapping=None if data.trained_on is None else data.trained_on.mapping,
        apart=None if data.trained_on is None else data.trained_on.apart,
        synthetic=record.synthetic,
        control=record.control,
        given=record.given,
        version=record.code.version,
        commit=record.code.commit,
        sources=record.code.sources,
        started=record.runtime.started,
    )


def _class_prompts(told: PromptIdentity) -> str | None:
    """How many prompts each class has in the first fold, such as `Normal 5, Pneumonia 5`; None for prototypes."""
    return ", ".join(f"{name} {len(words)}" for name, words in told.drawn[0].items()) if told.drawn else None


def values(row: CellRow) -> Iterator[Value]:
    """Every metric of every fold, then every metric of all folds."""
    for fold in row.measured.folds:
        yield from (Value(fold.fold, name, fold.metrics[name]) for name in row.measured.summary)
    for name, number in row.numbers.items():
        yield _of_all_folds(name, number)


def _of_all_folds(name: str, number: Number) -> Value:
    told = number.interval
    if told is None:
        return Value(None, name, number.mean, number.std)
    ends = (told.low, told.high)
    return Value(None, name, number.mean, number.std, *ends, told.words, told.units, told.over, told.reason or None)


def beware(row: CellRow) -> str | None:
    """What to beware of in the intervals of a row, each warning with the metrics that it is about."""
    about: dict[str, list[str]] = {}
    for name, number in row.numbers.items():
        if number.interval is not None and number.interval.reason:
            about.setdefault(number.interval.reason, []).append(
                TABLE[name].title if name in TABLE else name.replace("_", " ")
            )
    told = {
        reason: "" if len(names) == len(row.numbers) else f"{', '.join(names)}: " for reason, names in about.items()
    }
    return "; ".join(f"{names}{reason}" for reason, names in told.items()) or None
