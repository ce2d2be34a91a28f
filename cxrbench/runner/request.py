"""What a user asks of a run, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cxrbench.errors import SpecError
from cxrbench.specs import catalog
from cxrbench.specs.catalog import PAPERS_PROTOCOLS
from cxrbench.specs.paths import default_cache
from cxrbench.specs.task import TaskSpec
from cxrbench.system import cpu

Precision = Literal["float32", "bfloat16", "float16"]


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
    shots: tuple[int, ...] = (16,)
    groups: tuple[str, ...] = ("all",)
    variant: str = "paper-code"
    choices: Mapping[str, str] = field(default_factory=dict)
    prompts: tuple[str, ...] = ("ensemble",)
    places: Places = field(default_factory=Places)
    engine: Engine = field(default_factory=Engine)
    allow_missing: bool = False
    max_unreadable: float = 0.05  # share of a cell's scored or training images above which it is refused
    resume: bool = True
    rehash: bool = False  # read the bytes of images whose hashes are remembered

    def __post_init__(self) -> None:
        if not self.models or not self.tasks or not self.protocols:
            raise SpecError("name at least one model, one task and one protocol")
        if bad := [k for k in self.shots if k < 1]:
            raise SpecError(f"--shots must be at least 1, not {bad[0]}")
        if not 0 <= self.max_unreadable <= 1:
            raise SpecError(f"--max-unreadable is a share from 0 to 1, such as 0.05, not {self.max_unreadable}")
        if strange := [name for name in self.protocols if name != "all" and name not in catalog.protocol_points()]:
            raise catalog.unknown("protocol", strange[0], catalog.protocol_points())
