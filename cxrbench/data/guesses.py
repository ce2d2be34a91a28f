"""What the columns of a table are probably for: guesses by names and values, each with its reason."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cxrbench.data.own_labels import split_words
from cxrbench.data.sources.base import told
from cxrbench.specs.own_data import PARTS
from cxrbench.store.folded_names import folded

if TYPE_CHECKING:
    import pandas as pd

_LABEL = re.compile(r"label|class|finding|diag|dx$|disease|patholog|target|categor|condition|outcome|abnormal")
_PATIENT = re.compile(r"(patient|subject|person|participant|pid|mrn)(id|no|nr|num|number|key|code|name)?")
_ATTRIBUTES = {
    "sex": re.compile(r"(patients?)?(sex|gender)"),
    "age": re.compile(r"(patients?)?age(years?|y)?"),
    "view": re.compile(r"view(position)?|projection|appa|position"),
}
_SPLIT = re.compile(r"(data)?(split|set|subset|partition|part|phase|usage|cv|fold|folds|cvfold|dataset)\d*")
_PART_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "validate", "tune", "tuning"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "holdout"), "test"),
}
NORMAL = frozenset({"no finding", "no findings", "normal", "none", "negative", "healthy"})
_FLAGS = {"0", "1", "-1", "0.0", "1.0", "-1.0", ""}
_SEPARATORS = ("|", ";", ",")
MOST_CLASSES, _MOST_FOLDS = 60, 20


@dataclass(slots=True)
class Guesses:
    """Roles of columns by name of the role; `reasons` are sentences; `splits` by name, each a rule with params."""

    roles: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, role: str, column: str, reason: str) -> None:
        """A column has a role, for a reason."""
        self.roles[role] = column
        self.reasons.append(f"{role}: column {column!r}, {reason}")


@dataclass(frozen=True, slots=True)
class LabelGuess:
    """Which labels a table has: facts of the task and of its section [csv]; `counts` are rows by column or word."""

    kind: str
    labels: tuple[dict[str, str], ...]
    csv: Mapping[str, Any]
    counts: Mapping[str, int]
    columns: tuple[str, ...]
    reasons: tuple[str, ...]


def plain(name: str) -> str:
    """Letters and digits alone, folded."""
    return re.sub(r"[^a-z0-9]", "", folded(name))


def guess_persons(rows: "pd.DataFrame", guesses: Guesses) -> None:
    """The columns of patient, sex, age and view: by their names, the last three also by what their cells say."""
    for column in _free(rows, guesses):
        name, values = plain(column), Counter(rows[column])
        if "patient" not in guesses.roles and _PATIENT.fullmatch(name) and len(values) > 1:
            guesses.take("patient", column, f"by its name; {len(values.keys() - {''}):,} patients")
        for role, pattern in _ATTRIBUTES.items():
            filled = [value for value in values if value]
            if role not in guesses.roles and pattern.fullmatch(name) and column not in guesses.roles.values():
                known = told(role, filled, filled)
                if len(known) * 2 > len(filled):
                    guesses.take(role, column, "by its name and values")


def guess_split(rows: "pd.DataFrame", guesses: Guesses) -> None:
    """The column that says the part, or the fold: then a split for each fold, which is its test part."""
    for column in _free(rows, guesses):
        values = list(dict.fromkeys(rows[column]))
        if not _SPLIT.fullmatch(plain(column)) or len(values) > _MOST_FOLDS:
            continue
        parts = {value: _PART_WORDS.get(plain(value)) for value in values}
        if {"train", "test"} <= set(parts.values()) and None not in parts.values():
            own = {part: [value for value, other in parts.items() if other == part] for part in PARTS}
            name = "own" if not guesses.splits else plain(column)
            guesses.splits[name] = {"rule": "column", "params": {"column": column, **own}}
            guesses.take("split" if name == "own" else f"split {name}", column, f"its values are {_shown(values)}")
        elif "fold" in plain(column) and all(re.fullmatch(r"\d+", value) for value in values) and len(values) > 1:
            for value in sorted(values, key=int):
                params = {"column": column, "train": ["*"], "valid": [], "test": [value]}
                guesses.splits[f"fold_{value}"] = {"rule": "column", "params": params}
            guesses.take("split", column, f"a split for each of {len(values)} folds, which is its test part")
        else:
            guesses.reasons.append(f"not understood: column {column!r} may say the parts, but has {_shown(values)}")


def guess_labels(rows: "pd.DataFrame", guesses: Guesses, asked: str | None) -> LabelGuess | tuple[str, ...]:
    """The labels, or, where the choice is not clear, the columns that may hold them.

    `asked`: the column that the user named.
    """
    free = [asked] if asked is not None else _free(rows, guesses)
    flags = [column for column in free if set(rows[column]) <= _FLAGS and _some(rows[column])]
    words = [column for column in free if column not in flags and _worded(rows[column], named(column) or bool(asked))]
    strong = [column for column in words if named(column) or asked]
    if strong:
        return _of_words(rows, strong[0], "by its name" if not asked else "as asked")
    if len(flags) > 1:
        return _of_flags(rows, flags)
    if len(flags) == 1 and (named(flags[0]) or not words):
        return _of_one_flag(rows, flags[0])
    if len(words) == 1:
        return _of_words(rows, words[0], "the only column with a few words")
    return (*flags, *words)


def named(column: str) -> bool:
    """Whether a column is named as labels are."""
    return _LABEL.search(plain(column)) is not None


def _free(rows: "pd.DataFrame", guesses: Guesses) -> list[str]:
    return [column for column in rows.columns if column not in guesses.roles.values()]


def _some(values: "pd.Series[str]") -> bool:
    return bool({"1", "1.0"} & set(values)) and len(set(values)) > 1


def _worded(values: "pd.Series[str]", named_so: bool) -> bool:
    """Whether the cells are a few words that recur; a name of labels allows numbers and more words."""
    there = Counter(value for value in values if value)
    separator = _separator(there)
    words = _count_words(there, separator)
    if not 2 <= len(words) <= MOST_CLASSES or len(words) * 2 > sum(there.values()):
        return False
    return named_so or (len(words) <= 10 and not all(re.fullmatch(r"-?[\d.]+", word) for word in words))


def _separator(there: Mapping[str, int]) -> str | None:
    """What stands between the words of cells: a mark of which the words recur, all of them but for bars."""
    for mark in _SEPARATORS:
        cells = [value for value in there if mark in value]
        counts = _count_words(there, mark)
        words = [(word, value) for value in cells for word in split_words(value, mark)]
        recurring = sum(bool(word) and counts[word] > there[value] for word, value in words)
        if cells and len(counts) <= MOST_CLASSES and recurring >= len(words) * (0.5 if mark == "|" else 1):
            return mark
    return None


def _count_words(there: Mapping[str, int], separator: str | None) -> Counter[str]:
    counts = Counter[str]()
    for value, rows in there.items():
        for word in dict.fromkeys(split_words(value, separator)):
            counts[word] += rows
    return counts


def _of_words(rows: "pd.DataFrame", column: str, why: str) -> LabelGuess:
    there = Counter(rows[column])
    blank = there.pop("", 0)
    separator = _separator(there)
    counts = _count_words(there, separator)
    several = separator is not None and any(len(split_words(value, separator)) > 1 for value in there)
    csv: dict[str, Any] = {"label": column}
    reasons = [f"labels: column {column!r}, {why}"]
    spellings = _spellings(counts)
    if spellings:
        csv["spellings"] = spellings
        told_so = ", ".join(f"{one!r} is taken for {other!r}" for one, other in spellings.items())
        reasons.append(f"labels: {told_so}, which differ in letter case or Unicode form only")
        for one, other in spellings.items():
            counts[other] += counts.pop(one)
    if several:
        csv["separator"] = separator
        reasons.append(f"labels: several words a cell, separated by {separator!r}, so the task is multi-label")
        normal = [word for word in counts if folded(word) in NORMAL]
        if normal:
            csv["ignore"] = normal
            reasons.append(f"labels: {_shown(normal)} counts as no label")
        if blank:
            csv["uncertain"] = "ignore"
            reasons.append(f'labels: {blank:,} blank cells count as no label (uncertain = "ignore")')
        counts = Counter({word: number for word, number in counts.items() if word not in normal})
    elif blank:
        csv["drop"] = ["blank"]
        reasons.append(f"labels: {blank:,} rows with a blank cell are left out")
    kind = "multi-label" if several else "single-label"
    order = [word for word, _ in counts.most_common()]
    labels = tuple({"name": word, "column": word} for word in order)
    return LabelGuess(kind, labels, csv, counts, (column,), tuple(reasons))


def _spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Words that differ from a more frequent one in letter case or Unicode form only."""
    first: dict[str, str] = {}
    found = {}
    for word in sorted(counts, key=lambda one: -counts[one]):
        usual = first.setdefault(folded(word), word)
        if usual != word:
            found[word] = usual
    return found


