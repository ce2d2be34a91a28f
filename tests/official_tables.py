"""The official label tables of `../shared` under their own names, as somebody has them who downloaded the data sets."""

import csv
import gzip
import shutil
from pathlib import Path

NAMES = {
    "chexpert_train.csv.gz": "chexpert5x200/train.csv.gz",
    "rsna_stage_2_train_labels.csv.gz": "rsna/stage_2_train_labels.csv.gz",
    "rsna_stage_2_detailed_class_info.csv.gz": "rsna/stage_2_detailed_class_info.csv.gz",
    "rsna_to_nih.csv.gz": "rsna/rsna_to_nih.csv.gz",
    "siim_train-rle_stage2.csv.gz": "siim/stage_2_train.csv.gz",
    "covid_train_dlilp_author.csv.gz": "covid/covid_train.csv.gz",
    "covid_test_dlilp_author.csv.gz": "covid/covid_test.csv.gz",
}
COVID_CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def lay_out(labels: Path, root: Path) -> Path:
    """All tables below `root`, one folder a task; NIH-LT's training and balanced test tables have one made row each."""
    for source, target in NAMES.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(labels / source, root / target)
    for name in COVID_CLASSES:
        (root / "covid" / name).mkdir()
    _siim(labels, root)
    _nih(labels, root)
    return root


def _siim(labels: Path, root: Path) -> None:
    with gzip.open(labels / "siim_stage1_membership.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    for part in ("train", "test"):
        own = [row for row in rows if row["part"] == f"stage_1_{part}"]
        _written(root / "siim" / f"stage_1_{part}_images.csv", own, ["new_filename", "ImageId", "has_pneumo"])


def _nih(labels: Path, root: Path) -> None:
    with gzip.open(labels / "nih_lt_balanced_val_dlilp_author.csv.gz", "rt") as stream:
        rows = [{"id": row.pop("Path").removeprefix("images/"), **row} for row in csv.DictReader(stream)]
    made = [{**rows[0], "id": f"9999999{n}_000.png"} for n in range(2)]
    (root / "nih_lt").mkdir(exist_ok=True)
    for stem, content in (("balanced-val", rows), ("train", made[:1]), ("balanced-test", made[1:])):
        _written(root / "nih_lt" / f"nih-lt_single-label_{stem}.csv", content, list(rows[0]))


def _written(path: Path, rows: list[dict[str, str]], columns: list[str]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
