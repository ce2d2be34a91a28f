"""`cxrbench doctor MODEL`."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli import options
from cxrbench.cli.echo import echo
from cxrbench.cli.options import Cache, WeightsFrom, known_weights_places


def doctor(
    model: Annotated[str, typer.Argument(help="A model's name, or a card file.", autocompletion=options.models)],
    weights: WeightsFrom = None,
    text_encoder: Annotated[
        Path | None, typer.Option("--text-encoder", help="Local folder with the text encoder's files.")
    ] = None,
    example: Annotated[
        list[Path] | None,
        typer.Option("--example", help="Picture of a printed answer, or a folder of them; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    cache: Cache = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether this machine computes what the authors do.

    A checkpoint with synthetic weights in the published layout goes through preprocessing, network and text side, and
    is held against stored figures of the authors' own code. With weights at hand, the file, its adapter and one drawn
    radiograph are looked at too, and so are the answers that others printed from the published file, as far as their
    pictures are here (--example, told by digest); the rest are listed with what they need. Nothing is fetched. Exit
    code 4 if anything differs, 3 if a file is missing.
    """
    from cxrbench.specs import catalog
    from cxrbench.system import cpu

    card = catalog.load_card(model)
    places = known_weights_places(weights, [*catalog.card_files(), card.name])
    cpu.prepare()
    from cxrbench.checks import doctor
    from cxrbench.checks.doctor import ExaminedModel, examine
    from cxrbench.runner.model import chosen_device
    from cxrbench.specs.paths import default_cache

    given = places.get(card.name) or places.get("")
    patient = ExaminedModel(
        card, given, text_encoder, chosen_device(device), cache or default_cache(), tuple(example or ())
    )
    found = examine(patient)
    echo(doctor.as_json(found) if as_json else "\n".join(doctor.lines(found)))
    if found.answer.exit_code:
        raise typer.Exit(found.answer.exit_code)
