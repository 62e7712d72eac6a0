#!/usr/bin/env python3
"""What telemetry costs: the sampler's own CPU time, and `output_tps` of real llama.cpp with it against without it
(ABBA).

    python scripts/bench_telemetry.py [--pairs 20] [--tokens 256] [--replay RECORDED.json]

One worker, one model (random weights of a 160 M llama, made at first use), threads = all cores, so that nothing is
idle for the sampler to hide in. Cases follow each other as off on on off ...; each pair of neighbours gives one ratio
on / off, so that what the machine does over minutes cancels. `--replay` adds recorded readings to the sources of this
machine (a GPU's, say).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.analysis.metrics import case_metrics
from harness.models.synthetic import ensure_synthetic
from harness.records import Case, CaseResult, RequestRecord
from harness.run.processes import WorkerProcess, find_python
from harness.telemetry.replay import open_source
from harness.telemetry.sampler import Sampler
from harness.telemetry.source import Source, SourceOptions, open_sources

SHAPE, QUANT = "llama-160m", "Q4_0"
TIME_LIMIT_S = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--replay", help="recorded readings that stand in for a device that is not here")
    given = parser.parse_args()

    alone_s = 10.0
    print(f"sampler alone for {alone_s:g} s: {told(sampled_alone(alone_s, given.replay))}")
    worker = WorkerProcess(find_python(None))
    try:
        opened(worker)
        one_case(worker, 32)  # warms up
        rates: dict[bool, list[float]] = {False: [], True: []}
        reports = []
        for pair in range(given.pairs):
            for on in (False, True) if pair % 2 == 0 else (True, False):
                rate, report = measured(worker, given.tokens, on, given.replay)
                rates[on].append(rate)
                reports += [report] if report else []
    finally:
        worker.close()
    ratios = [on / off for on, off in zip(rates[True], rates[False], strict=True)]
    low, high = interval(ratios)
    print(f"sampler beside llama.cpp: {told(reports[-1])}")
    shares = [each["sampler"]["cpu_share_of_a_core"] for each in reports]
    print(f"sampler CPU: median {statistics.median(shares):.3%} of a core, worst {max(shares):.3%}")
    print(f"output_tps off: median {statistics.median(rates[False]):.2f} tokens/s ({given.pairs} cases)")
    print(f"output_tps on:  median {statistics.median(rates[True]):.2f} tokens/s")
    print(f"on / off: median of pairs {statistics.median(ratios):.4f}, 95 % interval {low:.4f} to {high:.4f}")
    return 0


def sources(replay: str | None) -> list[Source]:
    """This machine's sources at their default rates, and the recorded ones."""
    return [*open_sources(SourceOptions()), *([open_source(replay)] if replay else [])]


def sampled_alone(seconds: float, replay: str | None) -> dict[str, Any]:
    sampler = Sampler(sources(replay)).start()
    sampler.watch(os.getpid())
    time.sleep(seconds)
    sampler.stop()
    return sampler.report()


def told(report: dict[str, Any]) -> str:
    """One line of a sampler's account of itself."""
    total = report["sampler"]
    calls = ", ".join(
        f"{each['name']} p50 {each['call_p50_s'] * 1e6:.0f} us p99 {each['call_p99_s'] * 1e6:.0f} us"
        for each in report["sources"]
        if each["calls"]
    )
    share = total["cpu_share_of_a_core"]
    return f"{total['calls']} calls, {share:.3%} of a core, {total['late_ticks']} late ticks ({calls})"


def opened(worker: WorkerProcess) -> None:
    """Load the model."""
    path = ensure_synthetic(SHAPE, QUANT)
    model = {"name": f"{SHAPE}-{QUANT}", "path": str(path), "format": "gguf"}
    answer(worker, {"do": "open", "backend": "llama_cpp", "model": model, "options": {"threads": os.cpu_count()}})


def one_case(worker: WorkerProcess, tokens: int) -> float:
    """Tokens per second of one request of `tokens` output tokens."""
    case = Case("bench", "bench", "llama_cpp", SHAPE, "bench", "tokens", 32, tokens, 1, 1, 0, 1)
    found = answer(
        worker,
        {
            "do": "case",
            "case": asdict(case),
            "text": None,
            "warmup": {"max_rounds": 0, "output_tokens": 1, "prompt_tokens": 1, "tolerance": 0.03},
        },
    )
    requests = tuple(RequestRecord(**{**each, "token_us": tuple(each["token_us"])}) for each in found["requests"])
    rate = case_metrics(CaseResult(case, 0, 0.0, requests=requests)).output_tps
    if rate is None:
        sys.exit("the case was too short to have a steady window: give more --tokens")
    return rate


def measured(worker: WorkerProcess, tokens: int, on: bool, replay: str | None) -> tuple[float, dict[str, Any] | None]:
    """One case with the sampler or without, and the sampler's report."""
    if not on:
        return one_case(worker, tokens), None
    sampler = Sampler(sources(replay))
    sampler.watch(worker.pid)
    sampler.start()
    try:
        return one_case(worker, tokens), sampler.report()
    finally:
        sampler.stop()


def answer(worker: WorkerProcess, command: dict[str, Any]) -> dict[str, Any]:
    worker.send(command)
    while True:
        message = worker.receive(time.monotonic() + TIME_LIMIT_S)
        if message["event"] == "error":
            sys.exit(f"the worker says: {message['message']}")
        if message["event"] != "phase":
            return message


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % of the medians of 2,000 samples drawn again from the ratios."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


if __name__ == "__main__":
    sys.exit(main())
