"""The page that the demonstration writes, opened from disk in a real browser, as a co-author would."""

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from browsing import BOARD, MARKS, Watched, chromium, sync_api, watching
from demonstration import MODELS, Shown

from cxrbench.cli.demonstration import CONTROLS, FEWER_SHOTS
from cxrbench.specs import catalog

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: "sync_api.Browser", shown: Shown) -> Iterator[Watched]:
    with watching(browser, shown.folders.report.as_uri()) as watched:
        yield watched


def rows(opened: Watched, body: str) -> list[str]:
    """The names of the models in a body of the first board that is shown."""
    found = opened.page.locator(f"{BOARD} >> {body} >> tr[data-model]").all()
    return [(row.get_attribute("data-model") or "").split()[0] for row in found]


def choose(opened: Watched, setting: str) -> None:
    opened.page.locator("select[name=setting]").select_option(label=setting)


def test_the_last_line_says_where_the_page_is(shown: Shown) -> None:
    assert shown.folders.report.is_file()
    assert shown.told[-1].startswith(f"report: {shown.folders.report.as_uri()} (")


def test_it_says_at_once_that_images_and_weights_are_made(opened: Watched) -> None:
    banner = opened.page.locator("p.made").first
    assert banner.bounding_box()["y"] < 400  # type: ignore[index]
    told = banner.inner_text()
    assert told.startswith("Not results. The images are phantoms, drawn by a program")
    assert "The weights are synthetic" in told
    assert opened.page.locator("h2").first.inner_text() == "Synthetic, no results: variant phantom"
    assert opened.page.locator("[data-chapter]").count() == 1


def test_the_four_encoders_are_ranked_and_the_controls_stand_apart(opened: Watched) -> None:
    assert sorted(rows(opened, "tbody >> nth=0")) == sorted(MODELS)
    assert sorted(rows(opened, "tbody.controls")) == sorted(CONTROLS)
    table = opened.page.locator(BOARD)
    places = [
        table.locator("tbody").first.locator("tr").nth(place).locator("td").first.inner_text() for place in range(4)
    ]
    assert all(re.fullmatch(r"[1-4](–[1-4])?", place) for place in places), places
    assert {cell.inner_text() for cell in table.locator("tbody.controls tr td:nth-child(2)").all()} == {"–"}
    assert opened.page.locator("[role=status]").inner_text() == "4 of 4 models shown"


def test_a_column_is_sorted_and_the_controls_stay_below(opened: Watched) -> None:
    controls = rows(opened, "tbody.controls")
    head = opened.page.locator(f"{BOARD} >> thead th").nth(5)
    for order, rising in (("descending", False), ("ascending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        cells = opened.page.locator(f"{BOARD} >> tbody >> nth=0 >> tr >> td:nth-child(6)").all()
        values = [float(re.match(r"[\d.]+", cell.inner_text())[0]) for cell in cells]  # type: ignore[index]
        assert values == sorted(values, reverse=not rising)
        assert len(set(values)) > 1
    assert rows(opened, "tbody.controls") == controls


def test_chance_stands_below_classes_that_were_never_seen(opened: Watched, shown: Shown) -> None:
    choose(opened, "Zero-shot, prompts ensemble, new classes")
    heads = opened.page.locator(f"{BOARD} >> thead th").all_inner_texts()
    titles = {task: catalog.load_task(task).title for task in ("nih_lt", "vindr")}
    for task, title in titles.items():
        place = next(n for n, head in enumerate(heads) if head.startswith(title))
        chance = opened.page.locator(f"{BOARD} >> tfoot tr > *").nth(place).inner_text()
        classes = len(catalog.load_task(task).groups["new"])
        assert chance.split("\n") == [f"{100 / classes:.2f}", f"{classes} classes"]
    assert rows(opened, "tbody >> nth=0") == sorted(set(MODELS) - {"demo_unimodal"}, key=rows(opened, "tbody").index)
    told = opened.page.locator("section.setting:visible").first.inner_text()
    assert re.search(r"Not measured in this setting: Unimodal", told)


def test_a_cell_opens_with_its_command(opened: Watched, shown: Shown) -> None:
    link = opened.page.locator(f"{BOARD} >> tbody a").first
    cell = opened.page.locator(f"[id='{(link.get_attribute('href') or '').removeprefix('#')}']")
    assert not cell.is_visible()
    link.click()
    cell.wait_for(state="visible")
    command = cell.locator(".again code").inner_text()
    assert re.match(r"cxrbench run --model demo_\w+\.toml --task \w+ --protocol linear-probe --shots 16 ", command)
    assert "--variant phantom" in command
    assert "is a file of its own" in cell.locator(".again").inner_text()
    assert link.inner_text() in cell.locator("xpath=..").locator("summary").inner_text()


def test_curves_have_a_point_for_each_number_of_shots(opened: Watched) -> None:
    panels = opened.page.locator("svg.panel:not(.square)")
    tasks = len(catalog.PAPERS_TASKS)
    assert panels.count() == tasks + 1
    assert panels.first.locator("g[data-model]").count() == len(MODELS)
    assert panels.first.locator("g[data-model] >> nth=0 >> use").count() == len(FEWER_SHOTS) + 1


def test_no_section_is_empty(opened: Watched) -> None:
    headings = opened.page.locator("[data-chapter] h3")
    for number, heading in enumerate(headings.all_inner_texts()):
        shows = headings.nth(number).evaluate(
            """heading => {
              const part = heading.closest("section.card, details.fold");
              return part !== null && part.querySelector("table, svg.panel, li") !== null;
            }"""
        )
        assert shows, heading


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_scrolls_the_page_sideways(
    scheme: Literal["light", "dark"], browser: "sync_api.Browser", shown: Shown
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    watched = Watched(context, shown.folders.report.as_uri())
    watched.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    choose(watched, "all settings")
    assert watched.page.evaluate("document.documentElement.scrollWidth") == 360
    assert watched.kept_to_itself(), (watched.said, watched.asked)
    context.close()
