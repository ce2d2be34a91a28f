"""CheXpert's three parts: train.csv and valid.csv with their images, and the test set, a download of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.layouts.several import visits
from cxrbench.phantom.plate import Developed, Plate, number

_FIRST = {"train": 1, "valid": 64541, "test": 64741}  # numbers of patients go on from part to part
_UNCERTAIN, _BLANK = 0.12, 0.75
_NOTHING = "No Finding"


def plates(order: Order) -> list[Plate]:
    """Every image of every part: frontal ones, second frontal ones of some studies, some lateral ones."""
    found: list[Plate] = []
    last = 0
    for part, count in order.quotas.items():
        start = max(last, _FIRST[part] - 1)
        for n, visit in enumerate(visits(order, part, count, _NOTHING), start=1):
            # a patient of the other parts has one study
            who, study = (visit.patient, visit.visit + 1) if part == "train" else (n, 1)
            last = start + who
            found += _study(order, part, f"patient{last:05d}", study, visit.findings)
    return found


def _study(order: Order, part: str, who: str, study: int, findings: tuple[str, ...]) -> Iterator[Plate]:
    folder = f"{_home(order, part)}{part}/{who}/study{study}"
    row = {
        "part": part,
        "sex": ("Female", "Male")[number(order.seed, who, "sex", below=2)],
        "age": str(18 + number(order.seed, who, "age", below=73)),
        "view": ("AP", "PA")[number(order.seed, folder, "view", below=2)],
    }
    frontal = Plate(f"{folder}/view1_frontal.jpg", who, findings, order.size, "jpeg", row=row)
    yield frontal
    more = number(order.seed, folder, "more", below=8)
    if more == 0:
        yield replace(frontal, path=f"{folder}/view2_lateral.jpg", view="lateral", row={**row, "view": ""})
    elif more == 1:
        yield replace(frontal, path=f"{folder}/view2_frontal.jpg")


def _home(order: Order, part: str) -> str:
    """The folder of a part's download within the data set's folder, with its slash; empty for a single download."""
    homes = order.facts.lists.get("homes", ())
    return f"{homes[part == 'test']}/" if homes else ""


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """train.csv with uncertain and blank labels, valid.csv without; of the test set a row a study."""
    shown = [d.plate for d in developed]
    files = {}
    for part in ("train", "valid"):
        rows = [[*_head(order, plate), *_labels(order, plate)] for plate in shown if plate.row["part"] == part]
        files[f"{_home(order, part)}{part}.csv"] = table((*order.facts.lists["head"], *order.facts.columns), rows)
    if "test" in order.quotas:
        own = [plate for plate in shown if plate.row["part"] == "test" and plate.path.endswith("view1_frontal.jpg")]
        rows = [[_named(order, plate).rpartition("/")[0], *_labels(order, plate)] for plate in own]
        files[f"{_home(order, 'test')}groundtruth.csv"] = table(("Study", *order.facts.columns), rows)
    return files


def _named(order: Order, plate: Plate) -> str:
    """The path as the tables have it, whatever the folders are called."""
    return f"{order.facts.lists['prefix'][0]}/{plate.path.removeprefix(_home(order, plate.row['part']))}"


def _head(order: Order, plate: Plate) -> list[Cell]:
    named = _named(order, plate)
    return [named, plate.row["sex"], plate.row["age"], plate.view.capitalize(), plate.row["view"]]


def _labels(order: Order, plate: Plate) -> list[Cell]:
    """1 for what is drawn; else 0, or in train.csv mostly blank and now and then -1."""
    draw = order.random("labels", plate.path.rsplit("/", 1)[0])
    cells: list[Cell] = []
    for column in order.facts.columns:
        chance = draw.random()
        if column in plate.findings:
            cells.append(1.0)
        elif plate.row["part"] != "train":
            cells.append(0.0)
        elif column == _NOTHING:
            cells.append(None)
        else:
            cells.append(-1.0 if chance < _UNCERTAIN else None if chance < _BLANK else 0.0)
    return cells
