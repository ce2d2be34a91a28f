"""From a finished run to a model: weights in the official layout, and a card that `cxrbench run --model` takes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w
from safetensors.torch import save
from torch import Tensor

from cxrbench.errors import RunError
from cxrbench.models.dlilp_layout import PROTOTYPES, SCALES, Vocabulary
from cxrbench.models.text import TextFiles
from cxrbench.models.text_loading import deciding
from cxrbench.pretrain.config import Config, Objective
from cxrbench.pretrain.corpus.types import Corpus
from cxrbench.pretrain.corpus.variants import SourceName
from cxrbench.pretrain.identity import Surroundings
from cxrbench.pretrain.log import writing
from cxrbench.pretrain.network import WITH_LABELS, WITH_TEXT, encoder_facts
from cxrbench.pretrain.state import Head, read_tensors, write_tensors
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, ProbeSpec, TextEncoder, View, Weights, ZeroShotSpec
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import read_toml
from cxrbench.store.sealed import DamagedError, read_regular, seal_folder, seal_text

WEIGHTS, OFFICIAL, CARD, VOCABULARY, TEXT = (
    "weights.safetensors",
    "weights.pth",
    "card.toml",
    "pretraining_vocabulary.toml",
    "text",
)
TITLES: Mapping[Objective, str] = {
    "clip": "CLIP",
    "unicl": "UniCL",
    "unimodal": "Unimodal",
    "dlilp": "DLILP",
    "sat": "SAT",
}
LETTERS: Mapping[str, str] = {"CHEXPERT": "C", "MIMIC": "M", "PADCHEST": "P"}
_RESNETS = ("resnet18", "resnet34", "resnet50")  # which a checkpoint tells by itself


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run; `synthetic`: drawn images were in its corpus; `width` of the trunk's pooled vectors.

    `head`: what its checkpoint says; `labelled_by`: whose the labels of each source are.
    """

    config: Config
    head: Head
    corpus: Corpus
    files: TextFiles | None
    width: int
    synthetic: bool
    labelled_by: Mapping[SourceName, str] = field(default_factory=dict)


def export(trained: Trained, folder: Path) -> ModelCard:
    """Write weights, card, vocabulary and tokenizer into the run's folder; the card last, so it is never without them.

    Raises RunError if the run never got below the first best validation loss and its best weights are asked for.
    """
    tensors = _chosen(trained, folder)
    data = save(tensors)
    _write(folder / WEIGHTS, data)
    write_tensors(folder / OFFICIAL, tensors)
    if trained.config.objective in WITH_LABELS:
        _write(folder / VOCABULARY, _toml(_vocabulary(trained.corpus)))
    if trained.files is not None:
        _copy_text(trained.files, trained.config.text.files, folder / TEXT)
    card = _card(trained, card_name(folder), digest.of_bytes(data))
    _write(folder / CARD, _toml(card))
    return card


def _write(path: Path, data: bytes) -> None:
    with writing(path, "Make room, then --resume: the run itself is finished."):
        write_atomically(path, data)


def _chosen(trained: Trained, folder: Path) -> dict[str, Tensor]:
    chosen = trained.config.saving.export
    path = folder / f"{chosen}.pth"
    if path.name not in trained.head.kept:
        raise RunError(
            f"{folder}: no validation loss was below schedule.first_best, so there is no {path.name}; "
            "take the last weights with --set saving.export=last"
        )
    other = "last" if chosen == "best" else "best"
    way_out = f"Restore it from a copy, or take other weights with --resume --set saving.export={other}."
    try:
        tensors: dict[str, Tensor] = read_tensors(path, trained.head.kept[path.name], way_out)
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone", way_out) from error
    return dict(sorted(tensors.items(), key=lambda item: _place(item[0])))


def _place(name: str) -> int:
    """Where a tensor stands in the official files: scales, prototypes, image side, text side; the rest keeps order."""
    own = (*SCALES.values(), PROTOTYPES)
    return own.index(name) if name in own else len(own) + (not name.startswith("vision_model."))


def card_name(folder: Path) -> str:
    """The folder's name as that of a card."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", folder.resolve().name.lower()).lstrip("_.-")
    return name or "pretrained"


def _vocabulary(corpus: Corpus) -> Vocabulary:
    """The corpus's classes, with those aliases of the official vocabulary that it can express."""
    official = read_toml(paths.folder("model_zoo") / "dlilp_vocabulary.toml", Vocabulary)
    aliases = {name: of for name, of in official.aliases.items() if set(of) <= set(corpus.classes)}
    source = f"the corpus of this run, digest {corpus.digest}"
    return Vocabulary(title="Categories of the corpus", source=source, categories=corpus.classes, aliases=aliases)


