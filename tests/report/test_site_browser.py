"""The leaderboard in real Chromium: what Python printed is what the page prints, and sort, filter and search act."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from device_documents import device_document
from rigbench.report import site

play = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_sort_filter_and_search_act_without_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "devices", lambda: ())
    (tmp_path / "results").mkdir()
    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M")
    (tmp_path / "results" / "a.json").write_text(json.dumps(content))
    site.build(tmp_path / "results", tmp_path / "site", processes=1)
    errors: list[str] = []
    with play.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        address = (tmp_path / "site" / "index.html").as_uri()
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(address)
        page = browser.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#rows th button")
        cells = "#rows tbody td"
        assert page.locator(cells).all_inner_texts() == plain.locator(cells).all_inner_texts()
        page.click("#rows th[data-name=users] button")
        assert page.locator("#rows tbody td:nth-child(6)").all_inner_texts() == ["1", "4"]
        page.click("#rows th[data-name=users] button")
        assert page.locator("#rows tbody td:nth-child(6)").all_inner_texts() == ["4", "1"]
        page.select_option("[name=users]", "4")
        assert page.inner_text("#status") == "1 of 2 rows."
        page.fill("[name=q]", "no such thing")
        assert page.inner_text("#status") == "0 of 2 rows."
        browser.close()
    assert errors == []
