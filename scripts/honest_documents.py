#!/usr/bin/env python3
"""How many honest documents `rigbench validate` refuses, or puts lower than they belong: none is wanted.

Three kinds: whole runs of the simulator through the product's own worker, journal and store, under drawn suites and options;
documents of a catalogued device (tests/device_documents.py); and, with --real, runs of llama.cpp on this machine.

Most of the time is the waiting of runs for a machine at rest, so several parts of the documents may be made at once.

.venv/bin/python scripts/honest_documents.py 1000 1 [--real 20] [--part 1/4]
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from device_documents import device_document  # noqa: E402
from rigbench.documents.validate import validate  # noqa: E402
from rigbench.models.shapes import shapes  # noqa: E402
from rigbench.predict import hardware  # noqa: E402
from rigbench.run import runner, start  # noqa: E402
from rigbench.suites.suite import EnginePart, parse_suite  # noqa: E402
from rigbench.telemetry import open_sources  # noqa: E402
from rigbench.telemetry.base import SourceOptions  # noqa: E402

QUANTS = ("Q4_0", "Q4_K_M", "Q6_K", "Q8_0", "F16")


def suite_of(luck: random.Random, users: list[int], tokens: int) -> Any:
    load = {"concurrency": users, "repetitions": luck.randint(1, 4), "requests_per_user": luck.randint(1, 3)}
    if luck.random() < 0.2:
        load["duration_s"] = luck.choice([0.5, 2.0])
    load["seed"] = luck.randrange(100)
    kinds = ("text", "tokens")
    workloads = [
        {"name": f"w{n}", "kind": luck.choice(kinds), "prompt_tokens": luck.randint(8, tokens),
         "output_tokens": luck.randint(2, tokens)}
        for n in range(luck.randint(1, 2))
    ]  # fmt: skip
    warmup = {"max_rounds": luck.randint(0, 5), "prompt_tokens": 16, "output_tokens": luck.choice([2, 8])}
    return parse_suite(
        {"name": "honest", "version": "1", "load": load, "warmup": warmup, "workload": workloads}, "made"
    )


def run(suite: Any, part: EnginePart, folder: Path, *, telemetry: bool) -> Path:
    """A run as `rigbench run` makes it; its document."""
    prepared = start.prepare(suite, [part], fetch=True, say=lambda text: None)
    work = start.begin(prepared, folder)
    work.sources = open_sources(SourceOptions(telemetry=telemetry))
    runner.execute(work)
    done = start.finish(work, folder, complete=True)
    assert done is not None
    return done[1]


def simulated(luck: random.Random, folder: Path) -> tuple[str, str, Path]:
    """(what it is, the level that it deserves, the document)."""
    model = f"synthetic:{luck.choice([name for name in shapes() if name != 'tiny'])}:{luck.choice(QUANTS)}"
    options: dict[str, Any] = {
        "bandwidth_gb_per_s": luck.choice([10.0, 100.0, 936.0]),
        "prefill_tps": luck.choice([50.0, 5000.0, 1e6]),
    }
    for name, value in (
        ("step_overhead_s", 0.001),
        ("tokens_per_chunk", 3),
        ("weight_bytes", 10**8),
        ("kv_bytes_per_token", 1000),
    ):
        if luck.random() < 0.25:
            options[name] = value
    if luck.random() < 0.1:
        options |= {"fault": luck.choice(["decode", "crash", "memory"]), "fault_users": 2}
    suite = suite_of(luck, luck.choice([[1], [1, 2], [1, 4, 16], [3]]), 60)
    telemetry = luck.random() < 0.7
    path = run(suite, EnginePart(backend="sim", model=model, options=options), folder, telemetry=telemetry)
    whole = all(result["error"] is None for result in json.loads(path.read_bytes())["cases"])
    return f"sim {model} {options}", "sound" if not telemetry else "complete" if whole else "physical", path


def of_device(luck: random.Random, folder: Path) -> tuple[str, str, Path]:
    device, model = luck.choice(hardware.hardware()).id, luck.choice(list(shapes()))
    quant, users = luck.choice(QUANTS), luck.choice([(1,), (1, 4), (8,), (1, 2, 16)])
    lengths = {
        "prompt": luck.choice([16, 64, 512]),
        "output": luck.choice([8, 16, 40, 100]),
        "requests": luck.choice([1, 2, 4]),
    }
    noise = luck.choice([0.001, 0.003, 0.01, 0.05])
    content = device_document(
        device, model, quant, luck.randrange(10**6), users, luck.randint(1, 5), noise=noise, **lengths
    )
    path = folder / "device.json"
    path.write_text(json.dumps(content))
    return f"{device} {model} {quant} {users} {lengths} {noise}", "complete", path


def real(luck: random.Random, folder: Path) -> tuple[str, str, Path]:
    model = f"synthetic:{luck.choice(['tiny', 'llama-160m', 'llama-160m'])}:{luck.choice(['Q4_0', 'Q8_0', 'Q4_K_M'])}"
    options = {"threads": luck.choice([1, 2])}
    suite = suite_of(luck, luck.choice([[1], [1, 2], [1, 4]]), 40)
    path = run(suite, EnginePart(backend="llama_cpp", model=model, options=options), folder, telemetry=True)
    return f"llama.cpp {model} {options}", "complete", path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--real", type=int, default=0, help="so many of them by llama.cpp on this machine")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every Nth of them, from the Kth on")
    options = parser.parse_args()
    first, step = map(int, options.part.split("/"))
    tally: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(first - 1, options.count, step):
            luck = random.Random(f"{options.seed}/{number}")
            kind = real if number < options.real else (simulated, of_device)[number % 2]
            what, deserved, path = kind(luck, Path(scratch))
            report = validate(path)
            state = (
                "refused"
                if report.faults
                else "as it deserves"
                if report.level == deserved
                else f"{report.level}, not {deserved}"
            )
            tally[kind.__name__, state] += 1
            if tally.total() % 50 == 0:
                print(f"{tally.total()} documents", file=sys.stderr, flush=True)
            if state != "as it deserves":
                print(number, what, state, *map(str, (report.faults or report.doubts)[:2]), sep="\n   ", flush=True)
            path.unlink()
    print("| kind | outcome | documents |\n|---|---|--:|")
    for (name, state), count in sorted(tally.items()):
        print(f"| {name} | {state} | {count} |")


if __name__ == "__main__":
    main()
