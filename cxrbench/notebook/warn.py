"""Warnings that name the problems of a call with their way out."""

import sys
import warnings
from collections.abc import Sequence

from cxrbench.errors import CxrBenchWarning

TOLD = 5  # problems that a warning names


def warn(text: str) -> None:
    """Warn at the line of the caller's that called into this package, every time and not only the first."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "cxrbench":
        frame = frame.f_back
    warnings.warn_explicit(text, CxrBenchWarning, frame.f_code.co_filename, frame.f_lineno, registry={})


def warn_of(head: str, told: Sequence[str], rest: str) -> None:
    """One warning of several problems: their count in `head`, the first of them, and where the `rest` is found."""
    more = [f"... and {len(told) - TOLD} more: {rest}"] if len(told) > TOLD else []
    warn("\n- ".join([head, *told[:TOLD], *more]))
