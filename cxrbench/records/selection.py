"""Which records measure one cell, how a cell is named, which of its records counts, and why others may not."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cxrbench.errors import DataError, SpecError
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import Record
from cxrbench.records.validity import flaws, given_note, overlap_doubt
from cxrbench.specs import catalog
from cxrbench.specs.settings import Variant
from cxrbench.types import KINDS, Shots, TaskKind, shots_in_words, shots_order

CellKey = tuple[str, str, str, str, tuple[int, float], str, str]
PROTOTYPES = "prototypes"


def prompt_set(record: Record) -> str | None:
    """The name of its prompt set, `prototypes` for class vectors of the model's own, None for a probe."""
    return None if record.prompts is None else record.prompts.set


def cell_key(record: Record) -> CellKey:
    """What makes two records measurements of one cell, within a variant."""
    how = record.protocol
    words, shots = prompt_set(record) or "", shots_order(how.shots)
    return record.data.task, record.model.name, record.data.group, how.protocol, shots, words, how.view or ""


def cell_name(record: Record) -> str:
    """The cell in words, such as `clip_cm, rsna (base), linear-probe, K = 16`."""
    how, data = record.protocol, record.data
    task = data.task if data.group == "all" else f"{data.task} ({data.group})"
    shots = "" if how.shots is None else shots_in_words(how.shots)
    return ", ".join(filter(None, [record.model.name, task, how.protocol, shots, prompt_set(record)]))


