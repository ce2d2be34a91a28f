"""A whole data set of synthetic radiographs, as it would lie on the disk of somebody who downloaded the real one."""

import errno
import json
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cxrbench.data import phantom_mark
from cxrbench.errors import DataError, SpecError
from cxrbench.phantom.develop import develop
from cxrbench.phantom.layouts import (
    chestx_det,
    chexpert,
    chexpert14,
    convirt8x200,
    covid,
    mimic,
    mimic14,
    nih14,
    nih_lt,
    openi,
    padchest,
    padchest_physician,
    rsna,
    siim,
    vindr,
    vindr_cxr,
)
from cxrbench.phantom.layouts.order import LayoutFacts, Order, Size, drawn_tasks, order, quotas, shape
from cxrbench.phantom.plate import Developed, Plate
from cxrbench.store.schema import Spec, read_toml

REVISION = "cxrbench phantom 3"  # counts up when the same request comes to give other bytes
_UNFINISHED = ".unfinished"
_ABANDONED_S = 24 * 3600  # a folder in which nothing was written for so long has nobody who draws in it


@dataclass(frozen=True, slots=True)
class PhantomLayout:
    """How one data set is laid out: its plates, and its other files once they are drawn."""

    plates: Callable[[Order], list[Plate]]
    tables: Callable[[Order, Sequence[Developed]], Mapping[str, bytes]]
    runs: bool = False  # the tables hold run lengths


