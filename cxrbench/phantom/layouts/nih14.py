"""NIH ChestX-ray14: images/, Data_Entry_2017_v2020.csv, NIH's two lists, and three with labels below CheXNet/."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

from cxrbench.data.splits import share
from cxrbench.phantom.layouts.order import Order
from cxrbench.phantom.layouts.several import Visit, visits
from cxrbench.phantom.plate import Container, Developed, Plate, number

_PARTS = ("train", "valid", "test")
_MORE = {"train": 2, "test": 1, "valid": 0}  # lists are told apart by their lengths
_VALID = 0.25  # as in the tasks' splits `phantom`
_COLOUR_EVERY = 41  # pictures that are RGBA
_CORRECTED_EVERY = 9  # images with several findings of which the later edition of the table has one fewer
_FOLDER = "CheXNet/labels"


def plates(order: Order) -> list[Plate]:
    """Every class in every part of the one lists together with every part of the others, patients apart in both."""
    found: list[Plate] = []
    for place, (official, other) in enumerate(product(_PARTS, _PARTS)):
        fits = partial(_fits, order, place, official)
        count = -(-order.quotas[official] // len(_PARTS)) + (_MORE[other] if official == "train" else 0)
        for visit in visits(order, f"{official} {other}", count, None, fits):
            found.append(_plate(order, visit, _number(place, visit.patient), {"official": official, "other": other}))
    return found


def _number(place: int, patient: int) -> str:
    """Eight digits; patients of several parts have different ones."""
    return f"{10_000 * (place + 1) + patient:08d}"


def _fits(order: Order, place: int, official: str, patient: int) -> bool:
    """Whether the patient's hash rank is on the side where it is wanted: NIH's lists know no part valid."""
    low = share(order.facts.lists["salt"][0], _number(place, patient)) < _VALID
    return official == "test" or low == (official == "valid")


def _plate(order: Order, visit: Visit, patient: str, parts: Mapping[str, str]) -> Plate:
    stem = f"{patient}_{visit.visit:03d}.png"
    colour: Container = "png-rgba" if number(order.seed, stem, below=_COLOUR_EVERY) == 0 else "png"
    row = {
        **parts,
        "id": stem,
        "patient": str(int(patient)),
        "visit": str(visit.visit),
        "age": str(10 + number(order.seed, patient, "age", below=80)),
        "sex": "MF"[number(order.seed, patient, "sex", below=2)],
        "view": ("PA", "AP")[number(order.seed, stem, "view", below=2)],
    }
    return Plate(f"images/{stem}", patient, visit.findings, order.size, colour, row=row)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """NIH's table and lists, and the other lists with the labels of an older edition."""
    shown = [d.plate for d in developed]
    mixed = [shown[int(row)] for row in order.random("table").permutation(len(shown))]
    test = [p.row["id"] for p in shown if p.row["official"] == "test"]
    rest = [p.row["id"] for p in shown if p.row["official"] != "test"]
    files = {
        "Data_Entry_2017_v2020.csv": _data_entry(order, mixed),
        "train_val_list.txt": "\n".join(rest).encode(),
        "test_list.txt": "\n".join(test).encode(),
    }
    for name, part in (("train", "train"), ("val", "valid"), ("test", "test")):
        lines = [_line(order, plate) for plate in mixed if plate.row["other"] == part]
        end = "\n" if name == "train" else ""  # the published lists of the other two parts lack it
        files[f"{_FOLDER}/{name}_list.txt"] = ("\n".join(lines) + end).encode()
    return files


def _line(order: Order, plate: Plate) -> str:
    return " ".join([plate.row["id"], *(str(int(name in plate.findings)) for name in order.facts.classes)])


def _data_entry(order: Order, shown: Sequence[Plate]) -> bytes:
    """The table as downloaded; its bracketed heads span two columns."""
    lines = [",".join(order.facts.columns)]
    for plate in shown:
        corrected = len(plate.findings) > 1 and number(order.seed, plate.path, "edition", below=_CORRECTED_EVERY) == 0
        named = "|".join(plate.findings[:-1] if corrected else plate.findings) or "No Finding"
        row = plate.row
        lines.append(
            f"{row['id']},{named},{row['visit']},{row['patient']},{row['age']},{row['sex']},{row['view']},2500,2048,0.168,0.168"
        )
    return "".join(f"{line}\n" for line in lines).encode()
