"""Libraries that only some commands need: what to install where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from cxrbench.errors import MissingExtraError


@contextmanager
def from_extra(extra: str, what: str) -> Iterator[None]:
    """Around imports of libraries that an extra of `pyproject.toml` brings and `what` needs.

    Raises MissingExtraError, which says what to install, where one of them is missing or cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        lost = isinstance(error, ModuleNotFoundError) and error.name
        reason = f"{lost} is not installed" if lost else f"a library cannot be imported ({error})"
        raise MissingExtraError(f"{what}: {reason}; `pip install 'cxrbench[{extra}]'` brings it") from error
