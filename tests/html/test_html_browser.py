"""The report in a real browser, opened from disk: Debian's Chromium, driven by Playwright."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import BOARD, MARKS, Watched, chromium, sync_api, watching
from made_board import write_board

from cxrbench.records.integrity import found_results
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.page import report
from cxrbench.reports.html.render import write

pytestmark = MARKS

MODELS = ("clip_cm", "dlilp_cm", "gloria", "medclip")
MEASURED, MADE = "[data-chapter] >> nth=0", "[data-chapter] >> nth=1"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("results")
    write_board(out, MODELS, ("rsna", "covid", "siim"))
    write_board(out, ("medclip",), ("rsna",), shots=(16,), prompts=(), data__synthetic=True)
    path = tmp_path_factory.mktemp("page") / "report.html"
    write(path, report(ReportWork(out), found_results(out), None))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: "sync_api.Browser", url: str) -> Iterator[Watched]:
    with watching(browser, url) as watched:
        yield watched


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


def test_the_counts_of_an_opened_cell_become_shaded_fields(opened: Watched) -> None:
    page = opened.page
    cell = page.locator(f"{MEASURED} >> details.cell:has(table.confusion)").first
    row = cell.locator("table.confusion tbody tr").first
    counts = (row.locator("td").last.text_content() or "").split()
    assert len(counts) > 1
    page.evaluate(
        "cell => { for (let part = cell; part; part = part.parentElement) part.open = true }", cell.element_handle()
    )
    sync_api.expect(row.locator("td")).to_have_count(3 + len(counts))
    assert row.locator("td").all_inner_texts()[3:] == counts
    assert cell.locator("thead th").all_inner_texts()[4:] == [str(n + 1) for n in range(len(counts))]
    largest = max(range(len(counts)), key=lambda n: int(counts[n]))
    assert (row.locator("td").nth(3 + largest).get_attribute("class") or "").startswith("q")


def test_models_are_found_by_their_titles_and_marks_say_what_they_mean(opened: Watched) -> None:
    page = opened.page
    page.locator(f"{MEASURED} >> input[type=search]").fill("gloria")
    assert page.locator(f"{BOARD} >> tbody tr:not(.off)").count() == 1
    title = page.locator(f"{BOARD} >> tbody tr:not(.off) th").inner_text()
    page.locator(f"{MEASURED} >> input[type=search]").fill("")
    page.locator(f"{MEASURED} >> input[type=search]").fill(title.split()[0].swapcase())
    assert page.locator(f"{BOARD} >> tbody tr:not(.off)").count() >= 1
    assert "collection" in (page.locator(f"{MEASURED} >> abbr").first.get_attribute("title") or "")


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
    assert "Not results" in made.locator("p.made").first.inner_text()
    assert "Made, no result." in made.locator("table.board caption").first.inner_text()


def table_of(opened: Watched, button: str) -> tuple[str, list[dict[str, str]]]:
    """The name and the rows of the file that a button gives."""
    with opened.page.expect_download() as download:
        opened.page.locator(button).click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    return download.value.suggested_filename, list(csv.DictReader(text.splitlines()))


def test_every_table_is_a_csv_file_with_numbers_and_intervals_apart(opened: Watched) -> None:
    page = opened.page
    assert page.locator("button.csv").count() == page.locator(".box").count() > 5
    name, rows = table_of(opened, f"{MEASURED} >> button.csv:visible >> nth=0")
    assert name == "leaderboard-linear-probe-k-16-all-classes.csv"
    assert [float(row["RSNA"]) for row in rows[:-1]] == opened.column(2)
    small = next(head for head in rows[0] if head.startswith("RSNA (small print"))
    assert all(" to " in row[small] for row in rows[:-1])
    assert rows[-1]["Model"] == "Chance" and "Note" not in rows[0]


def test_a_csv_file_of_made_numbers_says_so_in_every_row(opened: Watched) -> None:
    name, rows = table_of(opened, f"{MADE} >> button.csv:visible >> nth=0")
    assert name.startswith("made-")
    assert rows and {row["Note"] for row in rows} == {"Made, no result."}


def test_a_phone_folds_all_but_the_answer_and_says_where_a_table_goes_on(browser: "sync_api.Browser", url: str) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800})
    page = Watched(context, url).page
    assert page.evaluate("document.documentElement.scrollHeight") < 6000
    assert page.locator(f"{MEASURED} >> .answer").is_visible()
    assert page.locator(".more:visible").count() > 0
    page.locator("nav a[href$='-classes'] >> nth=0").click()
    sync_api.expect(page.locator(f"{MEASURED} >> table.heat:visible").first).to_be_visible()
    page.locator("nav a[href='#reading']").click()
    sync_api.expect(page.locator("dl.prose")).to_be_visible()
    context.close()


@pytest.mark.skipif("CXRBENCH_AXE" not in os.environ, reason="CXRBENCH_AXE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_with_everything_open(browser: "sync_api.Browser", url: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    page.evaluate(Path(os.environ["CXRBENCH_AXE"]).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20
    assert [
        (v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")
    ] == []
    context.close()
