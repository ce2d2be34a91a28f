"""VinDr-CXR 1.0.0: adults, DICOM of both polarities, annotations/ with three readers a training image."""

from collections.abc import Mapping, Sequence

from cxrbench.data.splits import share
from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.layouts.several import findings
from cxrbench.phantom.plate import Container, Developed, Plate, name, number

_BITS = (12, 12, 14, 16)
_NOTHING = "No finding"
_VALID = 0.25  # as in the task's split `phantom`
_READERS, _FIRST_READERS = 3, 14  # readers of an image; of so many there are R1, R2, ...
_MISSED_EVERY, _ADDED_EVERY = 5, 40  # findings that one reader of three does not see, or sees alone


def plates(order: Order) -> list[Plate]:
    """The images of every part; hash ranks of their names part valid from train."""
    return [plate for part in order.quotas for plate in _of_part(order, part)]


def _of_part(order: Order, part: str) -> list[Plate]:
    found: list[Plate] = []
    n = 0
    for shown in findings(order, part, order.quotas[part], _NOTHING):
        while not _fits(order, who := name(order.seed, "vindr-cxr", part, n, digits=32), part):
            n += 1
        n += 1
        found.append(_plate(order, part, who, shown))
    return found


def _fits(order: Order, who: str, part: str) -> bool:
    return part == "test" or (share(order.facts.lists["salt"][0], who) < _VALID) == (part == "valid")


def _plate(order: Order, part: str, who: str, shown: tuple[str, ...]) -> Plate:
    header = {
        "SOPInstanceUID": f"2.25.{number(order.seed, who, 'uid', below=10**15)}",
        "PhotometricInterpretation": ("MONOCHROME2", "MONOCHROME1")[number(order.seed, who, "polarity", below=5) == 0],
        "PixelSpacing": "0.139\\0.139",
    }
    if number(order.seed, who, "known", below=3):
        header["PatientAge"] = f"{18 + number(order.seed, who, 'age', below=70):03d}Y"
        header["PatientSex"] = "FM"[number(order.seed, who, "sex", below=2)]
    container: Container = "dicom-j2k" if number(order.seed, who, "syntax", below=6) == 0 else "dicom-raw"
    official = "test" if part == "test" else "train"
    bits = str(_BITS[number(order.seed, who, "bits", below=len(_BITS))])
    row = {"id": who, "part": official, "bits": bits}
    return Plate(f"{official}/{who}.dicom", who, shown, order.size, container, row=row, header=header)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """The labels of every reader, and the consensus on the test images; the two spell some columns otherwise."""
    shown = [d.plate for d in developed]
    train = [row for plate in shown if plate.row["part"] == "train" for row in _readings(order, plate)]
    test = [[p.row["id"], *_cells(order, p.findings)] for p in shown if p.row["part"] == "test"]
    return {
        "annotations/image_labels_train.csv": table(("image_id", "rad_id", *order.facts.columns), train),
        "annotations/image_labels_test.csv": table(("image_id", *order.facts.lists["test"]), test),
    }


def _cells(order: Order, shown: Sequence[str]) -> list[Cell]:
    return [int(column in shown) for column in order.facts.columns]


def _readings(order: Order, plate: Plate) -> list[list[Cell]]:
    """A row a reader; of each finding at least two of three see what is drawn."""
    who = plate.row["id"]
    first = number(order.seed, who, "readers", below=_FIRST_READERS)
    rows: list[list[Cell]] = []
    for reader in range(_READERS):
        seen = [f for f in plate.findings if f == _NOTHING or not _differs(order, who, f, reader, _MISSED_EVERY)]
        if _NOTHING not in plate.findings:
            others = [c for c in order.facts.columns if c not in (*plate.findings, _NOTHING)]
            seen += [other for other in others if _differs(order, who, other, reader, _ADDED_EVERY)]
        rows.append([who, f"R{1 + (first + reader) % _FIRST_READERS}", *_cells(order, seen)])
    return rows


def _differs(order: Order, who: str, finding: str, reader: int, every: int) -> bool:
    """Whether this reader is the one who differs from the two others."""
    drawn = number(order.seed, who, finding, "reader", below=_READERS * every)
    return drawn == reader
