"""Whose bytes a file of weights has: hashed once, pinned, held against its card and its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cxrbench import digest, made
from cxrbench.adapters.checkpoint import file_format, read_checkpoint
from cxrbench.adapters.converted import Origin, origin, require_source
from cxrbench.card import ModelCard
from cxrbench.errors import DataError, IntegrityError
from cxrbench.ledger import Ledger, stamp
from cxrbench.weights.pins import Pin, Pins, changed, now


@dataclass(frozen=True, slots=True)
class WeightsIdentity:
    """A file of weights and the published file that it is, or was converted from.

    `sha256` and `published` (a name) are the published file's: what keys and records hold. `pin` is the file's own:
    that of the first time, or for a `fresh` file the one that `record` will keep, in place of `replaces` if accepted.
    `vouched`: the published file was seen here, or is this one; else its digest is what the converted file says.
    """

    file: Path
    sha256: str
    published: str
    converted: bool
    size: int
    pin: Pin
    fresh: bool
    vouched: bool
    replaces: str | None = None


def weights_identity(path: Path, card: ModelCard, cache: Path, *, accept: bool = False) -> WeightsIdentity:
    """The identity of a file, whose digest must be the one recorded on first use, if there is one.

    Nothing is recorded yet: that is for `record`, once the model took the file. An unchanged file (size and time) is
    not read again. Raises DataError if there is no file, IntegrityError if its digest is neither the card's nor the one
    first seen (unless `accept`), if a converted file is not what its header promises, or if the published file beside
    it is another than the one that was converted.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    file_format(path)  # before hashing: a pipe, a device or a file of 200 GB would take for ever
    pins, own, told = Pins(cache), hashed(path, cache), _origin(path)
    known = pins.read(path)
    fresh = known is None or known.sha256 != own
    if told is not None:
        _require_true(path, told, card, cache, unread=fresh)
    sha256 = own if told is None else told.sha256
    if card.weights.sha256 not in (None, sha256):
        raise IntegrityError(f"{path}: sha256 is {sha256}, the card of {card.name} says {card.weights.sha256}")
    size = path.stat().st_size
    pin = Pin(sha256=own, size=size, card=card.name, first_seen=now(), source=None if told is None else sha256)
    if known is not None and fresh and not accept:
        raise changed(path, known, pin)
    published = path.name if told is None else told.file
    held = pin if known is None or fresh else known
    replaces = None if known is None else known.sha256
    vouched = told is None or pins.saw(sha256)
    return WeightsIdentity(path, sha256, published, told is not None, size, held, fresh, vouched, replaces)


def record(found: WeightsIdentity, cache: Path) -> None:
    """Keep the digest of a file that its model took, as the one to expect at this place from now on.

    Raises IntegrityError if another process recorded another digest meanwhile.
    """
    if found.fresh:
        Pins(cache).hold(found.file, found.pin, replaces=found.replaces)


def made_weights(found: WeightsIdentity, card: ModelCard) -> bool:
    """Whether the file holds made weights, whose numbers mean nothing; raises IntegrityError for a damaged file."""
    facts = card.weights
    told = read_checkpoint(found.file, facts.container, sections=facts.sections, foreign=facts.foreign)
    return are_made(told.tensors)


def are_made(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors of a checkpoint, by the names that the file gives them, are made ones."""
    matrices = {n: t for n, t in tensors.items() if t.numel() >= made.FEWEST and t.ndim > 1 and t.is_floating_point()}
    smallest = sorted(matrices, key=lambda name: (matrices[name].numel(), name))[:1]
    return made.is_made({name: matrices[name].float().numpy() for name in smallest})


def hashed(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered in the ledger by its size and time."""
    ledger = Ledger(cache, path.parent)
    known = ledger.known(path)
    if known is not None:
        return known
    at = stamp(path)
    sha256 = digest.of_file(path)
    if at is not None:
        ledger.add([(path, at, sha256)])
    return sha256


def _origin(path: Path) -> Origin | None:
    return origin(path) if file_format(path) == "safetensors" else None


def _require_true(path: Path, told: Origin, card: ModelCard, cache: Path, *, unread: bool) -> None:
    """Raise IntegrityError unless a converted file and the published one, as seen or as here, are the same weights."""
    source = path.with_name(told.file)
    pinned = Pins(cache).read(source)
    if pinned is not None:
        require_source(path, told, pinned.sha256)
    if source.is_file():
        require_source(path, told, hashed(source, cache))
    if unread:  # reading holds the tensors against the digest in the header
        read_checkpoint(path, card.weights.container, sections=card.weights.sections, foreign=card.weights.foreign)
