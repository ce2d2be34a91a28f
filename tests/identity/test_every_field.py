"""Every field of every kind of fact is changed, and exactly the keys change whose outcome can.

`CHANGES` lists, for each type, each field with a change and what it may move. A field that is not listed fails the
test, so a new one must say what it decides. Fields that rightly change nothing are listed with nothing.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from made_identity import CARD, CLASSES, Bench, bench, changed, what_changed

from cxrbench.runner.request import Engine
from cxrbench.specs import settings as settings_module
from cxrbench.specs.card import ModelCard, ProbeSpec, TextEncoder, View, Weights, ZeroShotSpec
from cxrbench.specs.catalog import draw_points, load_variant
from cxrbench.specs.known_answers import ExamplePicture, Head, KnownAnswer
from cxrbench.specs.own_data import CsvData, FolderData
from cxrbench.specs.prompts import PromptSet, Sample, Terms
from cxrbench.specs.recipe import (
    Canvas,
    Crop,
    CropSquare,
    Given,
    MinMax,
    Pad,
    PadSquare,
    Resample,
    Resize,
    Steps,
    Stretch,
)
from cxrbench.specs.task import Label, Origin, Patients, Printed, Reference, SplitSpec, TaskSpec
from cxrbench.store import digest
from cxrbench.types import Findings, Partition, Table

Change = Callable[[Bench], Bench]
Moved = frozenset[str]

NOTHING: Moved = frozenset()
VECTORS = frozenset({"image", "scores", "prompt", "prototypes", "scale"})
RECORDS = frozenset({"zero-shot", "labels", "fused", "probe"})
ALL = VECTORS | RECORDS
IMAGE = frozenset({"image", "scores"}) | RECORDS  # what rests on pixels
TEXT = frozenset({"prompt", "scores", "zero-shot", "fused"})  # what rests on words
WORDED = frozenset({"zero-shot", "fused"})  # records name their prompt set by a digest of all its words
ONLY = "the only choice there is"


def facts(part: str) -> Callable[..., Change]:
    """Makes changes of one of the bench's fact files: a value by its dotted path, and more of them together."""

    def at(path: str, value: Any, *more: tuple[str, Any]) -> Change:
        def change(base: Bench) -> Bench:
            made = getattr(base, part)
            for way, other in ((path, value), *more):
                made = changed(made, way, other)
            return replace(base, **{part: made})

        return change

    return at


card, task, prompts = facts("card"), facts("task"), facts("prompts")


def setting(name: str, choice: str) -> Change:
    return lambda base: replace(base, settings={**base.settings, name: choice})


@dataclass(frozen=True)
class Trial:
    """A change, what it may move, and the bench that it starts from where that is not the plain one."""

    change: Change
    moved: Moved
    start: Change = lambda base: base


def authors(path: str, value: Any, *more: tuple[str, Any]) -> Trial:
    """A change of the recipe `authors`, with a variant that uses it."""
    change = card(f"recipes.authors.{path}", value, *((f"recipes.authors.{p}", v) for p, v in more))
    return Trial(lambda base: change(START(base)), IMAGE, START)


START = setting("sota.preprocessing", "authors")
UNDRAWN = setting("zs.ensemble", "all")  # prompts that no draw leaves a generator for


def partition(**changes: Any) -> Change:
    return lambda base: replace(base, partition=replace(base.partition, **changes))


def part(name: str, **changes: Any) -> Change:
    def change(base: Bench) -> Bench:
        parts = {**base.partition.parts, name: replace(base.partition.parts[name], **changes)}
        return replace(base, partition=replace(base.partition, parts=parts))

    return change


def two_samples(*order: str) -> Change:
    """Two classes whose prompts are drawn, in that order."""
    sizes = [[f"{number} cm" for number in range(9)], ["wide"]]
    terms = {name: {"names": ["size", "how"], "slots": sizes} for name in ("Mass", "Effusion")}
    return prompts("terms", terms, ("sample.order", list(order)), ("sample.size", 3))


