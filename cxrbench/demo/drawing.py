"""All made data sets of the demonstration, drawn side by side."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from cxrbench.demo.encoders import IMAGES, Folders, Say
from cxrbench.phantom.corpora import write_corpus
from cxrbench.phantom.write import Summary, write
from cxrbench.specs import catalog
from cxrbench.system import cpu


def draw(folders: Folders, say: Say) -> None:
    """The evaluation sets and the pre-training sets, each unless it is there; a process for each core.

    A process draws whole data sets: starting two for each set took as long as drawing a third of the images.
    """
    jobs: dict[str, Callable[[], Summary]] = {
        f"pre-training phantom of {source}": partial(write_corpus, source, folders.corpora, images_per_class=images)
        for source, images in IMAGES.items()
    }
    jobs |= {f"phantom of {task}": partial(write, task, folders.evaluation) for task in catalog.task_files()}
    # Not forked: the caller may have threads, torch's say.
    with ProcessPoolExecutor(min(cpu.cores(), len(jobs)), mp_context=get_context("spawn")) as pool:
        for name, summary in zip(jobs, pool.map(_done, jobs.values()), strict=True):
            say(f"{name}: {summary.images} images in {summary.root}")


def _done(job: Callable[[], Summary]) -> Summary:
    return job()
