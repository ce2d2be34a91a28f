"""VinDr-PCXR 1.0.0: children, DICOM of 12 to 16 bits with both polarities, label and box tables for train and test."""

from collections.abc import Mapping, Sequence

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Container, Developed, Plate, name, number

_BITS = (12, 12, 14, 16)
_NO_BOX = 14  # class_id of rows without a box


def plates(order: Order) -> list[Plate]:
    """Pictures with exactly one of the five classes, then rare and multiple ones, each part in a made-up order."""
    found: list[Plate] = []
    for part in ("train", "test"):
        wanted: list[tuple[str, ...]] = [
            (finding,) for finding in order.facts.classes for _ in range(order.quotas[part])
        ]
        wanted += order.others(order.quotas[f"{part}-other"])
        found += order.shuffled([_plate(order, part, n, findings) for n, findings in enumerate(wanted)], part)
    return found


def _plate(order: Order, part: str, n: int, findings: tuple[str, ...]) -> Plate:
    who = name(order.seed, "vindr", part, n, digits=32)
    age = number(order.seed, who, "age", below=10)
    header = {
        "SOPInstanceUID": f"2.25.{number(order.seed, who, 'uid', below=10**15)}",
        "PhotometricInterpretation": ("MONOCHROME2", "MONOCHROME1")[number(order.seed, who, "polarity", below=2)],
        "PixelSpacing": "0.15\\0.15",
    }
    if number(order.seed, who, "known", below=3):
        header["PatientAge"] = f"{age:03d}Y" if age > 1 else "018M" if age else "030D"
        header["PatientSex"] = "FM"[number(order.seed, who, "sex", below=2)]
    container: Container = "dicom-j2k" if number(order.seed, who, "syntax", below=6) == 0 else "dicom-raw"
    row = {
        "id": who,
        "part": part,
        "reader": f"R{1 + number(order.seed, who, 'reader', below=3)}",
        "bits": str(_BITS[number(order.seed, who, "bits", below=len(_BITS))]),
    }
    return Plate(f"{part}/{who}.dicom", who, findings, order.size, container, child=True, row=row, header=header)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """Labels and boxes of both parts."""
    files = {}
    for part in ("train", "test"):
        shown = [d for d in developed if d.plate.row["part"] == part]
        labels = [[*_who(d), *(float(c in d.plate.findings) for c in order.facts.columns)] for d in shown]
        files[f"image_labels_{part}.csv"] = table(("image_id", "rad_ID", *order.facts.columns), labels)
        files[f"annotations_{part}.csv"] = table(
            order.facts.lists["boxes"], [row for d in shown for row in _boxes(order, d)]
        )
    return files


def _who(shown: Developed) -> list[Cell]:
    return [shown.plate.row["id"], shown.plate.row["reader"]]


def _boxes(order: Order, shown: Developed) -> list[list[Cell]]:
    if not shown.regions:
        return [[*_who(shown), "No finding", None, None, None, None, _NO_BOX]]
    return [
        [
            *_who(shown),
            r.finding,
            r.left,
            r.top,
            r.left + r.width,
            r.top + r.height,
            order.facts.columns.index(r.finding),
        ]
        for r in shown.regions
    ]
