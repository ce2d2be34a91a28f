"""All keys and record identities of a tiny bench that exists in memory, and what each field of its facts may change."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from made_adapters import Sound

from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.records.record import record_id
from cxrbench.runner.identity import identity
from cxrbench.runner.model import BenchModel, bench_model
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell, TaskData, load_protocol
from cxrbench.runner.request import Engine, Places, Request
from cxrbench.runner.wording import wording
from cxrbench.specs.card import ModelCard
from cxrbench.specs.card_facts import recipe_for, recipe_name
from cxrbench.specs.catalog import load_variant
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings, Variant, checked_settings
from cxrbench.specs.task import TaskSpec
from cxrbench.store import digest
from cxrbench.store.array_cache import CachedArray
from cxrbench.types import Partition, Table

CLASSES = ("Normal", "Effusion", "Mass")
ROWS = 18


class Keyed(Sound):
    """An adapter that names a file in its options."""

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        words = card.home / str(card.options["file"])
        return digest.of_json([dict(card.options), words.read_text() if words.is_file() else ""])

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        return cls(card, runtime)


CARD: dict[str, Any] = {
    "name": "keyed",
    "title": "A tiny adapter",
    "adapter": "made_identity:Keyed",
    "pretraining": ["C"],
    "licence": "none",
    "source": "tests",
    "notes": ["a note"],
    "synthetic": False,
    "control": False,
    "options": {"file": "words.txt"},
    "weights": {
        "files": ["w.pth"],
        "where": "here",
        "url": "https://example.org/w.pth",
        "fetch": "direct",
        "container": ["model"],
        "ignored": {"queue": "of training"},
        "absent": {"*.num_batches_tracked": "counts batches"},
    },
    "text_encoder": {
        "hub": "somebody/bert",
        "folder": "text",
        "files": ["config.json", "vocab.txt"],
        "revision": "0" * 40,
        "revision_reason": "as published",
        "max_tokens": 16,
    },
    "recipes": {
        "reality-check": {"size": 32, "mean": [0.5], "std": [0.25]},
        "authors": {
            "kind": "steps",
            "steps": [
                {"op": "min-max"},
                {"op": "pad-square", "least": 8},
                {"op": "resize", "to": "shorter", "size": 40, "filter": "bilinear"},
                {"op": "crop", "size": 32},
                {"op": "resize", "to": "longer", "size": 30, "filter": "bilinear"},
                {"op": "pad", "size": 32},
            ],
            "resample": {"size": 16, "filter": "bicubic"},
        },
    },
    "taps": {"pooled": 8, "joint": 6},
    "zero_shot": {
        "views": {
            "text": {"tap": "joint", "classes": "prompts"},
            "label": {"tap": "joint", "classes": "prototypes"},
            "fused": {"tap": "joint", "scoring": "interaction", "classes": "prompts"},
        },
        "default": "text",
        "new": "label",
        "pooling": "mean",
        "prompts": ["names"],
    },
    "probe": {"projected_shots": [1]},
    "published": {"table4": "Keyed"},
}

TASK: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "data_set": "Tiny set",
    "source": "rsna",
    "licence": "none",
    "get": "made",
    "pool": "tiny pool",
    "origins": [{"pool": "tiny", "images": 20, "known": "assumed", "source": "tests"}],
    "patients": {"kind": "patient", "rule": "the id", "collection": "tiny"},
    "folds": "external-test",
    "printed": {"train": 9, "test": 9, "labels": 3},
    "expected": {"images": 18},
    "labels": [{"name": name, "column": name.lower()} for name in CLASSES],
    "groups": {"all": list(CLASSES), "new": ["Effusion", "Mass"]},
    "splits": {"one": {"title": "One", "rule": "draw", "params": {"quota": 3}}},
}

PROMPTS: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "source": "tests",
    "template": "an image of {class}",
    "unlisted": "template",
    "classes": {"Normal": ["no finding"]},
    "terms": {"Mass": {"names": ["size", "thing"], "slots": [["small", "large"], ["mass"]]}},
    "sample": {"above": 1, "size": 1, "order": ["Mass"]},
}


@dataclass(frozen=True)
class Bench:
    """Everything that a key may depend on; `home` is the card's folder, with weights and text folder in it."""

    home: Path
    card: Mapping[str, Any]
    task: Mapping[str, Any]
    prompts: Mapping[str, Any]
    partition: Partition
    settings: Mapping[str, str]
    engine: Engine
    shots: tuple[int, ...] = (2,)
    left_out: tuple[tuple[str, str], ...] = ()
    contents: str = ""

    def variant(self) -> Variant:
        base = load_variant("paper-code")
        settings = checked_settings({**base.settings.model_dump(mode="json"), **self.settings})
        return base.model_copy(update={"settings": settings, "splits": {**base.splits, "tiny": "one"}})

    def model(self, variant: Variant, default: str) -> BenchModel:
        body = deepcopy(dict(self.card))
        body["zero_shot"]["default"] = body["zero_shot"]["default"] if default == "text" else default
        card = ModelCard.model_validate(body)
        card._home = self.home
        assert card.text_encoder is not None
        card.text_encoder._home = self.home
        places = Places(weights={"": self.home / "w.pth"}, cache=self.home / "cache")
        recipe = recipe_name(card, variant.settings)
        return bench_model(card, places, self.engine, "cpu", alone=True, recipe=recipe)

    def keys(self) -> dict[str, str]:
        """Every key and record identity by what it is of."""
        variant, task = self.variant(), TaskSpec.model_validate(self.task)
        words = PromptSet.model_validate(self.prompts)
        cosine, fused = self.model(variant, "text"), self.model(variant, "fused")
        recipe = recipe_for(cosine.card, variant.settings, task.released_polarity)[1]
        asked = wording(words, task.groups["all"], variant.settings, _random())
        found = {
            "image": cosine.key(recipe).digest,
            "scores": digest.of_json([key.digest for key, _ in fused.score_sets(recipe, asked, variant.settings)]),
            **_vector_keys(cosine, variant.settings),
        }
        for name, model, group, shots in (
            ("zero-shot", cosine, "all", None),
            ("labels", cosine, "new", None),
            ("fused", fused, "all", None),
            ("probe", cosine, "all", 2),
        ):
            found[name] = self._record(variant, task, words, model, group, shots)
        return found

    def _record(
        self, variant: Variant, task: TaskSpec, words: PromptSet, model: BenchModel, group: str, shots: int | None
    ) -> str:
        request = Request(("keyed",), ("tiny",), shots=self.shots, places=Places(cache=self.home / "cache"))
        name, recipe = recipe_for(model.card, variant.settings, task.released_polarity)
        protocol = load_protocol("zero-shot" if shots is None else "linear-probe")
        prompted = shots is None and model.card.view(group, variant.settings.dlilp_head).classes == "prompts"
        data = TaskData(task, self.partition, self.home)
        cell = Cell(model, data, group, protocol, shots, words if prompted else None, name, recipe)
        plan = Plan(request, variant, cells=[cell])
        contents = {image: digest.of_bytes((self.contents + image).encode()) for image in plan.wanted(cell)}
        return record_id(identity(cell, plan, dict(self.left_out), contents))


