"""Tokenizers and configurations out of folders that others filled: read without waiting, refused by the file's name."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from cxrbench.errors import CxrBenchError, IntegrityError
from cxrbench.models.settings_check import network_settings
from cxrbench.models.text_names import SETTINGS, decides, deciding, require_own_files
from cxrbench.store.sealed import DamagedError, json_value, read_regular, require_regular_file
from cxrbench.system.contained import PASSING
from cxrbench.system.printable import printable

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
