"""Whether the Hugging Face hub can be reached, asked once before its library tries again and again for a minute."""

import threading

from cxrbench.errors import DataError

_CONNECT, _ANSWER = 5.0, 8.0  # seconds
_PATIENCE = 12.0  # seconds for all addresses of a name together


def offline() -> bool:
    """Whether the environment forbids the network (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def require_hub(name: str, way_out: str) -> None:
    """Raise DataError with `way_out` at once if the hub does not answer, or HF_HUB_OFFLINE forbids to ask."""
    from huggingface_hub import constants

    if offline():
        raise DataError(f"{name}: HF_HUB_OFFLINE forbids the network. {way_out}")
    fault = _fault(constants.ENDPOINT)
    if fault is not None:
        raise DataError(f"{name}: {constants.ENDPOINT} cannot be reached ({fault}). {way_out}")


def _fault(address: str) -> str | None:
    """Why nobody answers at an address, or None where somebody does, whatever the answer is."""
    found = ["no answer"]
    asking = threading.Thread(target=_ask, args=(address, found), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return found[0] if found else None


def _ask(address: str, found: list[str]) -> None:
    import requests

    try:
        requests.head(address, timeout=(_CONNECT, _ANSWER), allow_redirects=False)
        found.clear()
    except requests.RequestException as error:
        found[0] = type(error).__name__