def newest_record(records: Iterable[Record], flaws_of: Callable[[Record], Sequence[str]] = flaws) -> Record | None:
    """Of several records of a cell the one that counts: the newest without a flaw, or else the newest; None of none.

    Of two that were begun in one second it is the one of the higher id, so that every table shows the same.
    """
    return max(records, key=lambda record: (not flaws_of(record), record.runtime.started, record.id), default=None)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all compared cells share; `prompts` is None for probes, `prototypes` where no model was given words.

    Tasks of different kinds have different main metrics, and are never averaged.
    """

    protocol: str
    shots: Shots | None
    group: str
    prompts: str | None
    kind: TaskKind = "single-label"

    @property
    def order(self) -> tuple[str, str, tuple[int, float], str]:
        """What settings of one kind of task are sorted by."""
        return self.protocol, self.group, shots_order(self.shots), self.prompts or ""

    def __str__(self) -> str:
        told = [self.protocol, "" if self.shots is None else shots_in_words(self.shots), f"group {self.group}"]
        told += [f"prompts {self.prompts}" if self.prompts else ""]
        return ", ".join(filter(None, [*told, "" if self.kind == "single-label" else f"{self.kind} tasks"]))


def setting_of(record: Record) -> Setting:
    """The setting that a record was measured in."""
    how = record.protocol
    return Setting(how.protocol, how.shots, record.data.group, prompt_set(record), record.data.kind)


Choice = str | Sequence[str] | None  # one word, several, or whatever was measured
ShotsChoice = Shots | Sequence[Shots] | None


@dataclass(frozen=True, slots=True)
class CellFilter:
    """The words of a question; None stands for every group, protocol, number of shots or prompt set measured.

    Models, tasks and protocols may be globs.
    """

    models: Sequence[str]
    variant: Variant
    tasks: Sequence[str] = ("all",)
    group: Choice = "all"
    protocol: Choice = None
    shots: ShotsChoice = None
    prompts: Choice = None
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Selected:
    """The records of one setting by task and model, in the order asked for, with what is worth knowing about them."""

    setting: Setting
    models: tuple[str, ...]
    records: Mapping[str, Mapping[str, Record]]
    notes: tuple[str, ...] = field(default=())


def select(records: Iterable[Record], asked: CellFilter) -> list[Selected]:
    """The records of every setting in which at least two of the models were measured.

    Only records of the variant, and either only made or only measured ones, are taken. Of several records of a cell the
    newest sound one counts, which is noted. Raises SpecError for a model, task or protocol that was not measured, or
    fewer than two models, DataError where no setting is left.
    """
    fitting, models, tasks = _chosen(of_variant(list(records), asked), asked)
    if len(models) < 2:
        raise SpecError(f"a comparison needs two models; {', '.join(asked.models)} is only {models[0]}")
    settings = sorted(_settings(fitting), key=str)
    found = [_controls_apart(_selected(setting, models, tasks, fitting), fitting) for setting in settings]
    shared = [s for s in found if len({model for row in s.records.values() for model in row}) > 1]
    if not shared:
        raise DataError(
            f"no two of {', '.join(models)} were measured in one setting (group {in_words(asked.group)}, variant "
            f"{asked.variant.name}); there is: {'; '.join(str(s.setting) for s in found) or 'nothing'}"
        )
    return shared


def _controls_apart(selected: Selected, records: Sequence[Record]) -> Selected:
    """Without negative controls that this setting did not measure, or that would make a board of a pair of models.

    Two models that were asked for stay, whatever they are.
    """
    controls = {r.model.name for r in records if r.control}
    models = [model for model in selected.models if model not in controls]
    measured = {model for row in selected.records.values() for model in row}
    own = [model for model in selected.models if model in controls & measured]
    if len(selected.models) == 2 or len(models) < 2:
        return selected
    if len(models) > 2:
        return replace(selected, models=tuple(m for m in selected.models if m in models or m in own))
    note = [f"negative controls are left out of a pair, ask for them one by one: {', '.join(own)}"] if own else []
    return replace(selected, models=tuple(models), notes=(*selected.notes, *note))


def every_setting(records: Sequence[Record]) -> list[Selected]:
    """What was measured, setting by setting, however few models there are; the records are of one variant and kind.

    Of several records of a cell the newest sound one counts, which is noted.
    """
    models = sorted({r.model.name for r in records})
    tasks = in_order({r.data.task for r in records})
    settings = sorted(_settings(records), key=lambda s: (KINDS.index(s.kind), s.order))
    return [_selected(setting, models, tasks, records) for setting in settings]


def selected_settings(records: Iterable[Record], asked: CellFilter) -> list[Selected]:
    """Every setting that was asked for, however few models it has; controls among them.

    Of several records of a cell the newest sound one counts, which is noted. Raises SpecError for a model, task or
    protocol that was not measured, DataError where no cell is left.
    """
    fitting, models, tasks = _fitting(records, asked)
    settings = sorted(_settings(fitting), key=lambda s: s.order)
    return [_selected(setting, models, tasks, fitting) for setting in settings]


def _fitting(records: Iterable[Record], asked: CellFilter) -> tuple[list[Record], list[str], list[str]]:
    """The records asked for, older ones too, with the models and tasks in the order asked for."""
    fitting, models, tasks = _chosen(of_variant(list(records), asked), asked)
    if not fitting:
        told = {"group": asked.group, "protocol": asked.protocol, "shots": asked.shots, "prompts": asked.prompts}
        words = ", ".join(f"{name} {in_words(value)}" for name, value in told.items() if value is not None)
        raise DataError(
            f"no record of {', '.join(models)} on {', '.join(tasks)} has {words}; `cxrbench run` measures it, or leave "
            "out what narrows the choice"
        )
    return fitting, models, tasks


def narrowed(records: Iterable[Record], asked: CellFilter) -> list[Record]:
    """The records asked for of every variant, made and measured, older ones too.

    Raises SpecError for a model, task or protocol that was not measured.
    """
    return _chosen(list(records), asked)[0]


def _chosen(known: Sequence[Record], asked: CellFilter) -> tuple[list[Record], list[str], list[str]]:
    """Those of the records that are asked for, older ones too, with the models and tasks in the order asked for."""
    models = catalog.select(asked.models, sorted({r.model.name for r in known}), "measured model")
    tasks = catalog.select(asked.tasks, in_order({r.data.task for r in known}), "measured task")
    narrow = replace(asked, protocol=chosen_protocols(known, asked.protocol))
    return [r for r in known if r.model.name in models and r.data.task in tasks and is_asked(r, narrow)], models, tasks


def chosen_protocols(records: Iterable[Record], asked: Choice) -> tuple[str, ...] | None:
    """The measured protocols that names, comma lists, `paper`, `all` and globs ask for, in that order; None for each.

    Raises SpecError, with the nearest names, for a word that fits no protocol of the records.
    """
    if asked is None:
        return None
    words = [asked] if isinstance(asked, str) else asked
    known = sorted({record.protocol.protocol for record in records})
    return tuple(catalog.select(words, known, "measured protocol", catalog.PAPERS_PROTOCOLS))


_MADE_RECORDS = "of synthetic weights or images"


def of_variant(records: Sequence[Record], asked: CellFilter) -> list[Record]:
    """Records of the variant that are made or measured, as asked; raises DataError that says what there is instead."""
    of_kind = [r for r in records if r.synthetic == asked.synthetic]
    if records and not of_kind:
        other = "measured; leave out --synthetic" if asked.synthetic else f"{_MADE_RECORDS}; add --synthetic"
        raise DataError(f"all {len(records)} records are {other}")
    fitting = [r for r in of_kind if r.variant_digest == asked.variant.digest]
    if not fitting:
        others = [r for r in records if r.variant_digest == asked.variant.digest]
        if others:
            raise DataError(
                f"the {len(others)} records of variant {asked.variant.name} are "
                + ("measured; leave out --synthetic" if asked.synthetic else f"{_MADE_RECORDS}; add --synthetic")
            )
        there = ", ".join(sorted({r.variant for r in of_kind}))
        instead = (
            f"there are records of: {there} (--variant and --set choose)" if there else "there is no record at all"
        )
        raise DataError(
            f"there is no record of variant {asked.variant.name}; {instead}. `cxrbench run` writes records; --out says "
            "where they are."
        )
    return fitting


def in_order(tasks: set[str]) -> list[str]:
    """Tasks in the paper's order, then the others by name."""
    paper = [name for name in catalog.task_files() if name in tasks]
    return [*paper, *sorted(tasks - set(paper))]


