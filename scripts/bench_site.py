#!/usr/bin/env python3
"""How long `rigbench site` takes for thousands of results, how large its first page is, and how quick the page is in Chromium.

The documents are honest ones of catalogued machines, made by the simulator with noise (tests/device_documents.py).

nice -n -10 .venv/bin/python scripts/bench_site.py --documents 5000
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]

from bench_index import timed  # noqa: E402
from device_documents import device_document, rederived  # noqa: E402
from rigbench.predict.hardware import hardware  # noqa: E402

DEVICES = [each.id for each in hardware() if each.status == "shipping" and each.vendor != "cpu"][:60]
TIMES = """async () => {
  const measure = async (act) => {
    const start = performance.now();
    act();
    document.body.offsetHeight;
    return performance.now() - start;
  };
  const form = document.getElementById("filters"), times = {};
  const input = () => form.dispatchEvent(new Event("input", {bubbles: true}));
  times.sort = await measure(() => document.querySelector("#rows th[data-name=user_tps] button").click());
  times.filter = await measure(() => { form.elements.users.value = "4"; input(); });
  times.search = await measure(() => { form.elements.q.value = "rtx 30"; input(); });
  return times;
}"""


@cache
def base(device: str) -> str:
    """An honest result of the device, which takes the simulator half a second."""
    return json.dumps(device_document(device, "llama-3.1-8b", "Q4_K_M", users=(1, 4, 8, 16)))


def write(folder: Path, number: int) -> None:
    """One result: another honest one, whose steps took some microseconds more or less, and all that follows from them."""
    luck, device = random.Random(number), DEVICES[number % len(DEVICES)]
    content = json.loads(base(device))
    content["created_utc"] = f"2026-{1 + number % 9:02d}-{1 + number % 28:02d}T{number % 24:02d}:00:00Z"
    for result in content["cases"]:
        records = result["requests"]
        later, new = 0, {}
        for at in sorted({at for record in records for at in (record["submit_us"], *record["unit_us"])}):
            new[at] = at + later
            later += luck.randrange(4)
        for record in records:
            record["submit_us"] = new[record["submit_us"]]
            record["unit_us"] = [new[at] for at in record["unit_us"]]
    path = folder / device / f"{number:05d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rederived(content)), encoding="utf-8")


def browse(site: Path, chromium: str | None) -> None:
    """Times of the page in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((site / "index.html").as_uri())
        page.wait_for_function("board.chunks === Number(document.getElementById('filters').dataset.chunks)")
        times = page.evaluate(TIMES)
        browser.close()
    print(", ".join(f"{name} {value:.0f} ms" for name, value in times.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rigbench-bench-site-"))
    try:
        results, site = folder / "results", folder / "site"
        with ProcessPoolExecutor() as pool:
            list(pool.map(write, [results] * options.documents, range(options.documents), chunksize=16))
        timed("index, all new (every document is validated)", ["index", str(results)])
        timed("site, all new", ["site", str(results), "-o", str(site)])
        timed("site, nothing changed", ["site", str(results), "-o", str(site)])
        first = ["index.html", "style.css", "site.js", "icon.svg", "rows-0.js"]
        print(f"first page {sum((site / name).stat().st_size for name in first) / 1e3:.0f} kB")
        browse(site, options.chromium)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
