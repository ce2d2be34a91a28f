"""A small corpus of squares: labels that a tiny trunk can learn, sentences for a third of the images, a tiny BERT."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.pretrain.corpus.types import Corpus, Sentence
from cxrbench.store import digest

SOURCES = ("CHEXPERT", "MIMIC", "PADCHEST")
NAMES = ("edema", "fracture", "no finding", "nodule", "pneumonia")
UInt8Array = NDArray[np.uint8]


def made_corpus(
    n: int, classes: Sequence[str] = NAMES, spaces: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0
) -> Corpus:
    """`n` rows, the three sources one after the other; two images a patient."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, len(classes))) < 0.35).astype(np.int8)
    source = tuple(SOURCES[i * 3 // n] for i in range(n))
    told = dict(spaces or {name: tuple(range(len(classes) - (name != "PADCHEST"))) for name in SOURCES})
    for name in SOURCES:
        outside = [c for c in range(len(classes)) if c not in told[name]]
        labels[np.ix_([s == name for s in source], outside)] = 0
    sentences = tuple(_sentences(row, classes) if s == "MIMIC" else () for row, s in zip(labels, source, strict=True))
    ids = tuple(f"image{i}" for i in range(n))
    paths = tuple(Path(f"{name}.png") for name in ids)
    patients = tuple(f"p{i // 2}" for i in range(n))
    return Corpus(tuple(classes), ids, paths, source, patients, labels, told, sentences, digest.of_lines(ids))


def _sentences(row: NDArray[np.int8], classes: Sequence[str]) -> tuple[Sentence, ...]:
    found = [Sentence(f"There is {classes[c]} in the lung.", (int(c),)) for c in np.flatnonzero(row)]
    return tuple(found) or (Sentence("Comparison with the prior study.", ()),)


def made_pixels(corpus: Corpus, size: int = 32, seed: int = 0) -> UInt8Array:
    """Grey noise with a bright block for each label, at a place of its own: (n, size, size)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (len(corpus.ids), size, size), np.uint8)
    side = size // 5
    for row, column in zip(*np.nonzero(corpus.labels), strict=True):
        at = side * (column % 5)
        pixels[row, at : at + side, at : at + side] += 150
    return pixels


def made_text_encoder(folder: Path, dropout: float = 0.1, spread: float = 0.02) -> Path:
    """A folder with the configuration and vocabulary of a tiny BERT, without weights.

    `spread`: of the weights that it starts from; with the usual 0.02 all texts have nearly the same vector.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = "a radiology image of other finding there is in the lung . comparison with prior study left right"
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = list(dict.fromkeys([*special, *said.split(), *" ".join(NAMES).split(), *pieces]))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    told = {"model_type": "bert", "vocab_size": len(words), "max_position_embeddings": 77, **sizes, **drops}
    told["initializer_range"] = spread
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


def small_choices(folder: Path, **more: str) -> dict[str, str]:
    """Settings of a run of seconds: a small trunk at 32 pixels, a tiny untrained BERT in `folder`."""
    told = {
        "image.trunk": "timm:test_resnet",
        "image.size": "32",
        "text.folder": str(folder if (folder / "vocab.txt").is_file() else made_text_encoder(folder)),
        "text.initial": "random",
        "head.dimension": "16",
        "data.batch_size": "16",
        "schedule.epochs": "2",
        "engine.accelerator": "cpu",
        "optimiser.learning_rate": "1e-3",
        "saving.every_steps": "3",
        "saving.log_every": "2",
    }
    return told | {name.replace("__", "."): value for name, value in more.items()}


def triage_choices(folder: Path, **more: str) -> dict[str, str]:
    """As `small_choices`, of objective `sat`, with an untrained BERT that tells reports apart."""
    if not (folder / "vocab.txt").is_file():
        made_text_encoder(folder, spread=1.0)
    return small_choices(folder, objective="sat", triage__positive="0.9", triage__negative="0.8") | {
        name.replace("__", "."): value for name, value in more.items()
    }
