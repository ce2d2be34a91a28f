"""The harness's own outcome on the raw archive of the released protocol, through synthetic checkpoints."""

import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from lab import records_of
from made_weights import TEXT_ENCODER, make_checkpoint, official_layout, zoo_card
from numpy.typing import NDArray
from protocol_figures import EXPERIMENTS, Wanted
from written_facts import write_facts

import cxrbench
from cxrbench.models.base import adapter_class
from cxrbench.models.weights.identity import content
from cxrbench.records.record import Record, record_path
from cxrbench.records.scores import ABOUT
from cxrbench.runner.run import RunResult
from cxrbench.specs import catalog
from cxrbench.specs.card import read_card
from cxrbench.store.embeddings import Embeddings, Store, digest

FloatArray = NDArray[np.float32]

NOTES = "encoded.json"
STRATEGIES = ("clip", "unicl", "unimodal", "dlilp")
MAIN, SINGLE = ("clip", "dlilp"), ("rsna_train", "covid_train_2class", "covid_train_4class")
SHOTS = (1, 2, 4, 8, 16)
SIZE = 64
COVID = ("COVID", "Normal", "Pneumonia", "Lung Opacity")
# the quotas to which the released functions were scaled down for the figures: task -> split, parameters
SCALED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "rsna": ("dlilp-detailed-as-published", {"per_class": 120}),
    "covid": (
        "dlilp-sorted",
        {
            "quotas": {
                "test": {**dict.fromkeys(COVID, 40), "Lung Opacity": 20},
                "train": dict.fromkeys(COVID, 20),
            }
        },
    ),
}


@dataclass(frozen=True)
class Found:
    """What the harness left on disk below `root`: records, predictions, embeddings."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @cached_property
    def records(self) -> Mapping[tuple[str, str, str, str], Record]:
        """By task, group, model, and `zero-shot/PROMPTS` or `FEATURE/K`."""
        return {_place(record): record for record in records_of(self.root)}

    @property
    def encoded(self) -> list[int]:
        """Forward passes of images, run by run."""
        counts: list[int] = json.loads((self.root / NOTES).read_text(encoding="utf-8"))
        return counts

    def of(self, experiment: str) -> list[Record]:
        return [record for place, record in self.records.items() if place[:2] == EXPERIMENTS[experiment]]

    def probes(self, figures: Wanted) -> list[tuple[str, int, str, Record]]:
        """Feature, K, the figures' `STRATEGY/FEATURE` and the record, of every strategy that was run."""
        cells = []
        for strategy, feature, shots, source in figures.probes():
            place = (*EXPERIMENTS[figures.name], card_name(strategy), f"{feature}/{shots}")
            if strategy in MAIN or figures.name in SINGLE:
                cells.append((feature, shots, source, self.records[place]))
        return cells

    def zero_shot(self, experiment: str, strategy: str, prompts: str) -> Record | None:
        """The run with these prompts, or the one by prototypes; None where it was not made."""
        place = (*EXPERIMENTS[experiment], card_name(strategy))
        by_prompts = self.records.get((*place, f"zero-shot/{prompts}"))
        return by_prompts or self.records.get((*place, "zero-shot/prototypes"))

    def contents(self, figures: Wanted) -> list[str]:
        """SHA-256 of the files of an experiment; the released code doubles CheXpert's folder in their paths."""
        paths = [path.replace("CheXpert-v1.0/CheXpert-v1.0", "CheXpert-v1.0") for path in figures.facts["paths"]]
        return [digest.of_file(self.raw / path) for path in paths]

    def embeddings(self, strategy: str) -> Embeddings:
        """The stored vectors of one strategy's card: UniCL's checkpoint holds CLIP's tensors."""
        folder, store = self.root / "models", Store(self.cache)
        card, file = read_card(folder / f"{card_name(strategy)}.toml"), folder / f"{card_name(strategy)}.pth"
        weights = content(file, digest.of_file(file), card, self.cache).used_digest(card, file)
        own = (adapter_class(card).options_digest(card), weights)
        (key,) = [key for key, _ in store.entries() if (key.options, key.weights) == own]
        return store.read(key)

    def scores(self, record: Record) -> Mapping[int, tuple[list[str], FloatArray]]:
        """By fold: image ids and scores (n, C) as the Parquet file holds them."""
        path = record_path(self.root / "results", record.data.task, record.model.name, record.id)
        table = pq.read_table(path.with_name(record.predictions))
        columns = [f"score: {label}" for label in record.data.labels]
        assert table.column_names == ["fold", "image", "label", *ABOUT, *columns]
        folds, images = np.array(table["fold"]), table["image"].to_pylist()
        values = np.stack([np.array(table[name]) for name in columns], axis=1)
        return {int(f): ([images[i] for i in np.flatnonzero(folds == f)], values[folds == f]) for f in np.unique(folds)}


