"""`cxrbench.runner.run.run` in a process that is warm: models loaded and libraries imported before the clock starts."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cxrbench.runner.model
import cxrbench.runner.run
from cxrbench.images.decoder_check import self_test
from cxrbench.models.base import Adapter, load_adapter
from cxrbench.runner.folds import IdFold
from cxrbench.runner.plan import Cell, Plan
from cxrbench.runner.request import Places, Request
from cxrbench.runner.run import RunResult
from cxrbench.specs.catalog import load_card

LIBRARIES = ("pandas", "pyarrow.parquet", "pydicom.pixels", "scipy.optimize", "sklearn.linear_model", "torchvision")


@contextmanager
def warm(cards: Sequence[str], batch_size: int) -> Iterator[None]:
    """Within it, a run finds its libraries imported, its reader tested and its models loaded, each after one batch."""
    import torch

    for name in LIBRARIES:
        importlib.import_module(name)
    self_test()
    adapters: dict[str, Adapter] = {}
    for card in map(load_card, cards):
        adapters[card.name] = load_adapter(card)
        adapters[card.name].encode_image(torch.zeros(batch_size, 1, 224, 224))
    with patch.object(cxrbench.runner.model, "load_adapter", lambda card, *_, **__: adapters[card.name]):
        yield


@dataclass(slots=True)
class SomeFolds(Plan):
    """A plan that evaluates the first `n_folds` folds alone, and encodes the images of `whole` besides its own."""

    n_folds: int = 5
    whole: Plan | None = None

    def folds(self, cell: Cell) -> list[IdFold]:
        """See `Plan.folds`."""
        return Plan.folds(self, cell)[: self.n_folds]

    def wanted(self, cell: Cell) -> set[str]:
        """See `Plan.wanted`."""
        if self.whole is None:
            return Plan.wanted(self, cell)
        return {image for other in self.whole.cells for image in self.whole.wanted(other)}


def run_planned(plan: Plan) -> RunResult:
    """A whole run of a plan that was made already."""
    with patch.object(cxrbench.runner.run, "lay_out", lambda request: plan):
        report = cxrbench.runner.run.run(plan.request)
    return checked(report)


def checked(report: RunResult) -> RunResult:
    """The report; whatever went wrong in the run ends the measurement."""
    assert not report.problems and not report.skipped and not report.unreadable, report
    return report


def places(data: str, cards: Sequence[str], folder: str) -> Places:
    """Weights beside their cards, records and cache in a folder."""
    weights: Mapping[str, Path] = {card.name: card.home for card in map(load_card, cards)}
    return Places({"": Path(data)}, weights, None, Path(folder) / "results", Path(folder) / "cache")


def probes(request: Mapping[str, Any], at: Places) -> Request:
    """A request for linear probes with the quotas of phantoms."""
    return Request(protocols=("linear-probe",), variant="phantom", places=at, **request)
