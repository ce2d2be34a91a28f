"""MIMIC-CXR-JPG for pre-training: frontal images whose study has labelled report sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables
from cxrbench.data.listing import is_folder, stem_key
from cxrbench.data.sources.base import Layout
from cxrbench.data.sources.mimic5x200 import image_rows, locate, study_tree, view_positions
from cxrbench.errors import DataError, SpecError
from cxrbench.pretrain.corpus import sentences
from cxrbench.pretrain.corpus.labellers import SUPPLY, labeller
from cxrbench.pretrain.corpus.sentences import RawReports, Told
from cxrbench.pretrain.corpus.types import CorpusRows, Sentence, Space
from cxrbench.pretrain.corpus.variants import MimicRule

_NO_FINDING, _REPORTS = "no finding", "mimic-cxr-reports"


@dataclass(frozen=True, slots=True)
class Reports:
    """Where sentences come from: a `table`; or the `reports` and a `labeller` (see `labellers.labeller`).

    With neither, `labels_individual_sentences.csv` is looked for beside MIMIC-CXR-JPG's tables and in the folder above;
    and so are the reports, as `mimic-cxr-reports`, for a labeller without them.
    """

    table: Path | None = None
    reports: Path | None = None
    labeller: str = ""
    cache: Path | None = None


def rows(root: Path, rule: MimicRule, space: Space, reports: Reports) -> CorpusRows:
    """The rows of the rule's views and parts in the split table's order, whose study has a labelled sentence.

    A study's labels are those of its sentences together, without `no finding` if there is any other. Raises DataError
    for tables that do not fit, and where no sentences are to be had, with what to supply.
    """
    folder = locate(root)
    table = image_rows(folder)
    views = view_positions(folder)
    ids, studies, subjects, parts = (table[c].tolist() for c in ("dicom_id", "study_id", "subject_id", "split"))
    frontal = [row for row, name in enumerate(ids) if views.get(name) in rule.views and parts[row] in rule.parts]
    told = _told(folder, {studies[row]: subjects[row] for row in frontal}, space, rule, reports)
    kept = [row for row in frontal if studies[row] in told.sentences]
    labels = _labels([told.sentences[studies[row]] for row in kept], space.classes)
    without_view = sum(name not in views for name in ids)
    notes = (f"{without_view} images have no row in the metadata table and are left out",) if without_view else ()
    return CorpusRows(
        tuple(ids[row] for row in kept),
        tuple(subjects[row] for row in kept),
        labels,
        tuple(told.sentences[studies[row]] for row in kept),
        folder,
        Layout(key=stem_key, names=lambda image: (image,), tree=study_tree(table)),
        told.by,
        {"table": len(ids), "frontal": len(frontal), "with sentences": len(kept)}
        | {f"reports: {name}": count for name, count in told.counts.items()},
        (*told.notes, *notes),
    )


def _told(folder: Path, subjects: Mapping[str, str], space: Space, rule: MimicRule, reports: Reports) -> Told:
    if reports.table is not None:
        if reports.reports is not None or reports.labeller:
            raise SpecError(f"{reports.table} is labelled already: give it, or reports and a labeller.")
        return sentences.from_table(reports.table, space)
    if reports.reports is not None or reports.labeller:
        root = reports.reports or _reports_beside(folder)
        if not reports.labeller:
            raise DataError(f"the reports below {root} need a labeller. {SUPPLY}")
        raw = RawReports(root, labeller(reports.labeller, space.names), rule.headings, reports.cache)
        return sentences.from_reports(raw, subjects, space)
    path = tables.named(folder, sentences.TABLE) or tables.named(folder.parent, sentences.TABLE)
    if path is None:
        raise DataError(f"{folder}: there are no report sentences for MIMIC-CXR-JPG. {SUPPLY}")
    return sentences.from_table(path, space)


def _reports_beside(folder: Path) -> Path:
    """The folder of raw reports beside the tables or one above; raises DataError."""
    for place in (folder, folder.parent):
        if is_folder(place / _REPORTS):
            return place / _REPORTS
    raise DataError(f"{folder}: no folder {_REPORTS} is in it or beside it. Name the raw reports by --reports.")


def _labels(told: Sequence[tuple[Sentence, ...]], classes: tuple[str, ...]) -> NDArray[np.int8]:
    labels = np.zeros((len(told), len(classes)), dtype=np.int8)
    healthy = classes.index(_NO_FINDING) if _NO_FINDING in classes else None
    for row, sentences_ in enumerate(told):
        found = {category for sentence in sentences_ for category in sentence.categories}
        if len(found) > 1 and healthy is not None:
            found.discard(healthy)
        labels[row, sorted(found)] = 1
    return labels
