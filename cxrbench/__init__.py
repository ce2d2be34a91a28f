"""cxrbench: exact, repeatable comparison of chest X-ray encoders.

The functions are the command line's words; importing this loads the standard library alone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from cxrbench.errors import CxrBenchWarning
from cxrbench.runner.options import RequestOptions, document

if TYPE_CHECKING:
    from torch import Tensor

    from cxrbench.models.in_memory import InMemory
    from cxrbench.notebook.compare import Compared
    from cxrbench.notebook.model import Model
    from cxrbench.notebook.names import Names
    from cxrbench.notebook.records import Records
    from cxrbench.notebook.run import RunReport
    from cxrbench.notebook.table import PaperTable
    from cxrbench.specs.task import TaskSpec

__all__ = [
    "CxrBenchWarning",
    "__version__",
    "compare",
    "in_memory",
    "list_models",
    "list_tasks",
    "load_model",
    "load_records",
    "load_task",
    "run",
    "table",
]


def __getattr__(name: str) -> str:
    """The version, read when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("cxrbench")


def run(
    models: "Sequence[str | InMemory]",
    tasks: Sequence[str],
    *,
    progress: bool = True,
    **options: Unpack[RequestOptions],
) -> "RunReport":
    """Measure models on tasks, as `cxrbench run` does; names may be globs, `all`, or paths of cards and task files.

    A model that is in memory already is given as `in_memory` returns it, beside names.

    `progress` shows a bar in a terminal or notebook, and a line every ten seconds elsewhere, on stderr. The options are
    those of the command line, listed below with what they are by default.
    Returns the records and whatever went wrong, and warns of that (CxrBenchWarning). Raises SpecError for a name that
    does not exist, TypeError for a string where a list of names is wanted.
    """
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.notebook.run import run as measure
    from cxrbench.runner.request import build_request

    return measure(build_request(models, tasks, options), progress=progress)


document(run)


