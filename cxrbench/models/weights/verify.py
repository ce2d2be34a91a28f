"""What there is on this disk of a model, and whether it is what its card says."""

from dataclasses import dataclass
from pathlib import Path

from cxrbench.errors import CxrBenchError, DataError, IntegrityError
from cxrbench.models.base import load_adapter
from cxrbench.models.checkpoint import published_format
from cxrbench.models.coverage import Coverage
from cxrbench.models.text import lost_text_files
from cxrbench.models.weights.fetch import by_hand, locate, place
from cxrbench.models.weights.identity import WeightsIdentity, record, weights_identity
from cxrbench.specs.card import ModelCard


@dataclass(frozen=True, slots=True)
class VerifiedWeights:
    """A file that its model takes: its identity and format, and what became of its tensors.

    `coverage` is None for an adapter of another package that does not tell.
    """

    identity: WeightsIdentity
    format: str
    coverage: Coverage | None


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not here of a model, each with where to get it: its weights, and its text encoder's files."""

    weights: str | None
    text: str | None

    @property
    def told(self) -> tuple[str, ...]:
        """All of it."""
        return tuple(sentence for sentence in (self.weights, self.text) if sentence is not None)


def verify(card: ModelCard, given: Path | None, cache: Path, *, accept: bool = False) -> VerifiedWeights:
    """Find, hash and load the weights of a card, and record the digest of a file that its model takes; no network.

    Raises DataError if there are none, IntegrityError for a file with another digest, a damaged or hostile one, or one
    whose tensors are not exactly the model's; that error lists them, and names the model that they do fit.
    """
    path = locate(card, given, cache)
    identity = weights_identity(path, card, cache, accept=accept)
    covered = getattr(load_adapter(card, path, sha256=identity.sha256), "coverage", None)
    record(identity, cache)
    return VerifiedWeights(identity, _format(identity, card), covered if isinstance(covered, Coverage) else None)


def take_copy(card: ModelCard, copy: Path, given: Path | None, cache: Path) -> VerifiedWeights:
    """Put a fetched copy where the model's weights are looked for, if they are what its card wants.

    Raises what `verify` does, saying where the refused file was left.
    """
    target = place(card, given, cache)
    copy.replace(target)
    try:
        return verify(card, target, cache)
    except CxrBenchError as error:
        target.replace(copy)
        raise IntegrityError(f"{error} It was left at {copy}, where no run looks for it.") from error


def missing(
    card: ModelCard, given: Path | None, text_encoder: Path | None, cache: Path, *, text: bool = True
) -> Missing:
    """What a run of this model would miss here; no network is asked.

    `text`: whether its prompts will be encoded. Raises IntegrityError for a damaged converted file.
    """
    weights = None
    if card.weights.made is None:
        try:
            locate(card, given, cache)
        except DataError as error:
            weights = str(error)
    return Missing(weights, missing_text(card, text_encoder) if text else None)


def missing_text(card: ModelCard, folder: Path | None) -> str | None:
    """Which files of the text encoder are neither in `folder` nor, without one, in the hub's cache; no network."""
    encoder = card.text_encoder
    lost = () if encoder is None else lost_text_files(encoder, folder)
    if encoder is None or not lost:
        return None
    if encoder.beside is not None and folder is None:
        return f"{card.name}: its text encoder's {' and '.join(lost)} is not in {encoder.beside}, where its card says."
    at = f" at revision {encoder.revision}" if encoder.revision else ""
    return (
        f"{card.name}: its text encoder's {' and '.join(lost)} is not in {folder or 'the cache of the hub'}. "
        f"`cxrbench weights fetch {card.word}` gets it from {encoder.hub}{at}; or put the files into one folder, and "
        "give it as --text-encoder."
    )


def directions(card: ModelCard, cache: Path) -> str:
    """How the weights of a card are had."""
    facts = card.weights
    target = place(card, None, cache)
    if facts.fetch == "by-hand":
        return by_hand(card, target)
    at = f" at {facts.hub_revision}" if facts.hub_revision else ""
    source = f"the Hugging Face hub, {facts.hub}{at}" if facts.fetch == "hub" else str(facts.url)
    member = f", {facts.member} in it" if facts.member else ""
    return f"`cxrbench weights fetch {card.word}` gets it from {source}{member}, to {target}"


def _format(identity: WeightsIdentity, card: ModelCard) -> str:
    kind = published_format(identity.file, card)
    return f"{kind}, converted from {identity.published}" if identity.converted else kind
