"""Whether records that others contribute may enter a results folder: schema, predictions, names, doubles, content."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cxrbench.analysis.cell import cell_calibration
from cxrbench.errors import DataError, IntegrityError, NotApplicableError, UnreadableError
from cxrbench.evaluate.retrieval import values_of
from cxrbench.records.integrity import MOST_BYTES, checked_cell, place_of
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import STATEMENT, Record, predictions_path, read_record
from cxrbench.records.scores import ABOUT
from cxrbench.records.selection import cell_key, cell_name
from cxrbench.records.validity import flaws, given_note, overlap_doubt, strangers
from cxrbench.reports.html.cells import own_names
from cxrbench.specs import catalog
from cxrbench.store.sealed import read_regular
from cxrbench.system.contained import contained

Level = Literal["refused", "told"]
Form = Literal["table", "markdown", "json"]
# A path from the root of a disk, at the beginning of a text or after what may stand before one.
_DISK = re.compile(r"""(?:^|[\s"'(\[=,;])(?:/[^\s/]+/[^\s/]|~/|[A-Za-z]:[\\/]|\\\\\w)|file:/""")


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be known of a file below the folder; a `refused` one must not enter."""

    level: Level
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Contribution:
    """How many records were read, and all remarks, refusals first."""

    records: int
    remarks: tuple[Remark, ...]

    @property
    def refused(self) -> bool:
        """Whether anything must not enter."""
        return any(remark.level == "refused" for remark in self.remarks)


def contribution(out: Path) -> Contribution:
    """Every file of the folder's `records`, held to what a record and its predictions are.

    Raises DataError where there is no file.
    """
    folder = out / "records"
    files = {
        path.relative_to(out).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }
    if not files:
        raise DataError(f"{folder}: there are no records. Name the folder in which `records` lies.")
    records, remarks = _read(files)
    known = {*records, *(remark.file for remark in remarks)}
    known |= {f"{name.removesuffix('.json')}.parquet" for name in known if name.endswith(".json")}
    place = "is neither a record, records/TASK/MODEL/ID.json, nor the predictions beside one"
    remarks += [Remark("refused", name, place) for name in files if name not in known]
    for name, record in records.items():
        remarks += _remarks(out, name, record)
    remarks += _doubles(records.values())
    return Contribution(len(records), tuple(sorted(remarks, key=lambda one: (one.level, one.file))))


def _read(files: Mapping[str, Path]) -> tuple[dict[str, Record], list[Remark]]:
    """The records by name, and the files that are links, or should be records and are none."""
    records, remarks = dict[str, Record](), list[Remark]()
    for name, path in files.items():
        if path.is_symlink():
            remarks.append(Remark("refused", name, "is a link: contribute the file itself"))
        elif path.suffix == ".json" and name.count("/") == 3:
            try:
                records[name] = read_record(path)
            except (IntegrityError, UnreadableError) as error:
                remarks.append(Remark("refused", name, str(error).removeprefix(f"{path}: ")))
    return records, remarks


def _remarks(out: Path, name: str, record: Record) -> list[Remark]:
    """All that is to be said of one record; whatever fails in that is a refusal of this record alone."""
    try:
        refused = list(dict.fromkeys(_refusals(out, record)))
        told = [text for text in dict.fromkeys(_notes(record)) if text not in refused]
    except BaseException as error:
        return [Remark("refused", name, str(contained(error, "its check failed")))]
    return [*(Remark("refused", name, text) for text in refused), *(Remark("told", name, text) for text in told)]


def _refusals(out: Path, record: Record) -> Iterator[str]:
    cell, wrong = checked_cell(out, record)
    yield from (text.removeprefix(f"{predictions_path(out, record)}: ") for text in wrong)
    yield from _strange_names(record)
    yield from _disk("the record", _texts(record.model_dump(mode="json")))
    if cell is not None and not wrong:
        yield from _other_scores(cell)
        yield from _strange_predictions(out, record)


def _strange_names(record: Record) -> Iterator[str]:
    """A name of this installation under which the record has something else."""
    yield from strangers(record)
    name, data, task = record.variant, record.data, catalog.known_task(record.data.task)
    if name in catalog.variant_files() and catalog.load_variant(name).digest != record.variant_digest:
        yield f"the variant {name} is not the built-in one"
    if data.reference == "differs":
        yield f"the split is not the known {data.split}: its digest differs"
    if task is not None and data.trained_on is None and data.kind != "retrieval":
        if data.group not in task.groups:
            yield f"the task {task.name} has no group {data.group!r}"
        elif task.groups[data.group] != data.labels:
            yield f"the labels are not those of group {data.group} of {task.name}"
    model, cards = record.model, catalog.card_files()
    pinned = catalog.load_card(model.name).weights.sha256 if model.name in cards else None
    if pinned is not None and model.weights_claimed is None and model.weights_sha256 != pinned:
        yield f"the weights are not those that the card {model.name} pins: SHA-256 {pinned}"


def _other_scores(cell: ScoredCell) -> Iterator[str]:
    try:
        cell_calibration(cell)
    except DataError as error:
        yield f"its scores are said to be {cell.record.protocol.scores}: {error}"
    except NotApplicableError:
        pass


def _disk(where: str, texts: Iterable[str]) -> Iterator[str]:
    """A complaint of texts that name a place on somebody's disk."""
    found = sorted({text for text in texts if _DISK.search(text)})
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield f"{where} names a place on somebody's disk, {found[0][:120]!r}{more}: such a path must not be published"


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, names of fields too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield str(key)
            yield from _texts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held)


