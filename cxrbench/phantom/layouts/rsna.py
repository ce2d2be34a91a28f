"""RSNA Pneumonia Detection Challenge, stage 2: DICOM by patientId, and two tables with one row a box."""

from collections.abc import Mapping, Sequence

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Developed, Plate, Region, number, uuid

POSITIVE = "Lung Opacity"
UID = "1.2.276.0.7230010.3.1"


def plates(order: Order) -> list[Plate]:
    """All pictures of the training folder in a made-up order, then the unlabelled ones."""
    train: list[Plate] = []
    for name in order.facts.classes:
        count = order.quotas[name]
        shown = {POSITIVE: [("Pneumonia",), ("Lung Opacity",)], "Normal": [("Normal",)]}.get(name, order.others(count))
        train += [_plate(order, "train", name, n, shown[n % len(shown)]) for n in range(count)]
    hidden = [_plate(order, "test", "", n, order.facts.others[n % 2]) for n in range(order.quotas["test"])]
    return order.shuffled(train) + hidden


def _plate(order: Order, part: str, name: str, n: int, findings: tuple[str, ...]) -> Plate:
    who = uuid(order.seed, "rsna", part, name, n)
    tail = f"8323329.{number(order.seed, who, below=30000)}.1517874{number(order.seed, who, 1, below=900) + 100}"
    header = {
        "SOPInstanceUID": f"{UID}.4.{tail}.1",
        "StudyInstanceUID": f"{UID}.2.{tail}.2",
        "SeriesInstanceUID": f"{UID}.3.{tail}.3",
        "PatientID": who,
        "PatientName": who,
        "PatientSex": "FM"[number(order.seed, who, "sex", below=2)],
        "PatientAge": str(5 + number(order.seed, who, "age", below=85)),
        "BodyPartExamined": "CHEST",
        "ViewPosition": ("PA", "AP")[number(order.seed, who, "view", below=2)],
        "ConversionType": "WSD",
        "PixelSpacing": "0.168\\0.168",
    }
    path = f"stage_2_{part}_images/{who}.dcm"
    return Plate(path, who, findings, order.size, "dicom-jpeg", row={"id": who, "class": name}, header=header)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """Labels and classes row by row parallel, and the sample submission for the unlabelled pictures."""
    labels: list[list[Cell]] = []
    classes: list[list[Cell]] = []
    for shown in developed:
        name, who = shown.plate.row["class"], shown.plate.row["id"]
        boxes = _boxes(shown.regions) if name == POSITIVE else [[None] * 4] if name else []
        labels += [[who, *box, int(name == POSITIVE)] for box in boxes]
        classes += [[who, name]] * len(boxes)
    hidden = [[shown.plate.row["id"], "0.5 0 0 100 100"] for shown in developed if not shown.plate.row["class"]]
    return {
        "stage_2_train_labels.csv": table(order.facts.columns, labels),
        "stage_2_detailed_class_info.csv": table(("patientId", "class"), classes),
        "stage_2_sample_submission.csv": table(("patientId", "PredictionString"), hidden),
    }


def _boxes(regions: Sequence[Region]) -> list[list[Cell]]:
    return [[float(r.left), float(r.top), float(r.width), float(r.height)] for r in regions]
