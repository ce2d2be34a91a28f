"""Choices on which the released code and the paper differ, or that an environment makes in silence.

`tasks/settings.toml` says what each choice means; `tasks/variants/` holds complete bundles of them. A record carries
the whole resolved bundle, and records of different bundles are never compared without saying so.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError

from cxrbench.errors import SpecError
from cxrbench.specs.task import TaskSpec
from cxrbench.store import digest
from cxrbench.store.schema import Spec, complaints


class Settings(Spec):
    """One choice for every setting; the aliases are the names that users, records and `settings.toml` use.

    Bundles may leave out what has a default here: it is no point on which the released code and the paper differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    decode: Literal["released", "radiograph"] = Field(alias="decode")
    vindr_polarity: Literal["released", "header"] = Field(alias="vindr.polarity")
    antialias: Literal["off", "on"] = Field(alias="resize.antialias")
    canvas_floor: Literal["released", "exact"] = Field(alias="canvas.floor")
    preprocessing: Literal["released", "authors"] = Field(alias="sota.preprocessing")
    resplit: Literal["released", "patient-partition-v1"] = Field(alias="5x200.folds")
    draw: str = Field(alias="fewshot.draw")  # by name, as `catalog.draw_points` knows them
    share: Literal["hash-rank-v1", "mgca", "cxr-clip", "benchx", "mavl"] = Field("hash-rank-v1", alias="fewshot.share")
    short_classes: Literal["allowed", "refused"] = Field(alias="fewshot.short")
    nih_classes: Literal["19", "20"] = Field(alias="nih.classes")
    features: Literal["released", "raw", "projected"] = Field(alias="lp.features")
    solver: Literal["converged", "scikit-learn"] = Field(alias="lp.solver")
    ensemble: Literal["released", "renormalised", "all"] = Field(alias="zs.ensemble")
    padding: Literal["released", "masked"] = Field(alias="zs.padding")
    description: Literal["error", "alias"] = Field(alias="zs.description")
    covid_part: Literal["test", "train"] = Field(alias="covid.dlilp_split")
    dlilp_head: Literal["released", "text"] = Field(alias="dlilp.head")
    rounding: Literal["released", "unrounded"] = Field(alias="metrics.rounding")
    padchest_labels: Literal["padchest-79-as-published", "padchest-80"] = Field(alias="padchest.labels")
    pretrain_subset: Literal["released", "all"] = Field(alias="pretrain.subset")


def choices() -> dict[str, tuple[str, ...]]:
    """Every setting's name with the choices it has; `fewshot.draw` has those of `catalog.draw_points`."""
    return {str(f.alias): names for f in Settings.model_fields.values() if (names := get_args(f.annotation))}


class Variant(Spec):
    """A versioned bundle: one choice for every setting, and the split of each task of the paper."""

    name: str
    version: int = Field(ge=1)
    title: str
    splits: Mapping[str, str]
    settings: Settings

    @property
    def digest(self) -> str:
        """Hex SHA-256 over splits and settings; name, version, title and settings at their default do not enter."""
        chosen = self.settings.model_dump(mode="json", exclude_defaults=True)
        return digest.of_json({"splits": dict(self.splits), "settings": chosen})

    def split_of(self, task: TaskSpec) -> str:
        """The split of a task: the one chosen here, else the task's own of this bundle's name, else its first."""
        if task.name in self.splits:
            return self.splits[task.name]
        named = re.split(r"[+,]", self.name)[0]
        return named if named in task.splits else next(iter(task.splits))

    def with_choices(self, changes: Mapping[str, str], tasks: Iterable[str] = ()) -> "Variant":
        """This bundle with single choices replaced (`rsna.split=gloria`, `lp.solver=scikit-learn`), renamed after them.

        `tasks` may get a split though the bundle names none. A choice that is the bundle's own changes nothing. Raises
        SpecError for a setting or choice that does not exist; a task's split is checked where it is loaded.
        """
        own = self.settings.model_dump(mode="json") | {f"{task}.split": name for task, name in self.splits.items()}
        changes = {name: choice for name, choice in changes.items() if own.get(name) != choice}
        if not changes:
            return self
        splits, settings = dict(self.splits), self.settings.model_dump(mode="json")
        for name, choice in changes.items():
            task, _, kind = name.rpartition(".")
            if kind == "split" and task in {*splits, *tasks}:
                splits[task] = choice
            elif name in settings:
                settings[name] = choice
            else:
                known = sorted([*settings, *(f"{t}.split" for t in splits)])
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
                hint = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(known)}"
                raise SpecError(f"there is no setting {name!r}; {hint}")
        suffix = ",".join(f"{n}={c}" for n, c in sorted(changes.items()))
        return Variant(
            name=f"{self.name}+{suffix}",
            version=self.version,
            title=self.title,
            splits=splits,
            settings=checked_settings(settings),
        )


def choosing(variant: str) -> str:
    """The words of a command line that choose the variant of that name, which `with_choices` may have given it."""
    base, *choices = re.split(r"[+,]", variant)
    return " ".join([f"--variant {base}", *(f"--set {choice}" for choice in choices)])


def checked_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from plain values; raises SpecError that names the choices there are."""
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        raise SpecError(f"settings: {complaints(error)}") from error


class SettingDoc(Spec):
    """One setting as a person reads it: what it decides, its choices, and where the difference is documented."""

    title: str
    scope: Literal["pixels", "data", "zero-shot", "linear-probe", "metrics", "pretraining"]
    decides: tuple[str, ...]
    choices: Mapping[str, str]


class SettingDocs(Spec):
    """`tasks/settings.toml`."""

    settings: Mapping[str, SettingDoc]