def about(column: str) -> Change:
    """Another sex, age or view of one test image."""
    return lambda base: partition(attributes={**base.partition.attributes, column: {"i9": "other"}})(base)


def elsewhere(base: Bench) -> Bench:
    """The same images in another folder."""
    return partition(paths={i: Path("/elsewhere") / f"{i}.png" for i in base.partition.paths})(base)


def other_words(base: Bench) -> Bench:
    (base.home / "words.txt").write_text("three")
    return base


def copied_weights(base: Bench) -> Bench:
    (base.home / "copy.pth").write_bytes((base.home / "w.pth").read_bytes())
    return card("weights.files", ["copy.pth"])(base)


def one_more_file(base: Bench) -> Bench:
    (base.home / "text" / "extra.bin").write_bytes(b"12")
    return card("text_encoder.files", ["config.json", "vocab.txt", "extra.bin"])(base)


def own_text_weights(base: Bench) -> Bench:
    (base.home / "text" / "model.pt").write_bytes(b"12")
    return card("text_encoder.weights", ["model.pt"])(base)


def another_folder(base: Bench) -> Bench:
    (base.home / "words").mkdir()
    for file in (base.home / "text").iterdir():
        (base.home / "words" / file.name).write_bytes(file.read_bytes())
    return card("text_encoder.folder", "words")(base)


def pinned(base: Bench) -> Bench:
    return card("weights.sha256", digest.of_file(base.home / "w.pth"))(base)


def resplit(base: Bench) -> Bench:
    """One table from which every fold draws its own test rows."""
    both = list(base.partition.parts.values())
    table = Table(
        tuple(i for t in both for i in t.ids),
        np.concatenate([t.labels for t in both]),
        CLASSES,
        tuple(p for t in both for p in t.patients or ()),
    )
    made = task("folds", "resplit", ("test_percent", 50))(base)
    return replace(made, partition=replace(base.partition, parts={"all": table}))


def more_test_rows(base: Bench) -> Bench:
    made = resplit(base)
    return replace(made, task=changed(made.task, "test_percent", 70))


Row = Trial | tuple[Change, Moved] | str  # a word where there is nothing to change here
VIEW = "zero_shot.views.text"


def reference(**changes: Any) -> Change:
    """Digests of the test part on the task file, which are not those of the part."""
    plain = {"rows": 9, "distinct": 9, "counts": {}, "rows_sha256": "0" * 64, "set_sha256": "0" * 64}
    return task("splits.one.reference", {"test": plain | changes})


def true_reference(base: Bench) -> Bench:
    return reference(rows_sha256=base.partition.parts["test"].digest)(base)


OWN_TABLE = task(  # what it reads enters as the partition, and so does what a folder holds
    "source",
    "csv",
    ("csv", {"table": "a.csv", "image": "file", "label": "finding"}),
    ("splits.one", {"rule": "ratios"}),
)
OWN_FOLDER = task("source", "folder", ("folder", {}), ("splits.one", {"rule": "folders"}))


def own_data(start: Change, path: str, value: Any) -> Trial:
    """A change of what a task says of data of one's own."""
    return Trial(lambda base: task(path, value)(start(base)), NOTHING, start)


OWN_COLUMNS = {
    "table": "b.csv",
    "test_table": "b.csv",
    "image": "path",
    "images": "pictures",
    "label": "class",
    "separator": "|",
    "spellings": {"a": "b"},
    "ignore": ["a"],
    "uncertain": "ones",
    "drop": ["blank"],
    "patient": "who",
    "sex": "sex",
    "age": "age",
    "view": "view",
}


