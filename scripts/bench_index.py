#!/usr/bin/env python3
"""How long `rigbench index` takes for thousands of documents, and how much memory: makes them in a temporary folder.

Each is a copy of a real one (given, or made by the simulator) with other times, machine, driver, day and its own honest id.

.venv/bin/python scripts/bench_index.py --documents 10000 [--from RESULT.json]
"""

import argparse
import contextlib
import copy
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rigbench.documents import index, store  # noqa: E402

MACHINES = 40
DRIVERS = [f"580.{minor}" for minor in (65, 76, 82, 95, 105, 126)]


def made_by_simulator(folder: Path) -> Path:
    """A document of the suite `quickstart`, in simulated time."""
    command = [sys.executable, "-m", "rigbench.cli.main", "run", "quickstart", "--backend", "sim", "-o", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return ROOT / done.stdout.rstrip().splitlines()[-1].removeprefix("result: ")


def varied(content: dict[str, Any], number: int) -> dict[str, Any]:
    """Another machine on another day, its times stretched by a few percent; the id is that of the content."""
    document = copy.deepcopy(content)
    luck = random.Random(number)
    document["machine"]["id"] = f"machine-{number % MACHINES}"
    document["machine"]["drivers"] = {"nvidia": DRIVERS[number // MACHINES % len(DRIVERS)]}
    day, hour = divmod(number // MACHINES, 24)
    document["created_utc"] = f"20{20 + day // 336:02d}-{1 + day % 336 // 28:02d}-{1 + day % 28:02d}T{hour:02d}:00:00Z"
    for result in document["cases"]:
        stretch = luck.gauss(1.05, 0.02)
        for record in result["requests"]:
            record["unit_us"] = [round(stretch * stamp) for stamp in record["unit_us"]]
    document["id"] = store.content_id(document)
    return document


def fill(folder: Path, content: dict[str, Any], count: int) -> int:
    """Write `count` variants below `folder`; their bytes."""
    written = 0
    for number in range(count):
        document = varied(content, number)
        path = folder / document["machine"]["id"] / f"{number:05d}-{document['id'][:8]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        written += path.write_text(json.dumps(document), encoding="utf-8")
    return written


def timed(what: str, arguments: list[str]) -> None:
    """Run rigbench with them; print time, time of the processors, and the largest sum of its processes' resident memory."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "rigbench.cli.main", *arguments]
    with tempfile.TemporaryFile("w+") as out:
        child = psutil.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        peak = 0
        while child.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, sum(each.memory_info().rss for each in (child, *child.children(recursive=True))))
            time.sleep(0.02)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        last = ([line for line in out.read().splitlines() if line.strip()] or [""])[-1][:90]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what}: {seconds:.2f} s ({cpu:.2f} s of processor), {peak / 1e6:.0f} MB, exit {child.returncode}   {last}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--from", dest="source", type=Path, help="A result document to vary.")
    parser.add_argument(
        "--folder", type=Path, help="Where to make them (default: a temporary folder, removed at the end)."
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rigbench-bench-index-"))
    try:
        source = options.source or made_by_simulator(folder / "source")
        results = folder / "results"
        if not results.exists():
            content = json.loads(source.read_text(encoding="utf-8"))
            written = fill(results, content, options.documents)
            print(f"{options.documents} documents of {written / options.documents / 1e3:.0f} kB", flush=True)
        (results / index.NAME).unlink(missing_ok=True)
        timed("index, all new", ["index", str(results)])
        timed("index, nothing changed", ["index", str(results)])
        first = next(results.rglob("*.json"))
        first.write_text(first.read_text(encoding="utf-8") + " ", encoding="utf-8")
        timed("index, one changed", ["index", str(results)])
        database = str(results / index.NAME)
        timed("query", ["query", "SELECT machine_id, median(user_tps) FROM cases GROUP BY ALL", "--index", database])
        timed("regress from the index", ["regress", "--index", database, "--axis", "driver"])
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
