"""Models that saw a task's source in pre-training, and classes that the source alone tells apart."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from cxrbench.analysis.against_paper import Finding
from cxrbench.records.record import Record
from cxrbench.records.validity import contaminated, sources_seen
from cxrbench.specs.card import ModelCard
from cxrbench.specs.task import TaskSpec
from cxrbench.store import digest


def pretrained_on_source(task: TaskSpec, cards: Sequence[ModelCard]) -> Iterator[Finding]:
    """Which models were pre-trained on the task's source, and which on another collection of the same institution."""
    marked = [card.name for card in cards if contaminated(card.pretraining, task)]
    near = [card.name for card in cards if sources_seen(card.pretraining, task) and card.name not in marked]
    kinds = (
        (marked, "images", "pre-trained on this task's collection (†)"),
        (near, "institution", "pre-trained on another collection of an institution that this task has images of"),
    )
    for names, shares, text in kinds:
        if names:
            said = {f"{o.pool}: {o.known}, {o.source}" for o in task.origins if o.shares == shares and o.letters}
            sources = "; ".join(sorted(said))
            yield Finding("pre-training", task.name, f"{text}: {', '.join(names)}", len(names), len(cards), sources)
    yield from _of_institution(task, near)


def _of_institution(task: TaskSpec, models: Sequence[str]) -> Iterator[Finding]:
    """What an institution in common can mean: patients that no id names, and a hospital that stands for a class."""
    for origin in task.origins if models else ():
        if origin.shares != "institution" or not origin.letters:
            continue
        text = (
            f"whether patients of the {origin.images} images from {origin.pool} are in the pre-training data of "
            f"{', '.join(models)}: {task.patients.rule}"
        )
        yield Finding("not known", task.name, text, origin.images, source=origin.source)
        if len(origin.classes) == 1:
            text = (
                f"all {origin.images} images from {origin.pool} are of class {origin.classes[0]}: a model that learnt "
                f"to tell this institution can tell the class by it"
            )
            yield Finding("pre-training", task.name, text, origin.images, _images_of(task, origin.classes[0]))


def _images_of(task: TaskSpec, label: str) -> int:
    return sum(origin.images for origin in task.origins if origin.classes == (label,))


def by_source_alone(task: TaskSpec, labels: Sequence[str]) -> float | None:
    """The balanced accuracy over `labels` of who knows nothing but each image's collection, from the facts' counts.

    None where no origin is given by class, or a class has none. By chance it is 1 / number of classes.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for origin in task.origins:
        for name in origin.classes:
            counts[name][origin.pool] += origin.images
    if not labels or any(name not in counts for name in labels):
        return None
    totals = {name: sum(counts[name].values()) for name in labels}
    pools = {pool for name in labels for pool in counts[name]}
    best = (max(Fraction(counts[name].get(pool, 0), totals[name]) for name in labels) for pool in pools)
    return float(sum(best, Fraction(0)) / len(labels))


def confounded(task: TaskSpec) -> Iterator[Finding]:
    """Groups of a task in which the collection says more about the class than chance does."""
    for group, labels in task.groups.items():
        known = by_source_alone(task, labels)
        if known is None or known <= 1 / len(labels):
            continue
        told = "; ".join(f"{name} from {_origins(task, name)}" for name in labels)
        text = f"who knows the collection alone reaches {100 * known:.1f} % balanced accuracy: {told}"
        basis = ", ".join(sorted({origin.known for origin in task.origins if origin.classes}))
        source = f"counts {basis}; `cxrbench info {task.word} --json` says where, under `origins`"
        yield Finding("confounding", f"{task.name}, group {group}", text, source=source)


def _origins(task: TaskSpec, label: str) -> str:
    own = [origin for origin in task.origins if label in origin.classes]
    return " and ".join(f"{origin.pool} ({origin.images})" for origin in own)


def unequal_prompts(records: Iterable[Record]) -> Iterator[Finding]:
    """Columns (variant, task, group, protocol) in which models were asked in different words."""
    columns: dict[tuple[str, str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.prompts is not None:
            how = "" if record.protocol.shots is None else f", {record.protocol.protocol}"
            columns[record.variant, record.data.task, record.data.group, how].append(record)
    for (variant, task, group, how), cells in sorted(columns.items()):
        yield from _column(f"{task}, group {group}, variant {variant}{how}", cells)


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
