"""The host's readings, and the peak memory of a case made of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.records import HostMemory, Series
from harness.telemetry.host_source import HostSource, host_memory
from harness.telemetry.source import Missing

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux /proc")


def rss(*values: float | None, name: str = "rss", source: str = "host") -> Series:
    times = tuple(range(0, 500_000 * len(values), 500_000))
    return Series(name, "B", source, "t", "process", "sampled", "ok", None, None, times, values)


def proc_with(tmp_path: Path, pid: int, hwm_kb: int) -> Path:
    (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
    (tmp_path / str(pid) / "task" / str(pid) / "children").write_text("")
    (tmp_path / str(pid) / "status").write_text(f"VmHWM:\t{hwm_kb} kB\nVmRSS:\t100 kB\n")
    return tmp_path


def test_peak_from_the_high_water_mark_that_was_reset(tmp_path: Path) -> None:
    readings = [
        rss(1e9, 2e9, 1.5e9),
        rss(1e8, 3e8, name="rss_anonymous"),
        rss(9e8, 1.7e9, name="rss_file_backed"),
        rss(5e9, 5.5e9, 5.2e9, name="swap_used"),
    ]
    assert host_memory(readings, 10, True, proc_with(tmp_path, 10, 2_100_000)) == HostMemory(
        rss_peak_bytes=2_100_000 * 1024,
        anonymous_peak_bytes=300_000_000,
        file_backed_peak_bytes=1_700_000_000,
        swap_growth_bytes=500_000_000,
        method="VmHWM, reset at the start of the case",
    )


def test_peak_from_samples_where_the_mark_could_not_be_reset(tmp_path: Path) -> None:
    found = host_memory([rss(1e9, None, 2e9)], 10, False, proc_with(tmp_path, 10, 9_000_000))
    assert (found.rss_peak_bytes, found.method) == (2_000_000_000, "largest sample, every 0.5 s")
    assert found.anonymous_peak_bytes is None and found.swap_growth_bytes is None


def test_a_worker_that_has_died_leaves_its_samples(tmp_path: Path) -> None:
    found = host_memory([rss(1e9, 2e9)], 10, True, tmp_path)
    assert (found.rss_peak_bytes, found.method) == (2_000_000_000, "largest sample, every 0.5 s")


def test_nothing_read_is_null_with_a_reason(tmp_path: Path) -> None:
    found = host_memory([], None, False, tmp_path)
    assert found.rss_peak_bytes is None and found.method is None
    assert found.reason is not None and "was not read" in found.reason


@linux
def test_this_process_is_read_for_real() -> None:
    source = HostSource()
    before = dict(zip((m.name for m in source.metrics), source.read(source.metrics), strict=True))
    assert before["rss"] == Missing("no worker is running")
    assert isinstance(before["cpu_busy"], float) and isinstance(before["cpu_ours"], float)
    assert before["cpu_busy"] >= before["cpu_ours"] > 0
    source.watch(os.getpid())
    after = dict(zip((m.name for m in source.metrics), source.read(source.metrics), strict=True))
    total, anonymous, backed = after["rss"], after["rss_anonymous"], after["rss_file_backed"]
    assert not isinstance(total, Missing) and not isinstance(anonymous, Missing) and not isinstance(backed, Missing)
    assert total > 5e6 and total == anonymous + backed
