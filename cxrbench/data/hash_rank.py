"""Draws without a generator: an item's rank is the SHA-256 of a salt and its id, whatever else is there."""

import hashlib
from collections.abc import Iterable


def rank(salt: str, item: str) -> str:
    """Hex SHA-256 of `salt:item`; ranks are compared as text."""
    return hashlib.sha256(f"{salt}:{item}".encode()).hexdigest()


def ranked(salt: str, items: Iterable[str]) -> list[str]:
    """The items by ascending rank: the order depends neither on the input's order nor on the other items."""
    return sorted(items, key=lambda item: rank(salt, item))


def share(salt: str, item: str) -> float:
    """The rank's first 32 bits as a number in [0, 1): below p for a fraction p of all items."""
    return int(rank(salt, item)[:8], 16) / 2**32
