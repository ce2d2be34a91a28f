"""Tasks that show the same patients: which are drawn together, and of which no id says who is who."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from cxrbench.evaluate.statistics.units import UnitKind
from cxrbench.specs import catalog
from cxrbench.specs.task import TaskSpec


def namespace(task: str, over: UnitKind) -> str:
    """What the names of a task's units belong to: patients to their collection, images to their task alone.

    Tasks of one namespace name a patient alike.
    """
    known = _task(task)
    collection = None if known is None or over != "patient" else known.patients.collection
    return f"task {task}" if collection is None else f"patients of {collection}"


def taken_as_independent(over: Mapping[str, UnitKind]) -> tuple[str, ...]:
    """What to know of a mean over these tasks, by what is drawn of each: its interval takes some for independent.

    Empty where no two of them hold images of one collection.
    """
    strange = [task for task in over if _task(task) is None]
    unclear = [f"where the images of {_listed(strange)} are from is not known here: taken as independent"]
    return (*_kin(over), *(unclear if strange and len(over) > 1 else ()))


def _kin(over: Mapping[str, UnitKind]) -> Iterator[str]:
    pools: dict[str, list[str]] = {}
    for name, task in ((name, _task(name)) for name in over):
        for origin in () if task is None else task.origins:
            if origin.shares == "images" and name not in pools.setdefault(origin.pool, []):
                pools[origin.pool].append(name)
    for pool, tasks in pools.items():
        joined = [task for task in tasks if namespace(task, over[task]) == f"patients of {pool}"]
        if len(tasks) > 1:
            yield f"{_listed(tasks)} hold images of one collection ({pool}){_told(joined, tasks)}"


def _told(joined: Sequence[str], tasks: Sequence[str]) -> str:
    joined = joined if len(joined) > 1 else ()
    apart = [task for task in tasks if task not in joined]
    first = f": patients of {_listed(joined)} are drawn together" if joined else ""
    if not apart:
        return first
    return (
        f"{first}; no id says which images of {_listed(apart)} are of the same patients, so they are taken as "
        "independent, and intervals of means may be too short"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


@cache
def _task(name: str) -> TaskSpec | None:
    return catalog.known_task(name)