def is_asked(record: Record, asked: CellFilter) -> bool:
    """Whether group, protocol, shots and prompts are those asked for; models and tasks are not looked at.

    Group `all` of a retrieval task are all its groups, each a setting of its own.
    Shots leave out what has none, and prompts what has none, unless both are asked for.
    """
    how, words = record.protocol, prompt_set(record)
    return (
        (_holds(asked.group, record.data.group) or (record.data.kind == "retrieval" and _holds(asked.group, "all")))
        and _holds(asked.protocol, how.protocol)
        and (_holds(asked.shots, how.shots) if how.shots else asked.shots is None or asked.prompts is not None)
        and (words == PROTOTYPES or _holds(asked.prompts, words) if words else _needs_no_words(asked))
    )


def _needs_no_words(asked: CellFilter) -> bool:
    """Whether probes are asked for: prompts alone leave them out, and shots alone what has prompts."""
    return asked.prompts is None or asked.shots is not None


def _holds(asked: Choice | ShotsChoice, value: str | int | None) -> bool:
    if asked is None or isinstance(asked, str | int):
        return asked in (None, value)
    return value in asked


def in_words(asked: Choice | ShotsChoice) -> str:
    """What was asked for, as a reader writes it."""
    return str(asked) if asked is None or isinstance(asked, str | int) else ",".join(map(str, asked))


def _settings(records: Sequence[Record]) -> set[Setting]:
    """All settings; prototypes are one of their own only where they meet no prompts."""
    found = set(map(setting_of, records))
    worded = {replace(s, prompts=None) for s in found if s.prompts not in (None, PROTOTYPES)}
    return {s for s in found if s.prompts != PROTOTYPES or replace(s, prompts=None) not in worded}


def _selected(setting: Setting, models: Sequence[str], tasks: Sequence[str], records: Sequence[Record]) -> Selected:
    chosen: dict[str, dict[str, Record]] = {}
    notes, cells = [], dict[tuple[str, str], list[Record]]()
    for record in records:
        if _fits(record, setting):
            cells.setdefault((record.data.task, record.model.name), []).append(record)
    for task in tasks:
        for model in models:
            of_cell = cells.get((task, model), [])
            best = newest_record(of_cell)
            if best is None:
                continue
            chosen.setdefault(task, {})[model] = best
            notes += [f"{model}, {task}: {one}" for one in (*flaws(best), overlap_doubt(best)) if one]
            if len(of_cell) > 1:
                notes.append(f"{model}, {task}: {len(of_cell) - 1} older records of the same cell are not used")
    notes += _given_notes(record for row in chosen.values() for record in row.values())
    return Selected(setting, tuple(models), chosen, tuple(notes))


def _given_notes(records: Iterable[Record]) -> list[str]:
    """Whose vectors came from a file, each once."""
    return list(dict.fromkeys(note for record in records if (note := given_note(record))))


def _fits(record: Record, setting: Setting) -> bool:
    own = setting_of(record)
    return replace(own, prompts=setting.prompts) == setting and own.prompts in (setting.prompts, PROTOTYPES)


