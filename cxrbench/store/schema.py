"""The base of all types that are read from or written to files: frozen, and a key they do not know is refused."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from cxrbench.errors import SpecError
from cxrbench.store.sealed import DamagedError, check_text, read_regular

_MOST_BYTES = 1 << 20  # of a file that people write and review


class Spec(BaseModel):
    """A validated, immutable fact file or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


FactsT = TypeVar("FactsT", bound=Spec)


def _inside(path: str) -> str:
    steps = path.split("/")
    if not path or path.startswith("/") or ".." in steps or re.match("[A-Za-z]:", path):
        raise ValueError(f"{path!r} leads out of the folder; name a file or folder below it")
    if "\\" in path or not path.isprintable():
        raise ValueError(f"{path!r} has a backslash or a control character; write steps with /")
    return path


LocalPath = Annotated[str, AfterValidator(_inside)]
"""A path below the folder that it is looked for in, with `/` on every system."""


def read_toml(path: Path, kind: type[FactsT]) -> FactsT:
    """The TOML file as a `kind`.

    Raises SpecError that names the file, the key and what was expected there, DamagedError for a file that we wrote and
    that has changed since.
    """
    try:
        return kind.model_validate(toml_table(path))
    except ValidationError as error:
        raise SpecError(f"{path}: {complaints(error)}") from error


def toml_table(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises SpecError for none, a pipe, and one too large or too deep to be reviewed, DamagedError for one that we wrote
    and that has changed since.
    """
    try:
        text = read_regular(path, _MOST_BYTES).decode().replace("\r\n", "\n")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except DamagedError as error:
        raise SpecError(str(error)) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is no TOML: {error}") from error
    check_text(path, text)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: is no TOML: {str(error)[:200]}") from error


def complaints(error: ValidationError) -> str:
    """A validation error as one line per fault: where in the file, what was found, what is wanted."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'top level'}: {e['msg']}" for e in error.errors())