def _refuse_text(what: str, names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise TypeError(f"{what}: a list of names is wanted, such as [{names!r}]")


def load_records(out: Path | str = "results") -> "Records":
    """The records that count below the results folder `out`: of each cell the newest sound one.

    They are held against their checksums and predictions first, and those that do not hold are warned of
    (CxrBenchWarning) and left out. An empty folder has none; raises DataError where there is no such folder.
    """
    from cxrbench.notebook.records import load_records as load

    return load(Path(out))


def compare(
    a: str,
    b: str,
    out: Path | str = "results",
    *,
    tasks: Sequence[str] = ("all",),
    group: str = "all",
    protocol: str | None = None,
    shots: int | str | None = None,
    prompts: str | None = None,
    metric: str | None = None,
    variant: str = "paper-code",
    settings: Mapping[str, str] | None = None,
    these_draws: bool = False,
    synthetic: bool = False,
) -> "Compared":
    """Is one model better than the other on the same images? As `cxrbench compare`, in every setting or in one.

    None stands for each protocol, number of shots or prompt set that was measured, and for the main metric: balanced
    accuracy, macro AUROC of multi-label tasks. Raises SpecError for names that were
    not measured, DataError where there is nothing to compare, NotApplicableError with the reasons where no task can be.
    """
    from cxrbench.notebook.compare import Question
    from cxrbench.notebook.compare import compare as compared

    _refuse_text("tasks", tasks)
    how = (group, protocol, shots, prompts, metric, variant, settings or {}, these_draws, synthetic)
    return compared(Path(out), Question((a, b), tuple(tasks), *how))


def table(
    number: Literal[2, 3, 4],
    out: Path | str = "results",
    *,
    variant: str = "paper-code",
    settings: Mapping[str, str] | None = None,
    these_draws: bool = False,
    synthetic: bool = False,
) -> "PaperTable":
    """Table 2, 3 or 4 of the paper with the measured cells and their intervals, as `cxrbench table`.

    `synthetic` shows records of synthetic images or weights instead of measured ones. Raises SpecError for another
    number.
    """
    from cxrbench.notebook.table import table as found

    return found(number, Path(out), variant, settings or {}, synthetic=synthetic, these_draws=these_draws)


def list_models() -> "Names":
    """The models by name: what they were trained on, title, and whether they can be run."""
    from cxrbench.notebook.names import models

    return models()


def list_tasks() -> "Names":
    """The tasks by name: title, and each label group with its number of classes."""
    from cxrbench.notebook.names import tasks

    return tasks()


def load_model(
    model: "str | Path | InMemory",
    weights: Path | str | None = None,
    text_encoder: Path | str | None = None,
    device: str = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    *,
    batch_size: int = 32,
    variant: str = "paper-code",
    settings: Mapping[str, str] | None = None,
    task: str | None = None,
) -> "Model":
    """A model by name or card, or one in memory: `encode_image` of files, arrays or prepared pixels, texts, `score`.

    Images are prepared as a run of the variant prepares them; `prepare` gives these pixels. `task` matters where the
    variant treats the grey values of its data set in its own way, as paper-code does those of VinDr. A model of
    `in_memory` has no `weights` and `text_encoder`, and stays on its device. Raises SpecError for names that do not
    exist, DataError where there are no weights, what `models.base.load_adapter` raises, and TypeError for what is no
    model.
    """
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.models.in_memory import InMemory
    from cxrbench.notebook.model import Model, adapter_of, held_adapter
    from cxrbench.specs import catalog
    from cxrbench.specs.card_facts import recipe_for, recipe_name

    if not isinstance(model, str | Path | InMemory):
        raise TypeError(
            f"load_model: a name, the path of a card or a model of `cxrbench.in_memory` is wanted, not a "
            f"{type(model).__name__}; a network becomes one by cxrbench.in_memory(name, network, ...)"
        )
    card = model.card if isinstance(model, InMemory) else catalog.load_card(str(model))
    spec = None if task is None else catalog.load_task(task)
    own = () if spec is None else (spec.name,)
    chosen = catalog.chosen_variant(variant, settings or {}, own).settings
    _, recipe = recipe_for(card, chosen, "stored" if spec is None else spec.released_polarity)
    file, folder = (None if place is None else Path(place) for place in (weights, text_encoder))
    if isinstance(model, InMemory):
        adapter = held_adapter(model, file, folder, device, precision)
    else:
        adapter = adapter_of(card, file, folder, device, precision, recipe_name(card, chosen))
    return Model(adapter, recipe, batch_size)


def in_memory(
    name: str,
    network: "Callable[..., Any]",
    *,
    width: int,
    size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    recipe: Mapping[str, Any] | None = None,
    vectors: "Callable[[Any], Tensor] | None" = None,
    encode_text: "Callable[[list[str]], Tensor] | None" = None,
    pretraining: Sequence[str] | None = None,
    title: str = "",
    channels: Literal[1, 3] = 3,
) -> "InMemory":
    """A network or function of this process as a model for `run`: no card, no file, nothing is written.

    `network` gets pixels (N, 3, size, size) float32, grey in every channel (`channels=1`: one channel), in evaluation
    mode and without gradients, where its parameters lie. It gives vectors (N, width), or what `vectors` makes them of:
    `vectors=lambda out: out.pooler_output`. `size`, `mean` and `std` (on the scale 0..1, one number or three) are the
    paper's canvas; `recipe` is any other, as cards have them. `encode_text` makes (P, width) of a list of P texts that
    the same vectors are compared with by cosine; without it there is no zero-shot. `pretraining`: the collections that
    it was trained on, by the letters of cards; [] for none. Left out, records say "not told".

    Records are keyed by digests of its state (tensors and values) and of its code, taken anew by every run; what
    cannot be looked into is refused there, as are vectors of another shape, NaN, and those that depend on batch mates.
    It stays in this process, and training mode, device, hooks and gradients are as they were after the run. Raises
    SpecError for facts that no model can have, TypeError for what is no function.
    """
    from cxrbench.errors import SpecError
    from cxrbench.models.in_memory import in_memory as held

    if (recipe is None) == (size is None and mean is None and std is None):
        raise SpecError(f"in_memory({name!r}): give size, mean and std, or a whole recipe")
    if recipe is None and None in (size, mean, std):
        raise SpecError(f"in_memory({name!r}): size, mean and std go together: what the network was trained on")
    own = recipe if recipe is not None else {"size": size, "mean": _several(mean), "std": _several(std)}
    return held(name, network, width, own, vectors, encode_text, pretraining, title, channels)


def _several(value: float | Sequence[float] | None) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (float(value or 0),)


def load_task(name: str) -> "TaskSpec":
    """A task by name: its labels, groups, splits and facts; raises SpecError with the nearest names."""
    from cxrbench.specs.catalog import load_task as load

    return load(name)