PRINTED_ANSWER = {"name": "own", "kind": "file", "source": ["here"], "file": "w.pth", "sha256": "0" * 64}
CHANGES: dict[type, dict[str, Row | list[Row]]] = {
    ModelCard: {
        "name": (card("name", "other"), RECORDS),
        "title": (card("title", "Another"), NOTHING),
        "family": (card("family", "Another"), NOTHING),
        "year": (card("year", 1999), NOTHING),
        "answers": (card("answers", [PRINTED_ANSWER]), NOTHING),
        "head": (card("head", {"layer": "fc"}), NOTHING),
        "adapter": (card("adapter", "made_adapters:Sound"), ALL),
        "pretraining": (card("pretraining", ["C", "M"]), RECORDS),  # contamination is told by it
        "licence": (card("licence", "MIT"), NOTHING),
        "source": (card("source", "elsewhere"), NOTHING),
        "notes": (card("notes", ["another note"]), NOTHING),
        "synthetic": (card("synthetic", True), RECORDS),
        "control": (card("control", True), RECORDS),
        "options": [
            (card("options", {"file": "words.txt", "more": 1}), ALL),
            (other_words, ALL),
        ],
        "weights": "see Weights",
        "text_encoder": "see TextEncoder",
        "recipes": "see Canvas and Steps",
        "taps": (card("taps", {"pooled": 8, "joint": 7}), ALL),
        "zero_shot": "see ZeroShot",
        "probe": "see Probe",
        "published": (card("published", {"table4": "Another row"}), NOTHING),
    },
    Weights: {
        "files": (copied_weights, NOTHING),
        "where": (card("weights.where", "there"), NOTHING),
        "made": (card("weights", {"made": "drawn"}), ALL),
        "url": (card("weights.url", "https://example.org/other.pth"), NOTHING),
        "fetch": (card("weights.fetch", "by-hand"), NOTHING),
        "hub": (card("weights.hub", "a/b", ("weights.fetch", "hub")), NOTHING),
        "hub_revision": (
            card("weights.hub_revision", "v1", ("weights.fetch", "hub"), ("weights.hub", "a/b")),
            NOTHING,
        ),
        "hub_copy": (card("weights.hub_copy", "a/b"), NOTHING),
        "member": (card("weights.member", "w.pth"), NOTHING),
        "sha256": (pinned, NOTHING),
        "preprocessor": (card("weights.preprocessor", "its authors pad first"), NOTHING),
        "container": (card("weights.container", ["other"]), ALL),
        "sections": (card("weights.sections", ["ema"]), ALL),
        "rename": [
            (card("weights.rename", {"": "module."}), ALL),
            (card("weights.rename", {"module.": ""}), NOTHING),  # as no name begins
        ],
        "foreign": (card("weights.foreign", "inert"), NOTHING),  # the same tensors by another reader
        "ignored": [
            (card("weights.ignored", {}), ALL),
            (card("weights.ignored", {"queue": "for another reason"}), NOTHING),
        ],
        "absent": [
            (card("weights.absent", {}), ALL),
            (card("weights.absent", {"*.num_batches_tracked": "for another reason"}), NOTHING),
        ],
    },
    TextEncoder: {
        "hub": (card("text_encoder.hub", "another/bert"), NOTHING),
        "folder": (another_folder, NOTHING),
        "files": [(card("text_encoder.files", ["config.json"]), NOTHING), (one_more_file, TEXT)],
        "weights": (own_text_weights, TEXT),
        "revision": (card("text_encoder.revision", "1" * 40), NOTHING),
        "revision_reason": (card("text_encoder.revision_reason", "for another"), NOTHING),
        "max_tokens": (card("text_encoder.max_tokens", 17), TEXT),
    },
    View: {
        "tap": [
            (card(f"{VIEW}.tap", "pooled"), frozenset({"scale", "zero-shot"})),
            (card("zero_shot.views.label.tap", "pooled"), frozenset({"labels"})),
            (card("zero_shot.views.fused.tap", "pooled"), frozenset({"fused"})),
        ],
        "scoring": (card(f"{VIEW}.scoring", "interaction"), frozenset({"scale", "zero-shot"})),
        "classes": (card(f"{VIEW}.classes", "prototypes"), frozenset({"scale", "zero-shot"})),
    },
    ZeroShotSpec: {
        "views": (card("zero_shot.views.more", {"tap": "joint", "classes": "prompts"}), NOTHING),
        "default": (card("zero_shot.default", "label"), frozenset({"zero-shot"})),
        "new": (card("zero_shot.new", "fused"), frozenset({"labels"})),
        "pooling": (card("zero_shot.pooling", "max"), WORDED),
        "standardised": (card("zero_shot.standardised", True), WORDED),
        "prompts": (card("zero_shot.prompts", ["ensemble"]), NOTHING),
        "released_parts": (card("zero_shot.released_parts", {"tiny": "train"}), RECORDS - {"probe"}),
    },
    ProbeSpec: {
        "projected_shots": (card("probe.projected_shots", [2]), frozenset({"probe"})),
        "labels": (card("probe.labels", "shuffled"), frozenset({"probe"})),
    },
    Canvas: {
        "decode": (setting("decode", "radiograph"), IMAGE),  # the variant's choice replaces the card's
        "polarity": (card("recipes.reality-check.polarity", "header"), IMAGE),
        "mean": (card("recipes.reality-check.mean", [0.4]), IMAGE),
        "std": (card("recipes.reality-check.std", [0.5]), IMAGE),
        "kind": ONLY,
        "geometry": ONLY,
        "size": (card("recipes.reality-check.size", 48), IMAGE),
        "antialias": (card("recipes.reality-check.antialias", True), NOTHING),  # the variant's choice replaces it
        "floor": (card("recipes.reality-check.floor", "exact"), NOTHING),  # likewise
        "channels": ONLY,
    },
    Given: {"kind": ONLY},
    Steps: {
        "decode": authors("decode", "radiograph", ("polarity", "header")),
        "polarity": authors("polarity", "header"),
        "mean": authors("mean", [0.4]),
        "std": authors("std", [0.5]),
        "kind": ONLY,
        "files": authors("files", "luma"),
        "dicom": authors("dicom", "over-maximum", ("polarity", "header")),
        "steps": authors("steps", CARD["recipes"]["authors"]["steps"][1:]),
        "divisor": authors("divisor", 1),
        "resample": authors("resample", None),
    },
    MinMax: {"op": authors("steps.0", {"op": "pad-square"})},
    Stretch: {"op": authors("steps.0", {"op": "stretch"})},
    PadSquare: {"op": ONLY, "least": authors("steps.1.least", 9)},
    Resize: {
        "op": ONLY,
        "to": authors("steps.4.to", "longer-cut"),
        "size": authors("steps.4.size", 31),
        "filter": authors("steps.4.filter", "area"),
    },
    Pad: {"op": ONLY, "size": authors("steps.5.size", 33)},
    Crop: {"op": ONLY, "size": authors("steps.3.size", 31), "rest": authors("steps.3.rest", "down")},
    CropSquare: {"op": authors("steps.0", {"op": "crop-square"})},
    Resample: {"size": authors("resample.size", 17), "filter": authors("resample.filter", "smoothed-linear")},
    TaskSpec: {
        "name": (task("name", "other"), RECORDS),
        "title": (task("title", "Another"), NOTHING),
        "kind": Trial(lambda b: task("kind", "multi-label")(UNDRAWN(b)), RECORDS, UNDRAWN),  # by its rows and labels
        "data_set": (task("data_set", "Another"), NOTHING),
        "source": (task("source", "siim"), NOTHING),  # what it reads enters as the partition
        "options": (task("options", {"word": 1}), NOTHING),  # likewise, of a package's source
        "csv": "see CsvData",
        "folder": "see FolderData",
        "root": (task("root", "/elsewhere"), NOTHING),
        "licence": (task("licence", "MIT"), NOTHING),
        "get": (task("get", "elsewhere"), NOTHING),
        "pool": (task("pool", "another"), NOTHING),
        "origins": "see Origin",
        "patients": "see Patients",
        "folds": (resplit, RECORDS),
        "test_percent": Trial(more_test_rows, RECORDS, resplit),
        "released_polarity": (task("released_polarity", "negated"), IMAGE),
        "printed": "see Printed",
        "expected": (task("expected", {"images": 19}), NOTHING),
        "labels": "see Label",
        "groups": [
            (task("groups.all", [*reversed(CLASSES)]), frozenset({"scores", "zero-shot", "fused", "probe"})),
            (task("groups.new", ["Mass", "Effusion"]), frozenset({"labels"})),
        ],
        "splits": "see SplitSpec",
    },
    CsvData: {name: own_data(OWN_TABLE, f"csv.{name}", value) for name, value in OWN_COLUMNS.items()},
    FolderData: {name: own_data(OWN_FOLDER, f"folder.{name}", ["a"]) for name in ("ignore", "skip")},
    Label: {
        "name": (
            lambda b: replace(
                task("labels.2.name", "Nodule", ("groups.all.2", "Nodule"), ("groups.new.1", "Nodule"))(b),
                partition=_renamed(b.partition),
            ),
            RECORDS | {"scores"},
        ),
        "column": (task("labels.0.column", "none"), NOTHING),  # how files spell it; they enter as the partition
    },
    Patients: {
        "kind": (task("patients.kind", "image"), NOTHING),
        "rule": (task("patients.rule", "another"), NOTHING),
        "collection": (task("patients.collection", None), NOTHING),
    },
    Origin: {
        "pool": (task("origins.0.pool", "another", ("patients.collection", "another")), NOTHING),
        "images": (task("origins.0.images", 21), NOTHING),
        "classes": (task("origins.0.classes", ["Mass"]), NOTHING),
        "letters": (task("origins.0.letters", ["C"]), NOTHING),
        "shares": (task("origins.0.shares", "institution"), NOTHING),
        "known": (task("origins.0.known", "published"), NOTHING),
        "source": (task("origins.0.source", "elsewhere"), NOTHING),
    },
    Printed: {name: (task(f"printed.{name}", 7), NOTHING) for name in ("train", "test", "labels")},
    Reference: {
        "rows": Trial(reference(rows=8), NOTHING, reference()),
        "distinct": Trial(reference(distinct=8), NOTHING, reference()),
        "counts": Trial(reference(counts={"Mass": 1}), NOTHING, reference()),
        "rows_sha256": Trial(true_reference, RECORDS, reference()),  # whether the split is known stands in the record
        "set_sha256": Trial(reference(set_sha256="1" * 64), NOTHING, reference()),
    },
    SplitSpec: {
        "title": (task("splits.one.title", "Another"), NOTHING),
        "rule": (task("splits.one.rule", "another"), NOTHING),  # what it draws enters as the partition
        "params": (task("splits.one.params", {"quota": 4}), NOTHING),
        "decides": (task("splits.one.decides", ["D1"]), NOTHING),
        "complete": (task("splits.one.complete", False), NOTHING),
        "reference_of": (task("splits.one.reference_of", "a file"), NOTHING),
        "doubt": (task("splits.one.doubt", "another table"), NOTHING),
        "reference": (reference(), RECORDS),
    },
    PromptSet: {
        "name": (prompts("name", "other"), WORDED),
        "title": (prompts("title", "Another"), NOTHING),
        "source": (prompts("source", "elsewhere"), NOTHING),
        "template": (prompts("template", "a picture of {class}"), WORDED | {"scores"}),
        "unlisted": (prompts("unlisted", "name", ("template", None)), WORDED | {"scores"}),
        "classes": (prompts("classes", {"Normal": ["nothing"]}), WORDED | {"scores"}),
        "aliases": (prompts("aliases", {"Fluid": "Normal"}), WORDED),
        "terms": "see Terms",
        "sample": "see Sample",
        "negatives": (
            prompts("negatives", {"Normal": ["finding"]}, ("negative_template", "no {class}")),
            WORDED | {"scores"},
        ),
        "negative_template": (prompts("negative_template", "no {class}"), WORDED | {"scores"}),
        "spelling": (prompts("spelling", "kept", ("sample", None)), WORDED | {"scores"}),
        "queries": "it asks the model, and this one has no set of its own",
        "kind": (prompts("kind", "single-label"), NOTHING),
        "tasks": (prompts("tasks", ["tiny"]), NOTHING),
        "released": (prompts("released", {"Mass": "0" * 64}), NOTHING),  # what the paper's code has, to compare with
    },
    Terms: {
        "names": (prompts("terms.Mass.names", ["how", "what"]), WORDED),
        "slots": (prompts("terms.Mass.slots", [["tiny", "huge"], ["mass"]]), WORDED | {"scores"}),
    },
    Sample: {
        "above": (prompts("sample.above", 5), WORDED | {"scores"}),
        "size": (prompts("sample.size", 2), WORDED | {"scores"}),
        "order": Trial(two_samples("Effusion", "Mass"), WORDED | {"scores"}, two_samples("Mass", "Effusion")),
    },
    Partition: {
        "task": (partition(task="other"), NOTHING),  # a cell is named by its task file
        "split": (lambda b: partition(split="two")(task("splits.two", b.task["splits"]["one"])(b)), RECORDS),
        "parts": "see Table",
        "paths": (elsewhere, NOTHING),
        "findings": (partition(findings=Findings(notes=("a note",))), NOTHING),
        "synthetic": (partition(synthetic=True), RECORDS),
        "attributes": [(about(name), RECORDS - {"labels"}) for name in ("sex", "age", "view")],  # of i9, a Normal
        "asked": (partition(asked=Table(("q",), np.eye(1, 3, dtype=np.int8), CLASSES, texts=("mass",))), RECORDS),
        "about_texts": (partition(about_texts={"section": "impression"}), NOTHING),  # the texts themselves enter
    },
    Table: {
        "ids": (part("test", ids=tuple(f"j{n}" for n in range(9))), RECORDS),
        "labels": (part("train", labels=np.eye(3, dtype=np.int8)[[1, 0, 2, 0, 1, 2, 0, 1, 2]]), RECORDS),
        "classes": (lambda b: replace(b, partition=_swapped(b.partition)), RECORDS),
        "patients": [
            (part("test", patients=None), RECORDS),
            (part("test", patients=tuple(f"q{n}" for n in range(9))), RECORDS),
            (part("train", patients=None), NOTHING),  # intervals are over scored images
        ],
        "texts": (part("test", texts=tuple(f"text {n}" for n in range(9))), RECORDS),
    },
    Engine: {
        "device": (lambda b: replace(b, engine=Engine("auto")), NOTHING),
        "precision": (lambda b: replace(b, engine=Engine("cpu", "bfloat16")), ALL),
        "batch_size": (lambda b: replace(b, engine=Engine("cpu", batch_size=7)), NOTHING),  # some 1e-6, recorded
        "workers": (lambda b: replace(b, engine=Engine("cpu", workers=1)), NOTHING),
    },
}


