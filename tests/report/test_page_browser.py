"""The page of results in real Chromium: every way of looking at it, by keyboard, and what axe-core says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device_documents import device_document, rederived
from rigbench.cli.main import main

pytestmark = pytest.mark.slow
pytest.importorskip("playwright.sync_api")
SAMPLE = next((Path(__file__).parents[2] / "results").glob("*/*quickstart*.json"))
WAYS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 800}},
}


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    """Two results of one card with two drivers, one of a CPU, in one page."""
    files = [SAMPLE]
    for driver in ("580.1", "999.1"):
        content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1, users=(1, 4))
        content["machine"]["drivers"] = {"nvidia": driver}
        path = tmp_path / f"{driver}.json"
        path.write_text(json.dumps(rederived(content)))
        files.append(path)
    out = tmp_path / "report.html"
    assert main(["report", *map(str, files), "-o", str(out)]) == 0
    return out


@pytest.mark.parametrize("way", WAYS)
def test_it_reads_well_in_every_way(way: str, page_file: Path, open_page: Any, serious: Any) -> None:
    page = open_page(page_file, **WAYS[way])
    assert serious(page) == []
    width = WAYS[way]["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = [each.bounding_box() for each in page.locator("figure svg").all()]
    assert len(boxes) > 15 and all(box["width"] > 200 and box["height"] > 60 for box in boxes)
    outside = page.evaluate("""() => [...document.querySelectorAll('figure svg text')].filter(text => {
        const box = text.getBoundingClientRect(), svg = text.ownerSVGElement.getBoundingClientRect();
        return box.left < svg.left - 1 || box.right > svg.right + 1;
    }).map(text => text.textContent)""")
    assert outside == []


def test_on_paper_nothing_is_cut_off(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file, viewport={"width": 794, "height": 1123})
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == 794


def test_the_keyboard_reaches_every_table_and_opens_the_numbers(page_file: Path, open_page: Any) -> None:
    page = open_page(page_file)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    for each in page.locator(".scroll, summary").all():
        assert each.evaluate("node => [...document.querySelectorAll('*')].indexOf(node)") in reached
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert json.loads(page.locator("pre").first.inner_text())[0]["concurrency"] == 1
