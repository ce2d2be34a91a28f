"""A small text encoder for the demonstration: configuration and vocabulary of an untrained BERT."""

import json
import re
import string
from collections.abc import Iterable
from pathlib import Path

from cxrbench.store.atomic import write_atomically

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # training is short
POSITIONS = 64
_WORD = re.compile(r"[a-z]+|[0-9]|[^\w\s]")


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of the texts in lower case, and letters and digits, of which every other word can be spelled."""
    words = {word for text in texts for word in _WORD.findall(text.lower())}
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    return (*SPECIAL, *sorted(words - set(pieces)), *pieces)


def write_text_encoder(texts: Iterable[str], folder: Path) -> Path:
    """Write a folder that `text.folder` of a pre-training may name; its weights start at random. Returns the folder."""
    words = vocabulary(texts)
    config = {"model_type": "bert", "vocab_size": len(words), "max_position_embeddings": POSITIONS, **SIZES, **DROPOUT}
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    write_atomically(folder / "vocab.txt", "".join(f"{word}\n" for word in words).encode())
    write_atomically(folder / "config.json", json.dumps(config).encode())
    write_atomically(folder / "tokenizer_config.json", json.dumps(tokenizer).encode())
    return folder
