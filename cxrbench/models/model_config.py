"""Configurations that libraries publish beside their weights: on the card, in a folder, or in the hub's cache."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.settings_check import network_settings
from cxrbench.models.text_loading import json_table, settings_table
from cxrbench.specs.card import ModelCard


@dataclass(frozen=True, slots=True)
class Published:
    """A configuration's file and the repository that it is published in; `option` is the card's own place for it.

    `folders`: where it lies first of all, below the card's folder or the model's own there.
    """

    option: str
    file: str
    hub: str | None
    revision: str | None
    folders: tuple[str, ...] = ()


def weights_config(card: ModelCard, file: str) -> Published:
    """The configuration `file` that is published in the repository of the card's weights, or saved beside them."""
    folders = dict.fromkeys(PurePosixPath(name).parent.as_posix() for name in card.weights.files)
    return Published("config", file, card.weights.hub, card.weights.hub_revision, tuple(folders))


def model_config(card: ModelCard, told: Mapping[str, Any] | None, source: Published) -> dict[str, Any]:
    """What the card tells, else the published file: in the card's folder, then in the hub's cache. Nothing is fetched.

    Raises DataError that says how to get it, SpecError for one that needs code of its repository.
    """
    found = network_settings(card.name, told if told is not None else json_table(_place(card, source)))
    if "auto_map" in found:
        raise SpecError(
            f"{card.name}: its configuration names classes of its own repository (auto_map), and code of a repository "
            "is never run. If the model is one that the library knows, put its configuration on the card as "
            f"options.{source.option}, without auto_map; else it needs an adapter."
        )
    return found


def require_agreement(
    card: ModelCard, checkpoint: Checkpoint, file: str, used: Mapping[str, Any], published: Mapping[str, Any] | None
) -> None:
    """Raise IntegrityError if the configuration that lies beside the weights says something else than the one used.

    `published` is that file's, None where there is none.
    """
    if published is None:
        return
    have, want = dict(_flat(used)), dict(_flat(published))
    differing = sorted(key for key in have.keys() | want.keys() if have.get(key) != want.get(key))
    if differing:
        said = [f"{key} is {want.get(key)!r}, used is {have.get(key)!r}" for key in differing[:4]]
        raise IntegrityError(
            f"{card.name}: {checkpoint.path.with_name(file)} is not the configuration that its card tells: "
            f"{'; '.join(said)}. Either the folder holds another model, or the card is wrong."
        )


def beside_weights(checkpoint: Checkpoint, file: str) -> dict[str, Any] | None:
    """The configuration in the folder of the weights, if there is one; raises IntegrityError if it is no table."""
    path = checkpoint.path.with_name(file)
    return settings_table(path) if path.is_file() else None


def _place(card: ModelCard, source: Published) -> Path:
    for folder in dict.fromkeys((*source.folders, ".")):
        found = [card.home / own / folder / source.file for own in (card.name, "")]
        path = next((path for path in found if path.is_file()), None)
        if path is not None:
            return path
    cached = _cached(source)
    if cached is not None:
        return cached
    at = f" --revision {source.revision}" if source.revision else ""
    fetch = f"fetch it into the hub's cache by `hf download {source.hub} {source.file}{at}`, " if source.hub else ""
    raise DataError(
        f"{card.name}: no {source.file} in {card.home} or in the hub's cache here. Put it beside the card, {fetch}"
        f"or put what it says on the card as options.{source.option}."
    )


def _cached(source: Published) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if source.hub is None:
        return None
    found = try_to_load_from_cache(source.hub, source.file, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name; one that is None says as much as one that is not there."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(entry, f"{at}.{key}" if at else str(key))
    elif value is not None:
        yield at, list(value) if isinstance(value, list | tuple) else value
