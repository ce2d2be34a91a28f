"""PadChest: 16-bit PNG in numbered folders, one table whose label lists are Python's, with all their untidiness."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Developed, Plate, name, number

BITS = (12, 13, 14, 16)
FOLDERS = 3
_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def plates(order: Order, labels: Mapping[str, Sequence[str]]) -> list[Plate]:
    """Images with one finding, then with several or none, then rows that pre-training leaves out, in a made-up order.

    `labels`: PadChest's names of each finding.
    """
    wanted: list[tuple[str, tuple[str, ...]]] = [
        ("pool", (finding,)) for finding in order.facts.classes for _ in range(order.quotas["pool"])
    ]
    wanted += [("other", findings) for findings in order.others(order.quotas["other"])]
    odd = order.facts.lists["odd"]
    wanted += [(odd[n % len(odd)], ("No Finding",)) for n in range(order.quotas["odd"])]
    made = [_plate(order, order.first + n, kind, findings, labels) for n, (kind, findings) in enumerate(wanted)]
    return order.shuffled(made)


def file_name(order: Order, n: int) -> str:
    """The name of image `n`, in the style that most have: a long number, then three short ones."""
    long = 10**41 + int(name(order.seed, "padchest", n, digits=30), 16)
    day, place = (number(order.seed, n, what, below=most) for what, most in (("day", 99), ("no", 999)))
    return f"{long}_{day:02d}-{place:03d}-{n:03d}.png"


def _plate(order: Order, n: int, kind: str, findings: tuple[str, ...], labels: Mapping[str, Sequence[str]]) -> Plate:
    image = file_name(order, n)
    # two images in three share their patient with the one before or after
    patient = str(10**17 + 7919 * (n - n % 3 // 2))
    projection = "PA" if number(order.seed, n, "view", below=5) else "AP"
    told = [labels[f][number(order.seed, n, f, below=len(labels[f]))] for f in findings]
    row = {
        "id": image,
        "folder": str(number(order.seed, n, "folder", below=FOLDERS)),
        "patient": "" if kind == "no patient" else patient,
        "projection": kind if kind[0].isupper() else projection,
        "labels": "" if kind == "no labels" else repr(_untidy(told, number(order.seed, n, "untidy", below=5))),
        "bits": str(BITS[number(order.seed, n, "bits", below=len(BITS))]),
        "study": name(order.seed, n, "study", digits=20),
    }
    plate = Plate(f"{row['folder']}/{image}", patient, findings, order.size, "png-deep", row=row)
    return replace(plate, view="lateral") if row["projection"] == "L" else plate


def _untidy(labels: list[str], how: int) -> list[str]:
    """The labels as the table has them: twice, with empty strings, with words that are no labels."""
    return [labels, [*labels, ""], ["unchanged", *labels], [*labels, *labels[:1]], [*labels, "exclude", "unchanged"]][
        how
    ]


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """The table."""
    rows: list[list[Cell]] = []
    for number_, shown in enumerate(developed):
        row = shown.plate.row
        told: dict[str, Cell] = {
            "": number_,
            "ImageID": row["id"],
            "ImageDir": row["folder"],
            "StudyDate_DICOM": 20140915,
            "StudyID": row["study"],
            "PatientID": row["patient"],
            "PatientBirth": row.get("birth"),
            "PatientSex_DICOM": row.get("sex"),
            "Projection": row["projection"],
            "MethodLabel": row.get("method", "Physician"),
            "Labels": row["labels"],
        }
        rows.append([told.get(column) for column in order.facts.columns])
    return {_TABLE: table(order.facts.columns, rows)}
