"""The report as one HTML file that asks nothing of any network."""

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

from cxrbench.analysis.compare import WEIGHTS
from cxrbench.analysis.subgroups import RULE
from cxrbench.reports.html import curves, show
from cxrbench.reports.html.identities import HEADS, identities
from cxrbench.reports.html.page import Report
from cxrbench.store.atomic import write_atomically

SECTIONS = (
    ("board", "Leaderboard"),
    ("paper", "Tables 2 to 4"),
    ("curves", "Few-shot curves"),
    ("classes", "Classes"),
    ("prompts", "Prompts"),
    ("groups", "Subgroups"),
    ("calibration", "Calibration"),
    ("cells", "Cells"),
)

_OPTIONAL = re.compile("</(?:td|th|tr|li)>")  # end tags that HTML lets be left out: a tenth of a page of tables
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
    environment.filters.update(show.FILTERS)
    style, script = _asset("report.css") + show.lines(), _asset("report.js")
    text = environment.get_template("report.html.j2").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        identities=identities(page.record for part in report.chapters for page in part.pages.values()),
        heads=HEADS,
        panel=curves,
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
    return _QUOTED.sub(r"\1\2", "\n".join(line for line in lines if line))


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
