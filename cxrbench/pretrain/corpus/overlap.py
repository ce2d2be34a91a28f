"""Which patients of the evaluation sets are in the pre-training data: found by patient rules, taken out, told.

Only data sets of one collection share patient ids. Where collections overlap without common ids (COVID and PadChest
both draw on Valencia), that is said instead of passed over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cxrbench.data.sources.base import source
from cxrbench.errors import DataError, SpecError
from cxrbench.pretrain.corpus.variants import SharedPatients, SourceName, shared_patients
from cxrbench.specs.task import TaskSpec
from cxrbench.types import IntArray

# none: ids were compared, nothing in common; removed, remains: patients in common; apart: other hospitals; untold: no
# ids could tell; unchecked: ids could tell, but the evaluation set's tables were not to be had
Finding = Literal["none", "removed", "remains", "apart", "untold", "unchecked"]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A task's splits as they lie below `root`; without a root its patients cannot be known."""

    task: TaskSpec
    splits: tuple[str, ...]
    root: Path | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One evaluation set against one source of the corpus.

    `patients` and `images` of the source's rows belong to patients of the evaluation set; None where that is unknown.
    `rule`: how a patient is told; `confirmed`: what the finding rests on; `why`: what could not be checked, and why.
    """

    task: str
    splits: tuple[str, ...]
    source: SourceName
    finding: Finding
    patients: int | None
    images: int | None
    rule: str
    confirmed: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class PatientOverlap:
    """What was found for every evaluation set and source."""

    verdicts: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        """The audit as plain values, to be written beside a checkpoint."""
        return {"overlap": [asdict(verdict) | {"splits": list(verdict.splits)} for verdict in self.verdicts]}


@dataclass(frozen=True, slots=True)
class Held:
    """Patients of an evaluation set, or why they are not known."""

    patients: frozenset[str] | None
    confirmed: str = ""
    why: str = ""


def held(of: EvaluationSet) -> Held:
    """The patients of the splits' parts but `train`, from the data set's own tables; image files need not be there.

    A part `train` may be a corpus itself, such as CheXpert's training set.
    """
    if of.root is None:
        return Held(None, why=f"no folder with the tables of {of.task.name} was named")
    found: set[str] = set()
    chosen = source(of.task)
    try:
        folder = chosen.locate(of.root)
        for split in of.splits:
            parts = chosen.tables(folder, of.task, split).parts
            for name, part in ((name, part) for name, part in parts.items() if name != "train"):
                if part.patients is None:
                    return Held(None, why=f"part {name} of split {split} has no patients: {of.task.patients.rule}")
                found.update(part.patients)
    except (DataError, SpecError) as error:
        return Held(None, why=str(error))
    return Held(frozenset(found), confirmed=f"{len(found)} patients of {', '.join(of.splits)} drawn from the tables")


def audit(
    patients: Mapping[SourceName, Sequence[str]], sets: Iterable[EvaluationSet], remove: bool
) -> tuple[PatientOverlap, dict[SourceName, IntArray]]:
    """The verdicts, and the rows of each source that are left: without the overlapping patients if `remove`.

    `patients`: one a row, as the source's own tables name them.
    """
    verdicts: list[Verdict] = []
    shared: dict[SourceName, set[str]] = {name: set() for name in patients}
    known_kin = shared_patients()
    for of in sets:
        kin = {name: known_kin.of(of.task.name, name) for name in patients}
        known = held(of) if any(k.kind == "same" for k in kin.values()) else Held(None)
        for name, rows in patients.items():
            if kin[name].kind == "same" and known.patients is not None:
                common = known.patients.intersection(rows)
                shared[name] |= common
                verdicts.append(_compared(of, name, rows, common, known.confirmed, remove))
            else:
                verdicts.append(_not_compared(of, name, kin[name], known.why))
    left = {
        name: np.array([row for row, who in enumerate(rows) if not (remove and who in shared[name])], dtype=np.int64)
        for name, rows in patients.items()
    }
    return PatientOverlap(tuple(verdicts)), left


def _compared(
    of: EvaluationSet, name: SourceName, rows: Sequence[str], common: frozenset[str], confirmed: str, remove: bool
) -> Verdict:
    images = sum(who in common for who in rows)
    finding: Finding = "none" if not common else "removed" if remove else "remains"
    return Verdict(
        of.task.name,
        of.splits,
        name,
        finding,
        len(common),
        images,
        of.task.patients.rule,
        f"by patient ids: {confirmed}",
    )


def _not_compared(of: EvaluationSet, name: SourceName, kin: SharedPatients, why: str) -> Verdict:
    rule = of.task.patients.rule
    if kin.kind == "same":
        return Verdict(of.task.name, of.splits, name, "unchecked", None, None, rule, "not confirmed", why)
    if kin.kind == "apart":
        confirmed = f"by where the images come from: {kin.why}"
        return Verdict(of.task.name, of.splits, name, "apart", None, None, rule, confirmed, "no ids were compared")
    return Verdict(of.task.name, of.splits, name, "untold", None, None, rule, "not confirmed", kin.why)


def require_no_overlap(overlap: PatientOverlap, allow: bool = False) -> None:
    """Raise SpecError where patients of an evaluation set remain in the corpus, or could have been looked for and were
    not, unless `allow`. What no id can tell is reported, not refused.
    """
    if allow:
        return
    known = [v for v in overlap.verdicts if v.finding == "remains"]
    if known:
        told = "; ".join(f"{v.images} images of {v.patients} patients of {v.task} in {v.source}" for v in known)
        raise SpecError(
            f"the pre-training data shows patients of evaluation sets: {told}. Let them be taken out, or allow the "
            "overlap, which is then written beside the checkpoint."
        )
    unchecked = [v for v in overlap.verdicts if v.finding == "unchecked"]
    if unchecked:
        told = "; ".join(f"{v.task} in {v.source}: {v.why}" for v in unchecked)
        raise SpecError(
            f"patients of evaluation sets could not be looked for: {told} Name the folder with the tables, or allow "
            "the overlap, which is then written beside the checkpoint."
        )
