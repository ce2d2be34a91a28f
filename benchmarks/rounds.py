"""Measuring on a shared machine: arms in turns, each in a child process, and no verdict where rounds disagree."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
MAX_SPREAD = 0.20  # interquartile range over median
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio: at least it, or at most it."""

    bound: float
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether the value keeps to the bound."""
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: its ratio in every round, and whether the arms gave equal results (None: nothing to compare)."""

    metric: str
    ratios: tuple[float, ...]
    target: Target | None = None
    equal: bool | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """The middle ratio."""
        return float(np.median(self.ratios))

    @property
    def iqr(self) -> float:
        """Interquartile range of the ratios."""
        low, high = np.percentile(self.ratios, [25, 75])
        return float(high - low)

    @property
    def verdict(self) -> str:
        """`met` or `missed`, or why there is neither."""
        if self.equal is False:
            return "no verdict: arms not equal"
        if self.iqr > MAX_SPREAD * self.median:
            return "no verdict: spread too wide"
        if self.target is None:
            return "-"
        return "met" if self.target.holds(self.median) else "missed"

    def facts(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "metric": self.metric,
            "target": None if self.target is None else str(self.target),
            "median": self.median,
            "iqr": self.iqr,
            "ratios": list(self.ratios),
            "equal": self.equal,
            "verdict": self.verdict,
            "note": self.note,
        }


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Round by round, what the one arm took over what the other took."""
    return tuple(a / b for a, b in zip(over, under, strict=True))


def alternated(arms: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Every arm once a round, the order turned round after every round."""
    found: dict[str, list[T]] = {name: [] for name in arms}
    for number in range(rounds):
        for name in list(arms)[:: -1 if number % 2 else 1]:
            found[name].append(arms[name]())
    return found


def child(arm: str, **arguments: object) -> dict[str, Any]:
    """What `module:function` of this package returns when a fresh process calls it on one thread.

    `whole` is added: user and system seconds of the process from start to end, imports and all.
    """
    before = _children()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", arm, json.dumps(arguments)],
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout.splitlines()[-1]), "whole": _children() - before}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds(call: Callable[[], T]) -> tuple[float, T]:
    """User and system seconds that all threads of this process spent in a call, and what it returned."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result
