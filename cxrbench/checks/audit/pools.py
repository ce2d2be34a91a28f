"""The same image or patient under two names: data sets that were made from one collection."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from cxrbench.analysis.finding import Finding
from cxrbench.data.sources import chexpert5x200, rsna_mapping
from cxrbench.data.sources.base import Labelled
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Table


@dataclass(frozen=True, slots=True)
class Traced:
    """Images by the name and the patient that their collection gives them; `whole`: of the whole data set.

    `doubtful`: images whose name is a guess.
    """

    pool: str
    images: Mapping[str, str]  # image id of the task to name in the collection
    parts: Mapping[str, tuple[str, ...]]
    whole: Collection[str]
    doubtful: frozenset[str] = frozenset()

    @property
    def sure(self) -> "Traced":
        """The same without the doubtful names."""
        return replace(self, images={i: name for i, name in self.images.items() if i not in self.doubtful})

    def named(self, ids: Sequence[str]) -> set[str]:
        """Names in the collection of those of the ids that have one."""
        return {self.images[image] for image in ids if image in self.images}


def traced(task: TaskSpec, folder: Path, labelled: Labelled) -> Traced | None:
    """The task's images by their names in NIH ChestX-ray14, the only collection that several data sets name; else None.

    RSNA's names come from its mapping file, which need not be there.
    """
    parts = {name: part.ids for name, part in labelled.parts.items()}
    if task.source == "nih_lt":
        ids = {image for part in parts.values() for image in part}
        return Traced("nih", {image: image for image in ids}, parts, ids)
    if task.source == "rsna":
        mapped = rsna_mapping.mapping(folder)
        whole = set(labelled.known)
        return None if mapped is None else Traced("nih", mapped.nih, parts, whole & set(mapped.nih), mapped.doubtful)
    return None


def between(found: Mapping[str, Traced]) -> Iterator[Finding]:
    """For each part that is scored, how many of its images, and of its patients' images, stand in another data set."""
    for one, other in permutations(found, 2):
        first, second = found[one], found[other]
        if first.pool != second.pool:
            continue
        part = next(name for name in ("test", "all", *first.parts) if name in first.parts)
        alike, sure = _shared(first, second, part), _shared(first.sure, second.sure, part)
        guessed = len(first.doubtful & {*first.parts[part]}) + len(second.doubtful & {*second.whole})
        what = (f"are in {other}", f"are of patients who are in {other}")
        for count, surely, text in zip(alike[:2], sure[:2], what, strict=True):
            doubt = f"; {surely} of {sure[2]} without {guessed} images whose match is doubtful" if guessed else ""
            told = f"{count} of {alike[2]} images of {one}'s part {part} {text}{doubt}"
            yield Finding("data sets", f"{one} and {other}", told, count, alike[2])


def _shared(first: Traced, second: Traced, part: str) -> tuple[int, int, int]:
    """Pictures of a part that the second data set has, those of its patients, and how many the part has."""
    own, names = first.named(first.parts[part]), second.named(list(second.whole))
    patients = {nih_patient(name) for name in names}
    return len(own & names), sum(nih_patient(name) in patients for name in own), len(own)


def nih_patient(name: str) -> str:
    """The patient of a picture of NIH ChestX-ray14: the first eight characters of its name."""
    return name[:8]


def same_collection(tasks: Sequence[TaskSpec], found: Mapping[str, Traced]) -> Iterator[Finding]:
    """Pairs of tasks with images of one collection of which ids do not say which are which."""
    for place, one in enumerate(tasks):
        for other in tasks[place + 1 :]:
            pools = {o.pool for o in one.origins if o.shares == "images"} & {o.pool for o in other.origins}
            if pools and not (one.name in found and other.name in found):
                unclear = [task.name for task in (one, other) if task.name not in found]
                text = (
                    f"both hold images of {' and '.join(sorted(pools))}; which, the ids of {' and '.join(unclear)} "
                    "do not say. `--images` finds copies."
                )
                yield Finding("not known", f"{one.name} and {other.name}", text)


def in_training_table(task: TaskSpec, labelled: Labelled) -> Iterator[Finding]:
    """Images of the task's patients in the table that encoders are pre-trained on (CheXpert's train.csv)."""
    if task.source != "chexpert5x200":
        return
    table: Table = labelled.parts["all"]
    patients = set(table.patients or ())
    frontal = [image for image in labelled.known if "_frontal" in image]
    own = sum(chexpert5x200.patient_of(image) in patients for image in frontal)
    if len(frontal) > len(set(table.ids)):  # a ready list holds the 1,000 alone
        text = (
            f"{own} of {len(frontal)} frontal images of CheXpert's training table are of the task's "
            f"{len(patients)} patients, its own {len(set(table.ids))} among them"
        )
        yield Finding("pre-training", task.name, text, own, len(frontal))
