"""What the cells of a plan need before anything is computed; those that lack something leave it, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cxrbench.errors import CxrBenchError, DataError, NotApplicableError, SpecError
from cxrbench.models.base import adapter_class
from cxrbench.runner.model import BenchModel
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell, Protocol, TaskData
from cxrbench.specs.card import ModelCard
from cxrbench.specs.task import TaskSpec
from cxrbench.system.contained import contained


def keep(made: Plan, needs: Callable[[Cell], object]) -> None:
    """Keep the cells whose needs can be worked out; others are skipped with the reason, or a problem."""
    kept = []
    for cell in made.cells:
        try:
            needs(cell)
        except NotApplicableError as error:
            made.skipped[cell.name] = str(error)
        except BaseException as error:
            made.add(contained(error, cell.name))
        else:
            kept.append(cell)
    made.cells = kept


def require_cells(made: Plan, protocol: Protocol, data: TaskData, model: BenchModel, why: str = "") -> None:
    """Name a model for which the protocol has no cell, with the reason: `why`, or what the protocol says."""
    there = any(c.model is model and c.data is data and c.protocol is protocol for c in made.cells)
    if not there and _has_group(made, data.task):
        reason = why if why and model.card.zero_shot is not None else protocol.why_none(model.card)
        made.skipped[f"{model.card.name} / {data.task.name} / {protocol.name}"] = f"{model.card.name}: {reason}"


def _has_group(made: Plan, task: TaskSpec) -> bool:
    return "*" in made.request.groups or any(group in task.groups for group in made.request.groups)


def require_group(made: Plan, task: TaskSpec) -> None:
    """Name a task that has none of the groups asked for, where another task has them."""
    if not _has_group(made, task):
        made.skipped[task.name] = f"it has none of the groups {', '.join(made.request.groups)}"


def require_protocol(made: Plan, task: TaskSpec, asked: Sequence[Protocol]) -> tuple[Protocol, ...]:
    """Those of the protocols asked for that score tasks of this kind; the others are named, with the task."""
    fitting = tuple(one for one in asked if task.kind in one.kinds)
    if others := ", ".join(one.name for one in asked if one not in fitting):
        known = "retrieval" if task.kind == "retrieval" else "zero-shot or linear-probe"
        way = "" if fitting else f"; take --protocol {known}"
        made.skipped[f"{task.name} / {others}"] = f"it is a {task.kind} task, which {others} cannot score{way}"
    return fitting


def require_files(made: Plan) -> None:
    """Without --allow-missing, cells whose images are not all on disk become one problem a task."""
    if made.request.allow_missing:
        return
    short: dict[str, tuple[int, str, Path]] = {}
    kept = []
    for cell in made.cells:
        lost = sorted(made.wanted(cell) - set(cell.data.partition.paths))
        if lost:
            for side in cell.data.sides:
                own = [image for image in lost if cell.data.owner(image) is side]
                known = short.get(side.task.name, (0, "", side.root))
                if own:
                    short[side.task.name] = max(known, (len(own), own[0], side.root))
        else:
            kept.append(cell)
    made.cells = kept
    for task, (count, first, root) in short.items():
        made.add(files_missing(task, count, first, root))


def files_missing(task: str, count: int, first: str, root: Path) -> DataError:
    """The problem of a task whose images are not all there: how many, the first of them, and the way out."""
    return DataError(
        f"{task}: {count} images of the split have no file under {root}, {first} for one. Complete the download, "
        "see `cxrbench data status`, or score what is there with --allow-missing (the record says so)."
    )


def require_text(made: Plan) -> None:
    """Cells whose texts need a text encoder that is not at hand become one problem a model."""
    lost: dict[str, CxrBenchError] = {}
    for cell in made.cells:
        if cell.reads_texts and cell.model.card.name not in lost:
            try:
                _require_text_side(cell.model.card)
                _ = cell.model.text_digest
            except BaseException as error:
                lost[cell.model.card.name] = contained(error, cell.model.card.name)
    made.cells = [c for c in made.cells if not c.reads_texts or c.model.card.name not in lost]
    for problem in lost.values():
        made.add(problem)


def _require_text_side(card: ModelCard) -> None:
    if not adapter_class(card).has_text_side():
        raise SpecError(
            f"{card.name}: its adapter {card.adapter} has no text side (`encode_text`), so the card cannot have a view "
            'with classes = "prompts"; take [zero_shot] out of it, or measure --protocol linear-probe'
        )
