"""Tensors under the names that their network knows, where a card says how those of the file differ."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import Checkpoint

ValueT = TypeVar("ValueT")


def rename_tensors(checkpoint: Checkpoint, prefixes: Mapping[str, str]) -> Checkpoint:
    """The same checkpoint with every tensor under its new name; raises what `rename` does."""
    return (
        replace(checkpoint, tensors=rename(checkpoint.tensors, prefixes, checkpoint.path)) if prefixes else checkpoint
    )


def rename(values: Mapping[str, ValueT], prefixes: Mapping[str, str], path: Path) -> dict[str, ValueT]:
    """The values by new names: of the `prefixes` that a name begins with, the longest gives way to its replacement.

    That happens once for each name, and a name that begins with none stays. Raises IntegrityError that names `path`
    where two names become one.
    """
    longest_first = sorted(prefixes, key=len, reverse=True)
    renamed: dict[str, ValueT] = {}
    for name, value in values.items():
        old = next((prefix for prefix in longest_first if name.startswith(prefix)), "")
        own = prefixes.get(old, "") + name.removeprefix(old)
        if own in renamed:
            raise IntegrityError(
                f"{path}: two of its tensors would be called {own!r} by weights.rename of the card; one of them is "
                f"{name!r}. Name its prefixes more closely."
            )
        renamed[own] = value
    return renamed
