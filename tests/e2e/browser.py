"""A real Chromium, the system's, and what it is told by the pages that it shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Kept for people to look at, after a run of the tests."""
WITHIN = 30_000.0
"""Milliseconds that anything may take on a machine that is busy with other tests."""


@contextmanager
def started() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no {CHROMIUM}: install Debian's chromium")
        pytest.skip(f"no {CHROMIUM}: install Debian's chromium")
    expect.set_options(timeout=WITHIN)
    with sync_playwright() as playwright:
        # Containers seldom allow what its sandbox needs, and it shows nobody's pages but ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Looking:
    """Somebody who looks at the pages of one site. `wrong`: whatever the browser had to complain of."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        context.set_default_timeout(WITHIN)
        self.url = url
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.context = context
        self.page = self.opened()

    def opened(self) -> Page:
        page = self.context.new_page()
        page.on("console", lambda message: self.wrong.append(f"console: {message.type} {message.text}"))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("request", lambda request: self._noted(request.url))
        return page

    def at(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def shot(self, name: str) -> None:
        """Keep how the page looks, the whole of it."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def _noted(self, url: str) -> None:
        self.asked.append(url)
        if not url.startswith(self.url + "/"):
            self.wrong.append(f"a request to another host: {url}")


@contextmanager
def looking(
    browser: Browser, url: str, *, scripts: bool = True, dark: bool = False, width: int = 1280, height: int = 900
) -> Iterator[Looking]:
    """A browser of its own, without anything stored; nothing may be wrong in the end."""
    context = browser.new_context(
        java_script_enabled=scripts,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": height},
        reduced_motion="reduce",
    )
    found = Looking(context, url)
    yield found
    context.close()
    assert found.wrong == []
