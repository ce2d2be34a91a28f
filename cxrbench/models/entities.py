"""Closed vocabularies: the entities that a model was trained on, and the authors' description of each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import model_validator

from cxrbench.errors import DataError, IntegrityError, NotApplicableError
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import LocalPath, Spec, read_toml
from cxrbench.store.sealed import read_regular


class Options(Spec):
    """`vocabulary` names a file beside the card, or of the zoo.

    `descriptions`: the authors' file, looked for in the folder of the text encoder, then beside the card; an absolute
    path serves too.
    """

    vocabulary: LocalPath
    descriptions: str


class Entities(Spec):
    """The entities in the order in which they are asked, and the class names that stand for others (lower case).

    `editions`: MD5 of each known file of descriptions, and what it is.
    """

    title: str
    source: str
    entities: tuple[str, ...]
    aliases: Mapping[str, str]
    editions: Mapping[str, str]

    @model_validator(mode="after")
    def _known(self) -> "Entities":
        strangers = sorted(set(self.aliases.values()) - set(self.entities))
        if strangers:
            raise ValueError(f"aliases of no entity: {', '.join(strangers)}")
        return self

    def columns(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Where the classes stand among the entities; raises NotApplicableError that lists the vocabulary."""
        wanted = [self._entity(name.lower()) for name in classes]
        lost = [name for name, entity in zip(classes, wanted, strict=True) if entity not in self.entities]
        if lost:
            raise NotApplicableError(
                f"no entity for {', '.join(map(repr, lost))}; the vocabulary is: {', '.join(self.entities)}; and under "
                f"another name: {', '.join(self.aliases)}. Score the task by prompts, or leave the class out."
            )
        return tuple(self.entities.index(entity) for entity in wanted)

    def _entity(self, name: str) -> str:
        plain = name.replace("_", " ")
        return name if name in self.entities else self.aliases.get(plain, plain)


@dataclass(frozen=True, slots=True)
class Descriptions:
    """`texts`, one an entity, in the order of the file; `edition` says which file it is."""

    texts: tuple[str, ...]
    edition: str
    path: Path


@dataclass(frozen=True, slots=True)
class EntityQueries:
    """One set of queries: `descriptions.texts` are asked together in this order; class i is read off `columns[i]`."""

    entities: tuple[str, ...]
    descriptions: Descriptions
    columns: tuple[int, ...]


def vocabulary(card: ModelCard, options: Options) -> Entities:
    """The vocabulary that the options name; raises SpecError if the file cannot be read."""
    beside = card.home / options.vocabulary
    return read_toml(beside if beside.is_file() else paths.folder("model_zoo") / options.vocabulary, Entities)


def descriptions(card: ModelCard, options: Options, text_encoder: Path | None) -> Descriptions:
    """The authors' descriptions, by position: one key of their file is misspelt.

    Raises DataError that says where to get the file, IntegrityError unless it holds one text an entity.
    """
    words = vocabulary(card, options)
    path, data = book(card, options.descriptions, text_encoder)
    pairs = _content(path, data, list)  # a list keeps the order, and keys that occur twice
    texts = [pair[1] for pair in pairs if isinstance(pair, tuple)] if isinstance(pairs, list) else []
    if len(texts) != len(words.entities) or not all(isinstance(text, str) for text in texts):
        raise IntegrityError(
            f"{path}: wanted a JSON object of {len(words.entities)} texts; it holds {len(texts)} entries"
        )
    return Descriptions(tuple(texts), edition(words, data), path)


def book(card: ModelCard, file: str, text_encoder: Path | None) -> tuple[Path, bytes]:
    """The place and the content of a file of the authors' texts; raises DataError that says where to get it."""
    places = [folder / file for folder in (text_encoder, card.home) if folder is not None]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"{card.name}: no {file!r} in {' or '.join(str(p.parent) for p in places)}. It comes with "
            f"the authors' code ({card.source}); put it there, name it in the card's options, or score by prompts."
        )
    return path, read_regular(path)


def named(path: Path, data: bytes, entities: Sequence[str]) -> dict[str, Any]:
    """What a JSON object says of each entity, by name; raises IntegrityError unless it has them all."""
    told = _content(path, data, dict)
    found = told if isinstance(told, dict) else {}
    lost = [name for name in entities if name not in found]
    if lost:
        raise IntegrityError(f"{path}: wanted a JSON object with every entity; it lacks {', '.join(lost[:4])}")
    return {name: found[name] for name in entities}


def edition(words: Entities, data: bytes) -> str:
    """Which of the known files it is, by its MD5."""
    return words.editions.get(hashlib.md5(data, usedforsecurity=False).hexdigest(), "none that the card knows")


def _content(path: Path, data: bytes, kind: type) -> object:
    try:
        found: object = json.loads(data, object_pairs_hook=kind)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: is no JSON ({error}). Get the authors' file again.") from error
    return found
