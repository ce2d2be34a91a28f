"""Tokenizers and configurations out of folders that others filled: read without waiting, refused by the file's name."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from cxrbench.errors import CxrBenchError, IntegrityError
from cxrbench.models.settings_check import network_settings
from cxrbench.store.sealed import DamagedError, json_value, read_regular, require_regular_file
from cxrbench.system.contained import PASSING
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


_MOST_BYTES = 1 << 27  # of one file beside the weights; the largest tokenizer.json has some 35 MB
_READ = (".json", ".txt", ".model", ".jinja", ".bpe", ".py")  # what libraries look for in such a folder
_STRANGE = "\U0001fac1"  # a sign that no vocabulary of medicine has
_WAY_OUT = "Fetch the text encoder's files again from where the model's card says."


def load_tokenizer(
    kind: Literal["AutoTokenizer", "BertTokenizer", "RobertaTokenizer"], folder: Path, **settings: Any
) -> Any:
    """The tokenizer of a folder by a class of transformers; no network is asked, and code of a repository is never run.

    Raises IntegrityError that names the file for one that is damaged, no file at all, or not what the library reads.
    """
    import transformers

    require_text_folder(folder)
    if (folder / "config.json").exists():  # libraries look into it for the tokenizer's kind
        settings_table(folder / "config.json")
    with refusing(folder, "tokenizer"):
        loaded = getattr(transformers, kind).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **settings
        )
        loaded(_STRANGE)  # a vocabulary without a token for what it does not know fails here, not at some prompt
        return loaded


def require_text_folder(folder: Path) -> None:
    """Raise IntegrityError unless what decides there is small, JSON or text as its name says, and all that is read."""
    require_files(folder)
    for name in deciding(folder):
        path = folder / name
        try:
            if path.suffix == ".json":
                told = json_value(path, read_regular(path, _MOST_BYTES))
                if name in SETTINGS and isinstance(told, dict):
                    require_own_files(path, told)
            elif path.suffix == ".txt":
                read_regular(path, _MOST_BYTES).decode()
        except DamagedError as error:
            raise IntegrityError(f"{error}. {_WAY_OUT}") from error
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{path}: is no text in UTF-8 ({error.reason}). {_WAY_OUT}") from error


def require_files(folder: Path, more: Collection[str] = ()) -> None:
    """Raise IntegrityError for a pipe or a device among what a library may open there, and for large ones that decide.

    `more` names files of the card that decide, too; the size of others is nobody's matter.
    """
    for path in _opened(folder, more):
        try:
            require_regular_file(path, _MOST_BYTES if decides(path.name) or path.name in more else None)
        except DamagedError as error:
            raise IntegrityError(f"{error}. {_WAY_OUT}") from error


def _opened(folder: Path, more: Collection[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    there = (path for path in sorted(folder.iterdir()) if path.exists() and not path.is_dir())
    return [path for path in there if path.suffix in _READ or decides(path.name) or path.name in more]


@contextmanager
def refusing(place: Path | str, what: str) -> Iterator[None]:
    """Turns whatever a library throws at a malformed folder or configuration into an IntegrityError about it."""
    try:
        yield
    except (CxrBenchError, *PASSING):
        raise
    except BaseException as error:
        raise _unusable(place, what, error) from error


def _unusable(place: Path | str, what: str, error: BaseException) -> IntegrityError:
    lines = str(error).strip().splitlines()
    reason = printable(lines[0])[:200] if lines else "no reason given"
    return IntegrityError(f"{place}: no {what} can be made of this ({type(error).__name__}: {reason}). {_WAY_OUT}")


def settings_table(path: Path) -> dict[str, Any]:
    """What of a published configuration may reach a library; raises as `json_table` and `network_settings` do."""
    return network_settings(str(path), json_table(path))


def json_table(path: Path) -> dict[str, Any]:
    """The settings in a JSON file; raises IntegrityError for what is none."""
    try:
        said = json_value(path, read_regular(path, _MOST_BYTES))
    except DamagedError as error:
        raise IntegrityError(f"{error}. Fetch it again.") from error
    if not isinstance(said, dict):
        raise IntegrityError(f"{path}: not a table of settings. Fetch it again.")
    return said
