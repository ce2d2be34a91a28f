"""CPU time of the released procedure (`official.py`) over that of a whole run, on DICOM files of 1024 x 1024.

Two classes, one ResNet-50, batches of 16 in both arms, half of the images for training. Two tables: three folds at
K = 8 on 48 images, and five folds at K = 1, 2, 4, 6 and 8 on 32. Models are loaded and libraries imported before the
clock starts in both arms, and label tables are read in neither. The released arm keeps glibc's own allocator settings.
Equality: the converged solver on the features of the released arm gives the accuracies of the run, fold by fold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.material import Material
from benchmarks.rounds import Row, Target, alternated, child, cpu_seconds, ratios

if TYPE_CHECKING:
    from benchmarks.runs import SomeFolds

TASK = "rsna"


@dataclass(frozen=True, slots=True)
class Setting:
    """A table to be made: `per_class` images of a class in each of the two parts."""

    n_folds: int
    shots: tuple[int, ...]
    per_class: int
    target: float


TABLES: Mapping[str, Setting] = {
    "three folds": Setting(3, (8,), 12, 4.0),
    "five folds x five shots": Setting(5, (1, 2, 4, 6, 8), 8, 20.0),
}


def rows(material: Material, rounds: int) -> Iterator[Row]:
    """A row for each of the two tables."""
    where: dict[str, object] = {"data": str(material.data), "card": str(material.cards[0])}
    for name, setting in TABLES.items():
        arms = {arm: partial(child, f"against_official:{arm}", **where, table=name) for arm in ("released", "ours")}
        yield _row(name, alternated(arms, rounds), setting.target)


def _row(name: str, runs: Mapping[str, Sequence[Mapping[str, Any]]], target: float) -> Row:
    theirs, ours = runs["released"], runs["ours"]
    same = all(run["converged"] == ours[0]["accuracies"] for run in theirs)
    alike = sum(a == b for a, b in zip(theirs[0]["accuracies"], ours[0]["accuracies"], strict=True))
    note = (
        f"{theirs[0]['encoded']} against {ours[0]['encoded']} encodings; fold accuracies equal to scikit-learn's in "
        f"{alike} of {len(ours[0]['accuracies'])}, in all with its fit converged"
    )
    measured = ratios([run["cpu"] for run in theirs], [run["cpu"] for run in ours])
    return Row(f"against_official, {name}", measured, Target(target), same, note if same else "accuracies differ")


def ours(data: str, card: str, table: str) -> dict[str, Any]:
    """Arm: a whole run on a cold store."""
    from cxrbench.system import cpu

    cpu.prepare()
    from benchmarks.official import BATCH
    from benchmarks.runs import run_planned, warm

    with TemporaryDirectory() as folder, warm([card], BATCH):
        planned = _plan(data, card, TABLES[table], folder)
        _touch(planned)
        spent, report = cpu_seconds(lambda: run_planned(planned))
    accuracies = [fold.metrics["balanced_accuracy"] for record in report.records for fold in record.folds]
    return {"cpu": spent, "encoded": report.encoded, "accuracies": [round(a, 9) for a in accuracies]}


def released(data: str, card: str, table: str) -> dict[str, Any]:
    """Arm: every fold from its files. `converged`: accuracies of the converged solver on the same features."""
    import sklearn.linear_model  # noqa: F401  before the clock starts
    import torch

    from benchmarks.official import BATCH, Judged, judged, network

    with TemporaryDirectory() as folder:
        planned = _plan(data, card, TABLES[table], folder)
    weights = planned.cells[0].model.weights
    assert weights is not None, "the card of this benchmark has a file"
    trunk = network(weights)
    with torch.no_grad():
        trunk(torch.zeros(BATCH, 3, 224, 224))
    _touch(planned)
    paths = planned.cells[0].data.partition.paths
    folds = [(fold.train[k], fold.test) for k in TABLES[table].shots for fold in planned.folds(planned.cells[0])]

    def all_folds() -> list[Judged]:
        return [
            judged(trunk, [paths[i] for i in train[0]], train[1], [paths[i] for i in test[0]], test[1])
            for train, test in folds
        ]

    spent, found = cpu_seconds(all_folds)
    return {
        "cpu": spent,
        "encoded": sum(len(one.train) + len(one.test) for one in found),
        "accuracies": [round(one.accuracy, 9) for one in found],
        "converged": [_converged(one, train[1], test[1]) for one, (train, test) in zip(found, folds, strict=True)],
    }


def _converged(one: Any, truth: Any, expected: Any) -> float:
    from cxrbench.evaluate.logistic_regression import fit, probe_scores
    from cxrbench.evaluate.metrics import fold_metrics

    scores = probe_scores(fit(one.train, truth, 2), one.test)
    accuracy = fold_metrics(scores, expected).balanced_accuracy
    assert accuracy is not None
    return round(accuracy, 9)


def _touch(planned: "SomeFolds") -> None:
    """Read one file, so that the reader is imported, and draw the folds."""
    from benchmarks.official import pixels

    pixels(next(iter(planned.cells[0].data.partition.paths.values())))
    planned.folds(planned.cells[0])


def _plan(data: str, card: str, setting: Setting, folder: str) -> "SomeFolds":
    """One model on the first rows of each class of the phantom's parts."""
    import numpy as np

    from benchmarks.official import BATCH
    from benchmarks.runs import SomeFolds, places, probes
    from cxrbench.data.sources.base import load_partition
    from cxrbench.runner.model import bench_model
    from cxrbench.runner.protocol import Cell, TaskData
    from cxrbench.runner.protocols.linear_probe import LinearProbe
    from cxrbench.runner.request import Engine
    from cxrbench.specs import catalog
    from cxrbench.types import Partition, Table

    chosen = {"models": (card,), "tasks": (TASK,), "shots": setting.shots, "engine": Engine("cpu", batch_size=BATCH)}
    request = probes(chosen, places(data, [card], folder))
    variant, task = catalog.load_variant("phantom"), catalog.load_task(TASK)
    whole = load_partition(Path(data), task, "phantom")

    def first(table: Table) -> Table:
        kept = np.sort(np.concatenate([np.flatnonzero(column)[: setting.per_class] for column in table.labels.T]))
        return Table(tuple(table.ids[row] for row in kept), table.labels[kept], table.classes)

    parts = {name: first(table) for name, table in whole.parts.items()}
    ids = {image for table in parts.values() for image in table.ids}
    small = Partition(task.name, "phantom", parts, {i: whole.paths[i] for i in sorted(ids)}, synthetic=True)
    model = bench_model(catalog.load_card(card), request.places, request.engine, "cpu", alone=True)
    held = TaskData(task, small, Path(data))
    cells = [
        Cell(model, held, "all", LinearProbe(), k, None, "reality-check", model.card.recipe("reality-check"))
        for k in setting.shots
    ]
    return SomeFolds(request, variant, cells, n_folds=setting.n_folds)
