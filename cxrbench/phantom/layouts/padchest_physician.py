"""PadChest's radiologist part: every label of the vocabulary, studies of two views, rows that a network labelled."""

from collections.abc import Iterator
from dataclasses import replace

from cxrbench.data.sources.padchest import METHODS, LabelledByPatient
from cxrbench.phantom.layouts.order import Order
from cxrbench.phantom.layouts.padchest import BITS, FOLDERS, file_name
from cxrbench.phantom.layouts.together import numbers_of, split_rule, together
from cxrbench.phantom.plate import Plate, number

_WIDTH = 5  # labels an image
_FIRST = 2 * 10**17  # patients are others than those of the pre-training phantom
_AGAIN, _TWO_VIEWS = 3, 4  # one study in so many is of the patient before, or has a lateral too
_PROJECTIONS = ("PA", "PA", "PA", "PA", "AP_horizontal", "PA", "AP", "PA")
_NONE = "No Finding"


def plates(order: Order) -> list[Plate]:
    """Studies part by part, so that each part has every label; normal ones; rows of the other method; shuffled."""
    words = order.facts.labels
    finding_of = {label: finding for finding, labels in words.items() for label in labels}
    rule = split_rule(order, LabelledByPatient)
    parts, patients = list(rule.shares), numbers_of(rule, "{}", _FIRST + 10**6 * order.seed)
    studies = [(part, labels) for part in parts for labels in together(order, [*finding_of], part, _WIDTH)]
    studies += [(parts[n % len(parts)], ("normal",)) for n in range(order.quotas["normal"])]
    made: list[Plate] = []
    last = {part: next(own) for part, own in patients.items()}
    for n, (part, labels) in enumerate(studies):
        if n % _AGAIN:
            last[part] = next(patients[part])
        findings = tuple(dict.fromkeys(finding_of[label] for label in labels if finding_of[label] != _NONE))
        made += _study(order, n, last[part], labels, findings)
    odd = [
        _plate(order, len(studies) + n, next(patients[parts[0]]), ("normal",), ()) for n in range(order.quotas["odd"])
    ]
    return order.shuffled(made + [replace(one, row={**one.row, "method": METHODS[1]}) for one in odd])


def _study(order: Order, n: int, patient: str, labels: tuple[str, ...], findings: tuple[str, ...]) -> Iterator[Plate]:
    """A frontal image, and for some studies a lateral one, which carries the labels of the same report."""
    frontal = _plate(order, n, patient, labels, findings)
    yield frontal
    if n % _TWO_VIEWS == 0:
        image = frontal.row["id"].replace(".png", "b.png")
        row = {**frontal.row, "id": image, "projection": "L"}
        yield replace(frontal, path=f"{row['folder']}/{image}", view="lateral", row=row)


def _plate(order: Order, n: int, patient: str, labels: tuple[str, ...], findings: tuple[str, ...]) -> Plate:
    image = file_name(order, n)
    row = {
        "id": image,
        "folder": str(number(order.seed, n, "folder", below=FOLDERS)),
        "patient": patient,
        "projection": _PROJECTIONS[n % len(_PROJECTIONS)],
        "method": METHODS[0],
        "labels": repr(_untidy(list(labels), n % 5)),
        "bits": str(BITS[number(order.seed, n, "bits", below=len(BITS))]),
        "study": f"{patient[-6:]}{n:06d}",
        "birth": f"{1930 + number(order.seed, patient, 'birth', below=60)}.0",
        "sex": "FM"[number(order.seed, patient, "sex", below=2)],
    }
    return Plate(f"{row['folder']}/{image}", patient, findings, order.size, "png-deep", row=row)


def _untidy(labels: list[str], how: int) -> list[str]:
    """The labels as the table has them: with blanks at their ends, twice, with empty strings."""
    return [
        labels,
        [*labels, ""],
        [f" {labels[0]}", *labels[1:]],
        [*labels, *labels[:1]],
        ["", f"{labels[0]} ", *labels],
    ][how]
