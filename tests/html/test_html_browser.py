"""The report in a real browser, opened from disk: Debian's Chromium, driven by Playwright."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from made_board import write_board

from cxrbench.html.page import report
from cxrbench.html.render import write
from cxrbench.html.work import Work
from cxrbench.record import read_records

sync_api = pytest.importorskip("playwright.sync_api", reason="the dev extra installs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH (Debian: apt-get install chromium)"),
]

MODELS = ("clip_cm", "dlilp_cm", "gloria", "medclip")
MEASURED, MADE = "[data-chapter] >> nth=0", "[data-chapter] >> nth=1"
BOARD = "table.board:visible >> nth=0"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("results")
    write_board(out, MODELS, ("rsna", "covid", "siim"))
    write_board(out, ("medclip",), ("rsna",), shots=(16,), prompts=(), data__synthetic=True)
    path = tmp_path_factory.mktemp("page") / "report.html"
    write(path, report(Work(out, 100), read_records(out), None))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield opened
        opened.close()


class Watched:
    """A page, with everything that its console said and every address that it asked for."""

    def __init__(self, context: "sync_api.BrowserContext", url: str) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def column(self, number: int) -> list[float]:
        """The numbers of one column of the first board that is shown."""
        found = self.page.locator(f"{BOARD} >> tbody tr:not(.off)").all()
        return [float(re.match(r"[\d.]+", row.locator("td").nth(number).inner_text())[0]) for row in found]  # type: ignore[index]


@pytest.fixture
def opened(browser: "sync_api.Browser", url: str) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    watched = Watched(context, url)
    yield watched
    assert watched.said == []
    assert [address for address in watched.asked if not address.startswith(("file:", "data:"))] == []
    context.close()


def test_a_column_sorts_both_ways_and_says_so(opened: Watched) -> None:
    head = opened.page.locator(f"{BOARD} >> thead th").nth(3)
    button = head.locator("button")
    assert head.get_attribute("aria-sort") == "none"
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert opened.column(2) == sorted(opened.column(2), reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert opened.column(2) == sorted(opened.column(2))
    assert len(set(opened.column(2))) > 1


def test_models_are_filtered_and_the_count_is_told(opened: Watched) -> None:
    status = opened.page.locator(f"{MEASURED} >> [role=status]")
    assert status.inner_text() == "4 of 4 models shown"
    opened.page.locator(f"{MEASURED} >> input[type=search]").fill("clip_cm")
    assert status.inner_text() == "1 of 4 models shown"
    assert len(opened.column(2)) == 1
    opened.page.locator(f"{MEASURED} >> input[type=search]").fill("")
    opened.page.locator(f"{MEASURED} >> input[type=checkbox]").check()
    shown = opened.page.locator(f"{BOARD} >> tbody tr:not(.off)").all()
    assert all("†" not in row.inner_text() for row in shown)


def test_one_setting_is_shown_until_all_are_asked_for(opened: Watched) -> None:
    boards = opened.page.locator(f"{MEASURED} >> table.board:visible")
    assert boards.count() == 1
    heading = opened.page.locator(f"{MEASURED} >> h4:visible").first
    assert heading.inner_text() == "Linear probe, K = 16, all classes"
    choice = opened.page.locator(f"{MEASURED} >> select[name=setting]")
    choice.select_option(label="Zero-shot, prompts names, all classes")
    assert heading.inner_text() == "Zero-shot, prompts names, all classes"
    assert boards.count() == 1
    choice.select_option(label="all settings")
    assert boards.count() == 5


def test_a_number_opens_its_cell_and_the_command_is_copied(opened: Watched) -> None:
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link = opened.page.locator(f"{BOARD} >> tbody a").first
    cell = opened.page.locator(f"[id='{(link.get_attribute('href') or '').removeprefix('#')}']")
    assert not cell.is_visible()
    link.click()
    cell.wait_for(state="visible")
    command = cell.locator(".again code").inner_text()
    assert command.startswith("cxrbench run --model ")
    cell.locator("button.copy").click()
    sync_api.expect(cell.locator("button.copy")).to_have_text("Copied")
    assert opened.page.evaluate("navigator.clipboard.readText()") == command


def test_a_link_from_outside_opens_a_cell_that_a_filter_hides(opened: Watched) -> None:
    page = opened.page
    target = page.locator(f"{MEASURED} >> .inside").first.get_attribute("id")
    page.locator(f"{MEASURED} >> input[type=search]").fill("no such model")
    page.evaluate("name => { location.hash = name }", target)
    page.locator(f"[id='{target}']").wait_for(state="visible")
    assert page.locator(f"{MEASURED} >> input[type=search]").input_value() == ""


def test_everything_is_reached_by_keyboard(opened: Watched) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for selector in (f"{MEASURED} >> select", f"{MEASURED} >> input[type=search]", f"{BOARD} >> thead button"):
        wanted = page.locator(selector).first.element_handle()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("wanted => document.activeElement === wanted", wanted):
                break
        else:
            raise AssertionError(f"{selector} was not reached")
    page.keyboard.press("Enter")
    assert page.locator(f"{BOARD} >> thead th").first.get_attribute("aria-sort") == "ascending"
    page.locator(f"{BOARD} >> tbody a").first.focus()
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("summary:focus")).to_be_visible()
    assert page.evaluate("document.activeElement.parentElement.open") is True
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_colours_follow_the_system_and_the_button(browser: "sync_api.Browser", url: str) -> None:
    context = browser.new_context(color_scheme="dark")
    page = Watched(context, url).page
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(15, 20, 25)"
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Colours: light"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert page.evaluate(background) == "rgb(15, 20, 25)"
    context.close()


def test_a_phone_never_scrolls_the_page_sideways(browser: "sync_api.Browser", url: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = Watched(context, url).page
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    for chapter in page.locator("select[name=setting]").all():
        chapter.select_option(label="all settings")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("Array.from(document.querySelectorAll('.box')).some(box => box.scrollWidth > box.clientWidth)")
    context.close()


def test_without_its_script_every_table_is_there(browser: "sync_api.Browser", url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.locator(f"{MEASURED} >> table.board:visible").count() == 5
    assert page.locator(".tools:visible").count() == 0
    page.locator("table.board:visible tbody a").first.click()
    assert page.locator(".inside:visible").count() == 1  # the browser opens what a link leads into
    context.close()


def test_print_leaves_the_tools_out(browser: "sync_api.Browser", url: str) -> None:
    context = browser.new_context()
    page = Watched(context, url).page
    page.emulate_media(media="print")
    assert page.locator(".tools:visible").count() == 0
    assert page.locator("table.board:visible").count() > 0
    context.close()


def test_made_numbers_keep_their_banner(opened: Watched) -> None:
    made = opened.page.locator(MADE)
    assert "not results" in made.locator("p.made").first.inner_text()
    assert "Made, no result." in made.locator("table.board caption").first.inner_text()