LAYOUTS: Mapping[str, PhantomLayout] = MappingProxyType(
    {
        "chexpert5x200": PhantomLayout(chexpert.plates, chexpert.tables),
        "mimic5x200": PhantomLayout(mimic.plates, mimic.tables),
        "rsna": PhantomLayout(rsna.plates, rsna.tables),
        "siim": PhantomLayout(siim.plates, siim.tables, runs=True),
        "padchest_physician": PhantomLayout(padchest_physician.plates, padchest.tables),
        "chestx_det10": PhantomLayout(chestx_det.plates, chestx_det.tables),
        "openi": PhantomLayout(openi.plates, openi.tables),
        "covid": PhantomLayout(covid.plates, covid.tables),
        "nih_lt": PhantomLayout(nih_lt.plates, nih_lt.tables),
        "vindr": PhantomLayout(vindr.plates, vindr.tables),
        "nih14_official": PhantomLayout(nih14.plates, nih14.tables),
        "nih14_lineage": PhantomLayout(nih14.plates, nih14.tables),
        "chexpert_test500": PhantomLayout(chexpert14.plates, chexpert14.tables),
        "chexpert_valid202": PhantomLayout(chexpert14.plates, chexpert14.tables),
        "mimic_test": PhantomLayout(mimic14.plates, mimic14.tables),
        "retrieval_8x200": PhantomLayout(convirt8x200.plates, convirt8x200.tables),
        "vindr_cxr": PhantomLayout(vindr_cxr.plates, vindr_cxr.tables),
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
    return drawn_tasks()


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
    same bytes as one. Several may draw the same at once: the first to be done has it, the others take what is there.
    Raises SpecError for what does not exist, DataError where another folder is in the way or nothing can be written.
    """
    asked = order(task, images_per_class, size, seed)
    return write_order(asked, LAYOUTS[asked.task], out, workers)


def write_order(asked: Order, layout: PhantomLayout, out: Path, workers: int = 1) -> Summary:
    """Draw one order in its layout; see `write`."""
    root = out / asked.facts.folder
    request = {
        "task": asked.task,
        "seed": asked.seed,
        "size": list(asked.size),
        "quotas": dict(asked.quotas),
        "tool": _versions(),
    }
    with _said(root):
        if root.exists():
            return _existing(root, request)
        _sweep(root)
        with _fresh(root) as fresh:
            summary = replace(_draw(asked, layout, fresh, request, workers), root=root)
            try:
                fresh.rename(root)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    raise
                return _existing(root, request)
    return summary


def _draw(asked: Order, layout: PhantomLayout, fresh: Path, request: Mapping[str, Any], workers: int) -> Summary:
    job = partial(develop, root=fresh, seed=asked.seed, runs=layout.runs)
    developed = _developed(layout.plates(asked), job, workers)
    for name, data in layout.tables(asked, developed).items():
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).write_bytes(data)
    summary = Summary(asked.task, fresh, len(developed), _counts(developed))
    content = {
        "note": "Synthetic radiographs and invented reports of nobody, by a program. For tests and demonstrations.",
        "request": request,
        "images": summary.images,
        "findings": dict(summary.findings),
    }
    (fresh / phantom_mark.NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return summary


@contextmanager
def _said(root: Path) -> Iterator[None]:
    """What the system refuses becomes a DataError that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: {error.strerror or error}. So the phantom cannot be drawn there; "
            "draw it into a folder that can be written and has room."
        ) from error


@contextmanager
def _fresh(root: Path) -> Iterator[Path]:
    """A new hidden folder beside `root` that nobody else has; gone at the end if it still bears its name."""
    fresh = root.with_name(f".{root.name}.{secrets.token_hex(6)}{_UNFINISHED}")
    fresh.mkdir(parents=True)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what killed runs left beside `root`, as far as it may be; never a folder that somebody may be filling."""
    beside = root.parent.iterdir() if root.parent.is_dir() else ()
    left = [path for path in beside if path.name.startswith(f".{root.name}.") and path.name.endswith(_UNFINISHED)]
    for folder in left:
        if time.time() - _changed(folder) > _ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def _changed(folder: Path) -> float:
    """When the folder or anything in it last changed, in seconds; now, if it goes away meanwhile."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _developed(plates: Sequence[Plate], job: Callable[[Plate], Developed], workers: int) -> list[Developed]:
    if workers <= 1:
        return [job(plate) for plate in plates]
    # a fresh interpreter each: a fork of a process that has threads, torch's say, may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(job, plates, chunksize=8))


def _existing(root: Path, request: Mapping[str, Any]) -> Summary:
    try:
        content = json.loads((root / phantom_mark.NAME).read_bytes())
        if content["request"] == request:
            return Summary(str(request["task"]), root, content["images"], content["findings"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{root} is there already and has no readable {phantom_mark.NAME}, so it may be a real data set. "
            "Draw the phantom into another folder."
        ) from None
    raise DataError(
        f"{root} holds a phantom that was made otherwise; {phantom_mark.NAME} there says how. "
        "Remove it or draw elsewhere."
    )


def _counts(developed: Sequence[Developed]) -> Mapping[str, int]:
    counts = Counter(finding for shown in developed for finding in shown.plate.findings or ("No Finding",))
    return dict(sorted(counts.items()))


def _versions() -> dict[str, str]:
    """What decides the bytes besides the request."""
    from importlib.metadata import version

    return {"drawing": REVISION, **{name: version(name) for name in ("numpy", "scipy", "pillow", "pydicom")}}


class CorpusFacts(LayoutFacts):
    """See corpora.toml."""

    first: int


class _AllFacts(Spec):
    CHEXPERT: CorpusFacts
    MIMIC: CorpusFacts
    PADCHEST: CorpusFacts


@cache
def corpus_facts() -> Mapping[str, CorpusFacts]:
    """The facts of every pre-training set by source."""
    facts = read_toml(Path(__file__).parent / "layouts" / "corpora.toml", _AllFacts)
    return {source: getattr(facts, source) for source in _AllFacts.model_fields}


def write_corpus(
    source: str,
    out: Path,
    *,
    images_per_class: int | Mapping[str, int] | None = None,
    size: Size = "small",
    seed: int = 0,
    workers: int = 1,
) -> Summary:
    """Draw the pre-training set of a source (CHEXPERT, MIMIC, PADCHEST) below `out`; see `write.write`.

    Its patients are others than those of the evaluation phantoms, whatever their seeds; folders have the same names, so
    `out` must be another. Raises the same errors.
    """
    facts = corpus_facts().get(source)
    if facts is None:
        raise SpecError(f"no phantom for source {source!r}; there is one for {', '.join(corpus_facts())}")
    asked = quotas(source, facts.quotas, images_per_class)
    order = Order(source, facts, asked, shape(source, facts, size), seed, facts.first)
    return write_order(order, _layout(source, facts), out, workers)


def _layout(source: str, facts: CorpusFacts) -> PhantomLayout:
    if source == "CHEXPERT":
        return PhantomLayout(chexpert.plates, chexpert.tables)
    if source == "MIMIC":
        return PhantomLayout(mimic.plates, mimic.tables)
    return PhantomLayout(partial(padchest.plates, labels=facts.labels), padchest.tables)
