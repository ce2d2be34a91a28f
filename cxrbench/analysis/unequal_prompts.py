"""Prompts that differ between models whose numbers stand in one column."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from cxrbench.analysis.finding import Finding
from cxrbench.records.record import Record
from cxrbench.store import digest


def unequal_prompts(records: Iterable[Record]) -> Iterator[Finding]:
    """Columns (variant, task, group) in which models were asked in different words."""
    columns: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.prompts is not None:
            columns[record.variant, record.data.task, record.data.group].append(record)
    for (variant, task, group), cells in sorted(columns.items()):
        yield from _column(f"{task}, group {group}, variant {variant}", cells)


def _column(scope: str, cells: Iterable[Record]) -> Iterator[Finding]:
    worded: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    sets: dict[str, set[str]] = defaultdict(set)
    for record in cells:
        assert record.prompts is not None  # the caller's choice
        sets[record.prompts.set].add(record.model.name)
        if record.prompts.source == "prompts":
            worded[record.prompts.set][_words(record)].add(record.model.name)
    models = set().union(*sets.values())
    for name, by_words in sorted(worded.items()):
        if len(by_words) > 1:
            groups = sorted(", ".join(sorted(own)) for own in by_words.values())
            text = f"the prompt set {name} was not the same words for all models: {' | '.join(groups)}"
            yield Finding("prompts", scope, text, len(set().union(*by_words.values())), len(models))
    for name, own in sorted(sets.items()):
        if lone := models - own:
            text = f"{name}: only {', '.join(sorted(own))}, not {', '.join(sorted(lone))}"
            yield Finding("prompts", scope, text, len(own), len(models))


def _words(record: Record) -> str:
    """The texts of all folds, whatever their order; the set's digest where a record keeps none."""
    told = record.prompts
    assert told is not None
    drawn = [{name: sorted(texts) for name, texts in fold.items()} for fold in told.drawn]
    return digest.of_json(drawn) if drawn else told.digest
