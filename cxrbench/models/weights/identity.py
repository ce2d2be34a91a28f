"""Whose bytes a file of weights has: hashed once, pinned, held against card and source, and converted."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, ValidationError
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models import made
from cxrbench.models.checkpoint import file_format, published_format, read_published
from cxrbench.models.converted import (
    ConversionOrigin,
    beside,
    origin,
    require_source,
    tensor_digests,
    tensors_digest,
    write_converted,
)
from cxrbench.models.renaming import rename
from cxrbench.models.shards import file_bytes, file_digest
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.atomic import written_new
from cxrbench.store.file_hashes import FileHashes, stamp
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import DamagedError, read_sealed, seal, write_sealed
from cxrbench.system.sources import code_digest


class Pin(Spec):
    """A file when it was first used.

    `source`: SHA-256 of the published file that this one says it was converted from; `claim_accepted`: somebody took
    that on trust (`weights verify --accept`), since the published file was never read here.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int
    card: str
    first_seen: str
    source: str | None = None
    claim_accepted: bool = False


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Pins:
    """The pins below one cache folder, a file each; several processes may use them at once.

    A pin comes into its place by a link, which succeeds for one process alone, so no lock is needed.
    """

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "weights_pins"

    def file(self, path: Path) -> Path:
        """The file of a place's pin."""
        return self.folder / f"{digest.of_bytes(os.fsencode(path.resolve()))[:32]}.json"

    def read(self, path: Path) -> Pin | None:
        """The pin of a place; raises IntegrityError if its file is damaged."""
        file = self.file(path)
        try:
            return Pin.model_validate(read_sealed(file))
        except FileNotFoundError:
            return None
        except (DamagedError, ValidationError) as error:
            reason = error.reason if isinstance(error, DamagedError) else complaints(error)
            raise IntegrityError(
                f"{file}: the digest of {path} as first seen is damaged: {reason}. Restore this file, or remove "
                "it: then the weights count as seen for the first time."
            ) from error

    def hold(self, path: Path, pin: Pin, *, replaces: str | None = None) -> Pin:
        """The pin of a place, which becomes `pin` where there was none, or one with the digest `replaces`.

        Raises IntegrityError if any other digest was pinned.
        """
        known = self.read(path)
        if known is None and written_new(self.file(path), seal(pin.model_dump(mode="json"))):
            return pin
        known = known or self.read(path)
        if known is not None and known.sha256 == pin.sha256 and (known.claim_accepted or not pin.claim_accepted):
            return known
        if known is not None and known.sha256 not in (pin.sha256, replaces):
            raise changed(path, known, pin, pin.card)
        write_sealed(self.file(path), pin.model_dump(mode="json"))
        return pin


def changed(path: Path, known: Pin, pin: Pin, word: str) -> IntegrityError:
    """The error for a file that is not the one first seen at its place; `word` calls its card."""
    return IntegrityError(
        f"{path}: sha256 is {pin.sha256} ({pin.size} bytes); when it was first seen, {known.first_seen}, it was "
        f"{known.sha256} ({known.size} bytes). If you replaced it on purpose: "
        f"`cxrbench weights verify {word} --accept`. If not, fetch it again."
    )


@dataclass(frozen=True, slots=True)
class Content:
    """`tensors`: dtype, shape and SHA-256 of each by name; `synthetic`: nobody trained these values."""

    tensors: Mapping[str, str]
    synthetic: bool

    def used_digest(self, card: ModelCard, path: Path) -> str:
        """Hex SHA-256 over the tensors that decide something, as the card names them: the weights' part of every key.

        Those that the card ignores do not (that its model uses none of them is checked when it is loaded, see
        `models.base.load_adapter`), nor do the counters that it says a file may lack.
        """
        idle = (*card.weights.ignored, *card.weights.absent)
        named = rename(self.tensors, card.weights.rename, path)
        used = {name: told for name, told in named.items() if not any(fnmatchcase(name, one) for one in idle)}
        return digest.of_json(used)


def content(path: Path, sha256: str, card: ModelCard, cache: Path) -> Content:
    """The content of a file with that SHA-256, read with the card's container and sections unless it was before.

    Raises IntegrityError for a damaged file and for one that changes while it is read.
    """
    if card.given:
        return Content({"file": sha256}, synthetic=False)
    known = known_content(sha256, card, cache)
    if known is not None:
        return known
    read = read_published(path, card)
    found = Content(tensor_digests(read.tensors), are_synthetic(read.tensors))
    if read.sha256 == sha256:  # else it was replaced meanwhile, which loading will tell
        write_sealed(_place(sha256, card, cache), asdict(found))
    return found