def _of_flags(rows: "pd.DataFrame", columns: Sequence[str]) -> LabelGuess:
    positive = {column: int(rows[column].isin(["1", "1.0"]).sum()) for column in columns}
    holding = rows[list(columns)].isin(["1", "1.0"]).sum(axis=1)
    unclear = {text for column in columns for text in rows[column] if text in {"", "-1", "-1.0"}}
    alone = bool((holding == 1).all())
    csv: dict[str, Any] = {}
    reasons = [
        f"labels: {len(columns)} columns of 0 and 1 ({_shown(columns)}); "
        + ("one holds in every row, so the task is single-label" if alone else "so the task is multi-label")
    ]
    if unclear:
        csv["uncertain"] = "ignore"
        reasons.append('labels: blank cells count as 0 and -1 as unknown (uncertain = "ignore", U-Ignore of CheXpert)')
    labels = tuple({"name": column, "column": column} for column in columns)
    return LabelGuess("single-label" if alone else "multi-label", labels, csv, positive, tuple(columns), tuple(reasons))


def _of_one_flag(rows: "pd.DataFrame", column: str) -> LabelGuess:
    counts = Counter(text for text in rows[column] if text in {"0", "1", "0.0", "1.0"})
    other = len(rows) - sum(counts.values())
    usual = {"0": "0" if counts["0"] else "0.0", "1": "1" if counts["1"] else "1.0"}
    spellings = {text: usual[text[0]] for text in counts if usual[text[0]] != text}
    csv: dict[str, Any] = {"label": column} | ({"spellings": spellings} if spellings else {})
    name = column.replace("_", " ")
    reasons = [
        f"labels: column {column!r} of 0 and 1; the classes are named 'no {name}' and {name!r}: name them better"
    ]
    if other:
        csv["drop"] = ["blank", "other"]
        reasons.append(f"labels: {other:,} rows with a blank or another cell are left out")
    labels = ({"name": f"no {name}", "column": usual["0"]}, {"name": name, "column": usual["1"]})
    merged = Counter({usual[sign]: counts[sign] + counts[f"{sign}.0"] for sign in "01"})
    return LabelGuess("single-label", labels, csv, merged, (column,), tuple(reasons))


def _shown(values: Sequence[str], most: int = 6) -> str:
    return ", ".join(map(repr, values[:most])) + (f" and {len(values) - most} more" if len(values) > most else "")
