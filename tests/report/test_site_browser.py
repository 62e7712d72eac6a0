"""The site in real Chromium: what Python printed is what the page prints; sort, filter and search act; anybody can use it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_documents import device_document
from rigbench.predict.hardware import find
from rigbench.report import site

pytestmark = pytest.mark.slow


def make_site(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """A site of one result and one predicted device."""
    monkeypatch.setattr(site, "devices", lambda: (find("rtx-4090"),))
    (folder / "results").mkdir()
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M") | changes
    (folder / "results" / "a.json").write_text(json.dumps(content))
    site.build(folder / "results", folder / "site", processes=1)
    return folder / "site"


def test_sort_filter_and_search_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., Any]
) -> None:
    address = make_site(tmp_path, monkeypatch) / "index.html"
    plain, page = open_page(address, java_script_enabled=False), open_page(address)
    page.wait_for_selector("#rows th button")
    cells = "#rows tbody td"
    assert page.locator(cells).all_inner_texts() == plain.locator(cells).all_inner_texts()
    users = "#rows tbody td:nth-child(6)"
    for order in (["1", "4"], ["4", "1"]):
        page.click("#rows th[data-name=users] button")
        assert page.locator(users).all_inner_texts() == order
    page.select_option("[name=users]", "4")
    assert page.inner_text("#status") == "1 of 2 rows."
    page.fill("[name=q]", "no such thing")
    assert page.inner_text("#status") == "0 of 2 rows."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anybody_from_a_page(
    scheme: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    open_page: Callable[..., Any],
    serious: Callable[[Any], list[str]],
) -> None:
    folder = make_site(tmp_path, monkeypatch)
    for path in sorted(folder.rglob("*.html")):
        page = open_page(path, color_scheme=scheme, viewport={"width": 390, "height": 800})
        assert serious(page) == [], path.name
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{path.name} is {wide} px wide"


def test_the_keyboard_alone_sorts_filters_and_opens_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., Any]
) -> None:
    page = open_page(make_site(tmp_path, monkeypatch) / "index.html")
    page.wait_for_selector("#rows th button")
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            "[document.activeElement.tagName, document.activeElement.name || document.activeElement.textContent]"
        )
        if stop[0] == "BODY":
            break
        stops.append(tuple(stop))
        if stop == ["BUTTON", "users"]:
            page.keyboard.press("Enter")
            assert page.locator("th[aria-sort=ascending]").all_inner_texts() == ["users"]
    assert stops[0] == ("A", "Skip to the content")
    assert {("INPUT", "q"), ("SELECT", "users"), ("BUTTON", "Reset"), ("BUTTON", "users")} <= set(stops)
    page.focus("#rows tbody td:last-child a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/result/*.html")
    assert "RTX 4090" in page.inner_text("h1")


def test_a_device_is_predicted_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., Any]
) -> None:
    page = open_page(make_site(tmp_path, monkeypatch) / "predict.html")
    page.select_option("[name=device]", "rtx-4090")
    page.wait_for_selector("#predictions tbody tr")
    page.fill("[name=model]", "llama-3.1-8b")
    (line,) = page.locator("#predictions tbody tr").all_inner_texts()
    assert "llama-3.1-8b" in line and "undefined" not in line and "NaN" not in line


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of `rigbench serve`, a process of its own, in the folder of the test."""
    (tmp_path / "results").mkdir()
    command = [sys.executable, "-m", "rigbench", "serve", "results", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield re.findall(r"http://[^/]+", server.stdout.readline())[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 130


def test_the_live_page_follows_a_run(served: str, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """Cases appear while the run goes on; then it says that none does."""
    page = open_page(f"{served}/live.html")
    idle = page.get_by_text("No run is going on.")
    idle.wait_for(timeout=60_000)
    words = ["-b", "sim", "-O", "pace=real", "-O", "bandwidth_gb_per_s=20", "-m", "synthetic:llama-160m:Q4_0"]
    size = ["-p", "16", "-n", "300", "-u", "1,2,3", "-r", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "rigbench", "run", *words, *size], cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as run:
        page.wait_for_selector("#cases tbody tr", timeout=120_000)
        assert run.poll() is None, "it was shown after the run only"
        assert re.fullmatch(r"Suite custom on .+: [1-5] of 6 cases are done\.", page.inner_text("#status"))
        cells = page.locator("#cases tbody tr").first.locator("td").all_inner_texts()
        assert "p16-n300" in cells[0] and all(float(text) > 0 for text in cells[2:4]), cells
        page.screenshot(path=tmp_path / "live.png")
        assert run.wait() == 0
    idle.wait_for(timeout=60_000)