def _place(record: Record) -> tuple[str, str, str, str]:
    if record.protocol.protocol == "zero-shot":
        assert record.prompts is not None
        what = f"zero-shot/{record.prompts.set}"
    else:
        what = f"{record.settings.features}/{record.protocol.shots}"
    return record.data.task, record.data.group, record.model.name, what


def card_name(strategy: str) -> str:
    return f"made_{strategy}"


def measured(factory: pytest.TempPathFactory, shared: Path) -> Found:
    """The public path over the raw archive, once for all workers of a test run."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "protocol"
    with FileLock(f"{root}.lock"):
        if not (root / NOTES).exists():
            _measure(root, shared / "parity" / "protocol")
    return Found(root)


def _measure(root: Path, protocol: Path) -> None:
    """Four synthetic checkpoints, six experiments, both kinds of features.

    At one seed all four files hold one image network, and UniCL's hold CLIP's tensors throughout, so their figures
    coincide: UniCL and unimodal are run on two data sets, and UniCL's ensembles on a single group.
    """
    with tarfile.open(protocol / "raw.tar.xz") as archive:
        archive.extractall(root / "raw", filter="data")
    cards = {strategy: str(write_model(root / "models", strategy)) for strategy in STRATEGIES}
    rsna, covid = (str(write_task(root / "tasks", name)) for name in SCALED)
    prompts = ("names", str(write_descriptions(root, protocol)))
    run = partial(_run, root, str(write_variant(root)))
    main, single = [cards["clip"], cards["dlilp"]], [cards["unicl"], cards["unimodal"]]
    every = (*prompts, "ensemble")
    reports = []
    for tasks in (["chexpert5x200", rsna, covid], ["nih_lt"]):
        reports.append(run(main, tasks, shots=SHOTS, prompts=every))
        reports.append(run(main, tasks, shots=SHOTS, protocols=["linear-probe"], features="projected"))
    reports.append(run(single, [rsna, covid], prompts=prompts))
    reports.append(run(single, [rsna, covid], protocols=["linear-probe"], features="projected"))
    reports.append(run(single, [covid], protocols=["zero-shot"], prompts=["ensemble"], groups=["2-class"]))
    (root / NOTES).write_text(json.dumps([report.encoded for report in reports]), encoding="utf-8")


def _run(
    root: Path,
    variant: str,
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    shots: Sequence[int] = (16,),
    protocols: Sequence[str] = ("paper",),
    prompts: Sequence[str] = ("names",),
    features: str = "raw",
    groups: Sequence[str] | None = None,
) -> RunResult:
    report = cxrbench.run(
        models,
        tasks,
        data_root=root / "raw",
        text_encoder=TEXT_ENCODER,
        protocols=protocols,
        shots=shots,
        groups=groups or (["base", "new"] if tasks[0] == "nih_lt" else ["all", "2-class"]),
        variant=variant,
        settings={"lp.features": features},
        prompts=prompts,
        out=root / "results",
        cache=root / "cache",
        device="cpu",
    )
    assert report.problems == [] and report.unreadable == {}
    return report


def write_model(folder: Path, strategy: str) -> Path:
    """A card at size 64 beside a checkpoint of the published layout, its tensors made at seed 0."""
    card = zoo_card(f"{strategy}_cm")
    recipes = {name: recipe.model_copy(update={"size": SIZE}) for name, recipe in card.recipes.items()}
    name = card_name(strategy)
    weights = card.weights.model_copy(update={"files": (f"{name}.pth",), "where": "made", "url": None})
    changes = {"name": name, "recipes": recipes, "weights": weights, "synthetic": True, "published": {}}
    path = write_facts(folder / f"{name}.toml", card.model_copy(update=changes))
    torch.save(make_checkpoint(official_layout(strategy)), folder / f"{name}.pth")
    return path


def write_task(folder: Path, name: str) -> Path:
    """The task with its split's quotas scaled down, as a task file of the user's own."""
    task, (split, params) = catalog.load_task(name), SCALED[name]
    spec = task.split(split)
    scaled = spec.model_copy(update={"params": {**spec.params, **params}, "complete": False, "reference": {}})
    return write_facts(folder / f"{name}.toml", task.model_copy(update={"splits": {split: scaled}}))


def write_variant(folder: Path) -> Path:
    """`paper-code` on COVID's sorted names, DLILP scored on the test part as the figures are."""
    chosen = catalog.load_variant("paper-code").with_choices(
        {"covid.split": "dlilp-sorted", "covid.dlilp_split": "test"}
    )
    return write_facts(folder / "scaled.toml", chosen.model_copy(update={"name": "scaled", "title": "small quotas"}))


def write_descriptions(folder: Path, protocol: Path) -> Path:
    """The released descriptions as a prompt file of the user's own."""
    classes = json.loads((protocol / "prompt_terms.json").read_text(encoding="utf-8"))["descriptions"]
    return write_facts(folder / "description.toml", {"name": "description", "unlisted": "error", "classes": classes})
