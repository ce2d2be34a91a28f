"""The options of a request, each described once: the verbs `run`, `encode`, `status` and `cxrbench.run` read them here.

Importing this loads the standard library alone.
"""

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal, TypedDict, get_args, get_type_hints

from cxrbench.errors import SpecError

Precision = Literal["float32", "bfloat16", "float16"]
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Option:
    """How the command line spells an option, and what it means. This kind is a value that is one word.

    A default of None is one that depends on the installation; `help` says which.
    """

    flag: str
    default: Any
    help: str
    short: str | None = None
    metavar: str | None = None
    least: float | None = None
    most: float | None = None

    @property
    def repeats(self) -> bool:
        """Whether several words of the command line make the value."""
        return False

    def value(self, given: Any) -> Any:
        """The value of what the command line gives: a list of words, or one value. Raises SpecError."""
        return self.read(given) if given or not self.repeats else self.default

    def read(self, given: Any) -> Any:
        """The value of what is given."""
        return given

    def write(self, value: Any) -> list[str]:
        """The words of a command line that `read` takes back to the value."""
        return [] if value is None else [self.flag, str(value)]

    def absolute(self, value: Any) -> Any:
        """The value as another folder and another environment need it."""
        return _absolute_name(value) if isinstance(value, str) else value

    def refuse(self, name: str, value: Any) -> None:
        """Raise TypeError for a Python value that would be taken for another one."""


@dataclass(frozen=True, slots=True)
class SwitchOption(Option):
    """True or False; `off` is the flag for False of one that is True by default."""

    off: str | None = None

    def write(self, value: Any) -> list[str]:
        """See `Option`."""
        return [] if value == self.default else [self.flag if value else self.off or self.flag]


@dataclass(frozen=True, slots=True)
class PathOption(Option):
    """A file or folder; `fallback` gives it where neither the option nor the environment's `variable` names one."""

    variable: str | None = None
    fallback: Callable[[], Path] | None = None

    def absolute(self, value: Any) -> Path | None:
        """See `Option`."""
        found = self.fallback() if value is None and self.fallback is not None else value
        return None if found is None else Path(found).resolve()


@dataclass(frozen=True, slots=True)
class NamesOption(Option):
    """Names, globs and files: comma lists, and the option repeated."""

    @property
    def repeats(self) -> bool:
        """See `Option`."""
        return True

    def read(self, given: Any) -> tuple[str, ...]:
        """See `Option`."""
        return words(given)

    def write(self, value: Any) -> list[str]:
        """See `Option`."""
        return [word for name in value or () for word in (self.flag, str(name))]

    def absolute(self, value: Any) -> tuple[str, ...] | None:
        """See `Option`."""
        return None if value is None else tuple(map(_absolute_name, value))

    def refuse(self, name: str, value: Any) -> None:
        """A text would be taken for a list of its letters."""
        if isinstance(value, str):
            raise TypeError(f"{name}: a list of names is wanted, such as [{value!r}]")


@dataclass(frozen=True, slots=True)
class ShotsOption(NamesOption):
    """Numbers of training images, each once: K, a share such as `1%`, or `all`."""

    def read(self, given: Any) -> tuple[int | str, ...]:  # type: ignore[override]
        """See `Option`."""
        return several_shots(given, self.flag)

    def absolute(self, value: Any) -> Any:
        """See `Option`."""
        return value


@dataclass(frozen=True, slots=True)
class PairsOption(Option):
    """`NAME=VALUE`, repeated."""

    @property
    def repeats(self) -> bool:
        """See `Option`."""
        return True

    def read(self, given: Any) -> dict[str, str]:
        """See `Option`."""
        return pairs(given, self.flag)

    def write(self, value: Any) -> list[str]:
        """See `Option`."""
        return [word for name, chosen in (value or {}).items() for word in (self.flag, f"{name}={chosen}")]


