#!/usr/bin/env python3
"""What telemetry costs: the sampler's own CPU time, and the decode rate of real llama.cpp with it against without it
(ABBA).

    python scripts/bench_telemetry.py [--slices 80] [--replay RECORDED.json]

One worker decodes all the time: one user, random weights of a 160 M llama (made at first use), threads = all cores,
so that nothing is idle for the sampler to hide in. Meanwhile the sampler is switched off, on, on, off ... every
second. Each slice has a rate of its own from the tokens stamped in it (gaps between the tokens of one request; the
moment of switching is left out), and each pair of neighbours one ratio on / off, so that what the machine does over
minutes cancels: whole runs with and without would differ by several percent on a shared machine, which hides the 0.5
% that is looked for.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from rigbench.clock import now_ns
from rigbench.models.synthetic.gguf import ensure_synthetic
from rigbench.records import Case
from rigbench.run.processes import WorkerProcess, find_python
from rigbench.telemetry import open_sources
from rigbench.telemetry.base import Source, SourceOptions
from rigbench.telemetry.replay import ReplaySource
from rigbench.telemetry.sampler import Sampler
from rigbench.workloads import Generation

SHAPE, QUANT = "llama-160m", "Q4_0"
SLICE_S, SWITCHING_S, LEAD_S = 1.2, 0.2, 3.0
TOKENS = 256


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of the decoding with the sampler on or off; the first SWITCHING_S are not in it."""

    on: bool
    start_ns: int
    end_ns: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=80, help="of 1.2 s each, an even number (default 80)")
    parser.add_argument("--replay", help="recorded readings that stand in for a device that is not here")
    options = parser.parse_args()
    count = options.slices // 2 * 2
    worker = WorkerProcess(find_python(None))
    try:
        path = ensure_synthetic(SHAPE, QUANT)
        model = {"name": f"{SHAPE}-{QUANT}", "path": str(path), "format": "gguf"}
        answer(
            worker, {"do": "open", "backend": "llama_cpp", "model": model, "options": {"threads": os.cpu_count()}}, 120
        )
        switching = Switching(worker.pid, count, options.replay)
        switching.start()
        case = answer(worker, decode_for(count * SLICE_S + 2 * LEAD_S), count * SLICE_S + 300)
        switching.join()
    finally:
        worker.close()
    rates = [slice_rate(case, each) for each in switching.slices]
    pairs = [
        (a, b) if first.on else (b, a)
        for (first, a), (_, b) in zip(
            list(zip(switching.slices, rates, strict=True))[::2],
            list(zip(switching.slices, rates, strict=True))[1::2],
            strict=True,
        )
        if a and b
    ]
    ratios = [on / off for on, off in pairs]
    low, high = interval(ratios)
    shares = [report["sampler"]["cpu_share_of_a_core"] for report in switching.reports]
    print(f"sampler in its last slice: {account(switching.reports[-1])}")
    print(f"sampler CPU: median {statistics.median(shares):.3%} of a core, worst slice {max(shares):.3%}")
    print(
        f"decode, sampler off: median {statistics.median(off for _, off in pairs):.2f} tokens/s ({len(pairs)} slices)"
    )
    print(f"decode, sampler on:  median {statistics.median(on for on, _ in pairs):.2f} tokens/s")
    print(f"on / off: median of pairs {statistics.median(ratios):.4f}, 95 % interval {low:.4f} to {high:.4f}")
    return 0


class Switching(threading.Thread):
    """Switches the sampler off, on, on, off ... beside the decoding."""

    def __init__(self, pid: int, count: int, replay: str | None) -> None:
        super().__init__(daemon=True)
        self.pid, self.count, self.replay = pid, count, replay
        self.slices: list[Slice] = []
        self.reports: list[dict[str, Any]] = []

    def run(self) -> None:
        time.sleep(LEAD_S)
        for index in range(self.count):
            begin = now_ns()
            on = index % 4 in (1, 2)
            sampler = Sampler(self._sources()) if on else None
            if sampler is not None:
                sampler.watch(self.pid)
                sampler.start()
            end = begin + round(SLICE_S * 1e9)
            time.sleep(max(0.0, (end - now_ns()) * 1e-9))
            self.slices.append(Slice(on, begin + round(SWITCHING_S * 1e9), now_ns()))
            if sampler is not None:
                sampler.stop()
                self.reports.append(sampler.report())

    def _sources(self) -> list[Source]:
        """This machine's sources at their default rates, and the recorded ones."""
        return [*open_sources(SourceOptions()), *([ReplaySource.load(self.replay)] if self.replay else [])]


def decode_for(seconds: float) -> dict[str, Any]:
    """The worker's command: one user, one request after the other for so long."""
    case = Case(
        "bench", "bench", "llama_cpp", SHAPE, Generation("bench", "tokens", 16, TOKENS), 1, 1, 0, 1, duration_s=seconds
    )
    warmup = {"max_rounds": 0, "output_tokens": 1, "prompt_tokens": 1, "tolerance": 0.03}
    return {"do": "case", "case": asdict(case), "text": None, "warmup": warmup}


def slice_rate(case: dict[str, Any], each: Slice) -> float | None:
    """Tokens per second of the gaps between tokens of one request that lie in the slice."""
    start, end = ((at - case["t0_ns"]) // 1000 for at in (each.start_ns, each.end_ns))
    gaps = [
        later - earlier
        for request in case["requests"]
        for earlier, later in pairwise(request["unit_us"])
        if start <= earlier and later <= end
    ]
    return len(gaps) / (sum(gaps) * 1e-6) if gaps else None


def answer(worker: WorkerProcess, command: dict[str, Any], limit_s: float) -> dict[str, Any]:
    worker.send(command)
    deadline = time.monotonic() + limit_s
    while True:
        message = worker.receive(deadline)
        if message["event"] == "error":
            sys.exit(f"the worker says: {message['message']}")
        if message["event"] != "phase":
            return message


def account(report: dict[str, Any]) -> str:
    """One line of a sampler's account of itself."""
    total = report["sampler"]
    calls = ", ".join(
        f"{each['name']} p50 {each['call_p50_s'] * 1e6:.0f} us p99 {each['call_p99_s'] * 1e6:.0f} us"
        for each in report["sources"]
        if each["calls"]
    )
    return f"{total['calls']} calls, {total['late_ticks']} late ticks ({calls})"


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % of the medians of 2,000 samples drawn again from the ratios."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


if __name__ == "__main__":
    sys.exit(main())
