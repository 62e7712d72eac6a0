"""Pages in real Chromium, the system's own: opened by `open_page`, which also holds each to what all pages must keep.

def test_it(open_page: OpenPage, serious: Serious) -> None:
    page = open_page(path_or_address, color_scheme="dark", viewport={"width": 390, "height": 800})
    assert serious(page) == []
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")
OpenPage = Callable[..., Any]
"""(path or address, options of a browser's context) -> playwright's page."""
Serious = Callable[[Any], list[str]]
"""page -> what axe-core calls serious or critical, a line each."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window. Playwright keeps an event loop running in this thread, so it ends with its module:
    the tests after it in this process run their own."""
    play = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with play.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens pages; at the end none has printed an error, or asked for anything outside of its own folder or server."""
    contexts, errors = [], []

    def open_one(address: str | Path, **options: Any) -> Any:
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: stays(url, request.url) or errors.append(f"asked for {request.url}"))
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


def stays(page: str, request: str) -> bool:
    """Whether a request of the page at `page` leaves neither its disk nor its server."""
    one, other = urlsplit(page), urlsplit(request)
    return other.scheme in ("data", "blob") or (one.scheme, one.netloc) == (other.scheme, other.netloc)


@pytest.fixture(scope="session")
def serious() -> Serious:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def run(page: Any) -> list[str]:
        violations = axe.run(page, options={"preload": False}).response["violations"]
        return [
            f"{each['id']}: {each['help']}: {' '.join(node['html'] for node in each['nodes'])[:300]}"
            for each in violations
            if each["impact"] in ("serious", "critical")
        ]

    return run
