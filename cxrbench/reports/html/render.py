"""The report as one HTML file that asks nothing of any network."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from cxrbench.analysis.compare import WEIGHTS
from cxrbench.analysis.subgroups import RULE
from cxrbench.records.record import Record
from cxrbench.reports.html import curves, show
from cxrbench.reports.html.cells import CellPage
from cxrbench.reports.html.page import Report
from cxrbench.reports.html.show import settled
from cxrbench.reports.html.summary import answer, sentence
from cxrbench.store.atomic import write_atomically

NOT_TOLD = "not recorded"
Told = tuple[str, ...]
HEADS: Mapping[str, Told] = {
    "Weights": ("model", "file", "SHA-256", "adapter", "card digest", "text encoder", "pre-trained on"),
    "Splits": ("task", "split", "digest of the rows", "digest of the images' bytes", "known split?"),
    "Preprocessing": ("recipe", "digest", "steps"),
    "Prompts": ("set", "source", "digest"),
    "Variants": ("variant", "version", "digest", "settings"),
    "Code": ("version", "digest of the sources", "commit"),
}


@dataclass(slots=True)
class Identities:
    """All sources by kind, each with the fragment that it is found by."""

    found: dict[str, dict[Told, str]] = field(default_factory=lambda: {kind: {} for kind in HEADS})

    def of(self, record: Record) -> dict[str, str]:
        """The fragments of a record's sources, by kind."""
        told = _told(record)
        return {kind: self.found[kind].setdefault(line, self._next(kind)) for kind, line in told.items()}

    def shared(self, pages: Sequence[CellPage]) -> dict[str, str]:
        """The fragments of those sources that all the pages have."""
        each = [self.of(page.record) for page in pages]
        return {kind: anchor for kind, anchor in each[0].items() if all(own.get(kind) == anchor for own in each)}

    def _next(self, kind: str) -> str:
        return f"{kind[:3].lower()}{len(self.found[kind])}"  # no two kinds begin alike


def identities(records: Iterable[Record]) -> Identities:
    """The sources of all records, in their order."""
    found = Identities()
    for record in records:
        found.of(record)
    return found


def _told(record: Record) -> dict[str, Told]:
    model, data, code, prompts = record.model, record.data, record.code, record.prompts
    text = " ".join(filter(None, (model.text_encoder, model.text_encoder_digest))) or "none"
    adapter = f"{model.adapter} code {model.code[:16]}"
    recipe = record.preprocessing.recipe.model_dump(mode="json")
    lines: dict[str, Told] = {
        "Weights": (
            model.name,
            model.weights_file,
            model.weights_sha256 or NOT_TOLD,
            adapter,
            model.card_digest,
            text,
            model.pretraining or "none",
        ),
        "Splits": (data.task, data.split, data.partition_digest, data.contents_digest, data.reference),
        "Preprocessing": (record.preprocessing.name, record.preprocessing.digest, settled(recipe)),
        "Variants": (
            record.variant,
            str(record.variant_version),
            record.variant_digest,
            settled(record.settings.model_dump(mode="json")),
        ),
        "Code": (code.version, code.sources, code.commit or NOT_TOLD),
    }
    if prompts is not None:
        lines["Prompts"] = (prompts.set, prompts.source, prompts.digest)
    return lines


SECTIONS = (
    ("board", "Leaderboard"),
    ("paper", "Tables 2 to 4"),
    ("curves", "Few-shot curves"),
    ("operating", "ROC and precision-recall"),
    ("classes", "Classes"),
    ("prompts", "Prompts"),
    ("groups", "Subgroups"),
    ("calibration", "Calibration"),
    ("cells", "Cells"),
)
_OPTIONAL = re.compile("</(?:td|th|tr|li|thead|tbody|tfoot)>")  # end tags that HTML lets be left out
_BROKEN = re.compile(
    "\n(?=</?(?:t[dhr]|d[tl]|tbody|thead|tfoot|table|details|div|g|i|path|use)[ >])"
)  # no text is on both sides
_QUOTED = re.compile('( [a-z-]+=)"([a-zA-Z0-9_.:#+-]+)"(?=[ >])')  # values that need no quotes


def render(report: Report) -> str:
    """The page; the same report gives the same text. Everything that stands in a record or a card is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("cxrbench.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(show.FILTERS, sentence=sentence)
    style, script = _asset("report.css") + show.lines(), _asset("report.js")
    text = environment.get_template("report.html.j2").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        identities=identities(page.record for part in report.chapters for page in part.pages.values()),
        heads=HEADS,
        panel=curves,
        answer=answer,
        sections=SECTIONS,
        rule=RULE,
        weights=WEIGHTS,
    )
    before, rest = text.split(style, 1)
    body, after = rest.rsplit(script, 1)
    return f"{_short(before)}{style}{_short(body)}{script}{_short(after)}\n"


def _short(text: str) -> str:
    """Markup without what HTML lets be left out; text has no such quotes, for those are escaped."""
    lines = (_OPTIONAL.sub("", line.strip()) for line in text.splitlines())
    return _QUOTED.sub(r"\1\2", _BROKEN.sub("", "\n".join(line for line in lines if line)))


def write(path: Path, report: Report) -> int:
    """Write the page atomically; returns its size in bytes."""
    content = render(report).encode()
    write_atomically(path, content)
    return len(content)


def _asset(name: str) -> str:
    """A file of the page's own, as it stands in it: no blanks at the ends of lines, no empty lines."""
    text = resources.files("cxrbench.reports.html").joinpath("templates", name).read_text(encoding="utf-8")
    return "\n".join(line for line in (line.strip() for line in text.splitlines()) if line)


def _policy(style: str, script: str) -> str:
    """The page's content security policy: its own style and script by their digests, and nothing else from anywhere."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
