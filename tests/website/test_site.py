"""The documentation site builds without a warning, its links lead somewhere, and a browser shows it from a folder."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
from browsing import chromium, watching

from cxrbench.specs import catalog
from website.__main__ import build
from website.reference import pages

LOOKED_AT = (
    "index.html",
    "quickstart.html",
    "reference/models/medclip.html",
    "reference/cli/run.html",
    "statistics.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not Path(sys.executable).with_name("zensical").exists():
        pytest.skip("zensical is not installed (the extra `docs` brings it)")
    out = tmp_path_factory.mktemp("site") / "out"
    assert build(out) == 0
    return out


def test_every_name_has_a_generated_page() -> None:
    written = dict(pages())
    wanted = [f"models/{name}.md" for name in (*catalog.card_files(), *catalog.unavailable_models())]
    wanted += [f"tasks/{name}.md" for name in catalog.task_files()]
    wanted += [f"protocols/{name}.md" for name in catalog.protocol_points()]
    wanted += [f"variants/{name}.md" for name in catalog.variant_files()]
    assert set(wanted) <= written.keys() and {"cli/run.md", "record.md", "metrics/macro_auroc.md"} <= written.keys()
    assert all(name in written["models/index.md"] for name in catalog.card_files())


@pytest.mark.slow
def test_every_link_leads_somewhere(site: Path) -> None:
    targets = {page: set(_values(page, "id")) for page in site.rglob("*.html")}
    assert len(targets) > 100
    dead = [
        (page.name, link)
        for page in targets
        for link in (*_values(page, "href"), *_values(page, "src"))
        if not _leads(page, link, targets)
    ]
    assert not dead


def _values(page: Path, attribute: str) -> Iterator[str]:
    for element in html5lib.parse(page.read_text(encoding="utf-8")).iter():
        if attribute in element.attrib:
            yield element.attrib[attribute]


def _leads(page: Path, link: str, targets: dict[Path, set[str]]) -> bool:
    found = urlsplit(link)
    if page.name == "404.html":  # a server's own, with paths from its root
        return True
    if found.scheme or link.startswith("//"):
        return found.scheme in ("https", "http", "mailto", "data")
    place = (page.parent / unquote(found.path)).resolve() if found.path else page
    place = place / "index.html" if place.is_dir() else place
    return place.exists() and (not found.fragment or place not in targets or unquote(found.fragment) in targets[place])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium on the PATH")
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_keep_to_themselves_and_to_the_width(site: Path, width: int, scheme: str) -> None:
    with chromium() as browser:
        for name in LOOKED_AT:
            with watching(browser, (site / name).as_uri()) as watched:
                watched.page.emulate_media(color_scheme=scheme)
                watched.page.set_viewport_size({"width": width, "height": 900})
                assert watched.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium on the PATH")
def test_the_search_works_without_a_server(site: Path) -> None:
    with chromium() as browser, watching(browser, (site / "index.html").as_uri()) as watched:
        watched.page.keyboard.press("Control+k")
        watched.page.keyboard.type("phantom")
        watched.page.get_by_text("results").first.wait_for()
