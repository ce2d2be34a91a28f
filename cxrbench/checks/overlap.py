"""The same image or the same patient on both sides of a split: by ids, by equal bytes, or as a re-encoded copy."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cxrbench.analysis.against_paper import Finding
from cxrbench.data.sources import chexpert5x200, rsna
from cxrbench.data.sources.base import LabelledParts
from cxrbench.errors import DataError, ImageError, IntegrityError
from cxrbench.images.radiograph import read_bytes, read_radiograph
from cxrbench.pretrain.corpus.overlap import Verdict
from cxrbench.records.record import Record
from cxrbench.runner.folds import id_folds
from cxrbench.specs.card import ModelCard
from cxrbench.specs.settings import Settings
from cxrbench.specs.task import TaskSpec
from cxrbench.store import digest
from cxrbench.store.schema import Spec, complaints
from cxrbench.system.extras import from_extra
from cxrbench.types import Partition, Table

SHOTS = 16  # of the draws that are looked at where a task has no fixed test part
_ORDER = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class OverlapRows:
    """Images of one side, by id, with their patients (n,) where these are known."""

    ids: Sequence[str]
    patients: Sequence[str] | None

    def without(self, images: Set[str]) -> "OverlapRows":
        """The rows of all other images."""
        kept = [row for row, image in enumerate(self.ids) if image not in images]
        patients = None if self.patients is None else [self.patients[row] for row in kept]
        return OverlapRows([self.ids[row] for row in kept], patients)


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


def overlap(first: OverlapRows, second: OverlapRows) -> Overlap:
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


def _rows(table: Table) -> OverlapRows:
    return OverlapRows(table.ids, table.patients)


def _told(
    scope: str, sides: str, first: OverlapRows, second: OverlapRows, doubtful: Set[str] = frozenset()
) -> Iterator[Finding]:
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


def _surely(first: OverlapRows, second: OverlapRows, doubtful: Set[str]) -> str:
    """What is left of an overlap without the images whose patient is doubtful; empty where there are none."""
    guessed = doubtful & {*first.ids, *second.ids}
    if not guessed:
        return ""
    sure = overlap(first.without(guessed), second.without(guessed))
    return f"; {sure.patient_images} of {sure.images} without the {len(guessed)} images whose patient is doubtful"


def _folds(task: TaskSpec, partition: Partition, settings: Settings, scope: str) -> Iterator[Finding]:
    """Every fold of the group `all`, as a run draws it; the part is one table."""
    table = partition.parts["all"]
    folds = id_folds(task, partition, "all", [SHOTS], settings, "test")
    for fold in folds:
        patient = dict(zip(table.ids, table.patients, strict=True)) if table.patients is not None else None
        sides = [fold.train[SHOTS][0], fold.test[0]]
        rows = [OverlapRows(ids, None if patient is None else [patient[image] for image in ids]) for ids in sides]
        place = f"{scope}, fold {fold.fold} of {len(folds)}, K = {SHOTS}"
        yield from _told(place, "train and test", rows[0], rows[1])
    if table.patients is not None:
        several = len(set(table.ids)) - len(set(table.patients))
        if several:
            text = f"{len(set(table.ids))} images are of {len(set(table.patients))} patients: folds may share some"
            yield Finding("shared patients", scope, text, several, len(set(table.ids)))


FILE = "corpus.json"  # `pretrain.job` calls it so too, and loads torch


class NamedOverlap(Spec):
    """`corpus.json` of a run: how its corpus came about, and who of the evaluation sets was looked for in it."""

    digest: str
    images: int
    synthetic: bool
    counts: Mapping[str, Mapping[str, int]]
    overlap: tuple[Verdict, ...]
    notes: tuple[str, ...]
    unreadable: Mapping[str, str] = {}
    labelled_by: Mapping[str, str] = {}


def read_corpus(path: Path) -> NamedOverlap:
    """The file of a run; raises DataError where it cannot be read, IntegrityError where it is another file."""
    try:
        return NamedOverlap.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise IntegrityError(f"{path}: is not what `cxrbench pretrain` writes: {complaints(error)}") from error


def in_corpora(cards: Iterable[ModelCard], splits: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """What the runs of these cards wrote of the tasks that are looked at, `splits` by task.

    Raises IntegrityError for a file that is of another corpus than the card's.
    """
    for card in cards:
        path = card.home / FILE
        if not path.is_file():
            text = f"which patients {card.name} was pre-trained on: there is no {FILE} beside its card"
            yield Finding("not known", card.name, text)
            continue
        told = read_corpus(path)
        if not any(told.digest in note for note in card.notes):
            raise IntegrityError(
                f"{path}: tells of corpus {told.digest[:12]}, which the card of {card.name} does not name. "
                "Were files of two runs put together?"
            )
        for verdict in told.overlap:
            if verdict.task in splits:
                yield from _found(card, verdict, splits[verdict.task])


def _found(card: ModelCard, verdict: Verdict, splits: Sequence[str]) -> Iterator[Finding]:
    side, basis = f"{verdict.task} in {card.name}'s {verdict.source}", verdict.confirmed
    people = f"{verdict.patients} patients"
    match verdict.finding:
        case "remains":
            text = f"{side}: {verdict.images} images of {people} of the task were pre-trained on"
            yield Finding("pre-training", verdict.task, text, verdict.images, source=basis)
        case "removed":
            text = f"{side}: {verdict.images} images of {people} of the task were taken out before"
            yield Finding("pre-training", verdict.task, text, 0, source=basis)
        case "none":
            yield Finding("pre-training", verdict.task, f"{side}: no patient of the task", 0, source=basis)
        case "apart":
            yield Finding("pre-training", verdict.task, f"{side}: other hospitals, {verdict.why}", 0, source=basis)
        case "untold" | "unchecked":
            yield Finding("not known", verdict.task, f"whether patients of {side} were pre-trained on: {verdict.why}")
    compared = verdict.finding in ("none", "removed", "remains")
    if compared and (others := [split for split in splits if split not in verdict.splits]):
        text = f"{side}: the run looked for {', '.join(verdict.splits)}, not for {', '.join(others)}"
        yield Finding("not known", verdict.task, text)


def of_no_card(records: Iterable[Record], cards: Iterable[ModelCard], tasks: Sequence[TaskSpec]) -> Iterator[Finding]:
    """Measured models of which nothing is known here: neither the zoo nor a card that was named has them."""
    known, audited = {card.name for card in cards}, {task.name for task in tasks}
    strange = {r.model.name for r in records if r.model.name not in known and r.data.task in audited}
    for name in sorted(strange):
        text = f"what {name} was pre-trained on: no card here has that name; give it by --model CARD"
        yield Finding("not known", name, text)


def nih_patient(name: str) -> str:
    """The patient of a picture of NIH ChestX-ray14: the first eight characters of its name."""
    return name[:8]


@dataclass(frozen=True, slots=True)
class Traced:
    """Images by the name and the patient that their collection gives them; `whole`: of the whole data set.

    `doubtful`: images whose name is a guess. `patient`: of a name in the collection.
    """

    pool: str
    images: Mapping[str, str]  # image id of the task to name in the collection
    parts: Mapping[str, tuple[str, ...]]
    whole: Collection[str]
    doubtful: frozenset[str] = frozenset()
    patient: Callable[[str], str] = nih_patient

    @property
    def sure(self) -> "Traced":
        """The same without the doubtful names."""
        return replace(self, images={i: name for i, name in self.images.items() if i not in self.doubtful})

    def named(self, ids: Sequence[str]) -> set[str]:
        """Names in the collection of those of the ids that have one."""
        return {self.images[image] for image in ids if image in self.images}


def traced(task: TaskSpec, folder: Path, labelled: LabelledParts) -> Traced | None:
    """The task's images by their names in its collection, where its ids are those of the collection; else None.

    RSNA's names in NIH ChestX-ray14 come from its mapping file, which need not be there.
    """
    parts = {name: part.ids for name, part in labelled.parts.items()}
    if task.source == "rsna":
        mapped = rsna.mapping(folder)
        whole = set(labelled.known)
        return None if mapped is None else Traced("nih", mapped.nih, parts, whole & set(mapped.nih), mapped.doubtful)
    known = [(part.ids, part.patients) for part in labelled.parts.values() if part.patients is not None]
    if task.patients.collection is not None and len(known) == len(parts):
        patients = {image: who for ids, people in known for image, who in zip(ids, people, strict=True)}
        names = {image: image for image in patients}
        return Traced(task.patients.collection, names, parts, names, patient=patients.__getitem__)
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
    patients = {second.patient(name) for name in names}
    return len(own & names), sum(first.patient(name) in patients for name in own), len(own)


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


def in_training_table(task: TaskSpec, labelled: LabelledParts) -> Iterator[Finding]:
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


SIDE = 32  # pixels of the grey square that confirms
SPREAD = 64.0  # standard deviation that every square is brought to, about that of a radiograph on 0..255
# Between squares. Of two radiographs stored in 48 ways (other depths, windows, codecs), nine pairs in ten stay
# below it; of 32 others no pair comes nearer than 877.
MOST_SQUARED_ERROR = 30.0
MOST_BITS = 10  # of 64 in which the hashes of copies may differ; only pictures this near are looked at
_READ_AT = (256, 256)  # a JPEG may be decoded smaller, so long as it stays above this
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Prints:
    """What tells pictures apart: ids (n,), SHA-256 of bytes (n,), hash bits (n, 64) of -1 and 1, squares (n, 1024)
    of mean 0 and standard deviation `SPREAD`, since a copy may have another window.

    `unreadable` gives the reason for every other image.
    """

    ids: tuple[str, ...]
    content: tuple[str, ...]
    bits: NDArray[np.float32]
    squares: NDArray[np.float32]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def of(self, ids: Iterable[str]) -> "Prints":
        """The same for some ids alone, those that could be read."""
        place = {image: row for row, image in enumerate(self.ids)}
        rows = [place[image] for image in dict.fromkeys(ids) if image in place]
        names, content = (tuple(values[row] for row in rows) for values in (self.ids, self.content))
        return Prints(names, content, self.bits[rows], self.squares[rows])


@dataclass(frozen=True, slots=True)
class Copy:
    """Two images that show the same picture. `error` is the mean squared error of their squares, 0 for equal bytes."""

    first: str
    second: str
    exact: bool
    error: float


def prints(paths: Mapping[str, Path], workers: int = 1) -> Prints:
    """The prints of images by id, in their order; raises MissingExtraError without ImageHash."""
    with from_extra("audit", "audit --images"):
        from imagehash import phash
    with ThreadPoolExecutor(workers) as pool:
        made = list(pool.map(partial(_print, phash=phash), paths.values()))
    told = {image: found for image, found in zip(paths, made, strict=True) if not isinstance(found, str)}
    failed = {image: found for image, found in zip(paths, made, strict=True) if isinstance(found, str)}
    rows = list(told.values())
    return Prints(
        tuple(told),
        tuple(content for content, _, _ in rows),
        np.array([bits for _, bits, _ in rows], np.float32).reshape(-1, 64),
        np.array([square for _, _, square in rows], np.float32).reshape(-1, SIDE * SIDE),
        failed,
    )


def _print(path: Path, phash: Callable[[Any], Any]) -> tuple[str, NDArray[Any], NDArray[Any]] | str:
    from PIL import Image

    try:
        data = read_bytes(path)
        grey = read_radiograph(data, path.name, _READ_AT)
    except ImageError as error:
        return str(error)
    picture = Image.fromarray(np.rint(grey.unit * 255).astype(np.uint8))
    square = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
    if not square.std():
        return f"{path.name}: shows nothing: one grey value everywhere"
    bits = np.where(phash(picture).hash, 1, -1)
    return digest.of_bytes(data), bits.ravel(), (square - square.mean()) / square.std() * SPREAD


def copies(first: Prints, second: Prints) -> list[Copy]:
    """Pairs of different ids, one of each side, that show the same picture; exact ones first, then by error."""
    found = []
    for start in range(0, len(second.ids), _BLOCK):
        alike = second.bits[start : start + _BLOCK] @ first.bits.T >= 64 - 2 * MOST_BITS
        for row, column in np.argwhere(alike).tolist():
            other = start + row
            if first.ids[column] == second.ids[other]:
                continue
            error = float(np.mean((first.squares[column] - second.squares[other]) ** 2))
            if error <= MOST_SQUARED_ERROR:
                exact = first.content[column] == second.content[other]
                found.append(Copy(first.ids[column], second.ids[other], exact, 0.0 if exact else error))
    return sorted(found, key=lambda copy: (not copy.exact, copy.error, copy.first, copy.second))


def told(scope: str, sides: str, found: Sequence[Copy], images: int) -> Iterator[Finding]:
    """One finding: how many images of the second side are copies of images of the first, with the nearest pair."""
    exact = {copy.second for copy in found if copy.exact}
    again = {copy.second for copy in found} - exact
    text = f"{sides}: {len(exact)} images are byte for byte the same under another name, {len(again)} re-encoded copies"
    if found:
        text += f"; such as {found[0].first} and {found[0].second} (squared error {found[0].error:.2f})"
    yield Finding("copies", scope, text, len(exact | again), images)


def left_out(scope: str, found: Prints, missing: int) -> Iterator[Finding]:
    """What of the images could not be looked at."""
    if found.unreadable:
        image, reason = next(iter(found.unreadable.items()))
        text = f"whether {len(found.unreadable)} images are copies: they could not be read, such as {image}: {reason}"
        yield Finding("not known", scope, text, len(found.unreadable))
    if missing:
        yield Finding("not known", scope, f"whether {missing} images are copies: they have no file here", missing)
