"""The ways in which RSNA has been split, each a rule with parameters."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cxrbench.data.hash_rank import share
from cxrbench.data.sources.rsna_mapping import FILE, Mapped
from cxrbench.data.sources.rsna_tables import Rows, images, of_the_two_classes
from cxrbench.data.splits import HashQuotas, ThreeParts, TooFewError, by_hash, from_the_top, random_pair, three_parts
from cxrbench.errors import DataError
from cxrbench.specs.task import SplitSpec
from cxrbench.store.schema import Facts
from cxrbench.types import IntArray


@dataclass(frozen=True, slots=True)
class Drawn:
    """The rows that a draw speaks of, and the row numbers of each part."""

    rows: Rows
    parts: dict[str, IntArray]


class Sampled(Facts):
    """The first `per_class` positives and as many negatives drawn by Python's random with `sample_seed`; then
    `test_share` of them, drawn with `split_seed`, is test.
    """

    per_class: int
    sample_seed: int
    test_share: float
    split_seed: int


class SampledRows(Sampled):
    """`positions`: the drawn positions count the rows of both classes (`after`), or, as the released code has it, are
    looked up among row numbers from before the third kind was dropped (`before`).
    """

    positions: Literal["before", "after"]


class PatientQuotas(HashQuotas):
    """As HashQuotas; a patient whose share under `patient_salt` is below `test_share` is on the test side."""

    patient_salt: str
    test_share: float


def thirds(rows: Rows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """One row an image, sorted by id: 70 / 15 / 15 %."""
    chosen = images(rows)
    return Drawn(chosen, three_parts(chosen.index, spec.parameters(ThreeParts)))


def sampled_images(rows: Rows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """One row an image, sorted by id; a balanced sample in that order, then train and test."""
    rule = spec.parameters(Sampled)
    chosen = images(rows)
    return Drawn(chosen, _pair(np.sort(_balanced(chosen, rule)), rule))


def sampled_rows(rows: Rows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """Rows of the table (boxes); a balanced sample in table order, then train and test: images can be in both."""
    rule = spec.parameters(SampledRows)
    chosen = of_the_two_classes(rows)
    sample = np.sort(_balanced(chosen, rule))
    if rule.positions == "before":
        numbers_before = np.flatnonzero(rows.index >= 0)
        sample = np.flatnonzero(np.isin(numbers_before, sample))
    return Drawn(chosen, _pair(sample, rule))


def hash_rank(rows: Rows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """One row an image; quotas by hash rank."""
    chosen = images(rows)
    return Drawn(chosen, by_hash(chosen.ids, chosen.index, spec.parameters(HashQuotas), ("Normal", "Pneumonia")))


def hash_rank_by_patient(rows: Rows, spec: SplitSpec, mapped: Mapped | None) -> Drawn:
    """As `hash_rank`, each patient on one side; raises DataError without the mapping to NIH patients."""
    rule = spec.parameters(PatientQuotas)
    chosen = images(rows)
    if mapped is None:
        raise DataError(
            f"{rows.path.parent}: this split keeps patients apart, and RSNA's patientId is only an image id. Put "
            f"RSNA's {FILE} (from the challenge page of rsna.org) or a table rsna_to_nih.csv with the columns "
            "patientId and nih_image_index there, or choose the split cxrbench-v1."
        )
    if unknown := [name for name in chosen.ids if name not in mapped.nih]:
        raise DataError(f"{mapped.path}: gives no NIH image for {len(unknown)} images, such as {unknown[0]}.")
    in_test = np.array([share(rule.patient_salt, mapped.patient(name)) < rule.test_share for name in chosen.ids])
    parts: dict[str, IntArray] = {}
    for part, size in rule.parts.items():
        side = np.flatnonzero(in_test == (part == "test"))
        quota = HashQuotas(salt=rule.salt, parts={part: size})
        ids = [chosen.ids[row] for row in side]
        parts |= {part: side[by_hash(ids, chosen.index[side], quota, ("Normal", "Pneumonia"))[part]]}
    return Drawn(chosen, parts)


DRAWS: dict[str, Callable[[Rows, SplitSpec, Mapped | None], Drawn]] = {
    "thirds": thirds,
    "sampled-images": sampled_images,
    "sampled-rows": sampled_rows,
    "hash-rank": hash_rank,
    "hash-rank-by-patient": hash_rank_by_patient,
}
FROM_TARGETS = frozenset({"thirds", "sampled-images"})


def _balanced(rows: Rows, rule: Sampled) -> IntArray:
    positive, negative = np.flatnonzero(rows.index == 1), np.flatnonzero(rows.index == 0)
    top = from_the_top([positive], {"sample": rule.per_class}, ["Pneumonia"])["sample"]
    if len(negative) < rule.per_class:
        raise TooFewError(f"{rows.path}: {len(negative)} negative rows, the split draws {rule.per_class}.")
    drawn = random.Random(rule.sample_seed).sample(range(len(negative)), rule.per_class)
    return np.concatenate([top, negative[drawn]])


def _pair(sample: IntArray, rule: Sampled) -> dict[str, IntArray]:
    train, test = random_pair(len(sample), rule.test_share, rule.split_seed)
    return {"train": sample[train], "test": sample[test]}
