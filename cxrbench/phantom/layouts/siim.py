"""SIIM-ACR Pneumothorax Segmentation, stage 1: DICOM in folders of UIDs, one table row a mask."""

from collections.abc import Mapping, Sequence

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Developed, Plate, number, uuid

UID = "1.2.276.0.7230010.3.1"
_SEVERAL_MASKS_FROM = 0.75  # share of positive pictures whose pneumothorax is one mask


def plates(order: Order) -> list[Plate]:
    """Positives, negatives, pictures of the training folder without a row, and the test folder."""
    positive = [_plate(order, "train", "positive", n, ("Pneumothorax",)) for n in range(order.quotas["positive"])]
    rest = [
        _plate(order, "test" if kind == "test" else "train", kind, n, findings)
        for kind in ("negative", "unlabelled", "test")
        for n, findings in enumerate(order.others(order.quotas[kind]))
    ]
    return positive + rest


def _plate(order: Order, part: str, kind: str, n: int, findings: tuple[str, ...]) -> Plate:
    key = ("siim", kind, n)
    device, second = 1000 + number(order.seed, *key, below=13000), 1517875160 + number(order.seed, *key, 1, below=1000)
    micro = 100000 + 10 * number(order.seed, *key, 2, below=89999)
    study, series, picture = (
        f"{UID}.{level}.8323329.{device}.{second}.{micro + step}" for level, step in ((2, 0), (3, 1), (4, 2))
    )
    who, view = uuid(order.seed, *key), ("PA", "AP")[number(order.seed, *key, "view", below=2)]
    header = {
        "SOPInstanceUID": picture,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "StudyDate": "19010101",
        "StudyTime": "000000.00",
        "ConversionType": "WSD",
        "SeriesDescription": f"view: {view}",
        "PatientID": who,
        "PatientName": who,
        "PatientSex": "FM"[number(order.seed, *key, "sex", below=2)],
        "PatientAge": str(5 + number(order.seed, *key, "age", below=85)),
        "BodyPartExamined": "CHEST",
        "ViewPosition": view,
        "PixelSpacing": "0.168\\0.168",
    }
    path = f"dicom-images-{part}/{study}/{series}/{picture}.dcm"
    return Plate(path, who, findings, order.size, "dicom-jpeg", row={"id": picture, "kind": kind}, header=header)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """train-rle.csv with its leading blanks; rows of one picture do not stand together."""
    rows: list[list[Cell]] = []
    for shown in developed:
        who, kind = shown.plate.row["id"], shown.plate.row["kind"]
        if kind == "negative":
            rows.append([who, " -1"])
        elif kind == "positive":
            rows += [[who, f" {runs}"] for region in shown.regions for runs in _masks(order, who, region.runs)]
    mixed = order.random("rows").permutation(len(rows))
    return {"train-rle.csv": table(order.facts.columns, [rows[int(row)] for row in mixed])}


def _masks(order: Order, who: str, runs: str) -> list[str]:
    """The region as one mask, or for some pictures as two that share it."""
    numbers = runs.split()
    middle = len(numbers) // 4 * 2
    if middle == 0 or order.random("masks", who).random() < _SEVERAL_MASKS_FROM:
        return [runs]
    before = sum(map(int, numbers[:middle]))
    second = [str(before + int(numbers[middle])), *numbers[middle + 1 :]]
    return [" ".join(numbers[:middle]), " ".join(second)]
