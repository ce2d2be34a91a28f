"""Open-I: PNG side by side in one folder, the reports as XML in their packed archive."""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from cxrbench.data.sources.openi import FOLDER, PACKED, TermsByReport
from cxrbench.phantom.draw import View
from cxrbench.phantom.layouts.order import Order, gzip_bytes
from cxrbench.phantom.layouts.together import numbers_of, split_rule, together
from cxrbench.phantom.plate import Developed, Plate, number

_WIDTH = 3  # findings a report
_TWO_VIEWS = 2  # one report in so many has a lateral too
_SEEDS_APART = 10**4


def plates(order: Order) -> list[Plate]:
    """Images report by report, part by part, so that each part has every finding, then reports without a finding."""
    rule = split_rule(order, TermsByReport)
    parts, names = list(rule.shares), numbers_of(rule, "CXR{}", 1 + _SEEDS_APART * order.seed)
    wanted = [(part, findings) for part in parts for findings in together(order, order.facts.classes, part, _WIDTH)]
    wanted += [(parts[n % len(parts)], ()) for n in range(order.quotas["normal"])]
    made = [plate for n, (part, f) in enumerate(wanted) for plate in _images(order, n, next(names[part]), f)]
    return order.shuffled(made)


def _images(order: Order, n: int, report: str, findings: tuple[str, ...]) -> Iterator[Plate]:
    """A frontal image, and for some reports a lateral one; the first report's images have its number twice."""
    twice = f"_{report.removeprefix('CXR')}" if n == 0 else ""
    terms = "\n".join(
        order.facts.labels[f][number(order.seed, n, f, below=len(order.facts.labels[f]))] for f in findings
    )
    views: tuple[tuple[View, int], ...] = (("frontal", 1001), ("lateral", 2001))
    for view, code in views[: 2 if n % _TWO_VIEWS == 0 else 1]:
        image = f"{report}{twice}_IM-{1 + n:04d}-{code}"
        row = {"id": image, "report": report, "terms": terms}
        yield Plate(f"NLMCXR_png/{image}.png", report, findings, order.size, "png", view=view, row=row)


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """The archive of reports, some of them without an image."""
    images: dict[str, list[Plate]] = {}
    for shown in developed:
        images.setdefault(shown.plate.row["report"], []).append(shown.plate)
    texts = {report: _xml(report, own) for report, own in images.items()}
    last = max((int(report.removeprefix("CXR")) for report in images), default=0)
    texts |= {
        report: _xml(report, ()) for n in range(order.quotas["without image"]) for report in [f"CXR{last + 1 + n}"]
    }
    return {
        PACKED: gzip_bytes(_archive({f"{FOLDER}/{name.removeprefix('CXR')}.xml": text for name, text in texts.items()}))
    }


def _xml(report: str, images: Sequence[Plate]) -> str:
    terms = [term for term in (images[0].row["terms"].split("\n") if images else ()) if term]
    told = [f"<major>{escape(term)}</major>" for term in terms or ("normal",)]
    told += [f"<automatic>{escape(term)}</automatic>" for term in terms]
    own = sorted(plate.row["id"] for plate in images)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<eCitation>",
        f'   <uId id="{report}"/>',
        "   <title>A phantom: no person's report</title>",
        '   <MedlineCitation><Article><Abstract><AbstractText Label="IMPRESSION">A phantom.</AbstractText></Abstract>'
        "</Article></MedlineCitation>",
        f"   <MeSH>{''.join(told)}</MeSH>",
        *(f'   <parentImage id="{image}"><figureId>F{n}</figureId></parentImage>' for n, image in enumerate(own, 1)),
        "</eCitation>",
    ]
    return "\n".join(lines)


def _archive(files: Mapping[str, str]) -> bytes:
    """A tar of the files, sorted by name, without a time."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in sorted(files.items()):
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()
