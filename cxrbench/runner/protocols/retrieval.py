"""Images and texts that are found by each other, by the cosine of their vectors (a, b, c: docs/retrieval.md)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, RunError
from cxrbench.evaluate.metrics import mean_and_spread
from cxrbench.evaluate.retrieval import Found, QueryRows, own_ranks, precisions, query_metrics, summarised_queries
from cxrbench.records.record import FoldResult, ProtocolIdentity
from cxrbench.records.scores import FoldScores
from cxrbench.runner.checks import where
from cxrbench.runner.model import TEXTS_AT_ONCE, BenchModel
from cxrbench.runner.protocol import Basis, Cell, FloatArray, Measured, Protocol, Readings
from cxrbench.specs.card import ModelCard, View
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings
from cxrbench.store import digest
from cxrbench.types import IntArray, Partition, RetrievalForm, Shots, Table

TIES = "against the query"
Vectors = Callable[[Sequence[str]], FloatArray]  # of images by id, or of texts


@dataclass(frozen=True, slots=True)
class Answered:
    """The queries by the names that predictions give them, what each came to, and among how many candidates."""

    names: tuple[str, ...]
    found: Found
    candidates: int


@dataclass(frozen=True, slots=True)
class Sides:
    """The tables of a split without the images that could not be read, and the vectors of both sides.

    Labels are those of the group (n, C).
    """

    tables: Mapping[str, Table]
    labels: tuple[str, ...]
    images: Vectors
    texts: Vectors

    def table(self, name: str) -> Table:
        """A part, or `asked`; raises DataError where the split has none."""
        if name not in self.tables or not len(self.tables[name]):
            raise DataError(f"the split has no {name} that could be read")
        return self.tables[name]

    def said(self, name: str) -> tuple[str, ...]:
        """The texts (n,) of a part; raises DataError where it has none."""
        texts = self.table(name).texts
        if texts is None:
            raise DataError(f"the {name} part of the split has no texts")
        return texts

    def labels_of(self, name: str) -> NDArray[np.int8]:
        """The labels (n, C) of the group."""
        table = self.table(name)
        return table.labels[:, [table.classes.index(label) for label in self.labels]]


def _of_class(sides: Sides, asking: str, vectors: FloatArray) -> Answered:
    """Form a: a candidate is right where it has a label of the query."""
    queries, pool = sides.labels_of(asking) == 1, sides.labels_of("candidates") == 1

    def right(part: slice) -> NDArray[np.bool_]:
        return (queries[part, None, :] & pool[None, :, :]).any(axis=2)

    candidates = sides.table("candidates").ids
    return Answered(sides.table(asking).ids, precisions(vectors, sides.images(candidates), right), len(candidates))


def _images_of_class(sides: Sides) -> Answered:
    return _of_class(sides, "test", sides.images(sides.table("test").ids))


def _texts_of_class(sides: Sides) -> Answered:
    return _of_class(sides, "asked", sides.texts(sides.said("asked")))


def _reports_of_class(sides: Sides) -> Answered:
    """Form b: a report is right where its image has the query's labels, all of them and no other."""
    images, labels = sides.table("test").ids, sides.labels_of("test")

    def right(part: slice) -> NDArray[np.bool_]:
        return (labels[part, None, :] == labels[None, :, :]).all(axis=2)

    return Answered(images, precisions(sides.images(images), sides.texts(sides.said("test")), right), len(images))


def _own_report(sides: Sides) -> Answered:
    """Form c: equal texts are one candidate."""
    images, (texts, own) = sides.table("test").ids, merged(sides.said("test"))
    found = own_ranks(sides.images(images), own, sides.texts(texts), np.arange(len(texts)))
    return Answered(images, found, len(texts))


def _own_image(sides: Sides) -> Answered:
    """Form c the other way: equal texts are one query, named after its first image; the best of its images counts."""
    images, (texts, own) = sides.table("test").ids, merged(sides.said("test"))
    found = own_ranks(sides.texts(texts), np.arange(len(texts)), sides.images(images), own)
    first = np.unique(own, return_index=True)[1]
    return Answered(tuple(images[row] for row in first), found, len(images))


FORMS: Mapping[RetrievalForm, Callable[[Sides], Answered]] = {
    "a-image-to-image": _images_of_class,
    "a-text-to-image": _texts_of_class,
    "b-image-to-report": _reports_of_class,
    "c-image-to-report": _own_report,
    "c-report-to-image": _own_image,
}


