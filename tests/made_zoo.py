"""Every published model of the zoo as a user has it: a file of weights, made, and the folder of its text encoder."""

from dataclasses import dataclass
from pathlib import Path

import made_answers
import made_cosines
import made_encoders
import made_pairs
import made_queries
import torch
from made_towers import Towers
from made_weights import TEXT_ENCODER, published_tensors, zoo_card

from cxrbench.models.certificate import Certificate, certificate_for, certificates
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard

PAIRS, TOWERS = ("medclip", "medclip_vit", "gloria"), ("chexzero", "convirt", "mgca", "mgca_vit")
CERTIFIED = {found.name: found for found in certificates()}


@dataclass(frozen=True)
class MadeModel:
    """`asked`: what a run calls it, its name, or the path of a card without the digest that no made file has."""

    card: ModelCard
    weights: Path
    text_encoder: Path | None
    asked: str


def undigested(name: str, folder: Path) -> str:
    """The name of a card, or where its digest is stated the path of a copy that states none."""
    told = (paths.folder("model_zoo") / f"{name}.toml").read_text()
    kept = without_digest(told)
    if kept == told:
        return name
    path = folder / f"{name}.toml"
    path.write_text(kept)
    return str(path)


def without_digest(told: str) -> str:
    """The text of a card that tells no digest of its weights; those of other files stay."""
    kept, table = [], ""
    for line in told.splitlines(keepends=True):
        table = line.strip() if line.startswith("[") else table
        if table != "[weights]" or not line.startswith("sha256 = "):
            kept.append(line)
    return "".join(kept)


def certified(card: ModelCard) -> Certificate:
    found = certificate_for(card)
    assert found is not None, card.name
    return found


def made_model(name: str, folder: Path) -> MadeModel:
    """The card, a file with the container and the name that are published, and what --text-encoder wants."""
    card, layout = made_encoders.card(name), certified(zoo_card(name)).name
    path = folder / card.weights.files[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    text: Path | None
    if layout in PAIRS:
        made_pairs.write(layout, made_pairs.tensors(layout), path)
        text = made_pairs.text_folder(layout)
    elif layout in made_queries.NAMES:
        made_queries.write(layout, made_queries.tensors(layout), path)
        text = made_queries.text_encoder(layout, folder / "text")
    elif layout in (*made_cosines.BIOVIL, *made_cosines.CXR_CLIP):
        made_cosines.write(layout, made_cosines.tensors(layout), path)
        text = made_cosines.text_encoder(layout, folder / "text")
    elif layout in made_encoders.NAMES:
        made_encoders.write(layout, path)
        text = None
    elif layout in made_answers.NAMES:
        made_answers.write(layout, published_tensors(layout), path)
        text = made_answers.text_encoder(layout, folder / "text")
    elif layout in TOWERS:
        Towers(layout).file(folder).rename(path)
        text = Towers(layout).text
    else:
        torch.save(published_tensors(layout), path)
        text = TEXT_ENCODER
    return MadeModel(card, path, text, undigested(name, folder))
