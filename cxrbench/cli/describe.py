"""Facts as a person reads them; `cxrbench info --json` gives every key instead."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.specs.card import ModelCard, UnavailableModel
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec

if TYPE_CHECKING:
    from cxrbench.records.record import Record
    from cxrbench.store.schema import Spec


def described(facts: "Spec | Record", path: Path) -> str:
    """The lines of a model, task, variant or record; prompt sets stand as they are in their files.

    A record's predictions lie beside its file, `path`.
    """
    from cxrbench.records.record import Record

    match facts:
        case Record():
            from cxrbench.records.files import results_of
            from cxrbench.records.predictions import read_cell
            from cxrbench.reports.detail import detail

            return detail(facts, read_cell(results_of(path), facts)).rstrip("\n")
        case ModelCard():
            return "\n".join(_card(facts))
        case UnavailableModel():
            return f"{facts.name}: {facts.title}\n  cannot be run: {facts.unavailable}\n  source: {facts.source}"
        case TaskSpec():
            return "\n".join(_task(facts))
        case Variant():
            return "\n".join(_variant(facts))
    return facts.model_dump_json(indent=1, exclude_defaults=True)


def _task(task: TaskSpec) -> Iterator[str]:
    yield f"{task.name}: {task.title}, from {task.data_set}"
    yield f"  terms: {task.licence}"
    yield f"  get: {task.get}"
    yield (
        f"  put: in a folder below --data-root or CXRBENCH_DATA, or name it by --data-root {task.name}=DIR; "
        f"`cxrbench data status -t {task.name}` says what is found"
    )
    yield f"  images: {task.pool}"
    yield f"  patients: {task.patients.rule}"
    resplit = f"five draws of {task.test_percent} % of one table"
    yield f"  test images: {resplit if task.folds == 'resplit' else 'a fixed part; five folds draw training images'}"
    yield f"  paper, Table 1: {task.printed.train:,} train, {task.printed.test:,} test, {task.printed.labels} classes"
    totals = (f"{name} {count:,}" for name, count in task.expected.items())
    yield f"  a complete download has: {', '.join(totals)}"
    yield "\ngroups"
    yield from (f"  {name}, {len(labels)} classes: {', '.join(labels)}" for name, labels in task.groups.items())
    yield f"\nsplits (--set {task.name}.split=NAME)"
    chosen = _choosers(task.name)
    for name, split in task.splits.items():
        yield f"  {name}: {split.title}{chosen.get(name, '')}"
        for part, known in split.reference.items():
            yield f"    {part}: {known.rows:,} rows, {known.distinct:,} images, sha256 of the rows {known.rows_sha256}"


def _choosers(task: str) -> dict[str, str]:
    """Which bundles take which split, as the end of a line."""
    from cxrbench.specs import catalog

    bundles = [catalog.load_variant(name) for name in catalog.variant_files()]
    splits = {bundle.splits[task] for bundle in bundles if task in bundle.splits}
    return {s: f" [{', '.join(b.name for b in bundles if b.splits.get(task) == s)}]" for s in splits}


def _card(card: ModelCard) -> Iterator[str]:
    yield f"{card.name}: {card.title}"
    yield f"  source: {card.source}"
    yield f"  terms: {card.licence}"
    if card.pretraining:
        yield f"  pre-trained on: {', '.join(card.pretraining)}"
    if card.weights.made is not None:
        yield f"  weights: none; its tensors are made: {card.weights.made}"
    else:
        files = " or ".join(card.weights.files)
        yield f"  weights: {files}; `cxrbench weights info {card.name}` says where, and what is here"
    if card.text_encoder is not None:
        yield f"  text encoder: {text_encoder_place(card)}"
    yield f"  adapter: {card.adapter}"
    yield f"  vectors: {', '.join(f'{tap} {width}' for tap, width in card.taps.items())}"
    yield f"  recipes: {', '.join(card.recipes)}"
    yield f"  zero-shot: {_zero_shot(card)}"
    rows = (f"{table.replace('table', 'Table ')}: {row}" for table, row in card.published.items())
    if card.published:
        yield f"  rows of the paper: {', '.join(rows)}"
    yield from (f"  note: {note}" for note in card.notes)


def _zero_shot(card: ModelCard) -> str:
    how = card.zero_shot
    if how is None:
        return "no text or label side; linear probes only"
    views = ", ".join(f"{name} ({view.scoring} of {view.tap} with {view.classes})" for name, view in how.views.items())
    own = f"; its authors' prompt sets: {', '.join(how.prompts)}" if how.prompts else ""
    standard = ", scores standardised over the test images" if how.standardised else ""
    return f"{views}; prompts of a class pooled by {how.pooling}{standard}{own}"


def text_encoder_place(card: ModelCard) -> str:
    """Where the card's text encoder comes from, in words."""
    encoder = card.text_encoder
    if encoder is None:
        return "none"
    if encoder.beside is not None:
        return f"beside the card, in {encoder.beside}"
    return f"{encoder.hub} at {encoder.revision or 'its main branch'}"


def _variant(variant: Variant) -> Iterator[str]:
    from cxrbench.specs import catalog

    yield f"{variant.name}, version {variant.version}: {variant.title}\ndigest {variant.digest}\n\nsplits"
    for task, split in variant.splits.items():
        yield f"  {task}: {split}: {catalog.load_task(task).split(split).title}"
    yield "\nsettings"
    docs = catalog.setting_docs().settings
    for setting, choice in variant.settings.model_dump(mode="json").items():
        yield f"  {setting} = {choice}: {docs[setting].choices[choice]}"
