"""What names a measured cell, what decides its number, and the number."""

from collections.abc import Iterable
from typing import Any

from cxrbench.records.record import Protocol, Record
from cxrbench.store.schema import Facts


class Key(Facts):
    """A cell by name. `prompts` is None for linear probes, `shots` for zero-shot."""

    model: str
    task: str
    group: str
    protocol: Protocol
    shots: int | None = None
    prompts: str | None = None
    variant: str

    @property
    def order(self) -> tuple[Any, ...]:
        """What cells are sorted by."""
        return (self.variant, self.task, self.group, self.model, self.protocol, self.shots or 0, self.prompts or "")

    @property
    def text(self) -> str:
        """The cell in words."""
        how = f"K={self.shots}" if self.shots else (self.prompts or "")
        return f"{self.model} / {self.task} / {self.group} / {self.protocol} {how} / {self.variant}"


class Digests(Facts):
    """What two equal measurements of a cell share; `prompts` is None where no prompts are used.

    Class prototypes are part of the weights.
    """

    weights: str
    split: str
    preprocessing: str
    prompts: str | None = None
    variant: str

    def unlike(self, other: "Digests") -> tuple[str, ...]:
        """One reason for each digest in which `other` differs."""
        return tuple(f"other {name}" for name in Digests.model_fields if getattr(self, name) != getattr(other, name))


def key_of(record: Record) -> Key:
    """The cell that a record measures."""
    return Key(
        model=record.model.name,
        task=record.data.task,
        group=record.data.group,
        protocol=record.protocol.protocol,
        shots=record.protocol.shots,
        prompts=record.prompts.set if record.prompts else None,
        variant=record.variant,
    )


def digests_of(record: Record) -> Digests:
    """What decided a record's number."""
    return Digests(
        weights=record.model.weights_tensors,
        split=record.data.partition_digest,
        preprocessing=record.preprocessing.digest,
        prompts=record.prompts.digest if record.prompts and record.prompts.source == "prompts" else None,
        variant=record.variant_digest,
    )


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each cell, by its name."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(key_of(record).text, []).append(record)
    return found
