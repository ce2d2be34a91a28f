"""The same image or the same patient on both sides of a split, told by ids."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

from cxrbench.analysis.finding import Finding
from cxrbench.runner.folds import N_FOLDS, id_folds
from cxrbench.specs.settings import Settings
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Partition, Table

SHOTS = 16  # of the draws that are looked at where a task has no fixed test part
_ORDER = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Rows:
    """Images of one side, by id, with their patients (n,) where these are known."""

    ids: Sequence[str]
    patients: Sequence[str] | None

    def without(self, images: Set[str]) -> "Rows":
        """The rows of all other images."""
        kept = [row for row, image in enumerate(self.ids) if image not in images]
        patients = None if self.patients is None else [self.patients[row] for row in kept]
        return Rows([self.ids[row] for row in kept], patients)


@dataclass(frozen=True, slots=True)
class Overlap:
    """What of a second side is in the first: distinct images, the rows that show them, and images of shared patients.

    `rows` and `images` are the second side's totals; `patients` and `patient_images` are None where patients are not
    known.
    """

    shared_images: int
    shared_rows: int
    rows: int
    images: int
    patients: int | None = None
    patient_images: int | None = None


def overlap(first: Rows, second: Rows) -> Overlap:
    """How the second side overlaps with the first, by ids alone."""
    seen, images = set(first.ids), set(second.ids)
    found = Overlap(len(images & seen), sum(i in seen for i in second.ids), len(second.ids), len(images))
    if first.patients is None or second.patients is None:
        return found
    known = set(first.patients)
    of_known = {image for image, patient in zip(second.ids, second.patients, strict=True) if patient in known}
    return Overlap(
        found.shared_images,
        found.shared_rows,
        found.rows,
        found.images,
        len(known & set(second.patients)),
        len(of_known),
    )


def within(
    task: TaskSpec, partition: Partition, settings: Settings, doubtful: Set[str] = frozenset()
) -> Iterator[Finding]:
    """The overlaps of a split's parts; of the folds of a task that has no fixed test part.

    Patients are counted with the images whose patient is `doubtful`, and told without them too.
    """
    scope = f"{task.name}, split {partition.split}"
    if task.folds == "resplit":
        yield from _folds(task, partition, settings, scope)
        return
    names = [name for name in _ORDER if name in partition.parts]
    for one, other in combinations(names, 2):
        sides = [_rows(partition.parts[one]), _rows(partition.parts[other])]
        yield from _told(scope, f"{one} and {other}", sides[0], sides[1], doubtful)
    if any(part.patients is None for part in partition.parts.values()):
        text = f"whether parts share patients: {task.patients.rule}"
        yield Finding("not known", scope, text)


def _rows(table: Table) -> Rows:
    return Rows(table.ids, table.patients)


def _told(scope: str, sides: str, first: Rows, second: Rows, doubtful: Set[str] = frozenset()) -> Iterator[Finding]:
    found, last = overlap(first, second), sides.rpartition(" ")[2]
    yield Finding(
        "shared images",
        scope,
        f"{sides} share {found.shared_images} images, in {found.shared_rows} of {found.rows} rows of {last}",
        found.shared_images,
        found.images,
    )
    if found.patient_images is not None:
        yield Finding(
            "shared patients",
            scope,
            f"{found.patient_images} of {found.images} images of {last} show a patient who is in "
            f"{sides.split(' ', maxsplit=1)[0]} ({found.patients} patients){_surely(first, second, doubtful)}",
            found.patient_images,
            found.images,
        )


def _surely(first: Rows, second: Rows, doubtful: Set[str]) -> str:
    """What is left of an overlap without the images whose patient is doubtful; empty where there are none."""
    guessed = doubtful & {*first.ids, *second.ids}
    if not guessed:
        return ""
    sure = overlap(first.without(guessed), second.without(guessed))
    return f"; {sure.patient_images} of {sure.images} without the {len(guessed)} images whose patient is doubtful"


def _folds(task: TaskSpec, partition: Partition, settings: Settings, scope: str) -> Iterator[Finding]:
    """Every fold of the group `all`, as a run draws it; the part is one table."""
    table = partition.parts["all"]
    for fold in id_folds(task, partition, "all", [SHOTS], settings, "test"):
        patient = dict(zip(table.ids, table.patients, strict=True)) if table.patients is not None else None
        sides = [fold.train[SHOTS][0], fold.test[0]]
        rows = [Rows(ids, None if patient is None else [patient[image] for image in ids]) for ids in sides]
        place = f"{scope}, fold {fold.fold} of {N_FOLDS}, K = {SHOTS}"
        yield from _told(place, "train and test", rows[0], rows[1])
    if table.patients is not None:
        several = len(set(table.ids)) - len(set(table.patients))
        if several:
            text = f"{len(set(table.ids))} images are of {len(set(table.patients))} patients: folds may share some"
            yield Finding("shared patients", scope, text, several, len(set(table.ids)))
