"""How many layers a file has, by the names of its tensors."""

from collections.abc import Iterable

from cxrbench.errors import IntegrityError
from cxrbench.models.container import shown

MOST_LAYERS = 128  # a deeper network takes minutes to build, and there is none


def layer_count(names: Iterable[str], prefix: str) -> int:
    """How many different parts follow `prefix` in the names; raises IntegrityError where no network has so many."""
    parts = {name.removeprefix(prefix).split(".", 1)[0] for name in names if name.startswith(prefix)}
    return require_depth(len(parts), prefix)


def require_depth(count: int, prefix: str) -> int:
    """The count itself; raises IntegrityError for more layers than any network has."""
    if count > MOST_LAYERS:
        raise IntegrityError(
            f"the tensors {shown(prefix)}* count {count} layers, more than the {MOST_LAYERS} of any network here. "
            "Their names are damaged, or this is not the model's file."
        )
    return count
