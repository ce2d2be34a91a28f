"""What the cells of a table of one's own say of each label, and which rows are left out, each for a reason."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.uncertain import BLANK, UNCERTAIN, settled
from cxrbench.errors import DataError
from cxrbench.specs.own_data import ANY, CsvData, Drop
from cxrbench.specs.task import TaskSpec
from cxrbench.types import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

REASONS: Mapping[Drop, str] = {
    "blank": "the label is blank",
    "uncertain": "the label is uncertain (-1)",
    "other": "the label is none of the task's",
    "none": "no label holds",
    "several": "several labels hold",
    "patient": "the patient is blank",
}
_VALUES = {1.0: 1, 0.0: 0, -1.0: UNCERTAIN}
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Cells:
    """What a table says before any rule: `values` (n, C) of 1, 0, UNCERTAIN and BLANK.

    `other` (n,) is true for rows with a word that is no label; `strange` has those words.
    """

    values: NDArray[np.int8]
    other: NDArray[np.bool_]
    strange: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class LabelledRows:
    """Labels (n, C) of 1, 0 and UNKNOWN, and for each row (n,) the reason for which it is left out, "" for none."""

    labels: NDArray[np.int8]
    reasons: NDArray[np.object_]
    notes: tuple[str, ...]


def label_rows(path: Path, rows: "pd.DataFrame", task: TaskSpec, data: CsvData) -> LabelledRows:
    """The labels of every row of a table.

    Raises DataError with file, data row and column for what neither a rule nor `drop` says anything of.
    """
    cells = _cells(path, rows, task, data)
    sheet = _Sheet(path, task, data, np.full(len(rows), "", dtype=object))
    sheet.leave_out("other", cells.other, lambda row: f"{data.label} is {rows[data.label].iloc[row]!r}, {_known(task)}")
    for drop, code in (("blank", BLANK), ("uncertain", UNCERTAIN)):
        if drop in data.drop:
            sheet.leave_out(drop, (cells.values == code).any(axis=1), lambda _: "")
    open_rows = sheet.reasons == ""
    values = np.where(open_rows[:, None], cells.values, np.int8(0))
    labels = _settled(path, values, task, data)
    if task.kind == "single-label":
        unknown = open_rows & (labels == UNKNOWN).any(axis=1)
        sheet.reasons[unknown] = f"the label is unknown by the rule {data.uncertain}"
        _require_one_class(sheet, labels)
    return LabelledRows(labels, sheet.reasons, _notes(path, data, cells))


def columns_of(task: TaskSpec, data: CsvData) -> tuple[str, ...]:
    """The columns in which a table has its labels."""
    return task.columns if data.label is None else (data.label,)


@dataclass(frozen=True, slots=True)
class _Sheet:
    path: Path
    task: TaskSpec
    data: CsvData
    reasons: NDArray[np.object_]

    def leave_out(self, drop: Drop, rows: NDArray[np.bool_], told: Callable[[int], str]) -> None:
        """Leave rows out that are in already, or raise DataError with what is `told` of the first."""
        rows = rows & (self.reasons == "")
        if rows.any() and drop not in self.data.drop:
            first = int(rows.argmax())
            raise DataError(
                f"{self.path}: data row {first + 1}: {told(first)}. Mend the table, or leave such rows out with a "
                f'count by drop = ["{drop}"] in the section [csv] of the task{_or_spelt(drop)}.'
            )
        self.reasons[rows] = REASONS[drop]


def _or_spelt(drop: Drop) -> str:
    return ", or say there what the word means: spellings, ignore" if drop == "other" else ""


def _known(task: TaskSpec) -> str:
    shown = ", ".join(map(repr, task.columns[:_EXAMPLES]))
    return f"and the labels are {shown}" + (f" and {len(task.columns) - _EXAMPLES} more" * (len(task.columns) > 5))


def _require_one_class(sheet: _Sheet, labels: NDArray[np.int8]) -> None:
    holding = (labels == 1).sum(axis=1)
    where = ", ".join(columns_of(sheet.task, sheet.data)[:_EXAMPLES])
    sheet.leave_out("none", holding == 0, lambda _: f"{where}: none of the task's labels holds")

    def several(row: int) -> str:
        names = [name for name, value in zip(sheet.task.classes, labels[row], strict=True) if value == 1]
        return f"{where}: {' and '.join(names[:3])} hold, and the task is single-label"

    sheet.leave_out("several", holding > 1, several)


def _settled(path: Path, values: NDArray[np.int8], task: TaskSpec, data: CsvData) -> NDArray[np.int8]:
    try:
        return settled(values, task.columns, data.uncertain, str(path))
    except DataError as error:
        raise DataError(
            f'{error} The section [csv] of the task names the rule as `uncertain`; drop = ["blank", "uncertain"] '
            "leaves such rows out, with a count."
        ) from error


def _cells(path: Path, rows: "pd.DataFrame", task: TaskSpec, data: CsvData) -> Cells:
    if data.label is None:
        return Cells(_flags(path, rows, task, data), np.zeros(len(rows), dtype=bool))
    return _words(rows[data.label].tolist(), task, data)


def _flags(path: Path, rows: "pd.DataFrame", task: TaskSpec, data: CsvData) -> NDArray[np.int8]:
    """Columns of 1, 0, -1 and blank, after `spellings`; raises DataError for anything else."""
    values = np.empty((len(rows), len(task.columns)), dtype=np.int8)
    for place, column in enumerate(task.columns):
        texts = rows[column].tolist()
        meaning = {}
        for text in dict.fromkeys(texts):
            said = data.spellings.get(text, text)
            number = BLANK if said == "" else _VALUES.get(_number(said))
            if number is None:
                raise DataError(
                    f"{path}: data row {texts.index(text) + 1}: {column} is {text!r}; expected 1, 0, -1 or blank. "
                    'Name the column of the words as `label`, or say what this one means: spellings = { "yes" = "1" }.'
                )
            meaning[text] = number
        values[:, place] = [meaning[text] for text in texts]
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _words(texts: Sequence[str], task: TaskSpec, data: CsvData) -> Cells:
    """One column of words: each distinct cell is looked at once."""
    distinct: dict[str, int] = {}
    places = np.array([distinct.setdefault(text, len(distinct)) for text in texts], dtype=np.int64)
    values = np.zeros((len(distinct), len(task.columns)), dtype=np.int8)
    other, strange = np.zeros(len(distinct), dtype=bool), Counter[str]()
    column_of = {column: place for place, column in enumerate(task.columns)}
    times = np.bincount(places, minlength=len(distinct))
    for text, place in distinct.items():
        words = [data.spellings.get(word, word) for word in split_words(text, data.separator)]
        if not any(words):
            values[place] = BLANK
            continue
        for word in filter(None, words):
            if word in column_of:
                values[place, column_of[word]] = 1
            elif word not in data.ignore and ANY not in data.ignore:
                other[place] = True
                strange[word] += int(times[place])
    return Cells(values[places], other[places], strange)


def split_words(text: str, separator: str | None) -> list[str]:
    """The words of a cell, stripped."""
    return [text] if separator is None else [word.strip() for word in text.split(separator)]


def _notes(path: Path, data: CsvData, cells: Cells) -> tuple[str, ...]:
    if not cells.strange:
        return ()
    shown = ", ".join(f"{word} {count:,}" for word, count in cells.strange.most_common(_EXAMPLES))
    more = f" and {len(cells.strange) - _EXAMPLES} more words" if len(cells.strange) > _EXAMPLES else ""
    return (f"{path.name}: {data.label} has words that are no label of the task: {shown}{more}",)
