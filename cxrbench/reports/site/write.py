"""The pages of a leaderboard with the records that they are made from, in a folder that can be written again."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.records.integrity import MOST_BYTES, place_of
from cxrbench.records.record import Record, predictions_path, write_record
from cxrbench.reports.html import show
from cxrbench.reports.html.page import Report
from cxrbench.reports.html.render import HEADS
from cxrbench.reports.site.pages import FOLDERS, address, by_protocol, file_address, model_pages, web_address
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.sealed import listed, read_regular, read_sealed, write_sealed

if TYPE_CHECKING:
    from jinja2 import Environment

TITLE = "Leaderboard of chest X-ray encoders"
CONTENTS = "site.json"  # which files of the folder are the site's
_NOT_OURS = {"CNAME"}  # what may lie in the folder before the first site, dot files apart
_TOPS = {"index.html", "synthetic.html", "records", *FOLDERS.values()}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: pages, records, and the bytes of all files."""

    pages: int
    records: int
    size: int


def write_site(folder: Path, report: Report, out: Path, *, predictions: bool) -> Written:
    """Write the leaderboard of a report of the results folder `out`, and remove what an earlier one left there.

    Each shown record is copied, with its `predictions` where these are to be published. The same report gives the same
    bytes. Raises SpecError for a folder that holds other files or is the results folder, IntegrityError where
    predictions were changed since the report was made.
    """
    before, pages = earlier(folder, out), _rendered(report)
    records = [page.record for part in report.chapters for page in part.pages.values()]
    copies = {place_of(record): record for record in records}
    tables = {_beside(record): record for record in records} if predictions else {}
    files = {*pages, *copies, *tables}
    write_sealed(folder / CONTENTS, sorted(before | files))
    for name, text in pages.items():
        write_atomically(folder / name, text.encode())
    for record in copies.values():
        write_record(folder, record)
    for name, record in tables.items():
        write_atomically(folder / name, _predictions(out, record))
    _remove(folder, before - files)
    write_sealed(folder / CONTENTS, sorted(files))
    return Written(len(pages), len(records), sum((folder / name).stat().st_size for name in files))


def _beside(record: Record) -> str:
    return str(PurePosixPath(place_of(record)).with_name(record.predictions))


def _predictions(out: Path, record: Record) -> bytes:
    path = predictions_path(out, record)
    content = read_regular(path, MOST_BYTES)
    if digest.of_bytes(content) != record.predictions_sha256:
        raise IntegrityError(f"{path}: was changed while the site was written. Make the site again.")
    return content


def earlier(folder: Path, out: Path) -> set[str]:
    """The files of the site that lies there, none in a new folder; raises what `write_site` says of folders."""
    if folder.resolve() == out.resolve():
        raise SpecError(f"--site {folder}: is the results folder itself; name another folder")
    try:
        files = read_sealed(folder / CONTENTS, "Name an empty folder.")
    except FileNotFoundError:
        others = [name for name in listed(folder) if not name.startswith(".") and name not in _NOT_OURS]
        if others:
            raise SpecError(
                f"--site {folder}: holds files that no earlier site wrote, such as {others[0]}; name an empty folder"
            ) from None
        return set()
    strange = [name for name in files if not _is_ours(PurePosixPath(name))]
    if strange:
        raise SpecError(f"{folder / CONTENTS}: names {strange[0]!r}, which no site writes; name an empty folder")
    return set(files)


def _is_ours(path: PurePosixPath) -> bool:
    return path.parts[:1] != () and path.parts[0] in _TOPS and ".." not in path.parts


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the files, and folders that are empty then."""
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == folder or any(parent.iterdir()):
                break
            parent.rmdir()


def _rendered(report: Report) -> dict[str, str]:
    """All pages by their places in the folder."""
    environment, style, script = _environment(), _asset("site.css"), _asset("site.js")
    index = style + show.lines()
    kinds = {part.chapter.synthetic for part in report.chapters}
    pages = {}
    for synthetic in sorted({False, *kinds}):
        pages["synthetic.html" if synthetic else "index.html"] = environment.get_template("index.j2").render(
            report=report,
            synthetic=synthetic,
            both=True in kinds,
            parts=[part for part in report.chapters if part.chapter.synthetic == synthetic],
            by_protocol=by_protocol,
            **_of_page(index, script, ""),
        )
    for page in model_pages(report):
        pages[page.file] = environment.get_template("model.j2").render(
            report=report, page=page, heads=HEADS, **_of_page(style, "", "../")
        )
    return {name: _tight(text) for name, text in pages.items()}


def _environment() -> "Environment":
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("cxrbench.reports.site"), PackageLoader("cxrbench.reports.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(show.FILTERS)
    environment.filters.update(address=address, file_address=file_address, web_address=web_address)
    return environment


def _of_page(style: str, script: str, top: str) -> dict[str, Any]:
    """What every page has: `top` leads from it to the site's folder."""
    from markupsafe import Markup

    allowed = f"script-src '{_digest(script)}'; " if script else ""
    policy = f"default-src 'none'; style-src '{_digest(style)}'; {allowed}img-src data:; base-uri 'none'"
    return {"style": Markup(style), "script": Markup(script), "policy": f"{policy}; form-action 'none'", "top": top}


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    text = resources.files("cxrbench.reports.site").joinpath("templates", name).read_text(encoding="utf-8")
    return _tight(text).rstrip("\n")


def _tight(text: str) -> str:
    """The text without blanks at the ends of lines and without empty lines."""
    return "".join(f"{line}\n" for line in (line.strip() for line in text.splitlines()) if line)
