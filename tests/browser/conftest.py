"""A real browser, the system's Chromium driven by Playwright. A console error or warning fails the test."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=20_000)  # a busy machine draws late


@pytest.fixture(scope="module")  # Playwright's loop would be in the way of another module's asyncio.run
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("the console's tests need the Debian package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """Console errors and warnings of the page so far; a test that expects one removes it."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = listened(context.new_page(), complaints)
    yield page
    context.close()
    assert complaints == []


def listened(page: Page, complaints: list[str]) -> Page:
    """The page; its console errors and warnings are collected in `complaints`."""
    page.set_default_timeout(30_000)
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page
