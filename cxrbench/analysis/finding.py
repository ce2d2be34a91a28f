"""One thing that could make a number look too good, or that could not be looked at."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "shared images", "shared patients", "copies", "data sets", "pre-training", "confounding", "prompts", "not known"
]


@dataclass(frozen=True, slots=True)
class Finding:
    """`count` of `total` is what is concerned, None where there is nothing to count; `text` says what it is.

    `scope` tells where: the task, and its split where it depends on one. Kind `not known` says what could not be
    looked at, and why: its absence from the other kinds means nothing.
    """

    kind: Kind
    scope: str
    text: str
    count: int | None = None
    total: int | None = None
    source: str = ""

    @property
    def share(self) -> float | None:
        """`count` as a share of `total`."""
        return None if self.count is None or not self.total else self.count / self.total


def counted(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that found something."""
    return [found for found in findings if found.kind != "not known" and found.count != 0]
