"""CheXpert-v1.0: pictures by patient and study, train.csv and train_visualCheXbert.csv."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Developed, Plate, number


def plates(order: Order) -> list[Plate]:
    """The pools of the five classes, then rows that every pool leaves out; some studies with a lateral view."""
    wanted = [(finding,) for finding in order.facts.classes for _ in range(order.quotas["pool"])]
    kinds = [("pool", f) for f in wanted] + [("other", f) for f in order.others(order.quotas["other"])]
    found: list[Plate] = []
    for place, row in enumerate(order.random("patients").permutation(len(kinds))):
        kind, findings = kinds[int(row)]
        # every ninth picture belongs to a second study of the patient before
        second = place % 9 == 8
        patient = order.first + (place - 1 if second else place)
        found += _study(order, patient, 2 if second else 1, kind, findings)
    return found


def _study(order: Order, patient: int, study: int, kind: str, findings: tuple[str, ...]) -> list[Plate]:
    who = f"patient{patient + 1:05d}"
    folder = f"train/{who}/study{study}"
    draw = order.random("row", folder)
    row = {
        "kind": kind,
        "sex": ("Female", "Male")[number(order.seed, who, "sex", below=2)],
        "age": str(18 + number(order.seed, who, "age", below=73)),
        "view": "PA" if draw.random() < 0.2 else "AP",
    }
    frontal = Plate(f"{folder}/view1_frontal.jpg", who, findings, order.size, "jpeg", row=row)
    if draw.random() > 0.15:
        return [frontal]
    side = replace(frontal, path=f"{folder}/view2_lateral.jpg", view="lateral", row={**row, "view": ""})
    return [frontal, side]


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """Both label tables, row by row parallel."""
    shown = [d.plate for d in developed]
    heads = [_head(order, plate) for plate in shown]
    certain = [[1.0 if c in p.findings else 0.0 for c in order.facts.columns] for p in shown]
    columns = (*order.facts.lists["head"], *order.facts.columns)
    return {
        "train.csv": table(columns, [[*h, *_labels(order, p)] for h, p in zip(heads, shown, strict=True)]),
        "train_visualCheXbert.csv": table(columns, [[*h, *c] for h, c in zip(heads, certain, strict=True)]),
    }


def _head(order: Order, plate: Plate) -> list[Cell]:
    view = plate.view.capitalize()
    return [f"{order.facts.folder}/{plate.path}", plate.row["sex"], plate.row["age"], view, plate.row["view"]]


def _labels(order: Order, plate: Plate) -> list[Cell]:
    """1 for what is drawn; elsewhere blank or 0, and now and then -1 in rows that no pool takes."""
    draw = order.random("labels", plate.path.rsplit("/", 1)[0])
    return [_label(draw, column, plate, column in order.facts.lists["silent"]) for column in order.facts.columns]


def _label(draw: np.random.Generator, column: str, plate: Plate, silent: bool) -> Cell:
    chance = draw.random()
    if column in plate.findings:
        return 1.0
    if silent or "No Finding" in plate.findings:
        return 0.0 if column == "Pneumothorax" and chance < 0.5 else None
    if plate.row["kind"] == "other" and chance > 0.85:
        return -1.0
    return 0.0 if chance < 0.25 else None