def _strange_predictions(out: Path, record: Record) -> Iterator[str]:
    """Places on a disk, and what predictions never hold, such as a column of reports."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_regular(predictions_path(out, record), MOST_BYTES)
    table = pq.read_table(pa.BufferReader(content), use_threads=False)
    labels = record.data.labels
    scored = values_of(record.data.group) if record.data.kind == "retrieval" else labels
    due = {"fold", "label", *(f"label: {name}" for name in labels), *(f"score: {name}" for name in scored)}
    texts = [name for name in table.column_names if name in ("image", *ABOUT)]
    if strange := [name for name in table.column_names if name not in due and name not in texts]:
        yield f"the predictions have columns that cxrbench does not write: {', '.join(strange)}"
    if further := sorted(set(table.schema.metadata or {}) - {STATEMENT}):
        yield f"the predictions hold further metadata: {', '.join(key.decode(errors='replace') for key in further)}"
    found = (text for name in texts for text in table[name].unique().to_pylist())
    yield from _disk("the predictions", (str(text) for text in found if text is not None))


def _notes(record: Record) -> Iterator[str]:
    """What a reviewer should know; none of it keeps a record out."""
    if record.synthetic:
        yield "is synthetic: it enters no board of results"
    yield from flaws(record)
    yield from filter(None, (overlap_doubt(record), given_note(record)))
    if record.model.in_memory:
        yield "the model was in memory: no card says what it is"
    own = own_names(record)
    if own:
        yield f"not known to this installation: {', '.join(f'{what} {word}' for what, word in own.items())}"


def _doubles(records: Iterable[Record]) -> Iterator[Remark]:
    cells = defaultdict[Any, list[Record]](list)
    for record in records:
        cells[record.variant_digest, record.synthetic, cell_key(record)].append(record)
    for own in cells.values():
        last = max(own, key=lambda record: (record.runtime.started, record.id))
        for record in (one for one in own if one is not last):
            text = f"measures {cell_name(record)} as {place_of(last)} does, which is newer: keep one of them"
            yield Remark("refused", place_of(record), text)


def render(found: Contribution, form: Form) -> str:
    """The remarks in one of the formats, ending in a line feed."""
    if form == "json":
        body = {"passed": not found.refused, **asdict(found)}
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    from tabulate import tabulate

    refused = len({remark.file for remark in found.remarks if remark.level == "refused"})
    head = f"records read: {found.records}; files refused: {refused or 'none'}\n"
    if not found.remarks:
        return head
    rows = [(one.level, one.file, _cell(one.text, form)) for one in found.remarks]
    style = "simple" if form == "table" else "github"
    return f"{head}\n{tabulate(rows, ('', 'file', 'why'), tablefmt=style, disable_numparse=True)}\n"


def _cell(text: str, form: Form) -> str:
    """A text as it stands in a table: in Markdown, nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text) if form == "markdown" else text
