"""Small made-up label tables in the layouts as downloaded, for the corpus tests."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrbench.pretrain.corpus.build import Built, CorpusRequest, build
from cxrbench.pretrain.corpus.variants import SourceName, corpus_variant
from cxrbench.specs import catalog
from cxrbench.specs.task import TaskSpec

CHEXPERT = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
PADCHEST_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(stream.getvalue(), encoding="utf-8")
    return path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def chexpert_row(tail: str, view: str = "Frontal", prefix: str = "CheXpert-v1.0/", **labels: float) -> dict[str, Any]:
    row = {"Path": f"{prefix}train/{tail}", "Frontal/Lateral": view}
    return row | {name.replace("_", " "): value for name, value in labels.items()}


def chexpert(root: Path, rows: Sequence[Mapping[str, Any]], name: str = "train_visualCheXbert.csv") -> Path:
    """The table, with columns in CheXpert's own order, and nothing else."""
    return table(root / name, ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT], rows)


def subject_of(study: str) -> str:
    """Study 50000003 is of subject 10000003."""
    return f"1{study[1:]}"


def mimic_tables(root: Path, images: Sequence[tuple[str, str, str, str]]) -> None:
    """Split and metadata tables of images (dicom, study, view, split)."""
    rows = [
        {"dicom_id": d, "study_id": s, "subject_id": subject_of(s), "split": part, "ViewPosition": view}
        for d, s, view, part in images
    ]
    split = ["dicom_id", "study_id", "subject_id", "split"]
    table(root / "mimic-cxr-2.0.0-split.csv", split, [{k: row[k] for k in split} for row in rows])
    meta = ["dicom_id", "subject_id", "study_id", "ViewPosition"]
    table(root / "mimic-cxr-2.0.0-metadata.csv", meta, [{k: row[k] for k in meta} for row in rows])


def mimic_image(tree: Path, dicom: str, study: str) -> Path:
    subject = subject_of(study)
    return tree / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg"


def sentence_table(path: Path, rows: Sequence[tuple[str, str, Mapping[str, float]]]) -> Path:
    found = [{"patient": study, "sentences": text, **labels} for study, text, labels in rows]
    return table(path, ["patient", "sentences", *CHEXPERT], found)


def padchest(root: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    columns = ["", "ImageID", "ImageDir", "PatientID", "Projection", "Labels"]
    return table(root / PADCHEST_TABLE, columns, rows)


def built(roots: Mapping[SourceName, Path], variant: str = "as-published", **more: Any) -> Built:
    return build(CorpusRequest(roots, corpus_variant(variant), **more))


def labels(found: Built, row: int) -> set[str]:
    corpus = found.corpus
    return {corpus.classes[number] for number in corpus.labels[row].nonzero()[0]}


def small_task(name: str, split: str, **changes: Any) -> TaskSpec:
    """A task with a split's parameters scaled down."""
    task = catalog.load_task(name)
    spec = task.split(split)
    changed = spec.model_copy(update={"params": {**spec.params, **changes}, "complete": False, "reference": {}})
    return task.model_copy(update={"splits": {**task.splits, split: changed}})
