"""The released protocol's own figures: six experiments of the shared material, two of them trimmed and committed."""

import csv
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrbench.evaluate.draws import Usable, usable_rows

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TRIMMED = ("rsna_train", "chexpert_5x200")
WHOLE = (
    "chexpert_5x200",
    "rsna_train",
    "covid_train_2class",
    "covid_train_4class",
    "nihlt_train_base",
    "nihlt_train_new",
)
HEADS = ("vision_model.projection_head_vision.projection.weight", "vision_model.projection_head2.projection.weight")


@dataclass(frozen=True)
class TableOfPaths:
    """A partition's usable rows: the number of each row's image among the experiment's paths (-1: never used)."""

    paths: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Experiment:
    """What one run of the released code drew, scored and printed; `facts` and `arrays` as the protocol facts say."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[np.float32]]
    table: TableOfPaths
    test_table: TableOfPaths | None
    features: Mapping[str, NDArray[np.float32]]  # `raw`, `clip` and `dlilp` (projected), rows as paths

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array(self.facts["labels"])

    @property
    def n_classes(self) -> int:
        return len(self.facts["targets"])

    def zero_shot_runs(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Array prefix and printed results of each distinct zero-shot run."""
        for strategy, by_prompt in self.facts["zero_shot"].items():
            for prompt, run in by_prompt.items():
                if "folds" in run:
                    yield f"zs/{strategy}/{prompt}", run

    def probe_runs(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Array prefix and printed results of each distinct linear-probe run."""
        for strategy, by_feature in self.facts["linear_probe"].items():
            for feature, by_shots in by_feature.items():
                for shots, run in by_shots.items():
                    if "folds" in run:
                        yield f"lp/{strategy}/{feature}/K{shots}", run

    def probe_features(self, run: str) -> NDArray[np.float32] | None:
        """Features of a run `STRATEGY/FEATURE/KK`, or None where a trimmed fixture left them out."""
        strategy, feature, _ = run.split("/")
        return self.features.get("raw" if feature == "raw" else strategy)


@pytest.fixture(params=[*(f"trimmed-{n}" for n in TRIMMED), *(pytest.param(n, marks=pytest.mark.slow) for n in WHOLE)])
def experiment(request: pytest.FixtureRequest) -> Experiment:
    kind, _, name = request.param.rpartition("-")
    return _trimmed(name) if kind else _whole(request.getfixturevalue("shared") / "parity", name)


def _trimmed(name: str) -> Experiment:
    facts = json.loads((FIXTURES / f"protocol_{name}.json").read_text(encoding="utf-8"))
    arrays = dict(np.load(FIXTURES / f"protocol_{name}.npz"))
    tables = [
        t and TableOfPaths(np.array(t["paths"]), np.array(t["labels"])) for t in (facts["table"], facts["test_table"])
    ]
    features = {key.removeprefix("features/"): arrays.pop(key) for key in list(arrays) if key.startswith("features/")}
    return Experiment(facts, arrays, tables[0], tables[1], features)


def _whole(parity: Path, name: str) -> Experiment:
    protocol = parity / "protocol"
    facts = json.loads((protocol / f"{name}.json").read_text(encoding="utf-8"))
    arrays = dict(np.load(protocol / f"{name}.npz"))
    tables = [_table(protocol, n, facts["paths"]) if n else None for n in (name, facts["experiment_test"])]
    raw = _raw_features(protocol, facts, arrays)
    heads = {"clip": HEADS[0], "unicl": HEADS[0], "unimodal": HEADS[0], "dlilp": HEADS["new" not in name]}
    features = {strategy: _projected(parity, raw, head) for strategy, head in heads.items()}
    return Experiment(facts, arrays, tables[0], tables[1], {"raw": raw, **features})


def _table(protocol: Path, name: str, paths: list[str]) -> TableOfPaths:
    spec = json.loads((protocol / "prompt_terms.json").read_text(encoding="utf-8"))["experiments"][name]
    with (protocol / "partitions" / "transferability" / spec["partition"]).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    labels = np.array([[int(float(row.get(c) or 0)) for c in spec["classes"]] for row in rows])
    usable: Usable = usable_rows(labels, range(labels.shape[1]))
    number = {path: i for i, path in enumerate(paths)}
    return TableOfPaths(np.array([number.get(spec["root"] + rows[r]["Path"], -1) for r in usable.rows]), usable.labels)


def _raw_features(
    protocol: Path, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    if "features_raw" in arrays:
        return arrays["features_raw"]
    other = facts["features_from"]
    paths = json.loads((protocol / f"{other}.json").read_text(encoding="utf-8"))["paths"]
    number = {path: i for i, path in enumerate(paths)}
    return np.load(protocol / f"{other}.npz")["features_raw"][[number[p] for p in facts["paths"]]]


def _projected(parity: Path, raw: NDArray[np.float32], head: str) -> NDArray[np.float32]:
    spec = importlib.util.spec_from_file_location("parity_fill", parity / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    projected = raw @ module.fill(head, (512, raw.shape[1])).T
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)