@dataclass(frozen=True, slots=True)
class PathsOption(Option):
    """One general folder, and `NAME=PATH` of single tasks or models; `variable` names the general one, too."""

    known: Callable[[], Iterable[str]] = tuple
    variable: str = ""

    @property
    def repeats(self) -> bool:
        """See `Option`."""
        return True

    def read(self, given: Any) -> Mapping[str, Path]:
        """See `Option`."""
        return places(given, [*self.known()], self.flag)

    def write(self, value: Any) -> list[str]:
        """See `Option`."""
        named = self.by_name(value, environment=False).items()
        return [word for name, path in named for word in (self.flag, f"{name}={path}" if name else str(path))]

    def absolute(self, value: Any) -> dict[str, Path]:
        """See `Option`."""
        return {name: path.resolve() for name, path in self.by_name(value).items()}

    def by_name(self, where: Path | str | Mapping[str, Path] | None, *, environment: bool = True) -> dict[str, Path]:
        """Paths by name, the general one under ""; the environment's where none is given."""
        given = where if isinstance(where, Mapping) else {} if where is None else {"": where}
        named = os.environ.get(self.variable) if environment else None
        start = {"": Path(named).expanduser()} if named else {}
        return start | {name: Path(path) for name, path in given.items()}


def _absolute_name(name: str) -> str:
    """A name, or the path of a fact file from the root on."""
    return str(Path(name).resolve()) if name.endswith(".toml") else name


