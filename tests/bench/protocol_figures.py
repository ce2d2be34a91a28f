"""What the released code drew, scored and printed on the raw archive of the shared material."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# experiment of the released code -> task, group
EXPERIMENTS: Mapping[str, tuple[str, str]] = {
    "chexpert_5x200": ("chexpert5x200", "all"),
    "rsna_train": ("rsna", "all"),
    "covid_train_2class": ("covid", "2-class"),
    "covid_train_4class": ("covid", "all"),
    "nihlt_train_base": ("nih_lt", "base"),
    "nihlt_train_new": ("nih_lt", "new"),
}


@dataclass(frozen=True)
class Wanted:
    """What the released code drew and scored in one experiment."""

    name: str
    facts: Mapping[str, Any]
    arrays: Mapping[str, FloatArray]
    raw: FloatArray  # (images, 2048)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The harness's id of each of the experiment's paths."""
        return tuple(image_of(path) for path in self.facts["paths"])

    def ids(self, rows: Sequence[int]) -> list[str]:
        return [self.images[row] for row in rows]

    def fold(self, number: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.facts["folds"][number]
        return found

    def zero_shot(self, strategy: str, prompts: str) -> tuple[str, Mapping[str, Any]]:
        """Array prefix and printed results of a run, another's where the file says that they coincide."""
        run = self.facts["zero_shot"][strategy][prompts]
        return self.zero_shot(*run["same_as"].split("/")) if "same_as" in run else (f"zs/{strategy}/{prompts}", run)

    def probes(self) -> Iterator[tuple[str, str, int, str]]:
        """Strategy, feature and K of every run in the file, and the `STRATEGY/FEATURE` under which its figures are."""
        for strategy, features in self.facts["linear_probe"].items():
            for feature, by_shots in features.items():
                for shots, run in by_shots.items():
                    yield strategy, feature, int(shots), run.get("same_as", f"{strategy}/{feature}")


def image_of(path: str) -> str:
    """The harness's image id of a path below the raw folder."""
    folder, _, rest = path.partition("/")
    name = path.rpartition("/")[2]
    match folder:
        case "CheXpert":
            return "CheXpert-v1.0/" + rest.rpartition("CheXpert-v1.0/")[2]
        case "RSNA_PNEUMONIA":
            return name.removesuffix(".dcm")
        case "COVID-19_Radiography_Dataset":
            label, _, number = name.replace("ViralPneumonia", "Viral Pneumonia").rpartition("-")
            return f"{label}/images/{label}-{number}"
        case _:
            return name


def wanted(protocol: Path, name: str) -> Wanted:
    """The figures of one experiment."""
    facts = json.loads((protocol / f"{name}.json").read_text(encoding="utf-8"))
    arrays = dict(np.load(protocol / f"{name}.npz"))
    if "features_raw" in arrays:
        return Wanted(name, facts, arrays, arrays["features_raw"])
    other = wanted(protocol, facts["features_from"])
    place = {path: row for row, path in enumerate(other.facts["paths"])}
    return Wanted(name, facts, arrays, other.raw[[place[path] for path in facts["paths"]]])
