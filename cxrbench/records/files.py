"""Records as files: written whole with a checksum, and read only from their own place and as they were written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cxrbench.errors import IntegrityError
from cxrbench.records.record import Record, record_path
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import complaints
from cxrbench.store.sealed import (
    CHECKSUM,
    DamagedError,
    json_value,
    read_regular,
    with_checksum,
    without_checksum,
)

FORMAT = Record.model_fields["format"].default
MOST_BYTES = 1 << 26
WAY_OUT = "Delete it with its predictions, and run its cell again."


class ForeignError(DamagedError):
    """A record's file that says it is of an older or newer format."""


def write_record(out: Path, record: Record) -> Path:
    """Write the record atomically, with the checksum of its content; returns its path."""
    path = record_path(out, record.data.task, record.model.name, record.id)
    content = with_checksum(record.model_dump(mode="json"))
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
    return path


def read_record(path: Path) -> Record:
    """A record from its file, held against its checksum, its name and its folder, not against its predictions.

    `records.integrity` does that too, and is what every reader calls. Raises ForeignError where the file says that it
    is of another format, DamagedError, which names it and says why, for anything else that is no record.
    """
    try:
        value = json_value(path, read_regular(path, MOST_BYTES))
        if isinstance(value, dict) and CHECKSUM not in value and value.get("format", FORMAT) != FORMAT:
            raise ForeignError(path, _other_format(value))
        content = without_checksum(path, value)  # before its word on the format is believed
        if content.get("format", FORMAT) != FORMAT:
            raise ForeignError(path, _other_format(content))
        record = Record.model_validate(content)
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: there is no such file") from error
    except ValidationError as error:
        raise DamagedError(path, f"is no record that this version reads: {complaints(error)}", WAY_OUT) from error
    except RecursionError as error:
        raise DamagedError(path, "is no record that this version reads: it is nested too deeply", WAY_OUT) from error
    except DamagedError as error:
        raise type(error)(path, error.reason, WAY_OUT) from error
    _check_place(path, record)
    return record


def _other_format(content: Mapping[str, Any]) -> str:
    return f"is of format {str(content['format'])[:40]!r}, and this version reads {FORMAT}"


def results_of(path: Path) -> Path:
    """The results folder of a record's file: it lies in records/TASK/MODEL below it."""
    return _absolute(path).parents[3]


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))  # links stay: the folder of records may be one


def _check_place(path: Path, record: Record) -> None:
    """Nothing, or DamagedError: the record lies under another name, in another folder, or names other predictions."""
    out = results_of(path)
    due = record_path(out, record.data.task, record.model.name, record.id)
    if _absolute(path) != due:
        told = f"is the record of {record.model.name} on {record.data.task}, whose place is {due.relative_to(out)}"
        raise DamagedError(path, told, "Move it back with its predictions, or delete both and run the cell again.")
    if record.predictions != due.with_suffix(".parquet").name:
        raise DamagedError(path, f"names the predictions {record.predictions!r}, which are not its own", WAY_OUT)
