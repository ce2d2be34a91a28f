"""cxrbench: exact, repeatable comparison of chest X-ray encoders.

`run`, `load_model` and `load_task` are the command line's words as functions; importing this loads nothing else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cxrbench.models.base import Adapter
    from cxrbench.runner.run import Report
    from cxrbench.specs.task import TaskSpec

__all__ = ["load_model", "load_task", "run"]


def run(
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    data_root: Path | str | Mapping[str, Path],
    weights: Path | str | Mapping[str, Path] | None = None,
    protocols: Sequence[str] | None = None,
    shots: Sequence[int] = (16,),
    groups: Sequence[str] = ("*",),
    variant: str = "paper-code",
    settings: Mapping[str, str] | None = None,
    prompts: Sequence[str] | None = None,
    text_encoder: Path | str | None = None,
    out: Path | str = "results",
    cache: Path | str | None = None,
    device: str = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    batch_size: int = 32,
    workers: int = 0,
    allow_missing: bool = False,
    max_unreadable: float = 0.05,
    resume: bool = True,
    rehash: bool = False,
) -> "Report":
    """Measure models on tasks, as `cxrbench run` does; names may be globs, `all`, or paths of cards and task files.

    `prompts`: by default the sets that serve every model; `authors` are those of each model's own authors, `all` both.
    Returns the records and whatever went wrong; raises SpecError for a name that does not exist, TypeError for a
    string where a list of names is wanted.
    """
    from cxrbench.specs import catalog
    from cxrbench.system import cpu

    for what, names in (("models", models), ("tasks", tasks), ("protocols", protocols or ()), ("groups", groups)):
        if isinstance(names, str):
            raise TypeError(f"{what}: a list of names is wanted, such as [{names!r}]")

    cpu.prepare()
    from cxrbench.runner.request import Engine, Places, Request
    from cxrbench.runner.run import run as measure
    from cxrbench.specs.paths import default_cache

    request = Request(
        models=tuple(models),
        tasks=tuple(tasks),
        protocols=catalog.PAPERS_PROTOCOLS if protocols is None else tuple(protocols),
        shots=tuple(shots),
        groups=tuple(groups),
        variant=variant,
        choices=dict(settings or {}),
        prompts=tuple(prompts or catalog.prompt_files()),
        places=Places(
            _by_name(data_root),
            _by_name(weights),
            None if text_encoder is None else Path(text_encoder),
            Path(out),
            default_cache() if cache is None else Path(cache),
        ),
        engine=Engine(device, precision, batch_size, workers),
        allow_missing=allow_missing,
        max_unreadable=max_unreadable,
        resume=resume,
        rehash=rehash,
    )
    return measure(request)


def _by_name(where: Path | str | Mapping[str, Path] | None) -> Mapping[str, Path]:
    if where is None:
        return {}
    return {name: Path(path) for name, path in where.items()} if isinstance(where, Mapping) else {"": Path(where)}


def load_model(
    name: str,
    weights: Path | str | None = None,
    text_encoder: Path | str | None = None,
    device: str = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
) -> "Adapter":
    """A model by name or card, with `encode_image`, `encode_text` and `score`; see `models.base.load_adapter`."""
    from cxrbench.models.base import load_adapter
    from cxrbench.models.weights.fetch import locate
    from cxrbench.runner.model import chosen_device
    from cxrbench.specs.catalog import load_card
    from cxrbench.specs.paths import default_cache

    card, file = load_card(name), None if weights is None else Path(weights)
    folder = None if text_encoder is None else Path(text_encoder)
    found = None if card.weights.made is not None else locate(card, file, default_cache())
    return load_adapter(card, found, folder, chosen_device(device), precision)


def load_task(name: str) -> "TaskSpec":
    """A task by name: its labels, groups, splits and facts; raises SpecError with the nearest names."""
    from cxrbench.specs.catalog import load_task as load

    return load(name)
