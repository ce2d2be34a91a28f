"""One corpus from the sources on this disk: rows, patients of evaluation sets taken out, files found, limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import phantom_mark
from cxrbench.data.sources.base import Disk, met
from cxrbench.errors import DataError, SpecError
from cxrbench.pretrain.corpus import chexpert, mimic, padchest
from cxrbench.pretrain.corpus.mimic import Reports
from cxrbench.pretrain.corpus.overlap import EvaluationSet, PatientOverlap, audit
from cxrbench.pretrain.corpus.types import Corpus, CorpusRows, Sentence, Space
from cxrbench.pretrain.corpus.variants import SOURCES, CorpusVariant, SourceName, label_spaces
from cxrbench.store import digest
from cxrbench.types import IntArray

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class CorpusRequest:
    """What is asked for. `roots`: folder of each source that is wanted; the order of assembly is fixed.

    `evaluation`: whose patients are looked for and, unless `keep_overlap`, taken out. `limit`: at most so many images
    of each source, for small machines: the first by table order that are on this disk. `cache` may keep listings.
    """

    roots: Mapping[SourceName, Path]
    variant: CorpusVariant
    evaluation: Sequence[EvaluationSet] = ()
    reports: Reports = field(default_factory=Reports)
    keep_overlap: bool = False
    limit: int | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A corpus, and how it came about: images left after each step and whose labels, by source; the audit, remarks.

    `synthetic`: drawn images are in it, so its encoders enter no table of measured results.
    """

    corpus: Corpus
    counts: Mapping[SourceName, Mapping[str, int]]
    labelled_by: Mapping[SourceName, str]
    overlap: PatientOverlap
    notes: tuple[str, ...]
    synthetic: bool

    def to_json(self) -> dict[str, Any]:
        """All but the corpus itself as plain values, with its digest, to be written beside a checkpoint."""
        return {
            "digest": self.corpus.digest,
            "images": len(self.corpus),
            "synthetic": self.synthetic,
            "counts": {name: dict(counts) for name, counts in self.counts.items()},
            "labelled_by": dict(self.labelled_by),
            **self.overlap.to_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Part:
    """One source's rows that are left, with their files; `left` indexes `rows`."""

    rows: CorpusRows
    left: IntArray
    paths: tuple[Path, ...]
    counts: dict[str, int]
    notes: tuple[str, ...]
    synthetic: bool


def build(request: CorpusRequest) -> Built:
    """The corpus: CheXpert, MIMIC-CXR-JPG, PadChest, each in its own table's order.

    Rows without a file on this disk are left out and counted. Raises SpecError for no source or an unknown one,
    DataError for tables that are missing or do not fit, and where a source has no image left.
    """
    if strange := [name for name in request.roots if name not in SOURCES]:
        raise SpecError(f"there is no source {strange[0]!r}; known are {', '.join(SOURCES)}")
    names = [name for name in SOURCES if name in request.roots]
    if not names:
        raise SpecError(f"no source is named; give the folder of at least one of {', '.join(SOURCES)}")
    if request.limit is not None and request.limit < 1:
        raise SpecError(f"a limit of {request.limit} images leaves nothing; give 1 or more, or none")
    classes, spaces = label_spaces(request.variant)
    rows = {name: _rows(name, request, Space(classes, spaces[name])) for name in names}
    overlap, left = audit({name: rows[name].patients for name in names}, request.evaluation, not request.keep_overlap)
    parts = {name: _part(name, rows[name], left[name], request) for name in names}
    return Built(
        _corpus(parts, classes, {name: spaces[name] for name in names}),
        {name: part.counts for name, part in parts.items()},
        {name: part.rows.labelled_by for name, part in parts.items()},
        overlap,
        tuple(f"{name}: {text}" for name, part in parts.items() for text in part.notes),
        any(part.synthetic for part in parts.values()),
    )


def _rows(name: SourceName, request: CorpusRequest, space: Space) -> CorpusRows:
    root, variant = request.roots[name], request.variant
    match name:
        case "CHEXPERT":
            return chexpert.rows(root, variant.chexpert, space)
        case "MIMIC":
            return mimic.rows(root, variant.mimic, space, request.reports)
        case "PADCHEST":
            return padchest.rows(root, variant.padchest, space)


def _part(name: SourceName, rows: CorpusRows, left: IntArray, request: CorpusRequest) -> _Part:
    root = request.roots[name]
    ids = [rows.ids[row] for row in left.tolist()]
    if not ids:
        raise DataError(f"{name}: no image is left of {dict(rows.counts)}, less the patients of evaluation sets")
    found = met(ids, Disk(root, rows.folder, rows.layout, request.cache))
    if not found.paths:
        first = rows.layout.names(ids[0])[0]
        raise DataError(f"{name}: none of {len(ids)} images lies under {found.home}; the first would be {first}.")
    there = left[[image in found.paths for image in ids]][: request.limit]
    counts = {**rows.counts, "without evaluation patients": len(left), "on disk": len(found.paths), "taken": len(there)}
    files = tuple(found.home / found.paths[rows.ids[row]] for row in there.tolist())
    return _Part(
        rows,
        there,
        files,
        counts,
        (*rows.notes, *_missing([image for image in ids if image not in found.paths])),
        phantom_mark.drawn(rows.folder, files),
    )


def _missing(ids: list[str]) -> list[str]:
    if not ids:
        return []
    more = ", ..." if len(ids) > _SHOWN else ""
    return [f"{len(ids)} images have no file and are left out: {', '.join(ids[:_SHOWN])}{more}"]


def _corpus(
    parts: Mapping[SourceName, _Part], classes: tuple[str, ...], spaces: Mapping[str, tuple[int, ...]]
) -> Corpus:
    picked = [(name, part, row) for name, part in parts.items() for row in part.left.tolist()]
    ids = tuple(part.rows.ids[row] for _, part, row in picked)
    if len(set(ids)) != len(ids):
        raise DataError("two sources name an image alike; are two of the roots the same folder?")
    return made(
        Corpus(
            classes,
            ids,
            tuple(path for part in parts.values() for path in part.paths),
            tuple(name for name, _, _ in picked),
            tuple(part.rows.patients[row] for _, part, row in picked),
            np.concatenate([part.rows.labels[part.left] for part in parts.values()]),
            spaces,
            tuple(part.rows.sentences[row] for _, part, row in picked),
            "",
        )
    )


def made(corpus: Corpus) -> Corpus:
    """The corpus with the digest of its content (paths aside); labels become read-only."""
    labels: NDArray[np.int8] = np.ascontiguousarray(corpus.labels)
    labels.flags.writeable = False
    found = digest.of_json(
        {
            "classes": corpus.classes,
            "rows": digest.of_lines(map("\t".join, zip(corpus.source, corpus.patients, corpus.ids, strict=True))),
            "labels": digest.of_bytes(labels.tobytes()),
            "spaces": {name: list(space) for name, space in corpus.spaces.items()},
            "sentences": digest.of_lines(map(_told, corpus.sentences)),
        }
    )
    return replace(corpus, labels=labels, digest=found)


def _told(sentences: tuple[Sentence, ...]) -> str:
    return "\t".join(f"{','.join(map(str, s.categories))} {s.text}" for s in sentences)
