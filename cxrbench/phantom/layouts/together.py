"""Data sets whose images show several findings: which go together, and ids that the split puts where they belong."""

from collections.abc import Iterator, Sequence
from itertools import count

from cxrbench.data.splits import Shares
from cxrbench.phantom.layouts.order import Order
from cxrbench.specs import catalog
from cxrbench.store.schema import FactsT

PHANTOM = "phantom"  # the split that every task has for its phantom


def split_rule(order: Order, kind: type[FactsT]) -> FactsT:
    """The parameters of the task's phantom split."""
    return catalog.load_task(order.task).split(PHANTOM).parameters(kind)


def together(order: Order, labels: Sequence[str], part: str, width: int) -> list[tuple[str, ...]]:
    """Labels of images such that each label is drawn as often as the part's quota says, `width` or fewer an image."""
    images: list[tuple[str, ...]] = []
    for time in range(order.quotas[part]):
        mixed = [labels[int(row)] for row in order.random(part, time).permutation(len(labels))]
        images += [tuple(mixed[start : start + width]) for start in range(0, len(mixed), width)]
    return images


def numbers_of(rule: Shares, name: str, first: int) -> dict[str, Iterator[str]]:
    """For each part of the split, the ids that belong to it: `name` with the numbers from `first` on, in order."""
    return {part: _of_part(rule, part, map(name.format, count(first))) for part in rule.shares}


def _of_part(rule: Shares, part: str, ids: Iterator[str]) -> Iterator[str]:
    return (one for one in ids if rule.part_of(one) == part)