def _renamed(old: Partition) -> Partition:
    names = tuple("Nodule" if name == "Mass" else name for name in CLASSES)
    return replace(old, parts={n: replace(t, classes=names) for n, t in old.parts.items()})


def _swapped(old: Partition) -> Partition:
    names = (CLASSES[1], CLASSES[0], CLASSES[2])
    return replace(old, parts={n: replace(t, classes=names) for n, t in old.parts.items()})


PIXELS = {"decode", "resize.antialias", "canvas.floor", "sota.preprocessing"}
MORE = {
    "zs.padding=masked": frozenset({"prompt", "scores"}),
    "zs.ensemble=all": frozenset({"scores"}),  # other prompts of a set that has a sample
    "sota.preprocessing=authors": VECTORS,  # whose way of using the network
}


def of_settings() -> Iterator[tuple[str, Trial]]:
    """Every choice but the base's own. A variant is part of its records' names, so all of them move with any."""
    base = load_variant("paper-code").settings.model_dump(mode="json")
    unsampled = prompts("sample", None)
    offered = {**settings_module.choices(), "fewshot.draw": tuple(draw_points())}
    for name, choices in offered.items():
        for choice in choices:
            if choice != base[name]:
                moved = (IMAGE if name in PIXELS else RECORDS) | MORE.get(f"{name}={choice}", NOTHING)
                change = setting(name, choice)
                if name == "fewshot.draw":  # which leaves no generator that a sample could go on from
                    yield f"{name}={choice}", Trial(_both(unsampled, change), moved, unsampled)
                else:
                    yield f"{name}={choice}", Trial(change, moved)


