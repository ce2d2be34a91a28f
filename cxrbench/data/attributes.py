"""Sex, age and view of images, where a label table names them: for subgroups, never for a split."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from cxrbench.data import tables

Attributes = Mapping[str, Mapping[str, str]]  # sex, age, view to image id to value; an image may be in none

_OLDEST = 120  # years; what lies above is a slip of the source


def read(
    path: Path,
    image: str,
    columns: Mapping[str, str],
    name: Callable[[str], str] = str,
    wanted: Collection[str] | None = None,
) -> Attributes:
    """The attributes that the table has: `sex` F or M, `age` in whole years, `view` AP or PA.

    `image` is the column of the images, `name` makes an id of its values, and of `wanted` ids alone anything is told;
    `columns` say which column holds an attribute, and one that is not there is none. Other values (`Unknown`, `LL`,
    155 years) are left out, since nothing is known then. Raises DataError for a table that cannot be read.
    """
    there = set(tables.header(path))
    known = {attribute: column for attribute, column in columns.items() if column in there}
    if not known:
        return {}
    rows = tables.read_table(path, (image, *known.values()))
    ids = [name(value) for value in rows[image]]
    told: Attributes = {
        a: {
            i: value
            for i, text in zip(ids, rows[column], strict=True)
            if (wanted is None or i in wanted) and (value := _READERS[a](text)) is not None
        }
        for a, column in known.items()
    }
    return told


def _sex(text: str) -> str | None:
    letter = text[:1].upper()
    return letter if text.upper() in {"F", "M", "FEMALE", "MALE"} else None


def _age(text: str) -> str | None:
    written = re.fullmatch(r"0*(\d{1,3})(?:\.0)?Y?", text)
    return written[1] if written and int(written[1]) <= _OLDEST else None


def _view(text: str) -> str | None:
    return text.upper() if text.upper() in {"AP", "PA"} else None


_READERS: Mapping[str, Callable[[str], str | None]] = {"sex": _sex, "age": _age, "view": _view}