def merged(texts: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
    """The distinct texts in the order of their first occurrence, and which of them each text (n,) is."""
    number: dict[str, int] = {}
    own = np.array([number.setdefault(text, len(number)) for text in texts], np.int64)
    return tuple(number), own


def _view(card: ModelCard, group: str, settings: Settings) -> tuple[str, View] | None:
    """The view, by its name, that gives vectors of images and texts in one space; None where there is none."""
    if card.zero_shot is None:
        return None
    name = card.view_name(group, settings.dlilp_head)
    return (name, card.views[name]) if _has_texts(card.views[name]) else None


def _has_texts(view: View) -> bool:
    return view.scoring == "cosine" and view.classes == "prompts"


class Retrieval(Protocol):
    """Every query of a group ranks all its candidates by cosine; of equal cosines those that are wrong come first."""

    name = "retrieval"
    source = "A: ConVIRT; B: BenchX, GLoRIA; C: CXR-CLIP"
    worded = True
    kinds = ("retrieval",)

    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[Shots], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[Shots | None, PromptSet | None]]:
        """One cell, of a model that has vectors of images and texts in one space."""
        return [] if _view(model.card, group, settings) is None else [(None, None)]

    def why_none(self, card: ModelCard) -> str:
        """No text side, or one without vectors of its own."""
        if card.zero_shot is None:
            return "it has no text side, so no text can be found or ask"
        views = card.zero_shot.views.values()
        if any(view.scoring == "interaction" for view in views):
            return (
                "it scores by interaction of an image with all texts at once: there is no vector of a text to rank by"
            )
        told = "it is scored by vectors of classes, and takes no text"
        return f"{told} but by --set dlilp.head=text" if any(map(_has_texts, views)) else told

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """How texts are encoded."""
        return {"padding": "masked", "texts_at_once": TEXTS_AT_ONCE}

    def measure(self, cell: Cell, basis: Basis, readings: Readings) -> Measured:
        """The queries of the group, ranked once."""
        model, settings, partition = cell.model, basis.settings, cell.data.partition
        found = _view(model.card, cell.group, settings)
        assert found is not None  # else there is no cell
        name, view = found
        known, _ = merged(partition.texts)  # of images that cannot be read, too: batches do not depend on those
        encoded = _finite(model.text_vectors(known), cell, "texts") if known else np.empty((0, 0), np.float32)
        row_of = {text: row for row, text in enumerate(known)}
        sides = Sides(
            _readable(partition, basis.left_out),
            cell.data.task.group(cell.group),
            lambda images: _finite(readings.vectors(view.tap, images), cell, "images"),
            lambda texts: encoded[[row_of[text] for text in texts]],
        )
        try:
            answered = FORMS[_form(cell.group)](sides)
        except DataError as error:
            raise DataError(f"{where(cell)}: {error}") from error
        protocol = ProtocolIdentity(
            protocol=self.name,
            view=name,
            tap=view.tap,
            part=basis.part,
            scores="other",
            scoring=view.scoring,
            options={**_facts(cell, answered, sides), **self.options(settings)},
        )
        return _measured(protocol, cell.group, answered)


def _form(group: str) -> RetrievalForm:
    return next(form for form in FORMS if form == group)  # which the task's file was held to


def _readable(partition: Partition, left_out: Iterable[str]) -> dict[str, Table]:
    lost = set(left_out)
    kept = {
        name: table.at(np.array([image not in lost for image in table.ids], dtype=np.bool_))
        for name, table in partition.parts.items()
    }
    return kept if partition.asked is None else {**kept, "asked": partition.asked}


def _finite(vectors: FloatArray, cell: Cell, what: str) -> FloatArray:
    if not np.isfinite(vectors).all():
        lost = int((~np.isfinite(vectors)).any(axis=1).sum())
        raise RunError(
            f"{cell.name}: the vectors of {lost} of {len(vectors)} {what} are not finite; look at the weights"
        )
    return vectors


def _measured(protocol: ProtocolIdentity, group: str, answered: Answered) -> Measured:
    found = answered.found
    rows = QueryRows(np.arange(len(answered.names)), found.names, found.values)
    fold = FoldResult(
        fold=0,
        test_rows=len(answered.names),
        test_digest=digest.of_lines(answered.names),
        metrics=asdict(query_metrics(rows)),
    )
    summary = {name: mean_and_spread([fold.metrics[name]]) for name in summarised_queries(group)}
    none = np.zeros((len(answered.names), 0), np.int64)
    told = FoldScores(0, answered.names, none, found.values, values=found.names)
    return Measured(protocol, (fold,), (told,), None, summary, None)


def _facts(cell: Cell, answered: Answered, sides: Sides) -> dict[str, str | int | float]:
    """What a number of retrieval means nothing without."""
    letter, _, direction = cell.group.partition("-")
    encoder, told = cell.model.card.text_encoder, dict[str, str | int | float]()
    said = [text for name in ("asked", "test") if name in sides.tables for text in sides.tables[name].texts or ()]
    if cell.group != "a-image-to-image":
        told["distinct_texts"] = len(set(said))
        told |= cell.data.partition.about_texts
        told["cut_at_tokens"] = "as the model does" if encoder is None else encoder.max_tokens
    if (shared := _patients_in_both(sides)) is not None and cell.group == "a-image-to-image":
        told["patients_asking_and_asked_for"] = shared
    return {
        "letter": letter.upper(),
        "direction": direction.replace("-", " "),
        "queries": len(answered.names),
        "candidates": answered.candidates,
        "chance": float((answered.found.right / answered.candidates).mean()),
        "ties": TIES,
        **told,
    }


def _patients_in_both(sides: Sides) -> int | None:
    """How many patients have images that ask and images that are asked for; None where that is not known."""
    both = [sides.tables[name].patients for name in ("test", "candidates") if name in sides.tables]
    if len(both) < 2 or both[0] is None or both[1] is None:
        return None
    return len(set(both[0]) & set(both[1]))
