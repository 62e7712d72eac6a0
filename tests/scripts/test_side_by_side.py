"""The benchmarks of the harness itself: order of the pairs, the ratio, and what llama.cpp's tools print."""

from __future__ import annotations

import json
import math
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

import rigbench_backends

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    import importlib

    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = signal.getsignal(signal.SIGTERM)
    yield importlib.import_module
    signal.signal(signal.SIGTERM, before)
    for name in ("side_by_side", "llama_tools", "bench_parity", "bench_overhead"):
        sys.modules.pop(name, None)


def test_pairs_are_measured_in_turn(scripts: Callable[[str], ModuleType]) -> None:
    side_by_side = scripts("side_by_side")
    calls: list[str] = []
    ours, theirs = iter([98.0, 99.0, 103.0]), iter([100.0, 100.0, 101.0])

    def measure(name: str, values: Iterator[float]) -> Callable[[], float]:
        return lambda: calls.append(name) or next(values)

    pair = side_by_side.Comparison("decode", "t/s", "tool", measure("A", ours), measure("B", theirs))
    (outcome,) = side_by_side.in_turn([pair], 3)
    assert calls == ["A", "B", "B", "A", "A", "B"]
    assert outcome.ratios == pytest.approx([0.98, 0.99, 103 / 101])
    assert outcome.differences == [-2.0, -1.0, 2.0]


def test_interval_of_a_median_holds_the_truth_as_often_as_it_says(scripts: Callable[[str], ModuleType]) -> None:
    interval = scripts("side_by_side").median_interval
    assert interval([3.0]) == (3.0, 3.0)
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert interval(range(1, 7)) == (1, 6)  # all six on one side: 1/32 for both sides together
    assert interval(range(1, 26)) == (8, 18)  # as tables of the sign test have it
    draw = random.Random(1)
    intervals = [interval([draw.expovariate(1.0) for _ in range(40)]) for _ in range(2000)]
    covered = sum(low <= math.log(2) <= high for low, high in intervals)
    assert 0.94 < covered / 2000 < 0.99


@pytest.mark.skipif(sys.platform == "win32", reason="nothing can be stopped there")
def test_a_held_tool_stands_still_until_its_turn(scripts: Callable[[str], ModuleType]) -> None:
    """Its other thread spins all the while: between two turns it must use no processor."""
    tool = """
import threading
def run():
    while True:
        pass
threading.Thread(target=run, daemon=True).start()
for turn in range(3):
    my_turn()
    figure(turn + 0.5)
    print("something of its own")
sys.exit("the tool's last words")
"""
    tool_in_turn = scripts("side_by_side").Paused(sys.executable, tool, [], {})
    try:
        assert tool_in_turn() == 0.5
        process = psutil.Process(tool_in_turn._process.pid)
        until = time.monotonic() + 10
        while process.status() != psutil.STATUS_STOPPED and time.monotonic() < until:
            time.sleep(0.01)  # a running thread takes the signal at its next turn
        used = process.cpu_times().user
        time.sleep(0.3)
        assert process.cpu_times().user == used
        assert [tool_in_turn(), tool_in_turn()] == [1.5, 2.5]
        with pytest.raises(SystemExit):
            tool_in_turn()
    finally:
        tool_in_turn.close()
    assert not psutil.pid_exists(process.pid)


def test_each_sitting_opens_anew_and_its_pairs_are_added(scripts: Callable[[str], ModuleType]) -> None:
    side_by_side = scripts("side_by_side")
    opened: list[int] = []

    @contextmanager
    def open_pairs() -> Iterator[list[Any]]:
        opened.append(len(opened) + 1)
        yield [side_by_side.Comparison("decode", "t/s", "tool", lambda: float(opened[-1]), lambda: 2.0)]

    (outcome,) = side_by_side.in_sittings(open_pairs, 3, 2)
    assert (outcome.ours, outcome.theirs) == ((1.0, 1.0, 2.0, 2.0, 3.0, 3.0), (2.0,) * 6)


def test_ctrl_c_keeps_the_whole_pairs(scripts: Callable[[str], ModuleType]) -> None:
    side_by_side = scripts("side_by_side")

    def stop() -> float:
        raise KeyboardInterrupt

    whole = side_by_side.Comparison("first", "t/s", "tool", lambda: 2.0, lambda: 4.0)
    half = side_by_side.Comparison("second", "t/s", "tool", lambda: 2.0, stop)
    (outcome,) = side_by_side.in_turn([whole, half], 5)
    assert (outcome.name, outcome.ours, outcome.theirs) == ("first", (2.0,), (4.0,))


def test_limits_and_verdicts(scripts: Callable[[str], ModuleType]) -> None:
    side_by_side, bench_parity = scripts("side_by_side"), scripts("bench_parity")

    def verdict(name: str, unit: str, ours: float) -> str:
        outcome = side_by_side.Outcome(name, unit, "tool", (ours,), (100.0,))
        return str(side_by_side.ratio_table([outcome], bench_parity.limit_of).splitlines()[-1].split("|")[-2].strip())

    assert verdict("decode, 1 user", "user_tps", 98.1) == "ok"
    assert verdict("decode, 1 user", "user_tps", 97.9) == "OUTSIDE"
    assert verdict("decode, 1 user", "user_tps", 102.1) == "OUTSIDE"
    assert verdict("decode, 8 users in all", "output_tps", 95.1) == "ok"
    assert verdict("decode, 8 users in all", "output_tps", 94.9) == "OUTSIDE"
    assert verdict("prefill of 512", "prefill_tps", 97.1) == "ok"
    assert verdict("prefill of 512", "prefill_tps", 96.9) == "OUTSIDE"


def test_what_the_tools_print(scripts: Callable[[str], ModuleType]) -> None:
    llama_tools = scripts("llama_tools")
    # As llama-bench of llama.cpp 0.5.0 wrote it, less the fields that are not read.
    recorded = '[\n  {\n    "n_gen": 128,\n    "samples_ns": [ 630209000 ],\n    "samples_ts": [ 203.107 ]\n  }\n]'
    assert llama_tools.parse_bench(recorded) == [203.107]
    with pytest.raises(ValueError, match="one test was asked for and 0 came"):
        llama_tools.parse_bench("[\n\n]")
    line = {"n_kv_max": 2048, "pp": 128, "tg": 128, "pl": 8, "t_tg": 2.599, "speed_tg": 393.94693}
    rows = llama_tools.parse_batched(f"\nggml_init: something\n{json.dumps(line)}\n\nllama_perf: load time\n")
    assert rows == {8: line}


def test_both_sides_run_with_the_same_flags(scripts: Callable[[str], ModuleType]) -> None:
    llama_tools = scripts("llama_tools")
    flags = llama_tools.Flags(threads=2, flash_attn="on", type_k="q8_0", type_v="q8_0", kv_unified=True)
    assert " ".join(flags.words()) == "-t 2 -b 2048 -ub 512 -fa on -ctk q8_0 -ctv q8_0"
    options = rigbench_backends.load("llama_cpp").Options(
        **asdict(flags)
    )  # each is an option of ours under the same name
    assert (options.threads, options.flash_attn, options.type_k, options.kv_unified) == (2, "on", "q8_0", True)
