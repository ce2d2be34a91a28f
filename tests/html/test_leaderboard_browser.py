"""The leaderboard in a real browser, opened from disk: sorted by click and key, readable without its script."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import BOARD, MARKS, chromium, sync_api, watching
from made_board import write_board

from cxrbench.records.integrity import found_results
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.page import report
from cxrbench.reports.site.write import write_site

pytestmark = MARKS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, folder = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("site")
    write_board(out, ("clip_cm", "gloria", "medclip"), ("rsna", "siim"), shots=(1, 16), prompts=("names",))
    write_board(out, ("medclip",), ("rsna",), shots=(16,), prompts=(), data__synthetic=True)
    write_site(folder, report(ReportWork(out), found_results(out), None), out, predictions=False)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with chromium() as opened:
        yield opened


def test_a_column_sorts_by_click_and_by_key_and_says_so(browser: "sync_api.Browser", site: Path) -> None:
    with watching(browser, (site / "index.html").as_uri()) as opened:
        head = opened.page.locator(f"{BOARD} >> thead th").nth(3)
        assert head.get_attribute("aria-sort") == "none"
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert opened.column(2) == sorted(opened.column(2), reverse=True)
        opened.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert opened.column(2) == sorted(opened.column(2)) and len(set(opened.column(2))) > 1
        opened.page.locator(f"{BOARD} >> thead th >> nth=0 >> button").press("Space")
        names = opened.page.locator(f"{BOARD} >> tbody tr th").all_inner_texts()
        assert names == sorted(names)


def test_a_number_leads_to_its_cell_and_that_to_its_record(browser: "sync_api.Browser", site: Path) -> None:
    with watching(browser, (site / "index.html").as_uri()) as opened:
        number = opened.page.locator(f"{BOARD} >> tbody td a").first
        value = number.inner_text()
        number.click()
        cell = opened.page.locator("article:target")
        assert value in cell.locator("h4").inner_text()
        assert not cell.locator("dl").is_visible()
        cell.locator("summary").click()
        assert cell.locator("dl").is_visible()
        cell.locator("a[href$='.json']").click()
        assert '"content_sha256"' in opened.page.inner_text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_keeps_to_the_width_and_needs_no_script(
    browser: "sync_api.Browser", site: Path, scheme: "sync_api.ColorScheme"
) -> None:
    pages = ["index.html", "synthetic.html", "models/gloria.html", "synthetic/medclip.html"]
    for width in (1280, 400):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=False
        )
        page = context.new_page()
        for name in pages:
            page.goto((site / name).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width, name
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"
            assert dark == (scheme == "dark")
        page.goto((site / "index.html").as_uri())
        assert page.locator("table.board:visible").count() == 2
        page.locator("summary").first.click()
        assert page.locator("table.board:visible").count() == 3
        context.close()
