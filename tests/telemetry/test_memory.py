"""Peak memory of a case out of its readings and the kernel's mark."""

from __future__ import annotations

from pathlib import Path

from rigbench.records import HostMemory, Series
from rigbench.telemetry.host import host_memory


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
    assert host_memory(readings, 10, True, proc=proc_with(tmp_path, 10, 2_100_000)) == HostMemory(
        rss_peak_bytes=2_100_000 * 1024,
        anonymous_peak_bytes=300_000_000,
        file_backed_peak_bytes=1_700_000_000,
        swap_growth_bytes=500_000_000,
        method="VmHWM, reset at the start of the case",
    )


def test_peak_from_samples_where_the_mark_could_not_be_reset(tmp_path: Path) -> None:
    memory = host_memory([rss(1e9, None, 2e9)], 10, False, proc=proc_with(tmp_path, 10, 9_000_000))
    assert (memory.rss_peak_bytes, memory.method) == (2_000_000_000, "largest sample, every 0.5 s")
    assert memory.anonymous_peak_bytes is None and memory.swap_growth_bytes is None


def test_a_process_that_has_ended_counts_where_it_was_sampled(tmp_path: Path) -> None:
    memory = host_memory([rss(1e9, 3e9, 1e9)], 10, True, proc=proc_with(tmp_path, 10, 2_100_000))
    assert (memory.rss_peak_bytes, memory.method) == (3_000_000_000, "largest sample, every 0.5 s")


def test_a_worker_that_has_died_leaves_its_samples(tmp_path: Path) -> None:
    memory = host_memory([rss(1e9, 2e9)], 10, True, proc=tmp_path)
    assert (memory.rss_peak_bytes, memory.method) == (2_000_000_000, "largest sample, every 0.5 s")


def test_nothing_read_is_null_with_a_reason(tmp_path: Path) -> None:
    memory = host_memory([], None, False, proc=tmp_path)
    assert memory.rss_peak_bytes is None and memory.method is None
    assert memory.reason is not None and "was not read" in memory.reason


def test_readings_before_the_case_do_not_count(tmp_path: Path) -> None:
    # While loading (the first second) the tree held 9 GB for a moment; the case itself 2 GB, and its own mark says 2.15.
    readings = [rss(1e9, 9e9, 2e9, 2e9), rss(1e9, 8e9, 3e8, 3e8, name="rss_anonymous")]
    proc = proc_with(tmp_path, 10, 2_100_000)
    exact = host_memory(readings, 10, True, 1_000_000, proc)
    assert (exact.rss_peak_bytes, exact.anonymous_peak_bytes) == (2_100_000 * 1024, 300_000_000)
    assert host_memory(readings, 10, False, 1_000_000, proc).rss_peak_bytes == 2_000_000_000
