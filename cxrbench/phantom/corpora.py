"""Drawn pre-training sets: CheXpert, MIMIC-CXR-JPG with reports, and PadChest, as they lie on a disk."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from cxrbench.errors import SpecError
from cxrbench.phantom.layouts import chexpert, mimic, padchest
from cxrbench.phantom.layouts.order import LayoutFacts, Order, Size, quotas, shape
from cxrbench.phantom.write import Layout, Summary, write_order
from cxrbench.store.schema import Facts, read_toml


class CorpusFacts(LayoutFacts):
    """See corpora.toml."""

    first: int
    labels: Mapping[str, tuple[str, ...]] = {}


class _AllFacts(Facts):
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


def _layout(source: str, facts: CorpusFacts) -> Layout:
    if source == "CHEXPERT":
        return Layout(chexpert.plates, chexpert.tables)
    if source == "MIMIC":
        return Layout(mimic.plates, mimic.tables)
    return Layout(partial(padchest.plates, labels=facts.labels), padchest.tables)