def _both(first: Change, second: Change) -> Change:
    return lambda base: second(first(base))


def cases() -> list[Any]:
    found = []
    for kind, rows in CHANGES.items():
        for field, row in rows.items():
            for number, one in enumerate(row if isinstance(row, list) else [row]):
                if not isinstance(one, str):
                    trial = one if isinstance(one, Trial) else Trial(*one)
                    found.append(pytest.param(trial, id=f"{kind.__name__}.{field}.{number}"))
    return found + [pytest.param(trial, id=f"Settings.{name}") for name, trial in of_settings()]


@pytest.fixture
def base(tmp_path: Path) -> Bench:
    return bench(tmp_path)


@pytest.mark.parametrize("trial", cases())
def test_a_changed_field_moves_the_keys_whose_outcome_it_can_change_and_no_others(trial: Trial, base: Bench) -> None:
    before = trial.start(base).keys()
    assert what_changed(before, trial.change(base).keys()) == set(trial.moved)


@pytest.mark.parametrize("kind", CHANGES, ids=lambda kind: kind.__name__)
def test_no_field_is_forgotten(kind: type) -> None:
    there = [f.name for f in fields(kind)] if is_dataclass(kind) else list(kind.model_fields)  # type: ignore[attr-defined]
    assert set(CHANGES[kind]) == set(there)


