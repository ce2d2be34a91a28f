"""MIMIC-CXR-JPG 2.0.0: pictures by subject and study, the zipped tables, reports, and labels of single sentences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cxrbench.phantom.layouts.order import Cell, Order, gzip_bytes, table
from cxrbench.phantom.plate import Developed, Plate, name, number
from cxrbench.phantom.reports import RadiologyReport, report

_VIEWS = {"AP": "antero-posterior", "PA": "postero-anterior", "LATERAL": "lateral"}


def plates(order: Order) -> list[Plate]:
    """One study a subject, sorted by subject; some studies have a lateral view or a second frontal one."""
    wanted: list[tuple[str, tuple[str, ...]]] = [
        ("pool", (finding,)) for finding in order.facts.classes for _ in range(order.quotas["pool"])
    ]
    wanted += [("other", findings) for findings in order.others(order.quotas["other"])]
    found = [
        plate for n, (kind, findings) in enumerate(wanted, order.first) for plate in _study(order, n, kind, findings)
    ]
    return sorted(found, key=lambda plate: plate.path)


def _study(order: Order, n: int, kind: str, findings: tuple[str, ...]) -> Iterator[Plate]:
    # the running number at the end keeps subjects and studies apart
    subject = 10_000_000 + 10_000 * number(order.seed, "subject", n, below=999) + n
    study = 50_000_000 + 10_000 * number(order.seed, "study", n, below=999) + n
    chance = order.random("views", n).random()
    part = (
        "validate"
        if number(order.seed, "split", n, below=20) == 0
        else "test"
        if kind == "pool" and n % 9 == 0
        else "train"
    )
    row = {"kind": kind, "subject": str(subject), "study": str(study), "split": part}
    yield _plate(order, row, 0, ("AP", "PA")[n % 2], findings)
    if chance < 0.15:
        yield replace(_plate(order, row, 1, "LATERAL", findings), view="lateral")
    elif chance > 0.94:
        yield _plate(order, row, 1, "AP", findings)


def _plate(order: Order, row: Mapping[str, str], picture: int, view: str, findings: tuple[str, ...]) -> Plate:
    digits = name(order.seed, row["study"], picture, digits=40)
    who = "-".join(digits[i : i + 8] for i in range(0, 40, 8))
    path = f"files/p{row['subject'][:2]}/p{row['subject']}/s{row['study']}/{who}.jpg"
    return Plate(path, row["subject"], findings, order.size, "jpeg", row={**row, "id": who, "view": view})


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """The three tables, one report a study, and the labels of the reports' sentences."""
    shown, lists = [d.plate for d in developed], order.facts.lists
    studies = {d.plate.row["study"]: d for d in reversed(developed) if d.plate.view == "frontal"}
    reports = {study: _report(order, studies[study]) for study in sorted(studies)}
    files = {report_path(p): reports[p.row["study"]].text(f"s{p.row['study']}").encode() for p in shown}
    split = [[p.row["id"], p.row["study"], p.row["subject"], p.row["split"]] for p in shown]
    files["mimic-cxr-2.0.0-split.csv.gz"] = gzip_bytes(table(lists["split"], split))
    files["mimic-cxr-2.0.0-metadata.csv.gz"] = gzip_bytes(table(lists["metadata"], [_metadata(p) for p in shown]))
    files["mimic-cxr-2.0.0-chexpert.csv.gz"] = gzip_bytes(_study_labels(order, studies, reports))
    files["labels_individual_sentences.csv"] = _sentence_labels(lists["sentences"], reports)
    return files


def report_path(plate: Plate) -> str:
    """Where the report of an image's study lies."""
    subject = plate.row["subject"]
    return f"mimic-cxr-reports/files/p{subject[:2]}/p{subject}/s{plate.row['study']}.txt"


def _report(order: Order, shown: Developed) -> RadiologyReport:
    plate = shown.plate
    draw = order.random("report", plate.row["study"])
    unsure = plate.row["kind"] == "other" and "No Finding" not in plate.findings and draw.random() < 0.5
    return report(plate.findings, sides_of(shown), unsure, draw)


def sides_of(shown: Developed) -> dict[str, str]:
    """On which side of the patient each finding was drawn."""
    sides: dict[str, str] = {}
    for region in shown.regions:
        other = sides.get(region.finding, region.side)
        sides[region.finding] = region.side if other == region.side else "bilateral"
    return sides


def _metadata(plate: Plate) -> list[Cell]:
    view, (height, width) = plate.row["view"], plate.size
    step = "CHEST (PA AND LAT)" if view != "AP" else "CHEST (PORTABLE AP)"
    who = (plate.row["id"], plate.row["subject"], plate.row["study"])
    return [*who, step, view, height, width, 21800101, 120000.0, step, _VIEWS[view], "Erect"]


def _study_labels(order: Order, studies: Mapping[str, Developed], reports: Mapping[str, RadiologyReport]) -> bytes:
    rows: list[list[Cell]] = []
    for study, told in reports.items():
        labels = told.labels
        rows.append([studies[study].plate.row["subject"], study, *(labels.get(c) for c in order.facts.columns)])
    rows.sort(key=lambda row: (str(row[0]), str(row[1])))
    return table(("subject_id", "study_id", *order.facts.columns), rows)


def _sentence_labels(names: Sequence[str], reports: Mapping[str, RadiologyReport]) -> bytes:
    rows = [
        [f"s{study}", sentence.text, *(sentence.labels.get(c) for c in names)]
        for study, told in reports.items()
        for sentence in told.sentences
    ]
    return table(("patient", "sentences", *names), rows)
