"""CheXpert 8x200: images that are searched and images that ask, and the lists of both and of texts that ask."""

from collections.abc import Mapping, Sequence

from cxrbench.phantom.layouts.order import Cell, Order, table
from cxrbench.phantom.plate import Developed, Plate, number
from cxrbench.phantom.reports import NO_FINDING, phrases

_SIDES = ("right", "left", "bilateral")


def plates(order: Order) -> list[Plate]:
    """The images of each class, of another patient each, but that one patient in eleven asks and is searched for."""
    found, patient = list[Plate](), order.first
    for kind in ("candidate", "query"):
        for finding in order.facts.classes:
            for n in range(order.quotas[kind]):
                patient += 1
                again = kind == "query" and n == 0 and patient % 11 == 0
                found.append(_plate(order, 1 if again else patient, 2 if again else 1, kind, finding))
    return order.shuffled(found)


def _plate(order: Order, patient: int, study: int, kind: str, finding: str) -> Plate:
    who = f"patient{patient:05d}"
    row = {
        "kind": kind,
        "sex": ("Female", "Male")[number(order.seed, who, "sex", below=2)],
        "age": str(18 + number(order.seed, who, "age", below=73)),
        "view": ("AP", "PA")[number(order.seed, who, "view", below=2)],
    }
    place = f"{order.facts.lists['prefix'][0]}/train/{who}/study{study}/view1_frontal.jpg"
    return Plate(place, who, (finding,), order.size, "jpeg", row=row)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """The list of candidates twice, as it is published, and the queries of both kinds."""
    shown = [d.plate for d in developed]
    pool = [plate for plate in shown if plate.row["kind"] == "candidate"]
    candidates = table((*order.facts.lists["head"], *order.facts.columns), [_row(order, plate) for plate in pool])
    asking = [[plate.findings[0], plate.path] for plate in shown if plate.row["kind"] == "query"]
    return {
        "image-retrieval/candidate.csv": candidates,
        "image-retrieval/query.csv": table(("Variable", "Path"), asking),
        "text-retrieval/candidate.csv": candidates,
        "text-retrieval/query.csv": table(("Variable", "Text"), _texts(order)),
    }


def _row(order: Order, plate: Plate) -> list[Cell]:
    labels: list[Cell] = [1.0 if column in plate.findings else 0.0 for column in order.facts.columns]
    return [plate.path, plate.row["sex"], plate.row["age"], "Frontal", plate.row["view"], *labels]


def _texts(order: Order) -> list[list[Cell]]:
    """Sentences of each class, each once; with a number where its words are all used up."""
    words, found = phrases(), dict[str, str]()
    for finding in order.facts.classes:
        told = words.clear if finding == NO_FINDING else words.present[finding]
        for n in range(order.quotas["text"]):
            side, degree = _SIDES[n % 3], words.degrees[n % len(words.degrees)]
            text = told[n % len(told)].format(side=side, degree=degree)
            text = text[0].upper() + text[1:]
            found[text if text not in found else f"{text} Study {n}."] = finding
    return [[finding, text] for text, finding in found.items()]
