"""The recipe of a run as one validated value: released.toml, a TOML file of the user's own, and single settings."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from cxrbench.errors import SpecError
from cxrbench.specs.recipe import Canvas, Side
from cxrbench.store import digest
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import check_text, read_regular, seal_text

Objective = Literal["clip", "unicl", "unimodal", "dlilp", "sat"]
Factor = Literal["code", "plain"]
Precision = Literal["auto", "32-true", "64-true", "16-mixed", "bf16-mixed"]
Share = Field(ge=0, le=1)

# None of it decides a value, but precision and what is in the named files do; a run's `Identity` holds how precision
# `auto` came out and digests of the files.
_FREE: Any = {
    "engine": {"accelerator", "devices", "nodes", "precision"},
    "saving": True,
    "tracking": True,
    "image": {"weights"},
    "text": {"folder"},
}


class Image(Spec):
    """The image side; `weights` is a state dict by the trunk's own names, as torchvision and timm publish them."""

    trunk: str = Field(pattern=r"^(timm:)?[\w.-]+$")
    weights: Path | None = None
    size: Side
    antialias: bool
    floor: Literal["released", "exact"]


class Text(Spec):
    """The text side; `template` has one `{}`, where a category's name or `unlabelled` goes.

    `files` are what configuration and tokenizer of the encoder consist of. `reads`: one of a report's sentences, drawn
    each time, or all of them.
    """

    hub: str
    revision: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    folder: Path | None = None
    files: tuple[str, ...] = Field(min_length=1)
    initial: Literal["pretrained", "random"]
    max_tokens: int = Field(ge=2)
    padding: Literal["released", "masked"]
    template: str
    unlabelled: str
    reads: Literal["sentence", "report"]

    @model_validator(mode="after")
    def _fits(self) -> "Text":
        if self.template.count("{}") != 1:
            raise ValueError("template needs one {}")
        if self.folder is None and self.revision is None:
            raise ValueError("pin a revision by its commit, or give a local folder")
        return self


class Head(Spec):
    """What is learned between the towers; `contrastive_weight` is λ of DLILP."""

    dimension: int = Field(ge=1)
    temperature: float = Field(gt=0)
    highest_log_scale: float = Field(gt=0)
    contrastive_weight: float = Field(ge=0)


class TriageSettings(Spec):
    """SAT: reports fit by a cosine above `positive`, and do not up to `negative`; a temperature that is not learned.

    `image_weight` is α, of image to text. `factor`: `code` divides an anchor's loss by 1 + its number of negatives, as
    released; `plain` does not.
    """

    positive: float = Field(ge=-1, le=1)
    negative: float = Field(ge=-1, le=1)
    image_weight: float = Share
    temperature: float = Field(gt=0)
    factor: Factor

    @model_validator(mode="after")
    def _ordered(self) -> "TriageSettings":
        if self.negative > self.positive:
            raise ValueError("negative must not be above positive, or a pair would be both")
        return self


class Optimiser(Spec):
    """AdamW."""

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)


class Epochs(Spec):
    """Warm-up, cosine and early stopping."""

    epochs: int = Field(ge=1)
    warmup_epochs: float = Field(ge=0)
    cosine_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    first_best: float

    @model_validator(mode="after")
    def _ordered(self) -> "Epochs":
        if not self.warmup_epochs < self.cosine_epochs or self.epochs > self.cosine_epochs:
            raise ValueError("warmup_epochs must be below cosine_epochs, and epochs not above them")
        return self


class Data(Spec):
    """Batches and the part held out; limits cut both parts after the split."""

    batch_size: int = Field(ge=1)
    validation: float = Field(gt=0, lt=1)
    split_by: Literal["image", "patient"]
    split_seed: int
    train_limit: int | None = Field(None, ge=1)
    validation_limit: int | None = Field(None, ge=1)
    validation_draws: Literal["released", "fixed"]


class Augmentation(Spec):
    """Chances of each change, and how far it goes."""

    flip: float = Share
    affine: float = Share
    degrees: float = Field(ge=0, le=180)
    scale: tuple[float, float]
    jitter: float = Share
    brightness: float = Share
    contrast: float = Share

    @model_validator(mode="after")
    def _ordered(self) -> "Augmentation":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale needs two positive factors, the smaller first")
        return self


class EngineSettings(Spec):
    """Where and how it runs; `accelerator` and `precision` in Lightning Fabric's words."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: int = Field(ge=1)
    nodes: int = Field(ge=1)
    precision: Precision
    scaler_per_epoch: bool
    channels_last: bool


class Saving(Spec):
    """When what is written."""

    every_epochs: int = Field(ge=1)
    every_steps: int = Field(ge=1)
    log_every: int = Field(ge=1)
    export: Literal["best", "last"]


class Tracking(Spec):
    """Trackers beside the run's own files; both need an extra package."""

    tensorboard: bool
    wandb: str | None = None


class Config(Spec):
    """Everything that decides a run, beside its corpus."""

    objective: Objective
    seed: int = Field(ge=0)
    image: Image
    text: Text
    head: Head
    triage: TriageSettings
    optimiser: Optimiser
    schedule: Epochs
    data: Data
    augmentation: Augmentation
    engine: EngineSettings
    saving: Saving
    tracking: Tracking

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what decides values: all but devices, precision, saving, tracking, and where files lie."""
        return digest.of_json(self.model_dump(mode="json", exclude=_FREE))

    @property
    def going_on(self) -> str:
        """Hex SHA-256 of what must stay when a run goes on: as `digest`, less how long it trains.

        The batch of one process may change too, as long as that of all does not, which the checkpoint knows.
        """
        told = self.model_dump(mode="json", exclude=_FREE)
        kept = {key: value for key, value in told["schedule"].items() if key not in ("epochs", "patience")}
        data = {key: value for key, value in told["data"].items() if key != "batch_size"}
        return digest.of_json({**told, "schedule": kept, "data": data})

    @property
    def canvas(self) -> Canvas:
        """How images are read and resized, in training and afterwards."""
        return Canvas(size=self.image.size, antialias=self.image.antialias, floor=self.image.floor)


def build_config(file: Path | None, choices: Mapping[str, str]) -> Config:
    """The released recipe, with the values of a TOML file and then `section.key` choices in the place of its own.

    Raises SpecError that names file, key and what was expected there.
    """
    told = _toml(Path(__file__).with_name("released.toml"))
    if file is not None:
        told = _merged(told, _toml(file))
    for name, value in choices.items():
        told = _merged(told, _nested(name.split("."), _value(value)))
    try:
        return Config.model_validate(told)
    except ValidationError as error:
        raise SpecError(f"{file or 'pre-training settings'}: {complaints(error)}") from error


def config_toml(config: Config) -> str:
    """The configuration as TOML under its checksum, which `build_config` reads back."""
    import tomli_w

    return seal_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))


def _toml(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path).decode("utf-8").replace("\r\n", "\n")
        check_text(path, text)
        told = tomllib.loads(text)
    except FileNotFoundError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{path}: is no TOML: {error}") from error
    if not told:
        raise SpecError(f"{path}: sets nothing; name the file that has the settings, or leave --config out")
    return told


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _nested(keys: list[str], value: object) -> dict[str, Any]:
    first, *rest = keys
    return {first: _nested(rest, value) if rest else value}


def _value(word: str) -> object:
    """A TOML value where the word is one (3, 1e-4, true, [0.9, 1.0]), the word itself otherwise (a path, a name)."""
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except tomllib.TOMLDecodeError:
        return word
