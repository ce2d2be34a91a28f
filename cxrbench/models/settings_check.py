"""What of a published configuration may reach a library: settings of a network, in sizes that some network has."""

import re
from collections.abc import Mapping
from typing import Any

from cxrbench.errors import SpecError
from cxrbench.models.container import MOST_LAYERS

# How a network is run, not what it computes; some of these fetch kernels from a hub, or swap layers.
_RUNNING = re.compile(
    r"_.*|.*_implementation|(quantization|compression|kernel|fusion)_config|use_kernels|device_map|.*tp_plan|.*pp_plan"
)
_LAYERS = re.compile(r"(.*_)?(n_?)?(layers?|depths?|blocks?|stages?)")
_FREE = {"max_length", "seed", "num_parameters", "total_flos"}  # numbers that size nothing
_MOST = 1 << 21  # the longest axis of any tensor: a vocabulary, or a very long text
_DEEPEST = 16


def network_settings(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what only says how the library should run it; all values as they are.

    Raises SpecError for sizes that no network has, which would take hours to build.
    """
    found: dict[str, Any] = _plain(name, told, "", 0)
    return found


def _plain(name: str, value: Any, key: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise SpecError(f"{name}: its configuration is nested more than {_DEEPEST} deep, as no library's is")
    match value:
        case Mapping():
            kept = {k: v for k, v in value.items() if not _RUNNING.fullmatch(str(k))}
            return {k: _plain(name, v, str(k), depth + 1) for k, v in kept.items()}
        case list() | tuple():
            return [_plain(name, entry, key, depth + 1) for entry in value]
        case int() if not isinstance(value, bool) and key not in _FREE:
            most = MOST_LAYERS if _LAYERS.fullmatch(key) else _MOST
            if abs(value) > most:
                raise SpecError(f"{name}: its configuration says {key} = {_short(value)}; no network here has {most:,}")
    return value


def _short(value: int) -> str:
    return f"{value:,}" if abs(value) < 1 << 64 else "a huge number"
