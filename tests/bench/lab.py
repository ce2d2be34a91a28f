"""A bench small enough for tests: three phantom data sets, tasks with quotas to fit, encoders of synthetic weights."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from made_weights import TEXT_ENCODER, make_checkpoint, small_card, small_layout
from written_facts import write_facts

import cxrbench
from cxrbench.data.sources.base import load_partition
from cxrbench.phantom.write import write
from cxrbench.records.record import Record, read_record, record_path
from cxrbench.runner.request import Request, build_request
from cxrbench.runner.run import RunResult
from cxrbench.specs import catalog

SIZE = 64
DRAWN = {"covid": 9, "vindr": 7, "chexpert5x200": 8}  # images per class
COVID_IMAGES = 36  # nine of each of four classes, all of them in the split
COVID = ("COVID", "Normal", "Pneumonia", "Lung Opacity")
QUOTAS: Mapping[str, Mapping[str, Any]] = {
    "covid": {"quotas": {"test": dict.fromkeys(COVID, 5), "train": dict.fromkeys(COVID, 4)}},
    "vindr": {"quotas": {"train": 4, "test": 3}},
    "chexpert5x200": {"per_class": 8},
}
FINDINGS = "nih14_lineage"  # a multi-label task with train, validation and test lists


@dataclass(frozen=True)
class Lab:
    """Where the material lies; `data` maps a task to its own root, "" to the general one."""

    models: Path
    tasks: Path
    data: Mapping[str, Path]

    @property
    def variant(self) -> Path:
        return self.tasks / "variants" / "small.toml"

    def task(self, name: str) -> str:
        return str(self.tasks / f"{name}.toml")

    def model(self, name: str) -> str:
        return str(self.models / f"{name}.toml")

    @property
    def roots(self) -> list[str]:
        """Where the data lie, for the command line."""
        named = (f"{task}={root}" if task else str(root) for task, root in self.data.items())
        return [word for place in named for word in ("--data-root", place)]

    def on(self, task: str, root: Path) -> "Lab":
        """The same bench with one task's images elsewhere."""
        return replace(self, data={**self.data, task: root})

    def arguments(self, place: Path, models: Sequence[str], tasks: Sequence[str], /, **changes: Any) -> dict[str, Any]:
        """What `cxrbench.run` takes to measure models on tasks with everything it writes below `place`."""
        standard: dict[str, Any] = {
            "models": [self.model(name) for name in models],
            "tasks": [self.task(name) for name in tasks],
            "data_root": dict(self.data),
            "text_encoder": TEXT_ENCODER,
            "shots": (1, 2),
            "prompts": ["names"],
            "variant": str(self.variant),
            "out": place / "results",
            "cache": place / "cache",
            "device": "cpu",
            "batch_size": 8,
            "progress": False,
        }
        return standard | changes

    def run(self, place: Path, models: Sequence[str], tasks: Sequence[str], /, **changes: Any) -> RunResult:
        return cxrbench.run(**self.arguments(place, models, tasks, **changes))

    def request(self, place: Path, models: Sequence[str], tasks: Sequence[str], /, **changes: Any) -> Request:
        """The same request as an object, for a forecast."""
        asked = self.arguments(place, models, tasks, **changes)
        del asked["progress"]
        return build_request(asked.pop("models"), asked.pop("tasks"), asked)

    def files(self, name: str) -> dict[str, Path]:
        """The images of a task's split by id."""
        task = catalog.load_task(self.task(name))
        root = self.data.get(name) or self.data[""]
        return dict(load_partition(root, task, catalog.load_variant(str(self.variant)).splits[name]).paths)


def build(root: Path, strategies: Sequence[str] = ("unimodal", "clip")) -> Lab:
    """The whole bench below `root`, about 100 images of 96 pixels."""
    for task, count in DRAWN.items():
        write(task, root / "data", images_per_class=count, size=(96, 96))
        write_task(root / "tasks", task, task)
    for strategy in strategies:
        write_model(root / "models", strategy)
    released = catalog.load_variant("phantom").with_choices({"vindr.polarity": "released"})
    chosen = released.model_copy(update={"name": "small"})
    write_facts(root / "tasks" / "variants" / "small.toml", chosen)
    return Lab(root / "models", root / "tasks", {"": root / "data"})


def write_task(folder: Path, name: str, source: str) -> Path:
    """A task file of the user's own: `source` with quotas that the drawn data set fills."""
    task = catalog.load_task(source)
    spec = task.split("phantom")
    small = spec.model_copy(update={"params": {**spec.params, **QUOTAS.get(source, {})}})
    return write_facts(folder / f"{name}.toml", task.model_copy(update={"name": name, "splits": {"phantom": small}}))


def add_findings(lab: Lab) -> str:
    """Draw a multi-label data set beside the others, and the name of its task, which has the phantom split alone."""
    write(FINDINGS, lab.data[""], images_per_class=2, size=(64, 64))
    write_task(lab.tasks, FINDINGS, FINDINGS)
    return FINDINGS


def write_model(folder: Path, strategy: str) -> Path:
    """A card for a ResNet-18 of synthetic weights in the published layout, and its checkpoint beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(make_checkpoint(small_layout(strategy)), folder / f"{strategy}.pth")
    return write_card(folder, f"small_{strategy}", strategy)


def write_card(folder: Path, name: str, strategy: str, size: int = SIZE, **changes: Any) -> Path:
    """A card for the checkpoint of a strategy that lies in the folder."""
    card = small_card(f"{strategy}_cm")
    recipes = {kind: recipe.model_copy(update={"size": size}) for kind, recipe in card.recipes.items()}
    weights = card.weights.model_copy(update={"files": (f"{strategy}.pth",), "url": None})
    own = {"name": name, "recipes": recipes, "weights": weights, "synthetic": True, "published": {}, **changes}
    return write_facts(folder / f"{name}.toml", card.model_copy(update=own))


def records_of(place: Path) -> list[Record]:
    """All records below a place, by path."""
    return [read_record(path) for path in sorted((place / "results" / "records").glob("*/*/*.json"))]


def numbers(record: Record) -> dict[str, Any]:
    """A record without what tells of the run that made it: two equal runs agree on the rest."""
    return record.model_dump(mode="json", exclude={"runtime"})


def by_id(report: RunResult) -> dict[str, dict[str, Any]]:
    """The numbers of all records of a run."""
    return {record.id: numbers(record) for record in report.records}


def predictions(place: Path, record: Record) -> Path:
    """The Parquet file of a record."""
    path = record_path(place / "results", record.data.task, record.model.name, record.id)
    return path.with_name(record.predictions)


def copied(lab: Lab, place: Path) -> tuple[Lab, Path]:
    """The bench with COVID's images copied, so that a test may spoil them."""
    shutil.copytree(lab.data[""] / "COVID-19_Radiography_Dataset", place / "COVID-19_Radiography_Dataset")
    return lab.on("covid", place), place / "COVID-19_Radiography_Dataset"
