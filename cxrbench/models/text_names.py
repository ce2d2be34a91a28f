"""Which files of a text encoder's folder decide what a text becomes, and that its settings name no others."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cxrbench.errors import IntegrityError
from cxrbench.system.printable import printable

# All that the tokenizers of transformers read, and the configuration of the encoder: whatever of them is in the folder
# decides what a text becomes.
FILES = (
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "target_vocab.json",
    "vocab-src.json",
    "vocab-tgt.json",
    "bpe.codes",
    "byte_maps.json",
    "dict.txt",
    "emoji.json",
    "entity_vocab.json",
    "normalizer.json",
    "prophetnet.tokenizer",
    "word_pronunciation.json",
    "word_shape.json",
    "tiktoken.model",
)
# Those that a version of the library takes instead, where the settings name them (`fast_tokenizer_files`), or that it
# looks for by a part of their name.
PATTERNS = ("tokenizer*.json", "tokenizer.model*", "tekken*.json")
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


def deciding(folder: Path, more: Iterable[str] = ()) -> list[str]:
    """The names of the files there that decide, and of those among `more`, each once and in an order of its own."""
    by_pattern = sorted({path.name for pattern in PATTERNS for path in folder.glob(pattern)})
    return [name for name in dict.fromkeys((*FILES, *by_pattern, *more)) if (folder / name).is_file()]


def decides(name: str) -> bool:
    """Whether a file of this name does, at the top of such a folder."""
    return name in FILES or ("/" not in name and any(fnmatchcase(name, pattern) for pattern in PATTERNS))


def require_own_files(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise IntegrityError where the settings of a tokenizer would have a library read a file that does not decide.

    What another machine's settings say of paths that are not here is idle, and published folders have it.
    """
    for key, name in _named(settings):
        versions = key == "fast_tokenizer_files"
        if (versions and not decides(name)) or (not versions and _elsewhere(path.parent, name)):
            raise IntegrityError(
                f"{path}: {key} names {printable(name)[:200]}, which is none of the files of this folder that decide "
                "what a text becomes. Remove the entry, or take the folder as its model's card says."
            )


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if key == "init_inputs" or key.endswith(("_file", "_files")):
            yield from (
                (key, name) for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)
            )


def _elsewhere(folder: Path, name: str) -> bool:
    """Whether a path leads to a file that is not one of the folder's own."""
    try:
        own = Path(name).parent.resolve() == folder.resolve() and decides(Path(name).name)
        return Path(name).is_file() and not own
    except (OSError, ValueError):  # no path at all
        return False