def _card(trained: Trained, name: str, sha256: str) -> ModelCard:
    config, objective = trained.config, trained.config.objective
    letters = tuple(LETTERS[source] for source in LETTERS if source in trained.corpus.spaces)
    views = {"text": View(tap="joint", classes="prompts")} if objective in WITH_TEXT else {}
    if objective in WITH_LABELS:
        views["label"] = View(tap="label" if objective == "dlilp" else "joint", classes="prototypes")
    taps = {"pooled": trained.width, "joint": config.head.dimension}
    options: dict[str, str] = {"strategy": "clip" if objective == "sat" else objective}  # SAT changes no layout
    if objective in WITH_LABELS:
        options["vocabulary"] = VOCABULARY
    if config.image.trunk not in _RESNETS:
        options["trunk"] = config.image.trunk
    return ModelCard(
        name=name,
        title=f"{TITLES[objective]} ({'+'.join(letters)}), pre-trained here",
        adapter="cxrbench.models.dlilp:DLILP",
        pretraining=letters,
        licence="follows from the data sets that it was trained on",
        source="made by `cxrbench pretrain`",
        notes=_notes(trained),
        synthetic=trained.synthetic,
        options=options,
        weights=Weights(files=(WEIGHTS,), where="beside this card, written by `cxrbench pretrain`", sha256=sha256),
        text_encoder=_text_encoder(config) if trained.files is not None else None,
        recipes={"reality-check": config.canvas, "authors": config.canvas},
        taps=taps | ({"label": config.head.dimension} if objective == "dlilp" else {}),
        zero_shot=ZeroShotSpec(
            views=views,
            default="label" if "label" in views else "text",
            new="text" if objective == "dlilp" else None,
            pooling="embedding",
        ),
        probe=ProbeSpec(),
    )


def _text_encoder(config: Config) -> TextEncoder:
    return encoder_facts(config.text, False).model_copy(update={"folder": TEXT})


def _notes(trained: Trained) -> tuple[str, ...]:
    config, position, identity = trained.config, trained.head.position, trained.head.identity
    start = f"ImageNet weights (SHA-256 {identity.weights})" if identity.weights else "an untrained trunk"
    text = "" if trained.files is None else f" and a text encoder that was {_INITIAL[config.text.initial]}"
    kept = position.best_epoch + 1 if config.saving.export == "best" else position.epoch
    return (
        f"Corpus {trained.corpus.digest}, {len(trained.corpus.ids)} images ({identity.images}); configuration "
        f"{config.digest}, seed {config.seed}, precision {identity.precision}.",
        f"From {start} of {config.image.trunk}{text}; weights of epoch {kept} of {position.epoch}, lowest validation "
        f"loss {position.best:.6g}.",
        *(f"Labels of {source} by {who}." for source, who in trained.labelled_by.items()),
        *_triage_note(config),
        *map(_computed, trained.head.history),
    )


def _triage_note(config: Config) -> tuple[str, ...]:
    if config.objective != "sat":
        return ()
    how = config.triage
    return (
        f"SAT's loss as in its authors' code on this recipe's networks, not the published model: positive above "
        f"{how.positive:g}, negative up to {how.negative:g}, temperature {how.temperature:g}, image weight "
        f"{how.image_weight:g}, factor {how.factor}; reads a {config.text.reads} at a time.",
    )


def _computed(by: Surroundings) -> str:
    return f"From step {by.since} on by code {by.code}, pixels by {by.pixels}, {by.device}, {by.libraries}."


_INITIAL = {"pretrained": "pre-trained", "random": "untrained"}


def _toml(value: ModelCard | Vocabulary) -> bytes:
    return seal_text(tomli_w.dumps(value.model_dump(mode="json", exclude_none=True, exclude_defaults=True))).encode()


def _copy_text(files: TextFiles, needed: Iterable[str], folder: Path) -> None:
    """Tokenizer and configuration, so that the run's folder is all that a model needs, and which bytes they have."""
    names = deciding(files.folder, needed)
    for name in names:
        there = files.folder / name
        if there.resolve() != (folder / name).resolve():
            _write(folder / name, read_regular(there))
    with writing(folder, "Make room, then --resume: the run itself is finished."):
        seal_folder(folder, names)
