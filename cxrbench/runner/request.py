"""What a user asks of a run, checked before anything is computed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.errors import SpecError
from cxrbench.runner.options import (
    DATA_ROOT,
    GROUPS,
    MODELS,
    SHOTS,
    TASKS,
    WEIGHTS,
    Precision,
    RequestOptions,
    read_shots,
    several_shots,
    with_defaults,
)
from cxrbench.specs import catalog
from cxrbench.specs.catalog import PAPERS_PROTOCOLS
from cxrbench.specs.paths import default_cache
from cxrbench.specs.task import TaskSpec
from cxrbench.system import cpu
from cxrbench.types import Shots

if TYPE_CHECKING:
    from cxrbench.models.in_memory import InMemory


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and files on this machine. `data[""]` is the general data root, `data[task]` one task's own.

    `weights` likewise: `""` a folder with checkpoints by their published names, a model's name its own file or folder.
    """

    data: Mapping[str, Path] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    text_encoder: Path | None = None
    out: Path = Path("results")
    cache: Path = field(default_factory=default_cache)

    def data_root(self, task: TaskSpec) -> Path:
        """The folder below which a task's data set lies; raises SpecError when none was named."""
        root = task.data_root(self.data)
        if root is None:
            raise SpecError(f"{task.name}: no folder with its images; name it by --data-root, or set CXRBENCH_DATA")
        return root


@dataclass(frozen=True, slots=True)
class Engine:
    """How the networks run; recorded. `precision` decides values, so it is keyed.

    `device` and `batch_size` choose the kernels and so the last digits of a vector, about 1e-6 of its length: they are
    in no key, but beside each stored vector. `workers` decides nothing.
    """

    device: str = "auto"
    precision: Precision = "float32"
    batch_size: int = 32
    workers: int = 0  # decoding threads; 0: as many as there are cores

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise SpecError("--batch-size must be at least 1, --workers at least 0")

    @property
    def threads(self) -> int:
        """Decoding threads, as asked for or one a usable core."""
        return self.workers or cpu.cores()


@dataclass(frozen=True, slots=True)
class Request:
    """Models x tasks x protocols, with the variant, prompts and shots that make the cells."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    protocols: tuple[str, ...] = PAPERS_PROTOCOLS
    shots: tuple[Shots, ...] = (16,)
    groups: tuple[str, ...] = ("all",)
    trained_on: tuple[str, ...] = ()  # tasks to whose training parts is fitted; none: each task to its own
    mapping: str | None = None
    variant: str = "paper-code"
    choices: Mapping[str, str] = field(default_factory=dict)
    prompts: tuple[str, ...] = ("ensemble",)
    places: Places = field(default_factory=Places)
    engine: Engine = field(default_factory=Engine)
    allow_missing: bool = False
    max_unreadable: float = 0.05  # share of a cell's scored or training images above which it is refused
    resume: bool = True
    rehash: bool = False  # read the bytes of images whose hashes are remembered
    held: "tuple[InMemory, ...]" = ()  # models in the memory of this process, beside those by name

    def __post_init__(self) -> None:
        if not (self.models or self.held) or not self.tasks or not self.protocols:
            raise SpecError("name at least one model, one task and one protocol")
        if odd := [k for k in self.shots if read_shots(k, SHOTS.flag) != k]:
            raise SpecError(f"{SHOTS.flag}: {odd[0]!r} is spelt {read_shots(odd[0], SHOTS.flag)!r}")
        if not 0 <= self.max_unreadable <= 1:
            raise SpecError(f"--max-unreadable is a share from 0 to 1, such as 0.05, not {self.max_unreadable}")
        catalog.select_protocols(self.protocols)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The shots that are a number K, without shares of the training part."""
        return tuple(k for k in self.shots if isinstance(k, int))


def build_request(models: "Sequence[str | InMemory]", tasks: Sequence[str], options: RequestOptions) -> Request:
    """The request of plain values, as the command line and `cxrbench.run` give them; Python may give models in memory.

    Raises TypeError for a text where a list of names is wanted, and for what is no model, SpecError for what no request
    can have.
    """
    MODELS.refuse("models", models)
    names, held = _named_and_held(models)
    TASKS.refuse("tasks", tasks)
    asked = with_defaults(options)
    protocols, prompts = asked["protocols"], asked["prompts"]
    if asked["trained_on"] and tuple(asked["groups"]) != GROUPS.default:
        raise SpecError("--group does not go with --trained-on: its cells are over the labels that both tasks have")
    return Request(
        models=names,
        held=held,
        tasks=tuple(tasks),
        protocols=PAPERS_PROTOCOLS if protocols is None else tuple(protocols),
        shots=several_shots(asked["shots"], SHOTS.flag),
        groups=tuple(asked["groups"]),
        trained_on=tuple(asked["trained_on"]),
        mapping=asked["mapping"],
        variant=asked["variant"],
        choices=dict(asked["settings"] or {}),
        prompts=tuple(catalog.prompt_files() if prompts is None else prompts),
        places=build_places(asked),
        engine=build_engine(asked),
        allow_missing=asked["allow_missing"],
        max_unreadable=asked["max_unreadable"],
        resume=asked["resume"],
        rehash=asked["rehash"],
    )


def _named_and_held(models: "Sequence[str | InMemory]") -> "tuple[tuple[str, ...], tuple[InMemory, ...]]":
    """Models by name, and those that are in memory; raises TypeError for anything else."""
    if not isinstance(models, Iterable):
        raise TypeError(f"models: a list is wanted, such as [{type(models).__name__}]")
    every = tuple(models)
    names = tuple(one for one in every if isinstance(one, str))
    if len(names) == len(every):
        return names, ()
    from cxrbench.models.in_memory import InMemory

    held = tuple(one for one in every if isinstance(one, InMemory))
    if odd := [one for one in every if not isinstance(one, str | InMemory)]:
        raise TypeError(
            f"models: a {type(odd[0]).__name__} is no name; give a network as cxrbench.in_memory(name, network, "
            "width=..., size=..., mean=..., std=...)"
        )
    return names, held


def build_places(options: RequestOptions) -> Places:
    """The folders that options and the environment name."""
    asked = with_defaults(options)
    texts, cache = asked["text_encoder"], asked["cache"]
    return Places(
        data=DATA_ROOT.by_name(asked["data_root"]),
        weights=WEIGHTS.by_name(asked["weights"]),
        text_encoder=None if texts is None else Path(texts),
        out=Path(asked["out"]),
        cache=default_cache() if cache is None else Path(cache),
    )


def build_engine(options: RequestOptions) -> Engine:
    """How the networks are to run; raises SpecError for numbers that cannot be."""
    asked = with_defaults(options)
    return Engine(asked["device"], asked["precision"], asked["batch_size"], asked["workers"])
