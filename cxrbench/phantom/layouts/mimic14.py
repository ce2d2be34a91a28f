"""MIMIC-CXR-JPG 2.0.0 with all findings of a study: pictures by subject and study, and the gzip_bytes tables."""

from collections.abc import Iterator, Mapping, Sequence

from cxrbench.phantom.draw import View
from cxrbench.phantom.layouts.mimic import report_path, sides_of
from cxrbench.phantom.layouts.order import Cell, Order, gzip_bytes, table
from cxrbench.phantom.layouts.several import Visit, visits
from cxrbench.phantom.plate import Developed, Plate, name, number
from cxrbench.phantom.reports import report

_UNCERTAIN, _BLANK = 0.12, 0.8
_VIEWS = {"AP": "antero-posterior", "PA": "postero-anterior", "LATERAL": "lateral"}
_NOTHING = "No Finding"
_OTHER_EVERY = 11  # labels in which the second labeller differs


def plates(order: Order) -> list[Plate]:
    """A study a visit, with a lateral view, a second frontal one or a view of unknown position now and then."""
    found = [
        plate
        for place, (part, count) in enumerate(order.quotas.items())
        for visit in visits(order, part, count, _NOTHING)
        for plate in _study(order, part, place, visit)
    ]
    return sorted(found, key=lambda plate: plate.path)


def _study(order: Order, part: str, place: int, visit: Visit) -> Iterator[Plate]:
    subject = 10_000_000 + 1_000_000 * place + visit.patient
    study = 50_000_000 + 10 * (1_000_000 * place + visit.patient) + visit.visit
    row = {"subject": str(subject), "study": str(study), "split": part}
    more = number(order.seed, study, "more", below=6)
    views = [("AP", "PA")[study % 2], *({0: ("LATERAL",), 1: ("PA",), 2: ("",)}.get(more, ()))]
    for picture, view in enumerate(views):
        digits = name(order.seed, study, picture, digits=40)
        who = "-".join(digits[i : i + 8] for i in range(0, 40, 8))
        path = f"files/p{row['subject'][:2]}/p{subject}/s{study}/{who}.jpg"
        side: View = "lateral" if view == "LATERAL" else "frontal"
        told = {**row, "id": who, "view": view}
        yield Plate(path, str(subject), visit.findings, order.size, "jpeg", view=side, row=told)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """Split, metadata, the labels of both labellers, and one report a study."""
    shown, lists = [d.plate for d in developed], order.facts.lists
    studies = {plate.row["study"]: plate for plate in shown}
    split = [[p.row["id"], p.row["study"], p.row["subject"], p.row["split"]] for p in shown]
    files = {"split": table(lists["split"], split)}
    files["metadata"] = table(lists["metadata"], [_metadata(plate) for plate in shown])
    for labeller in ("chexpert", "negbio"):
        rows = [[p.row["subject"], study, *_labels(order, p, labeller)] for study, p in sorted(studies.items())]
        files[labeller] = table(("subject_id", "study_id", *order.facts.columns), rows)
    told = {d.plate.row["study"]: d for d in reversed(developed) if d.plate.view == "frontal"}
    reports = {report_path(d.plate): _report(order, d) for d in told.values()}
    return reports | {f"mimic-cxr-2.0.0-{kind}.csv.gz": gzip_bytes(data) for kind, data in files.items()}


def _report(order: Order, shown: Developed) -> bytes:
    """The report of a study; two texts serve all healthy ones, as many real studies have the words of another."""
    study, healthy = shown.plate.row["study"], _NOTHING in shown.plate.findings
    draw = order.random("report", number(order.seed, study, "report", below=2) if healthy else study)
    told = report(shown.plate.findings, sides_of(shown), False, draw)
    return told.text(f"s{study}").encode()


def _metadata(plate: Plate) -> list[Cell]:
    """A row of the table of headers; where the position is blank, the words beside it are blank too."""
    view, (height, width) = plate.row["view"], plate.size
    step = "CHEST (PA AND LAT)" if view != "AP" else "CHEST (PORTABLE AP)"
    who = (plate.row["id"], plate.row["subject"], plate.row["study"])
    return [*who, step, view, height, width, 21800101, 120000.0, step, _VIEWS.get(view), "Erect"]


def _labels(order: Order, plate: Plate, labeller: str) -> list[Cell]:
    """1 for what is drawn; elsewhere mostly blank, 0, and now and then -1. The second labeller misses some."""
    study = plate.row["study"]
    cells: list[Cell] = []
    for column in order.facts.columns:
        chance = order.random("labels", study, column).random()
        missed = labeller == "negbio" and number(order.seed, study, column, "negbio", below=_OTHER_EVERY) == 0
        if column in plate.findings:
            cells.append(-1.0 if missed else 1.0)
        elif column == _NOTHING or _NOTHING in plate.findings:
            cells.append(None)
        else:
            cells.append(-1.0 if chance < _UNCERTAIN else None if chance < _BLANK else 0.0)
    return cells