def words(values: Sequence[str] | None) -> tuple[str, ...]:
    """Comma lists and repeated options as single words."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def numbers(values: Sequence[str], what: str) -> tuple[int, ...]:
    """Comma lists of whole numbers; raises SpecError for anything else."""
    asked = words(values)
    if strange := [word for word in asked if not re.fullmatch(r"-?[0-9]+", word)]:
        raise SpecError(f"{what}: whole numbers are wanted, such as 1,2,4, not {strange[0]!r}")
    return tuple(int(word) for word in asked)


_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?%")


def read_shots(given: int | str, what: str) -> int | str:
    """How many training images are meant: K of each class, a share such as `1%`, spelt in one way, or `all`.

    Raises SpecError that says what can be meant, for anything else.
    """
    word = str(given).strip()
    if isinstance(given, int | str) and not isinstance(given, bool):
        if re.fullmatch(r"-?[0-9]+", word):
            return _number(int(word), what)
        if word == "all":
            return word
        if share := _SHARE.fullmatch(word):
            return _share(Decimal(share[1]), what)
    raise SpecError(
        f"{what}: {given!r} is no number of training images; 16 (K of each class), 1% (of the training part) or all are"
    )


def _number(number: int, what: str) -> int:
    if number < 1:
        raise SpecError(f"{what} must be at least 1, not {number}")
    return number


def _share(percent: Decimal, what: str) -> str:
    if percent == 100:
        raise SpecError(f"{what}: the whole training part is called all, not 100%")
    if not 0 < percent < 100:
        raise SpecError(f"{what}: a share is more than 0% and less than 100% of the training part, not {percent}%")
    return f"{percent.normalize():f}%"


def several_shots(values: Sequence[int | str], what: str) -> tuple[int | str, ...]:
    """Values and comma lists of `read_shots`, each once, in the order given."""
    single = (word for value in values for word in (words([value]) if isinstance(value, str) else (value,)))
    return tuple(dict.fromkeys(read_shots(word, what) for word in single))


def pairs(values: Sequence[str] | None, what: str) -> dict[str, str]:
    """`NAME=VALUE` words; raises SpecError for a word without `=`."""
    found = {}
    for value in values or ():
        name, separator, rest = value.partition("=")
        if not separator or not name or not rest:
            raise SpecError(f"{what}: {value!r} is not NAME=VALUE; write the name, `=` and the value without blanks")
        found[name] = rest
    return found


def places(values: Sequence[str] | None, known: Sequence[str], what: str) -> Mapping[str, Path]:
    """`PATH` (stored under "") and `NAME=PATH` words; a path may itself contain `=`.

    Raises SpecError for two general paths.
    """
    found: dict[str, Path] = {}
    for value in values or ():
        name, separator, rest = value.partition("=")
        named = separator and (name in known or (_NAME.fullmatch(name) and not Path(value).exists()))
        key, path = (name, rest) if named else ("", value)
        if key in found:
            raise SpecError(f"{what}: {key or 'the general folder'} is named twice, {found[key]} and {path}")
        found[key] = Path(path).expanduser()
    return found


def _known_tasks() -> Iterable[str]:
    from cxrbench.specs import catalog

    return catalog.task_files()


def _known_models() -> Iterable[str]:
    from cxrbench.specs import catalog

    return catalog.card_files()


def _default_cache() -> Path:
    from cxrbench.specs.paths import default_cache

    return default_cache()


MODELS = NamesOption("--model", (), "Models: names, globs, all, or card files; repeatable.", "-m")
TASKS = NamesOption("--task", (), "Tasks: names, globs, all, paper (its seven), or task files; repeatable.", "-t")
PROTOCOLS = NamesOption(
    "--protocol",
    None,
    "zero-shot, linear-probe (default: these two), those of docs/few-shot.md and of installed packages, globs such as "
    "knn-*, or all; repeatable.",
    "-p",
)
SHOTS = ShotsOption(
    "--shots",
    (16,),
    "Training images: K per class, such as 1,4,16, or of the training part a share, such as 1%,10%, or all.",
    "-k",
)
GROUPS = NamesOption("--group", ("*",), "Label groups: all, base, new, ..., or globs; repeatable.", "-g")
TRAINED_ON = NamesOption(
    "--trained-on",
    (),
    "Fit to the training parts of these tasks, and score --task over the labels both have; repeatable.",
)
MAPPING = Option(
    "--mapping",
    None,
    "With --trained-on: a named choice of labels beside the strict mapping (as-named, rsna-classes), or a TOML file.",
)
VARIANT = Option("--variant", "paper-code", "Bundle of settings: paper-code, cxrbench-v1, phantom, or a TOML file.")
SETTINGS = PairsOption("--set", None, "Replace one choice of the bundle; repeatable.", metavar="SETTING=CHOICE")
PROMPTS = NamesOption(
    "--prompts",
    None,
    "Prompt sets: names, description, ensemble (default: these three), a TOML file; authors: the sets of each "
    "model's own authors; all: both.",
)
DATA_ROOT = PathsOption(
    "--data-root",
    None,
    "Folder below which the data sets lie, or one task's own; repeatable. [env: CXRBENCH_DATA]",
    metavar="DIR|TASK=DIR",
    known=_known_tasks,
    variable="CXRBENCH_DATA",
)
WEIGHTS = PathsOption(
    "--weights",
    None,
    "Folder with published checkpoints, or one model's file; repeatable. [env: CXRBENCH_WEIGHTS]",
    metavar="DIR|MODEL=FILE",
    known=_known_models,
    variable="CXRBENCH_WEIGHTS",
)
TEXT_ENCODER = PathOption("--text-encoder", None, "Local folder with config.json, vocab.txt and tokenizer_config.json.")
DEVICE = Option(
    "--device", "auto", "cpu, cuda, cuda:N, several such as cuda:0,1, or auto: every CUDA device, else cpu."
)
PRECISION = Option("--precision", "float32", "Of the forward pass; keyed.")
BATCH_SIZE = Option(
    "--batch-size", 32, "Images a forward pass; another one moves vectors by about 1e-6; recorded.", least=1
)
WORKERS = Option("--workers", 0, "Decoding threads; 0: one a core.", least=0)
OUT = PathOption("--out", Path("results"), "Folder for records, predictions and tables.")
CACHE = PathOption(
    "--cache",
    None,
    "Folder for embeddings, decoded images and fetched weights. [default: the user's]",
    variable="CXRBENCH_CACHE",
    fallback=_default_cache,
)
ALLOW_MISSING = SwitchOption("--allow-missing", False, "Take what is there when images have no file; recorded.")
MAX_UNREADABLE = Option(
    "--max-unreadable",
    0.05,
    "Share of a cell's scored or training images that may be unreadable; one always may.",
    least=0,
    most=1,
)
RESUME = SwitchOption(
    "--resume",
    True,
    "Reuse records of equal cells, or measure them again from stored vectors.",
    off="--no-resume",
)
REHASH = SwitchOption("--rehash", False, "Read every image's bytes again; new content is encoded anew.")


class RequestOptions(TypedDict, total=False):
    """All options but the models and tasks: the keywords of `cxrbench.run`, each with its `Option`."""

    protocols: Annotated[Sequence[str] | None, PROTOCOLS]
    shots: Annotated[Sequence[int | str], SHOTS]
    groups: Annotated[Sequence[str], GROUPS]
    trained_on: Annotated[Sequence[str], TRAINED_ON]
    mapping: Annotated[str | None, MAPPING]
    variant: Annotated[str, VARIANT]
    settings: Annotated[Mapping[str, str] | None, SETTINGS]
    prompts: Annotated[Sequence[str] | None, PROMPTS]
    data_root: Annotated[Path | str | Mapping[str, Path] | None, DATA_ROOT]
    weights: Annotated[Path | str | Mapping[str, Path] | None, WEIGHTS]
    text_encoder: Annotated[Path | str | None, TEXT_ENCODER]
    device: Annotated[str, DEVICE]
    precision: Annotated[Precision, PRECISION]
    batch_size: Annotated[int, BATCH_SIZE]
    workers: Annotated[int, WORKERS]
    out: Annotated[Path | str, OUT]
    cache: Annotated[Path | str | None, CACHE]
    allow_missing: Annotated[bool, ALLOW_MISSING]
    max_unreadable: Annotated[float, MAX_UNREADABLE]
    resume: Annotated[bool, RESUME]
    rehash: Annotated[bool, REHASH]


def _described() -> dict[str, tuple[Any, Option]]:
    hints = get_type_hints(RequestOptions, include_extras=True)
    return {name: (get_args(hint)[0], get_args(hint)[1]) for name, hint in hints.items()}


PYTHON_TYPES = {name: kind for name, (kind, _) in _described().items()}
OPTIONS: dict[str, Option] = {name: option for name, (_, option) in _described().items()}
REQUIRED: dict[str, Option] = {"models": MODELS, "tasks": TASKS}


def document(function: Callable[..., Any]) -> None:
    """Give a function that takes `**options: Unpack[RequestOptions]` their signature and help, as notebooks show it."""
    told = inspect.signature(function)
    own = [one for one in told.parameters.values() if one.kind is not one.VAR_KEYWORD]
    taken = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=PYTHON_TYPES[name])
        for name, option in OPTIONS.items()
    ]
    function.__signature__ = told.replace(parameters=[*own, *taken])  # type: ignore[attr-defined]
    lines = (fill(f"{name}: {option.help}", 112, subsequent_indent=" " * 8) for name, option in OPTIONS.items())
    function.__doc__ = "\n    ".join([(function.__doc__ or "").rstrip(), "", *lines, ""])


def with_defaults(options: RequestOptions) -> RequestOptions:
    """All options, those that are not given at their defaults.

    Raises TypeError for one that does not exist, and for a text where a list of names is wanted.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            near = get_close_matches(name, OPTIONS)
            raise TypeError(
                f"{name}: there is no such option; {'nearest: ' if near else ''}{', '.join(near or OPTIONS)}"
            )
        OPTIONS[name].refuse(name, value)
    defaults: Any = {name: option.default for name, option in OPTIONS.items()}
    whole: RequestOptions = defaults | options
    return whole
