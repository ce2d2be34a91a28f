"""The names of label tables: those that are looked for, and those that a table may have been given on its way here."""

import re
from collections.abc import Iterable, Sequence

from cxrbench.store.folded_names import folded

SUFFIXES = (".csv", ".csv.gz", ".csv.zip")

_COPY = re.compile(r"[ _-]*(\(\d+\)|copy|copy \(\d+\)|- copy)$")
_ENDINGS = (".csv", ".gz", ".zip", ".tsv", ".txt", ".xlsx", ".xls", ".json", ".parquet", ".crdownload", ".part", ".tmp")


def file_names(stems: Sequence[str]) -> list[str]:
    """The file names under which tables of these stems are looked for, in that order."""
    return [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]


def near_names(stems: Sequence[str], there: Iterable[str]) -> dict[str, str]:
    """Names that are there and look like a table's (`NAME (1).csv`, `NAME.CSV`), each with the name to give it."""
    wanted = {folded(stem): stem for stem in stems}
    exact = set(file_names(stems))
    found = {name: wanted.get(_bare(name)) for name in sorted(there) if name not in exact}
    return {name: f"{stem}{_suffix(name)}" for name, stem in found.items() if stem is not None}


def _bare(name: str) -> str:
    """The name less every ending and mark of a copy, folded."""
    name, before = folded(name), ""
    while name != before:
        before = name
        name = _COPY.sub("", name)
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
    return name


def _suffix(name: str) -> str:
    ending = name.casefold().rpartition(".")[2]
    return f".csv.{ending}" if ending in {"gz", "zip"} else ".csv"
