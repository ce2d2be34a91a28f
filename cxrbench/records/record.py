"""What a run leaves behind: one record a cell, with everything that made its number, in a file with a checksum."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cxrbench.errors import IntegrityError
from cxrbench.evaluate.findings import Chosen, PerFinding
from cxrbench.specs.card import IN_MEMORY, RecipeName
from cxrbench.specs.paper import Column, Row
from cxrbench.specs.recipe import Given, Recipe
from cxrbench.specs.settings import Settings
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import (
    CHECKSUM,
    DamagedError,
    json_value,
    read_regular,
    with_checksum,
    without_checksum,
)
from cxrbench.types import Shots, TaskKind

ScoreKind = Literal["probabilities", "logits", "other"]
STATEMENT = b"cxrbench.record"  # under which predictions hold the digest of what their record states


class ModelIdentity(Spec):
    """Which weights in which code.

    `code`: digest of the adapter's code; `weights_sha256`: of the published file, of the file itself where it only says
    that it was converted from the published one (`weights_claimed`), None where there is no file; `weights_tensors`:
    digest of the tensors that were used.
    """

    name: str
    title: str
    adapter: str
    code: str
    weights_file: str
    weights_sha256: str | None
    weights_tensors: str
    weights_claimed: str | None = None
    card_digest: str
    text_encoder: str | None
    text_encoder_digest: str | None  # of the tokenizer and text configuration that were used, None where none was
    pretraining: str
    synthetic: bool
    control: bool = False  # by its card a negative control, which must do badly

    @property
    def in_memory(self) -> bool:
        """Whether a program gave the model: then its tensors and code are known by their digests alone."""
        return self.weights_file == IN_MEMORY


class TrainedOn(Spec):
    """The task whose training images a cell of another task was fitted to, and what keeps the two apart.

    `labels` are the shared ones as that task spells them, in the order of the record's, `concepts` what they stand for
    by the `mapping` (None: the strict one). `part`: which of its parts the images are drawn from. `rows_per_label`:
    rows of that part that may be drawn. `apart`: `patients` of the scored part gave no training image; the two are of
    different `collections`; or it is `unknown` whether images or patients are in both, for the reason in `doubt`.
    `left_out`: rows of the part by the reason why they may not be drawn. `recipe`: digest of the recipe that read these
    images.
    """

    task: str
    split: str
    part: str
    partition_digest: str
    reference: Literal["match", "differs", "unknown"]
    labels: tuple[str, ...]
    concepts: tuple[str, ...]
    mapping: str | None = None
    rows_per_label: Mapping[str, int]
    apart: Literal["patients", "collections", "unknown"]
    doubt: str = ""
    left_out: Mapping[str, int] = Field(default_factory=dict)
    rows_left_out: Mapping[str, int] = Field(default_factory=dict)
    recipe: str
    synthetic: bool


class DataIdentity(Spec):
    """Which images with which labels.

    `contents_digest` is over the bytes of the images that were used; `reference` compares the partition with the
    digests that the task file gives. `rows_per_label` counts rows that show the label. `trained_on` is
    there where another task's training images were fitted to; ids of these begin with that task's name and a colon.
    """

    task: str
    kind: TaskKind = "single-label"
    split: str
    partition_digest: str
    contents_digest: str
    reference: Literal["match", "differs", "unknown"]
    group: str
    labels: tuple[str, ...]
    rows_per_label: Mapping[str, Mapping[str, int]]  # part to label to rows
    missing: int
    shared_patients: int = 0  # test patients of whom images were trained on, in the fold that has most of them
    left_out: Mapping[str, str]  # unreadable image to the reason; their rows are in no fold
    rows_left_out: Mapping[str, int] = Field(default_factory=dict)  # rows of label tables in no part, by the reason
    notes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)  # image to what its reader remarked
    synthetic: bool
    trained_on: TrainedOn | None = None


class Preprocessing(Spec):
    """How bytes became pixels: the card's recipe with the variant's choices applied."""

    name: RecipeName
    digest: str
    recipe: Recipe


class PromptIdentity(Spec):
    """Which words stood for the classes; `drawn[f]` are the prompts of fold f, one entry if all folds share them.

    `against` are those for the absence of each class, where a set pairs them. `asked` is the whole set of queries in
    its order, of a model that scores them together; `edition` says which file they are from, where one holds them.
    """

    set: str
    digest: str
    source: Literal["prompts", "prototypes"]
    drawn: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    against: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    asked: tuple[tuple[str, ...], ...] = ()
    edition: str | None = None

    @property
    def redrawn(self) -> bool:
        """Whether folds were scored by different prompts."""
        return any(words != self.drawn[0] for words in self.drawn[1:])


class ProtocolIdentity(Spec):
    """What was done with the embeddings."""

    protocol: str
    view: str | None = None  # which head scored, or gave the class vectors
    tap: str  # which embedding was used
    part: str  # which part of the split was scored
    scores: ScoreKind  # what they are; others than the first two have no calibration
    shots: Shots | None = None
    C: float | None = None
    class_weight: str | None = None
    solver: str | None = None
    solver_version: str | None = None
    options: Mapping[str, str | int | float] = Field(
        default_factory=dict
    )  # constants of a protocol, but for the two of the paper
    logit_scale: float | None = None
    scoring: Literal["cosine", "interaction"] | None = None
    pooling: str | None = None  # of a class's prompts
    standardised: bool = False  # each class's scores over the test images
    labels: Literal["true", "shuffled"] = "true"  # that a probe was fitted to
    short: Mapping[str, int] = Field(default_factory=dict)  # label to its images, where a fold has fewer than `shots`
    # label to the fewest and the most images of a fold, where `shots` does not say so: shares, draws of unequal classes
    trained: Mapping[str, tuple[int, int]] = Field(default_factory=dict)


class Reordered(Spec):
    """A second fit to the same training images in another order, which exact arithmetic would make equal to the first.

    `changed`: test images that it gives another class (of findings: another place among the images); `value`: its main
    metric, of that name, None where it has none.
    """

    changed: int
    metric: str
    value: float | None


class FoldResult(Spec):
    """One fold, unrounded. `train` lists the drawn image ids in fitting order, repeats included.

    `reordered` is there for protocols whose outcome may hang on rounding.
    `thresholds`: of a multi-label task with a validation part, what each finding's was chosen to be best by, in the
    order of the labels.
    """

    fold: int
    train: tuple[str, ...] = ()
    test_rows: int
    test_digest: str  # over the ids of the scored rows in their order
    iterations: int | None = None
    thresholds: Mapping[Chosen, PerFinding] = Field(default_factory=dict)
    reordered: Reordered | None = None
    metrics: Mapping[str, Any]


class PublishedCell(Spec):
    """The number that the paper prints for this cell; whether the two may be compared, `validity.why_not` says."""

    table: int
    row: str
    column: str
    value: str


class CodeIdentity(Spec):
    """Which program: version, digest of its sources, and the commit when it ran from a checkout."""

    version: str
    sources: str
    commit: str | None = None


class RecordedRuntime(Spec):
    """Where and how it ran; nothing here enters the record's identity.

    `engines` computed the embeddings, and `text_engines` the vectors of texts and classes and the temperature, in this
    run or an earlier one; the rest tells of the run that wrote the record,
    with its counts over all cells.
    """

    engines: tuple[Mapping[str, str], ...]
    text_engines: tuple[Mapping[str, str], ...] = ()
    started: str
    run_seconds: float
    device: str
    precision: str
    batch_size: int
    run_images_decoded: int
    run_images_encoded: int
    reader: Literal["fast", "reference"]
    versions: Mapping[str, str]


class Record(Spec):
    """One measured cell; written once, atomically, beside its predictions."""

    format: Literal[1] = 1
    id: str
    variant: str
    variant_version: int
    variant_digest: str
    splits: Mapping[str, str]
    settings: Settings
    model: ModelIdentity
    data: DataIdentity
    preprocessing: Preprocessing
    prompts: PromptIdentity | None = None
    protocol: ProtocolIdentity
    folds: tuple[FoldResult, ...]
    summary: Mapping[str, Any]
    generalised: Mapping[str, Any] | None = None
    single_prompts: tuple[float | None, ...] = ()  # the main metric of each draw of one prompt per class
    published: tuple[PublishedCell, ...] = ()
    predictions: str
    predictions_sha256: str
    code: CodeIdentity
    runtime: RecordedRuntime

    @property
    def statement(self) -> str:
        """Hex SHA-256 of all that the record states, which its predictions hold too: where it ran does not enter."""
        return digest.of_json(self.model_dump(mode="json", exclude={"runtime", "predictions_sha256"}))

    @property
    def synthetic(self) -> bool:
        """True when weights or images are made: such a number enters no table of measured results."""
        return self.model.synthetic or self.data.synthetic

    @property
    def given(self) -> bool:
        """True where vectors came from a file that something else computed; the weights of the record are that file."""
        return isinstance(self.preprocessing.recipe, Given)

    @property
    def control(self) -> bool:
        """True for a negative control, by its card or by the shuffled labels that its probe was fitted to."""
        return self.model.control or self.protocol.labels == "shuffled"

    @property
    def other_engines(self) -> tuple[str, ...]:
        """In words, what made vectors of this record that is not the program that wrote it, with its batch size.

        Keys hold the code that decides a vector, so this is to be known and no flaw.
        """
        engines = (*self.runtime.engines, *self.runtime.text_engines)
        strangers = [told for told in engines if told.get("sources") != self.code.sources]
        return tuple(
            f"by sources {told.get('sources', 'unknown')} commit {told.get('commit') or 'unknown'}, "
            f"{told.get('batch_size', 'unknown')} images at once"
            for told in strangers
        )

    def measures(self, row: Row, column: Column) -> bool:
        """Whether this record is a measurement of the printed cell, leaving variant and weights aside."""
        prompts = None if self.prompts is None else self.prompts.set
        how = self.protocol
        return prints(row, column, (self.model.name, self.data.task, self.data.group), how.protocol, how.shots, prompts)


def prints(
    row: Row, column: Column, cell: tuple[str, str, str], protocol: str, shots: Shots | None, prompts: str | None
) -> bool:
    """Whether a place of a published table prints a `cell` (model, task, group), measured in that way."""
    wanted = column.prompts or row.prompts
    return (
        cell == (row.model, column.task, column.group)
        and (protocol, shots) == (row.protocol, row.shots)
        and (wanted is None or prompts is None or prompts in (wanted, "prototypes"))
    )


def record_id(identity: Mapping[str, Any]) -> str:
    """The name of a cell's record: 16 hex digits over everything that decides its number."""
    return digest.of_json(dict(identity))[:16]


