"""Readings of a /proc that the test makes, and of this process itself where the system has one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rigbench.telemetry import host

STATUS = """Name:\tllama (deleted)
VmPeak:\t 2000000 kB
VmHWM:\t 1500000 kB
VmRSS:\t 1200000 kB
RssAnon:\t  300000 kB
RssFile:\t  899000 kB
RssShmem:\t    1000 kB
Threads:\t4
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux /proc")


def make_process(
    proc: Path, pid: int, parent: int, children: str | None, status: str = STATUS, ticks: int = 100
) -> None:
    folder = proc / str(pid)
    task = folder / "task" / str(pid)
    task.mkdir(parents=True)
    folder.joinpath("status").write_text(status)
    # user and system time are fields 14 and 15; the name holds a blank and a parenthesis, as names may
    folder.joinpath("stat").write_text(
        f"{pid} (a b) c) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} {ticks // 2} 30 20 20 0 1 0\n"
    )
    folder.joinpath("clear_refs").write_text("")
    if children is not None:
        task.joinpath("children").write_text(children)


def test_status_bytes() -> None:
    values = host.status_bytes(STATUS)
    assert values["VmHWM"] == 1_500_000 * 1024
    assert values["RssAnon"] + values["RssFile"] + values["RssShmem"] == values["VmRSS"]
    assert "Threads" not in values


@pytest.mark.parametrize("lists", [True, False])
def test_tree_adds_children_and_grandchildren(tmp_path: Path, lists: bool) -> None:
    make_process(tmp_path, 10, 1, "11 12 " if lists else None)
    make_process(tmp_path, 11, 10, "13" if lists else None)
    make_process(tmp_path, 12, 10, "" if lists else None)
    make_process(tmp_path, 13, 11, "" if lists else None)
    make_process(tmp_path, 99, 1, "" if lists else None)
    assert sorted(host.tree_pids(10, tmp_path)) == [10, 11, 12, 13]
    memory = host.tree_memory(10, tmp_path)
    assert memory == host.TreeMemory(
        rss_bytes=4 * 1_200_000 * 1024,
        anonymous_bytes=4 * 300_000 * 1024,
        file_backed_bytes=4 * 900_000 * 1024,
        hwm_bytes=4 * 1_500_000 * 1024,
        processes=4,
    )


def test_a_zombie_has_no_memory_and_a_dead_process_is_none(tmp_path: Path) -> None:
    make_process(tmp_path, 10, 1, "11")
    make_process(tmp_path, 11, 10, "", status="Name:\tdead\nState:\tZ (zombie)\n")
    memory = host.tree_memory(10, tmp_path)
    assert memory is not None and memory.processes == 1
    assert host.tree_memory(77, tmp_path) is None
    assert host.reset_peak(77, tmp_path) is False


def test_reset_writes_5_to_every_process(tmp_path: Path) -> None:
    make_process(tmp_path, 10, 1, "11")
    make_process(tmp_path, 11, 10, "")
    assert host.reset_peak(10, tmp_path) is True
    assert [(tmp_path / pid / "clear_refs").read_text() for pid in ("10", "11")] == ["5", "5"]


def test_reset_that_is_refused_is_false(tmp_path: Path) -> None:
    make_process(tmp_path, 10, 1, "")
    (tmp_path / "10" / "clear_refs").unlink()
    (tmp_path / "10" / "clear_refs").mkdir()  # cannot be written, also not by root
    assert host.reset_peak(10, tmp_path) is False


def test_cpu_times_leave_steal_and_guests_out_of_busy() -> None:
    times = host.cpu_times("cpu  1000 200 300 5000 50 10 40 77 900 0\ncpu0 1 2 3\n", 100)
    assert times == host.CpuTimes(busy_s=15.5, idle_s=50.5, steal_s=0.77)
    assert host.cpu_times("cpu  1 1 1 1 1 1 1\n", 100).steal_s is None


def test_host_sample(tmp_path: Path) -> None:
    make_process(tmp_path, 10, 1, "")
    ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    (tmp_path / "stat").write_text("cpu  1000 0 0 5000 0 0 0 0 0 0\n")
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nSwapTotal:  2000 kB\nSwapFree:  500 kB\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\npswpin 3\npswpout 5\n")
    cpufreq = tmp_path / "cpus"
    for cpu, khz in ((0, 3_000_000), (1, 4_000_000)):
        (cpufreq / f"cpu{cpu}" / "cpufreq").mkdir(parents=True)
        (cpufreq / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq").write_text(f"{khz}\n")
    sample = host.host_sample([10], tmp_path, cpufreq)
    assert sample.tree_cpu_s == 200 / ticks  # own 100 + 50, ended children 30 + 20
    assert sample.swap_used_bytes == 1500 * 1024
    page = os.sysconf("SC_PAGE_SIZE")
    assert (sample.swap_in_bytes, sample.swap_out_bytes) == (3 * page, 5 * page)
    assert sample.frequency_hz == 3.5e9


def test_throttled_time_of_intel_packages(tmp_path: Path) -> None:
    assert host.throttled_s(tmp_path) is None
    folder = tmp_path / "cpu0" / "thermal_throttle"
    folder.mkdir(parents=True)
    (folder / "package_throttle_total_time_ms").write_text("2500\n")
    assert host.throttled_s(tmp_path) == 2.5


def test_systems_without_proc_are_read_through_psutil(tmp_path: Path) -> None:
    none = tmp_path / "no-proc"
    assert os.getpid() in host.tree_pids(os.getpid(), none)
    memory = host.tree_memory(os.getpid(), none)
    assert memory is not None and memory.rss_bytes > 5e6 and memory.processes >= 1
    assert memory.anonymous_bytes is None and memory.file_backed_bytes is None
    sample = host.host_sample([os.getpid()], none)
    assert sample.tree_cpu_s > 0 and sample.cpu.busy_s >= sample.tree_cpu_s / 2
    assert sample.cpu.steal_s is None and sample.frequency_hz is None
    assert host.tree_memory(2**22 + 1, none) is None
    assert host.reset_peak(os.getpid(), none) is False


def test_no_cpufreq_is_none_not_zero(tmp_path: Path) -> None:
    assert host.mean_frequency_hz(tmp_path) is None


def test_caches_shared_by_cpus_count_once(tmp_path: Path) -> None:
    for cpu in range(4):
        for index, (level, size, shared) in enumerate(
            [(1, "32K", str(cpu)), (3, "16384K", "0-1" if cpu < 2 else "2-3")]
        ):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, value in (("level", str(level)), ("size", size), ("shared_cpu_list", shared)):
                (folder / name).write_text(value + "\n")
    assert host.last_level_cache_bytes(tmp_path) == 2 * 16384 * 1024


def test_container_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert host.available_memory_bytes(tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert host.available_memory_bytes(tmp_path) > 1_000_000


@linux
def test_peak_of_a_real_child_is_seen_and_reset() -> None:
    code = "b = bytearray(64 << 20); b = None; print('freed', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        before = host.tree_memory(child.pid)
        assert before is not None and before.hwm_bytes is not None
        assert before.hwm_bytes - before.rss_bytes > 60 << 20
        if host.reset_peak(child.pid):
            after = host.tree_memory(child.pid)
            assert after is not None and after.hwm_bytes is not None
            assert after.hwm_bytes - after.rss_bytes < 8 << 20
        assert child.pid in host.tree_pids(os.getpid())
        child.stdin.write("\n")
        child.stdin.close()
