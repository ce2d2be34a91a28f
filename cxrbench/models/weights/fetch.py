"""Weights from where their authors publish them, into the folder where every verb looks for them."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cxrbench.errors import DataError, SpecError
from cxrbench.models.base import find_weights
from cxrbench.models.hub import offline, require_hub
from cxrbench.models.text import TextFiles, fetched_text_files
from cxrbench.models.weights.archive import extract
from cxrbench.models.weights.download import download
from cxrbench.specs.card import ModelCard
from cxrbench.system.progress import Transfer


def weights_folder(cache: Path) -> Path:
    """Where weights are put and looked for when nobody names a folder: one folder a model."""
    return cache / "weights"


def locate(card: ModelCard, given: Path | None, cache: Path) -> Path:
    """The weights of a card: `given`, or beside the card, or what `fetch` put into the cache.

    Raises what `models.base.find_weights` raises, and SpecError for a card whose tensors are made.
    """
    _require_file(card)
    return find_weights(card, given, weights_folder(cache))


def place(card: ModelCard, given: Path | None, cache: Path) -> Path:
    """Where the file that `fetch` gets will lie; raises SpecError for a `given` that is a file.

    Raises SpecError too for a card whose tensors are made.
    """
    _require_file(card)
    if given is not None and given.is_file():
        raise SpecError(f"{card.name}: {given} is a file; name the folder that shall hold the weights")
    return (given or weights_folder(cache)) / card.name / card.weights.files[0]


def fetch(card: ModelCard, given: Path | None, cache: Path, progress: Transfer) -> Path:
    """The weights of a card, fetched into the folder `given` or the cache's unless they are there.

    Raises DataError that says what to open and where to put it if only a person can get them, or if there is no
    network; IntegrityError for what is not the file; SpecError as `place` does.
    """
    target = place(card, given, cache)
    try:
        return locate(card, given, cache)
    except DataError:
        pass
    if card.weights.fetch == "by-hand":
        raise DataError(by_hand(card, target))
    if offline() and not _archive(card, target).is_file():
        raise DataError(f"{card.name}: HF_HUB_OFFLINE forbids the network. {by_hand(card, target)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if card.weights.fetch == "hub":
        _from_hub(card, target)
    else:
        _direct(card, target, progress)
    return target


def fetch_text(card: ModelCard, folder: Path | None) -> TextFiles | None:
    """Tokenizer, configuration and text weights at the card's revision; None for a card without a text encoder.

    Raises DataError that says what to fetch and where to put it.
    """
    return None if card.text_encoder is None else fetched_text_files(card.text_encoder, folder)


def by_hand(card: ModelCard, target: Path) -> str:
    """What a person does to get the weights of a card to `target`."""
    facts = card.weights
    what = f"`{facts.member}` of the archive" if facts.member else f"`{facts.files[0]}`"
    page = (
        f"open {facts.url} in a browser ({facts.where}). Take {what}" if facts.url else f"take {what} ({facts.where})"
    )
    return f"{card.name}: {page}, put it at {target}, then run `cxrbench weights verify {card.name}`."


def _require_file(card: ModelCard) -> None:
    if card.weights.made is not None:
        raise SpecError(f"{card.name}: there is no file of weights; its tensors are made: {card.weights.made}")


def _archive(card: ModelCard, target: Path) -> Path:
    """Where the downloaded archive lies, or for a card without one the target itself."""
    if card.weights.member is None:
        return target
    return target.parent / PurePosixPath(urlsplit(card.weights.url or "").path).name


def _direct(card: ModelCard, target: Path, progress: Transfer) -> None:
    """Download, and unpack if it is an archive; one that lies there already is taken."""
    archive = _archive(card, target)
    came = not archive.is_file()
    if came:
        try:
            download(card.weights.url or "", archive, progress)
        except DataError as error:
            raise DataError(f"{error} Or: {by_hand(card, target)}") from error
    if card.weights.member is not None:
        extract(archive, card.weights.member, target)
        if came:
            archive.unlink()


def _from_hub(card: ModelCard, target: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    facts = card.weights
    require_hub(card.name, by_hand(card, target))
    folder = target.parents[len(PurePosixPath(facts.files[0]).parts) - 1]
    try:
        hf_hub_download(facts.hub or "", facts.files[0], revision=facts.hub_revision, local_dir=folder)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        at = f" at {facts.hub_revision}" if facts.hub_revision else ""
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{card.name}: {facts.files[0]} cannot be fetched from {facts.hub}{at}: {reason}. {by_hand(card, target)}"
        ) from error