def record_path(out: Path, task: str, model: str, ident: str) -> Path:
    """Where a record lies below the results folder."""
    return out / "records" / task / model / f"{ident}.json"


def predictions_path(out: Path, record: Record) -> Path:
    """Where the predictions of a record lie: beside it."""
    return record_path(out, record.data.task, record.model.name, record.id).with_name(record.predictions)


FORMAT = Record.model_fields["format"].default
MOST_BYTES = 1 << 26
WAY_OUT = "Delete it with its predictions, and run its cell again."


class ForeignError(DamagedError):
    """A record's file that says it is of an older or newer format."""


def write_record(out: Path, record: Record) -> Path:
    """Write the record atomically, with the checksum of its content; returns its path."""
    path = record_path(out, record.data.task, record.model.name, record.id)
    content = with_checksum(record.model_dump(mode="json"))
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
    return path


def read_record(path: Path) -> Record:
    """A record from its file, held against its checksum, its name and its folder, not against its predictions.

    `records.integrity` does that too, and is what every reader calls. Raises ForeignError where the file says that it
    is of another format, DamagedError, which names it and says why, for anything else that is no record.
    """
    try:
        value = json_value(path, read_regular(path, MOST_BYTES))
        if isinstance(value, dict) and CHECKSUM not in value and value.get("format", FORMAT) != FORMAT:
            raise ForeignError(path, _other_format(value))
        content = without_checksum(path, value)  # before its word on the format is believed
        if content.get("format", FORMAT) != FORMAT:
            raise ForeignError(path, _other_format(content))
        record = Record.model_validate(content)
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: there is no such file") from error
    except ValidationError as error:
        raise DamagedError(path, f"is no record that this version reads: {complaints(error)}", WAY_OUT) from error
    except RecursionError as error:
        raise DamagedError(path, "is no record that this version reads: it is nested too deeply", WAY_OUT) from error
    except DamagedError as error:
        raise type(error)(path, error.reason, WAY_OUT) from error
    _check_place(path, record)
    return record


def _other_format(content: Mapping[str, Any]) -> str:
    return f"is of format {str(content['format'])[:40]!r}, and this version reads {FORMAT}"


def results_of(path: Path) -> Path:
    """The results folder of a record's file: it lies in records/TASK/MODEL below it."""
    return _absolute(path).parents[3]


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))  # links stay: the folder of records may be one


def _check_place(path: Path, record: Record) -> None:
    """Nothing, or DamagedError: the record lies under another name, in another folder, or names other predictions."""
    out = results_of(path)
    due = record_path(out, record.data.task, record.model.name, record.id)
    if _absolute(path) != due:
        told = f"is the record of {record.model.name} on {record.data.task}, whose place is {due.relative_to(out)}"
        raise DamagedError(path, told, "Move it back with its predictions, or delete both and run the cell again.")
    if record.predictions != due.with_suffix(".parquet").name:
        raise DamagedError(path, f"names the predictions {record.predictions!r}, which are not its own", WAY_OUT)
