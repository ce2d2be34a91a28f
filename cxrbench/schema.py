"""The base of all types that are read from or written to files: frozen, and a key they do not know is refused."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cxrbench.errors import SpecError
from cxrbench.sealed import check_text


class Facts(BaseModel):
    """A validated, immutable fact file or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


FactsT = TypeVar("FactsT", bound=Facts)


def read_toml(path: Path, kind: type[FactsT]) -> FactsT:
    """The TOML file as a `kind`.

    Raises SpecError that names the file, the key and what was expected there, DamagedError for a file that we wrote and
    that has changed since.
    """
    try:
        text = path.read_text(encoding="utf-8")
        check_text(path, text)
        return kind.model_validate(tomllib.loads(text))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{path}: is no TOML: {error}") from error
    except ValidationError as error:
        raise SpecError(f"{path}: {complaints(error)}") from error


def complaints(error: ValidationError) -> str:
    """A validation error as one line per fault: where in the file, what was found, what is wanted."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'top level'}: {e['msg']}" for e in error.errors())
