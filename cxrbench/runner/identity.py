"""Everything that decides a cell's number and what its record says of it, the paper's number for it included."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from cxrbench.data.sources.base import reference_verdict
from cxrbench.records.record import PublishedCell, TrainedOn, prints
from cxrbench.records.scores import ABOUT
from cxrbench.runner.folds import IdFold, group_labels
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell
from cxrbench.specs.card_facts import card_digest
from cxrbench.specs.paper import MISSING, published_table
from cxrbench.store import digest
from cxrbench.system.sources import code_digest
from cxrbench.types import Shots


def published_cells(cell: Cell) -> tuple[PublishedCell, ...]:
    """Every printed number of this cell; none of vectors that are given, whoever's name they bear."""
    if cell.model.card.given:
        return ()
    name = (cell.model.card.name, cell.data.task.name, cell.group)
    prompts = cell.prompts.name if cell.prompts else ("prototypes" if cell.protocol.worded else None)
    return tuple(
        PublishedCell(
            table=number,
            row=f"{row.section} {row.name}".strip(),
            column=column.title,
            value=row.cells[column.id],
        )
        for number in (2, 3, 4)
        for table in (published_table(number),)
        for row in table.rows
        for column in table.columns
        if row.cells[column.id] != MISSING and prints(row, column, name, cell.protocol.name, cell.shots, prompts)
    )


NO_FILE = "no file"
# Cells, models and their vectors enter by their keys; a record's types say what is written, and decide none of it.
ENTERING_BY_CONTENT = frozenset(
    {"cxrbench.runner.protocol", "cxrbench.runner.model", "cxrbench.models.base", "cxrbench.records.record"}
)


def identity(cell: Cell, made: Plan, left_out: Mapping[str, str], contents: Mapping[str, str]) -> dict[str, Any]:
    """Everything that decides a cell's number; `contents` are the SHA-256 of the images that it rests on.

    Raises DataError where prompts need a text encoder that is not at hand.
    """
    trained_on = training_facts(cell)
    return {
        "keys": [asdict(key) for key, _, _ in made.readings(cell)],
        "card": cell_card_digest(cell, made),
        "claimed": None if cell.model.weights is None else cell.model.weights.claimed,
        "variant": made.variant.digest,
        "partition": cell.data.partition.digest,
        "labels": group_labels(cell.data.task, cell.group, made.variant.settings),
        "folds": _folds_digest(made.folds(cell), cell.shots),
        "cell": [cell.data.task.name, cell.group, cell.protocol.name, cell.shots, made.test_part(cell)],
        "prompts": _texts_of(cell),
        "words": [
            None if words is None else [words.prompts, words.against, words.texts, words.edition]
            for words in made.words(cell)
        ],
        "left_out": sorted([image, reason == NO_FILE] for image, reason in left_out.items()),
        "contents": contents_digest(contents),
        "about": _about_digest(cell, made),
        "split": [cell.data.partition.split, reference(cell), cell.data.partition.synthetic],
        "protocol": [dict(say(made.variant.settings)) for say in (cell.protocol.options, cell.protocol.identity)],
        "published": [told.model_dump(mode="json") for told in published_cells(cell)],
        **({} if trained_on is None else {"trained_on": trained_on.model_dump(mode="json")}),
        "code": code_digest("cxrbench.runner.measure", *cell.protocol.modules(), stop_at=ENTERING_BY_CONTENT),
    }


def training_facts(cell: Cell) -> TrainedOn | None:
    """What the record says of another task that the cell is trained on; None where it is trained on its own, or not."""
    other, recipe = cell.data.trained_on, cell.training_recipe
    if other is None or recipe is None:
        return None
    return TrainedOn(**other.facts, recipe=recipe.digest)


def _texts_of(cell: Cell) -> list[str | None] | None:
    """What decides the texts of a cell, and what becomes of them; those of a retrieval task are in its partition."""
    told = [] if cell.prompts is None else [cell.prompts.name, cell.prompts.digest]
    return [*told, cell.model.text_digest] if cell.reads_texts else None


def cell_card_digest(cell: Cell, made: Plan) -> str:
    """Of what the model's card says that decides the cell."""
    return card_digest(
        cell.model.card, made.variant.settings, cell.group, cell.shots, cell.recipe, worded=cell.protocol.worded
    )


def _folds_digest(folds: Sequence[IdFold], shots: Shots | None) -> str:
    """Over what every fold scores and, for a probe with so many shots, trains on: facts that change a draw change it.

    Other numbers of shots that were asked for together change nothing.
    """
    drawn = [
        [
            fold.fold,
            None if shots is None else [fold.train[shots][0], fold.train[shots][1].tolist()],
            [fold.test[0], fold.test[1].tolist()],
            None if fold.valid is None else [fold.valid[0], fold.valid[1].tolist()],
        ]
        for fold in folds
    ]
    return digest.of_json(drawn)


def _about_digest(cell: Cell, made: Plan) -> str:
    """Over what is known of the scored images: patients decide intervals, sex, age and view decide subgroups."""
    scored = sorted({image for fold in made.folds(cell) for image in fold.test[0]})
    partition = cell.data.partition
    columns = {"patient": partition.patients, **partition.attributes}
    return digest.of_json({name: [columns.get(name, {}).get(image) for image in scored] for name in ABOUT})


def reference(cell: Cell) -> Literal["match", "differs", "unknown"]:
    """Whether the split came out as the task file says; see `reference_verdict`."""
    partition = cell.data.partition
    return reference_verdict(cell.data.task.split(partition.split), partition.parts)


def contents_digest(contents: Mapping[str, str]) -> str:
    """Hex SHA-256 over image ids, each with that of its bytes."""
    return digest.of_lines(f"{image} {content}" for image, content in sorted(contents.items()))
