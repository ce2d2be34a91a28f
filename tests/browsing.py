"""Real pages in Debian's Chromium, driven by Playwright, for tests of what the HTML report does in a browser."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright.sync_api", reason="the dev extra installs playwright")
from playwright import sync_api

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BOARD = "table.board:visible >> nth=0"

MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH (Debian: apt-get install chromium)"),
]


@contextmanager
def chromium() -> Iterator["sync_api.Browser"]:
    """A browser without a window."""
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

    def kept_to_itself(self) -> bool:
        """Whether the console stayed empty and nothing was asked of any network."""
        return not self.said and all(address.startswith(("file:", "data:")) for address in self.asked)


@contextmanager
def watching(browser: "sync_api.Browser", url: str) -> Iterator[Watched]:
    """A page at a demand, which must have kept to itself in the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    watched = Watched(context, url)
    yield watched
    assert watched.kept_to_itself(), (watched.said, watched.asked)
    context.close()
