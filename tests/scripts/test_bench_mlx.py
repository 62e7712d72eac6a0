"""The benchmark beside mlx-lm's own: what that one prints, and the rate that follows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# mlx-lm 0.32.2 on a CPU: python -m mlx_lm.benchmark -p 32 -g 64 -b 1 -n 3
SAID = """\
Running warmup..
Timing with prompt_tokens=32, generation_tokens=64, batch_size=1.
Trial 1:  prompt_tps=301.422, generation_tps=96.000, peak_memory=0.010, total_time=0.779
Trial 2:  prompt_tps=311.018, generation_tps=64.000, peak_memory=0.010, total_time=1.114
Trial 3:  prompt_tps=299.971, generation_tps=128.000, peak_memory=0.010, total_time=0.613
Averages: prompt_tps=304.137, generation_tps=96.000, peak_memory=0.010
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("bench_mlx")
    for name in ("bench_mlx", "side_by_side", "llama_tools"):
        sys.modules.pop(name, None)


def test_one_user_counts_gaps_and_many_users_tokens(bench: ModuleType) -> None:
    """64 tokens at `96/s` took 64/96 s from the first to the last: 63 gaps, 94.5 a second."""
    assert bench.benchmark_tps(SAID, 1, 64) == pytest.approx(94.5)
    assert bench.benchmark_tps(SAID, 4, 64) == 96.0


def test_another_output_is_said(bench: ModuleType) -> None:
    with pytest.raises(SystemExit):
        bench.benchmark_tps("usage: benchmark.py [-h]", 1, 64)


def test_the_verdict_stands_in_the_table(bench: ModuleType) -> None:
    outcome = bench.Outcome("decode, 1 user", "t/s", "mlx_lm.benchmark -b 1", (102.0, 102.5), (100.0, 100.5))
    assert "| 102.25 | 100.25 | 1.0200 | 1.020 to 1.020 | ok |" in bench.table([outcome])
    off = bench.Outcome("decode, 4 users", "t/s", "mlx_lm.benchmark -b 4", (96.0,), (100.0,))
    assert bench.table([off]).endswith("OUTSIDE |")


def test_the_suite_is_one_that_rigbench_reads(bench: ModuleType, tmp_path: Path) -> None:
    from harness.suites.suite import load_suite

    path = tmp_path / "suite.toml"
    path.write_text(bench.suite_text("synthetic:tiny:4bit", "/opt/mlx/bin/python", users=4, prompt=32, output=64))
    suite = load_suite(str(path))
    assert suite.load.concurrency == [4]
    assert (suite.engine[0].backend, suite.engine[0].python) == ("mlx_lm", "/opt/mlx/bin/python")
