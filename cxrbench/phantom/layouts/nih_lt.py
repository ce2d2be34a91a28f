"""NIH ChestX-ray14 with the NIH-CXR-LT tables: images/, Data_Entry_2017_v2020.csv, LongTailCXR/."""

from collections.abc import Mapping, Sequence

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Container, Developed, Plate, generator, number

_COLOUR_EVERY = 41  # pictures that are RGBA


def plates(order: Order) -> list[Plate]:
    """Patients are drawn per part, so no patient is in two parts; one to four pictures each."""
    found: list[Plate] = []
    patient = 0
    for part in order.facts.lists["parts"]:
        wanted: list[tuple[str, ...]] = [(name,) for name in order.facts.classes for _ in range(order.quotas[part])]
        if part == "train":
            wanted += order.others(order.quotas["train"] // 4)  # several findings: in no LT table
        draw, rows = generator(order.seed, "nih", part), iter(order.random(part).permutation(len(wanted)))
        left = len(wanted)
        while left:
            patient += 1 + int(draw.integers(3))
            visits = min(left, int(draw.choice((1, 1, 2, 4))))
            left -= visits
            found += [_plate(order, part, patient, visit, wanted[int(next(rows))]) for visit in range(visits)]
    return found


def _plate(order: Order, part: str, patient: int, visit: int, findings: tuple[str, ...]) -> Plate:
    stem = f"{patient:08d}_{visit:03d}.png"
    colour: Container = "png-rgba" if number(order.seed, stem, below=_COLOUR_EVERY) == 0 else "png"
    row = {
        "id": stem,
        "part": part if len(findings) == 1 else "",
        "patient": str(patient),
        "visit": str(visit),
        "age": str(10 + number(order.seed, patient, "age", below=80)),
        "sex": "MF"[number(order.seed, patient, "sex", below=2)],
        "view": ("PA", "AP")[number(order.seed, stem, "view", below=2)],
    }
    return Plate(f"images/{stem}", str(patient), findings, order.size, colour, row=row)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """NIH's own table, its two lists, and the five files of LongTailCXR; balanced-test is a part of test."""
    shown = sorted((d.plate for d in developed), key=lambda plate: plate.row["id"])
    columns = ("id", *order.facts.classes, "subject_id")
    files: dict[str, bytes] = {}
    for part in order.facts.lists["parts"]:
        parts = {part, "balanced-test"} if part == "test" else {part}
        rows = [_one_hot(order, plate) for plate in shown if plate.row["part"] in parts]
        files[f"LongTailCXR/nih-cxr-lt_single-label_{part}.csv"] = table(columns, rows)
    named = [[plate.row["id"]] for plate in shown if plate.row["part"]]
    files["LongTailCXR/nih-cxr-lt_image_ids.csv"] = table(("id",), named)
    files["Data_Entry_2017_v2020.csv"] = _data_entry(order, shown)
    for name, official in (("train_val_list.txt", 0), ("test_list.txt", 1)):
        ids = [
            p.row["id"] for p in shown if (number(order.seed, "official", p.patient, below=4) == 0) == bool(official)
        ]
        files[name] = "\n".join(ids).encode()
    return files


def _one_hot(order: Order, plate: Plate) -> list[Cell]:
    return [plate.row["id"], *(int(name in plate.findings) for name in order.facts.classes), plate.row["patient"]]


def _data_entry(order: Order, shown: Sequence[Plate]) -> bytes:
    """The table as downloaded: it knows nothing of the five new classes, and its bracketed heads span two columns."""
    lines = [",".join(order.facts.columns)]
    for plate in shown:
        known = "|".join(name for name in plate.findings if name not in order.facts.lists["new"]) or "No Finding"
        row = plate.row
        lines.append(
            f"{row['id']},{known},{row['visit']},{row['patient']},{row['age']},{row['sex']},{row['view']},2500,2048,0.168,0.168"
        )
    return "".join(f"{line}\n" for line in lines).encode()