def _random() -> Any:
    import random

    return random.Random(0).getstate()


class _Spy:
    """In place of the array cache: keeps the keys, computes nothing."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def array(self, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        self.keys.append(digest.of_json(dict(key)))
        return CachedArray(np.ones((), np.float32), {})


def _vector_keys(model: BenchModel, settings: Settings) -> dict[str, str]:
    spy = _Spy()
    model.__dict__["arrays"] = spy
    model.prompt_vectors(["no finding"], settings)
    model.prototypes(["Effusion", "Mass"])
    model.logit_scale("text")
    return dict(zip(("prompt", "prototypes", "scale"), spy.keys, strict=True))


def bench(home: Path) -> Bench:
    """The base that every test changes in one place; writes weights, text folder and vocabulary into `home`."""
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.num_batches_tracked": torch.tensor(3)}
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    sections = {"ema": other, "inner": {"deep": tensors}}
    torch.save({"model": {**tensors, "queue": torch.zeros(2), **sections}, "other": other}, home / "w.pth")
    (home / "words.txt").write_text("one two")
    (home / "text").mkdir()
    (home / "text" / "config.json").write_text("{}")
    (home / "text" / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    table = Table(
        tuple(f"i{n}" for n in range(ROWS)),
        np.eye(3, dtype=np.int8)[np.arange(ROWS) % 3],
        CLASSES,
        tuple(f"p{n // 2}" for n in range(ROWS)),
    )
    parts = {"train": _rows(table, range(9)), "test": _rows(table, range(9, ROWS))}
    paths = {image: home / f"{image}.png" for image in table.ids}
    about = {"sex": {"i9": "F"}, "age": {"i9": "60"}, "view": {"i9": "PA"}}
    partition = Partition("tiny", "one", parts, paths, attributes=about)
    return Bench(home, CARD, TASK, PROMPTS, partition, {}, Engine("cpu"))


def _rows(table: Table, rows: range) -> Table:
    patients = table.patients or ()
    return Table(
        tuple(table.ids[r] for r in rows), table.labels[list(rows)], table.classes, tuple(patients[r] for r in rows)
    )


def changed(facts: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The facts with one value replaced, by dotted path; numbers are places in a list, `\\.` a dot within a name."""
    made = deepcopy(dict(facts))
    *way, last = [part.replace("\0", ".") for part in path.replace("\\.", "\0").split(".")]
    place: Any = made
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return made


def what_changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}