def why_not_paired(a: ScoredCell, b: ScoredCell) -> tuple[str, ...]:
    """Reasons against setting one cell beside the other, none where both score the same images in the same way."""
    return (*_other_protocol(a.record, b.record), *_other_images(a, b))


def _other_protocol(a: Record, b: Record) -> Iterator[str]:
    checks = (
        ("tasks", a.data.task, b.data.task),
        ("variants", a.variant_digest, b.variant_digest),
        ("splits", a.data.split, b.data.split),
        ("split digests", a.data.partition_digest, b.data.partition_digest),
        ("groups", a.data.group, b.data.group),
        ("labels", a.data.labels, b.data.labels),
        ("scored parts", a.protocol.part, b.protocol.part),
        ("training parts", _trained(a), _trained(b)),
        ("protocols", a.protocol.protocol, b.protocol.protocol),
        ("shots", a.protocol.shots, b.protocol.shots),
        ("made and measured numbers", a.synthetic, b.synthetic),
    )
    yield from (f"other {what}: {_short(one)} and {_short(two)}" for what, one, two in checks if one != two)
    words = [r.prompts for r in (a, b) if r.prompts is not None and r.prompts.source == "prompts"]
    if len({(told.set, told.digest) for told in words}) > 1:
        yield f"other prompts: {' and '.join(f'{told.set} {told.digest[:8]}' for told in words)}"


def _trained(record: Record) -> tuple[str, ...]:
    """The rows of another task that the cell is fitted to; empty where it is fitted to its own, or to none."""
    other = record.data.trained_on
    return () if other is None else (other.task, other.split, other.partition_digest[:8], *other.labels)


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text[:8] if len(text) == 64 and " " not in text else text


def _other_images(a: ScoredCell, b: ScoredCell) -> Iterator[str]:
    if a.images != b.images:
        one, two = len(set(a.images) - set(b.images)), len(set(b.images) - set(a.images))
        yield f"other test images: {one} only of {a.record.model.name}, {two} only of {b.record.model.name}"
        return
    tests = [[fold.test_digest for fold in cell.record.folds] for cell in (a, b)]
    if len(tests[0]) != len(tests[1]) and min(map(len, tests)) > 1:
        yield f"other numbers of folds: {len(tests[0])} and {len(tests[1])}"
    elif len(tests[0]) == len(tests[1]) and tests[0] != tests[1]:
        yield "their folds test other images"
    if a.record.data.contents_digest != b.record.data.contents_digest:
        yield "the image files had other bytes"
    if a.over != b.over or a.units != b.units:
        yield "patients are known in one record and not, or otherwise, in the other"


@dataclass(frozen=True, slots=True)
class MeasuredCells:
    """The newest sound record of every cell, by task, model, group, protocol, shots and prompts, and what to know."""

    records: tuple[Record, ...]
    notes: tuple[str, ...] = field(default=())


def counting(records: Iterable[Record]) -> tuple[Record, ...]:
    """The record that counts of every cell, of each variant, and of made and measured ones apart.

    By variant, then measured before made, tasks in the paper's order, models by name.
    """
    cells: dict[tuple[str, bool, CellKey], list[Record]] = {}
    for record in records:
        cells.setdefault((record.variant_digest, record.synthetic, cell_key(record)), []).append(record)
    chosen = [best for found in cells.values() if (best := newest_record(found))]
    tasks = in_order({record.data.task for record in chosen})
    return tuple(
        sorted(
            chosen, key=lambda r: (r.variant, r.synthetic, tasks.index(r.data.task), r.model.name, cell_key(r), r.id)
        )
    )


def measured(records: Iterable[Record], asked: CellFilter) -> MeasuredCells:
    """The records of the cells asked for, only made or only measured ones, of one variant.

    Raises SpecError for a model, task or protocol that was not measured, DataError where no cell is left.
    """
    fitting, models, tasks = _fitting(records, asked)
    chosen = counting(fitting)
    ordered = sorted(chosen, key=lambda r: (tasks.index(r.data.task), models.index(r.model.name), cell_key(r)))
    older = len(fitting) - len(chosen)
    notes = [
        f"{cell_name(record)}: {one}" for record in ordered for one in (*flaws(record), overlap_doubt(record)) if one
    ]
    notes += _given_notes(ordered)
    notes += [f"{older} older records of the same cells are not used"] if older else []
    return MeasuredCells(tuple(ordered), tuple(notes))