def known_content(sha256: str, card: ModelCard, cache: Path) -> Content | None:
    """The content of a file with that SHA-256, if one was ever read here as the card reads it."""
    try:
        return Content(**read_sealed(_place(sha256, card, cache)))
    except (FileNotFoundError, DamagedError, TypeError):
        return None


def _place(sha256: str, card: ModelCard, cache: Path) -> Path:
    facts = card.weights
    reader = code_digest(__name__)
    name = digest.of_json([sha256, facts.container, facts.sections, facts.foreign, reader, made.SEEDS])
    return cache / "tensors" / name[:2] / f"{name}.json"


def are_synthetic(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors of a checkpoint, by the names that the file gives them, are those of `cxrbench.models.made`."""
    matrices = {n: t for n, t in tensors.items() if t.numel() >= made.FEWEST and t.ndim > 1 and t.is_floating_point()}
    smallest = sorted(matrices, key=lambda name: (matrices[name].numel(), name))[:1]
    return made.is_made({name: matrices[name].float().numpy() for name in smallest})


@dataclass(frozen=True, slots=True)
class WeightsIdentity:
    """A file of weights, what it holds, and the published file that it is or was converted from.

    `tensors`: digest of the tensors that the model uses, which is what keys hold. `sha256`: of the file itself.
    `source`: SHA-256 that a converted file states of the published one; `proven`: both were read on this machine and
    hold the same tensors (or nothing was converted). `pin`: that of the first time, or for a `fresh` file the one that
    `record` will keep, in place of `replaces` if accepted.
    """

    file: Path
    sha256: str
    tensors: str
    synthetic: bool
    published: str
    source: str | None
    proven: bool
    size: int
    pin: Pin
    fresh: bool
    replaces: str | None = None

    @property
    def converted(self) -> bool:
        """Whether the file says that it was converted from another."""
        return self.source is not None

    @property
    def published_sha256(self) -> str:
        """SHA-256 of the published file where it is known for sure, else of the file itself."""
        return self.source if self.source is not None and self.proven else self.sha256

    @property
    def claimed(self) -> str | None:
        """The SHA-256 of a published file that only the header of this one vouches for."""
        return None if self.proven else self.source


def weights_identity(path: Path, card: ModelCard, cache: Path, *, accept: bool = False) -> WeightsIdentity:
    """The identity of a file, whose digest must be the one recorded on first use, if there is one.

    Nothing is recorded yet: that is for `record`, once the model took the file. An unchanged file is not read again.
    Raises DataError if there is no file, IntegrityError if its digest is neither the card's nor the one first seen
    (unless `accept`), if a converted file is not what its header promises, if the published file beside it is another
    than the one that was converted, or if only its own header says that it is the one which the card wants.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    published_format(path, card)  # before hashing: a pipe, a device or a file of 200 GB would take for ever
    pins, own, told = Pins(cache), hashed(path, cache), None if card.given else _origin(path)
    known = pins.read(path)
    fresh = known is None or known.sha256 != own
    if told is not None:
        _require_source(path, told, cache)
    found = content(path, own, card, cache)
    proven = told is None or _is_proven(path, told, found, card, cache)
    agreed = accept or (known is not None and not fresh and known.claim_accepted)
    _require_card(path, card, own, told, proven=proven, agreed=agreed)
    source = None if told is None else told.sha256
    pin = Pin(
        sha256=own,
        size=file_bytes(path),
        card=card.name,
        first_seen=now(),
        source=source,
        claim_accepted=accept and not proven,
    )
    if known is not None and fresh and not accept:
        raise changed(path, known, pin, card.word)
    renewed = fresh or (known is not None and pin.claim_accepted and not known.claim_accepted)
    return WeightsIdentity(
        file=path,
        sha256=own,
        tensors=found.used_digest(card, path),
        synthetic=found.synthetic,
        published=path.name if told is None else told.file,
        source=source,
        proven=proven,
        size=pin.size,
        pin=pin if known is None or renewed else known,
        fresh=renewed,
        replaces=None if known is None else known.sha256,
    )


def record(found: WeightsIdentity, cache: Path) -> None:
    """Keep the digest of a file that its model took, as the one to expect at this place from now on.

    Raises IntegrityError if another process recorded another digest meanwhile.
    """
    if found.fresh:
        Pins(cache).hold(found.file, found.pin, replaces=found.replaces)


def hashed(path: Path, cache: Path) -> str:
    """SHA-256 of a file, or of an index with its shards, remembered in the table of file hashes by their stamps."""
    return file_digest(path, lambda one: _hashed(one, cache))


def _hashed(path: Path, cache: Path) -> str:
    hashes = FileHashes(cache, path.parent)
    known = hashes.known(path)
    if known is not None:
        return known
    at = stamp(path)
    sha256 = digest.of_file(path)
    if at is not None:
        hashes.add([(path, at, sha256)])
    return sha256


def _origin(path: Path) -> ConversionOrigin | None:
    return origin(path) if file_format(path) == "safetensors" else None


def _require_source(path: Path, told: ConversionOrigin, cache: Path) -> None:
    """Raise IntegrityError unless the published file, as first seen or as it lies there, was the one converted."""
    source = path.with_name(told.file)
    pinned = Pins(cache).read(source)
    if pinned is not None:
        require_source(path, told, pinned.sha256)
    if source.is_file():
        require_source(path, told, hashed(source, cache))


def _is_proven(path: Path, told: ConversionOrigin, found: Content, card: ModelCard, cache: Path) -> bool:
    """Whether a file with the SHA-256 that the header states was read here, and holds the same tensors.

    Raises IntegrityError where it holds others: then the header lies.
    """
    source = path.with_name(told.file)
    beside = source.is_file()
    published = content(source, told.sha256, card, cache) if beside else known_content(told.sha256, card, cache)
    if published is None:
        return False
    if published.tensors != found.tensors:
        raise IntegrityError(
            f"{path}: its header says that it was converted from the {told.file} with sha256 {told.sha256}, which "
            "holds other tensors. Remove it, and convert the published file by `cxrbench weights convert`."
        )
    return True


def _require_card(
    path: Path, card: ModelCard, own: str, told: ConversionOrigin | None, *, proven: bool, agreed: bool
) -> None:
    """Raise IntegrityError unless the file is the one whose digest the card states, if it states one."""
    wanted = card.weights.sha256
    if wanted in (None, own) or (told is not None and told.sha256 == wanted and (proven or agreed)):
        return
    if told is not None and told.sha256 == wanted:
        raise IntegrityError(
            f"{path}: only its own header says that it was converted from the published file (sha256 {wanted}) that "
            f"the card of {card.name} wants; that file was never read here, so nothing proves it. Put {told.file} "
            f"beside it once, or take the file at its word by `cxrbench weights verify {card.word} --accept`: every "
            "record will say so."
        )
    stated = own if told is None else f"{own}, converted from {told.sha256}"
    raise IntegrityError(f"{path}: sha256 is {stated}; the card of {card.name} says {wanted}")


def convert(path: Path, card: ModelCard, cache: Path) -> WeightsIdentity:
    """Write `NAME.safetensors` beside the published file `NAME`, read it back, and return its identity.

    Every tensor under the card's container and sections goes into it as it is, ignored ones too, so that the file does
    not depend on what today's adapter needs; all else (optimizer, configuration) stays behind, its names in the header.
    Raises SpecError for a file that is safetensors already or holds vectors and for shards, and what
    `weights_identity` and `read_published` raise.
    """
    if card.given:
        raise SpecError(f"{path}: holds vectors and no tensors; there is nothing to convert")
    if file_format(path) == "safetensors":
        raise SpecError(f"{path}: is safetensors already; there is nothing to convert")
    if file_format(path) == "sharded":
        raise SpecError(f"{path}: is in shards, which are read as they are; one file alone is converted")
    facts = card.weights
    identity = weights_identity(path, card, cache)
    found = read_published(path, card)
    told = ConversionOrigin(
        file=path.name,
        sha256=identity.sha256,
        tensors=tensors_digest(found.tensors),
        container=facts.container,
        sections=facts.sections,
        other=found.other,
    )
    write_converted(beside(path), found.tensors, told)
    record(identity, cache)
    made = weights_identity(beside(path), card, cache, accept=True)
    record(made, cache)
    return made
