"""A headless Chromium for tests that look at pages as a reader does; loaded by path, as it is no test itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have little of it
)


def executable() -> str:
    """The browser's path; without one the test is skipped, but fails where CI is "true"."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        text = "NO BROWSER, so nobody looked at the pages: sudo apt-get install -y chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module: while it lives, this thread counts as inside an event loop."""
    path = executable()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()


@dataclass
class Log:
    """What a page asked for outside its own site, and what its console complained of."""

    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Browser, base: str, *, width: int = 1280, dark: bool = False
) -> Iterator[tuple[Page, Log]]:
    """A page that can reach nothing but URLs that start with `base`, and the log of what it tried."""
    log = Log()
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )

    def inside(url: str) -> bool:
        return url.startswith((base, "data:", "blob:"))

    def guard(route: Route) -> None:
        if inside(route.request.url):
            route.continue_()
        else:
            route.abort()

    def note(request: Request) -> None:
        if not inside(request.url):
            log.outside.append(request.url)

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            log.complaints.append(f"{message.type}: {message.text}")

    try:
        context.route("**/*", guard)
        page = context.new_page()
        page.on("request", note)
        page.on("console", listen)
        page.on("pageerror", lambda error: log.complaints.append(str(error)))
        yield page, log
    finally:
        context.close()
