"""A whole data set of drawn radiographs, as it would lie on the disk of somebody who downloaded the real one."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cxrbench.data.phantom.develop import develop
from cxrbench.data.phantom.layouts import chexpert, covid, mimic, nih_lt, rsna, siim, vindr
from cxrbench.data.phantom.layouts.order import Order, Size, layout_facts, order
from cxrbench.data.phantom.plate import Developed, Plate
from cxrbench.errors import DataError

NOTE = "PHANTOM.json"
REVISION = "cxrbench phantom 1"  # counts up when the same request comes to give other bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """How one data set is laid out: its plates, and its other files once they are drawn."""

    plates: Callable[[Order], list[Plate]]
    tables: Callable[[Order, Sequence[Developed]], Mapping[str, bytes]]
    runs: bool = False  # the tables hold run lengths


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "chexpert5x200": Layout(chexpert.plates, chexpert.tables),
        "mimic5x200": Layout(mimic.plates, mimic.tables),
        "rsna": Layout(rsna.plates, rsna.tables),
        "siim": Layout(siim.plates, siim.tables, runs=True),
        "covid": Layout(covid.plates, covid.tables),
        "nih_lt": Layout(nih_lt.plates, nih_lt.tables),
        "vindr": Layout(vindr.plates, vindr.tables),
    }
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written, or was already there: the data set's folder and how many pictures show each finding."""

    task: str
    root: Path
    images: int
    findings: Mapping[str, int]


def tasks() -> tuple[str, ...]:
    """The tasks that have a phantom."""
    return tuple(layout_facts())


def write(
    task: str,
    out: Path,
    *,
    images_per_class: int | Mapping[str, int] | None = None,
    size: Size = "small",
    seed: int = 0,
    workers: int = 1,
) -> Summary:
    """Draw the data set of a task into `out`, under the folder's own name; one that is whole already is kept.

    `images_per_class` is a number for the main kind of images or a mapping of the quotas in layouts.toml; `size` is
    `small`, `true` (as the real files are) or (height, width). With `workers` > 1 that many processes draw, with the
    same bytes as one. Raises SpecError for what does not exist, DataError where another folder is in the way.
    """
    asked = order(task, images_per_class, size, seed)
    root = out / asked.facts.folder
    request = {"task": task, "seed": seed, "size": list(asked.size), "quotas": dict(asked.quotas), "tool": _versions()}
    if root.exists():
        return _existing(root, request)
    fresh = root.with_name(f"{root.name}.unfinished")
    if fresh.exists():
        shutil.rmtree(fresh)
    layout = LAYOUTS[task]
    developed = _developed(layout.plates(asked), partial(develop, root=fresh, seed=seed, runs=layout.runs), workers)
    for name, data in layout.tables(asked, developed).items():
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).write_bytes(data)
    summary = Summary(task, root, len(developed), _counts(developed))
    note = {
        "note": "Made by a program: drawn radiographs and invented reports of nobody. For tests and demonstrations.",
        "request": request,
        "images": summary.images,
        "findings": dict(summary.findings),
    }
    (fresh / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    fresh.rename(root)
    return summary


def _developed(plates: Sequence[Plate], job: Callable[[Plate], Developed], workers: int) -> list[Developed]:
    if workers <= 1:
        return [job(plate) for plate in plates]
    # a fresh interpreter each: a fork of a process that has threads, torch's say, may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(job, plates, chunksize=8))


def _existing(root: Path, request: Mapping[str, Any]) -> Summary:
    try:
        note = json.loads((root / NOTE).read_text(encoding="utf-8"))
        if note["request"] == request:
            return Summary(str(request["task"]), root, note["images"], note["findings"])
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError):
        raise DataError(
            f"{root} is there already and has no readable {NOTE}, so it may be a real data set. "
            "Draw the phantom into another folder."
        ) from None
    raise DataError(
        f"{root} holds a phantom that was made otherwise; {NOTE} there says how. Remove it or draw elsewhere."
    )


def _counts(developed: Sequence[Developed]) -> Mapping[str, int]:
    counts = Counter(finding for shown in developed for finding in shown.plate.findings or ("No Finding",))
    return dict(sorted(counts.items()))


def _versions() -> dict[str, str]:
    """What decides the bytes besides the request."""
    from importlib.metadata import version

    return {"drawing": REVISION, **{name: version(name) for name in ("numpy", "scipy", "pillow", "pydicom")}}