def test_every_type_below_a_card_a_task_and_a_prompt_set_is_listed() -> None:
    from pydantic import BaseModel

    found: set[type] = set()
    waiting: list[Any] = [ModelCard, TaskSpec, PromptSet]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in found:
                found.add(kind)
                waiting += [field.annotation for field in kind.model_fields.values()]
        else:
            waiting += get_args(kind)
    printed = {KnownAnswer, ExamplePicture, Head}  # of the card's `answers` and `head`, which enter nothing as a whole
    assert found - printed == {kind for kind in CHANGES if not is_dataclass(kind)}


def test_the_other_shots_of_a_command_change_nothing(base: Bench) -> None:
    before = base.keys()
    for shots in ((1, 2), (2, 3), (1, 2, 3)):
        assert what_changed(before, replace(base, shots=shots).keys()) == set()


def test_what_was_left_out_and_the_bytes_of_images_move_every_record(base: Bench) -> None:
    before = base.keys()
    assert what_changed(before, replace(base, contents="other").keys()) == RECORDS
    cut = replace(base, left_out=(("i9", "cut off"),)).keys()
    lost = replace(base, left_out=(("i9", "no file"),)).keys()
    assert what_changed(before, cut) == what_changed(before, lost) == what_changed(cut, lost) == RECORDS


def test_other_tensors_move_everything_and_another_container_of_the_same_ones_nothing(base: Bench) -> None:
    before = base.keys()
    held = torch.load(base.home / "w.pth", weights_only=True)["model"]
    torch.save(held, base.home / "w.pth")
    shutil.rmtree(base.home / "cache" / "weights_pins", ignore_errors=True)
    plain = card("weights.container", [])(base)
    moved = what_changed(before, plain.keys())
    assert moved == RECORDS  # the card says another container, and a record's card is held against the known one
    held["a.weight"] = held["a.weight"] + 1
    torch.save(held, base.home / "w.pth")
    assert what_changed(before, plain.keys()) == ALL
