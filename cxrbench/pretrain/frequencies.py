"""How often each finding is in a corpus: over images and over report sentences, in all and by source."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from cxrbench.errors import DataError
from cxrbench.pretrain.corpus.types import Corpus
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import read_sealed, write_sealed


class FindingShare(Spec):
    """`positive` of `of` items whose labels know the class; 0 of 0 where none does."""

    positive: int = Field(ge=0)
    of: int = Field(ge=0)

    @property
    def share(self) -> float | None:
        """`positive` over `of`, 0 to 1; None where the class is in no label space, so nothing is known of it."""
        return self.positive / self.of if self.of else None


class CountedFindings(Spec):
    """One source, or all (a class counts where its source's label space has it)."""

    images: int
    sentences: int  # of every image: a study of two images counts its sentences twice, as training draws them
    of_images: Mapping[str, FindingShare]
    of_sentences: Mapping[str, FindingShare]


class Frequencies(Spec):
    """Finding frequencies of one corpus, named by its digest."""

    version: int = 1
    corpus: str
    all: CountedFindings
    sources: Mapping[str, CountedFindings]


def frequencies(corpus: Corpus) -> Frequencies:
    """The counts of a corpus; every class of the corpus is named, in its order."""
    sources = {name: _counted(corpus, name) for name in dict.fromkeys(corpus.source)}
    return Frequencies(corpus=corpus.digest, all=_together(corpus.classes, list(sources.values())), sources=sources)


def write(found: Frequencies, path: Path) -> None:
    """Write the file with its checksum, whole or not at all."""
    write_sealed(path, found.model_dump(mode="json"))


def read(path: Path) -> Frequencies:
    """The frequencies that a file holds.

    Raises DataError where it is missing or is no such file, DamagedError if it is not what was written.
    """
    try:
        return Frequencies.model_validate(read_sealed(path, "Get a fresh copy, or --resume the finished run."))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. `cxrbench pretrain` writes it.") from error
    except ValidationError as error:
        raise DataError(f"{path}: holds no finding frequencies: {complaints(error)}") from error


def _counted(corpus: Corpus, source: str) -> CountedFindings:
    rows = [row for row, name in enumerate(corpus.source) if name == source]
    space = frozenset(corpus.spaces[source])
    positive = corpus.labels[rows].sum(axis=0, dtype=int).tolist()
    stated = [0] * len(corpus.classes)
    sentences = 0
    for row in rows:
        sentences += len(corpus.sentences[row])
        for sentence in corpus.sentences[row]:
            for category in sentence.categories:
                stated[category] += 1
    return CountedFindings(
        images=len(rows),
        sentences=sentences,
        of_images={
            name: FindingShare(positive=positive[n] if n in space else 0, of=len(rows) if n in space else 0)
            for n, name in enumerate(corpus.classes)
        },
        of_sentences={
            name: FindingShare(positive=stated[n] if n in space else 0, of=sentences if n in space else 0)
            for n, name in enumerate(corpus.classes)
        },
    )


def _together(classes: tuple[str, ...], parts: list[CountedFindings]) -> CountedFindings:
    return CountedFindings(
        images=sum(part.images for part in parts),
        sentences=sum(part.sentences for part in parts),
        of_images={name: _sum([part.of_images[name] for part in parts]) for name in classes},
        of_sentences={name: _sum([part.of_sentences[name] for part in parts]) for name in classes},
    )


def _sum(shares: list[FindingShare]) -> FindingShare:
    return FindingShare(positive=sum(share.positive for share in shares), of=sum(share.of for share in shares))
