"""`cxrbench weights fetch|verify|convert|info`: the published models on this disk."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli import options
from cxrbench.cli.echo import echo, print_problem
from cxrbench.cli.options import Cache, WeightsFrom, known_weights_places, words
from cxrbench.errors import CxrBenchError, DataError, gravest
from cxrbench.system.contained import contained

if TYPE_CHECKING:
    from cxrbench.models.weights.identity import WeightsIdentity
    from cxrbench.models.weights.verify import VerifiedWeights
    from cxrbench.specs.card import ModelCard

app = typer.Typer(help="Look after the published weights on this disk.", no_args_is_help=True)

Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Names, globs, all, or card files.", autocompletion=options.models),
]
TextFolder = Annotated[
    Path | None, typer.Option("--text-encoder", help="Local folder with the text encoder's files, instead of the hub.")
]


def _each(
    models: Sequence[str], weights: Sequence[str] | None, *steps: Callable[["ModelCard", Path | None], None]
) -> None:
    """Take the steps for every model, with the --weights that are named for it, and leave with the gravest exit code.

    What stands in the way of one is told, of whatever kind it is, and ends no other. Raises SpecError for a model
    that does not exist.
    """
    from cxrbench.specs import catalog

    named = words(models)
    catalog.refuse_unavailable(named)
    files = [word for word in named if word.endswith(".toml")]
    names = catalog.select([word for word in named if word not in files], catalog.card_files(), "model")
    cards = [catalog.load_card(name) for name in [*names, *files]]
    places = known_weights_places(weights, [*catalog.card_files(), *(card.name for card in cards)])
    failed: list[CxrBenchError] = []
    for card in cards:
        for step in steps:
            try:
                step(card, places.get(card.name) or places.get(""))
            except BaseException as error:
                failed.append(print_problem(contained(error, card.name)))
    if failed:
        raise typer.Exit(gravest(failed))


def _cache(cache: Path | None) -> Path:
    from cxrbench.specs.paths import default_cache

    return cache or default_cache()


@app.command()
def fetch(
    model: Models,
    weights: WeightsFrom = None,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Also tokenizer and text weights.")] = True,
    file: Annotated[str | None, typer.Option("--file", help="A file of the card's copy on the hub.")] = None,
    cache: Cache = None,
) -> None:
    """Get weights and text encoders from where they are published.

    They are verified, and a cut download goes on. Without --weights into the user's cache, where every verb finds
    them. What only a person can download is named, with the page to open and the place to put it. Where a card knows a
    copy on the hub, but not how its file is called, --file names it; another model's file is refused.
    """
    from cxrbench.models.weights.fetch import fetch as fetched
    from cxrbench.models.weights.fetch import fetch_copy, fetch_text
    from cxrbench.models.weights.verify import take_copy
    from cxrbench.models.weights.verify import verify as verified
    from cxrbench.system.progress import transfer_for

    def checkpoint(card: "ModelCard", given: Path | None) -> None:
        if card.weights.made is not None:
            _tell_made(card)
            return
        if file is not None:
            copy = fetch_copy(card, file, given, _cache(cache))
            _tell_verified(card, take_copy(card, copy, given, _cache(cache)))
            return
        path = fetched(card, given, _cache(cache), transfer_for(sys.stderr))
        _tell_verified(card, verified(card, path, _cache(cache)))

    def encoder(card: "ModelCard", _: Path | None) -> None:
        files = fetch_text(card, None) if text else None
        if files is not None:
            echo(f"{card.name}: text encoder in {files.folder}")

    _each(model, weights, checkpoint, encoder)


@app.command()
def verify(
    model: Models,
    weights: WeightsFrom = None,
    text_encoder: TextFolder = None,
    accept: Annotated[bool, typer.Option("--accept", help="Take a replaced file as the one to expect.")] = False,
    cache: Cache = None,
) -> None:
    """Hold weights against their first digest and the card.

    Hashes the file, and holds every tensor against the card. Asks no network.
    """
    from cxrbench.models.weights.verify import missing_text
    from cxrbench.models.weights.verify import verify as verified

    def checkpoint(card: "ModelCard", given: Path | None) -> None:
        if card.weights.made is not None:
            _tell_made(card)
        else:
            _tell_verified(card, verified(card, given, _cache(cache), accept=accept))

    def encoder(card: "ModelCard", _: Path | None) -> None:
        lost = missing_text(card, text_encoder)
        if lost is not None:
            raise DataError(lost)

    _each(model, weights, checkpoint, encoder)


@app.command()
def convert(model: Models, weights: WeightsFrom = None, cache: Cache = None) -> None:
    """Write the tensors as safetensors, so that no pickle is read.

    Verifies the published file, and writes NAME.safetensors beside it. Stored embeddings are keyed by the tensors,
    which are the same; the published file may be removed afterwards. On other machines, where it was never read, what
    the converted file says of its source is a claim, and records say so.
    """
    from cxrbench.models.weights.identity import convert as converted
    from cxrbench.models.weights.verify import verify as verified

    def work(card: "ModelCard", given: Path | None) -> None:
        found = verified(card, given, _cache(cache))
        if found.identity.converted:
            echo(f"{card.name}: converted before: {found.identity.file}")
        else:
            _tell(card, converted(found.identity.file, card, _cache(cache)))

    _each(model, weights, work)


@app.command()
def info(model: Models, weights: WeightsFrom = None, text_encoder: TextFolder = None, cache: Cache = None) -> None:
    """Say what is published where, on which terms, and is here.

    Asks no network.
    """
    from cxrbench.cli.lists import text_encoder_place
    from cxrbench.models.weights.fetch import locate
    from cxrbench.models.weights.verify import directions, missing

    def work(card: "ModelCard", given: Path | None) -> None:
        facts = card.weights
        echo(f"{card.name}: {card.title}\n  source: {card.source}\n  terms: {card.licence}")
        lost = missing(card, given, text_encoder, _cache(cache))
        if facts.made is not None:
            echo(f"  weights: none; its tensors are made: {facts.made}")
        else:
            echo(f"  weights: {' or '.join(facts.files)}: {facts.where}")
            if lost.weights is None:
                _on_disk(locate(card, given, _cache(cache)), _cache(cache))
            else:
                echo(f"  missing: the weights. {directions(card, _cache(cache))}")
        if card.text_encoder is not None:
            echo(f"  text encoder: {text_encoder_place(card)}")
        if lost.text is not None:
            echo(f"  missing: {lost.text}")

    _each(model, weights, work)


def _on_disk(path: Path, cache: Path) -> None:
    from cxrbench.models.weights.identity import Pins

    pin = Pins(cache).read(path)
    seen = f"first seen {pin.first_seen}, sha256 {pin.sha256}" if pin else "not yet verified"
    echo(f"  here: {path}, {path.stat().st_size} bytes, {seen}")


def _tell(card: "ModelCard", found: "WeightsIdentity") -> None:
    seen = "recorded now" if found.fresh else f"as first seen {found.pin.first_seen}"
    echo(f"{card.name}: {found.file}, {found.size} bytes")
    if found.converted:
        echo(f"  sha256 {found.sha256} ({seen})\n  converted from {found.published}, sha256 {found.source}")
        if not found.proven:
            echo("    so its header says: that file was never read here, and nobody can check it without")
    else:
        echo(f"  sha256 {found.sha256} ({seen})")


def _tell_made(card: "ModelCard") -> None:
    echo(f"{card.name}: no file of weights; its tensors are made: {card.weights.made}")


def _tell_verified(card: "ModelCard", found: "VerifiedWeights") -> None:
    _tell(card, found.identity)
    echo(f"  format {found.format}")
    if found.coverage is None:
        echo("  its adapter took it, and does not tell of the tensors")
        return
    reasons = list(found.coverage.ignored.values())
    echo(f"  {len(found.coverage.used)} tensors used, none missing, none left over, {len(reasons)} ignored")
    for reason in dict.fromkeys(reasons):
        echo(f"    {reasons.count(reason)} ignored: {reason}")
