"""A key of the store, for tests that need one and do not care which."""

from dataclasses import fields

from cxrbench.store.embeddings import Key


def made_key(**changes: str) -> Key:
    """Every field one of its own, but for `changes`."""
    return Key(**{field.name: f"{field.name} of a test" for field in fields(Key)} | changes)
