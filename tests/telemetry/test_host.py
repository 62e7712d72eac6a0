"""Readings of a /proc that the test makes, and of this process itself where the system has one."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from rigbench.analysis import flags
from rigbench.records import PhaseMark, Series
from rigbench.telemetry import host
from rigbench.telemetry.base import Missing

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


def make_process(proc: Path, pid: int, status: str = STATUS) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    folder.joinpath("status").write_text(status)
    folder.joinpath("clear_refs").write_text("")


def test_status_bytes() -> None:
    values = host.status_bytes(STATUS)
    assert values["VmHWM"] == 1_500_000 * 1024
    assert values["RssAnon"] + values["RssFile"] + values["RssShmem"] == values["VmRSS"]
    assert "Threads" not in values


def test_memory_of_a_tree_is_added_up(tmp_path: Path) -> None:
    for pid in (10, 11, 12):
        make_process(tmp_path, pid)
    assert host.memory_of([10, 11, 12], tmp_path) == host.TreeMemory(
        rss_bytes=3 * 1_200_000 * 1024,
        anonymous_bytes=3 * 300_000 * 1024,
        file_backed_bytes=3 * 900_000 * 1024,
        hwm_bytes=3 * 1_500_000 * 1024,
        processes=3,
    )


def test_a_zombie_has_no_memory_and_a_dead_process_is_none(tmp_path: Path) -> None:
    make_process(tmp_path, 10)
    make_process(tmp_path, 11, status="Name:\tdead\nState:\tZ (zombie)\n")
    memory = host.memory_of([10, 11], tmp_path)
    assert memory is not None and memory.processes == 1
    assert host.tree_memory(2**22 + 1) is None
    assert host.reset_peak(2**22 + 1) is False


def test_reset_writes_5_to_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "tree_pids", lambda pid: (10, 11))
    make_process(tmp_path, 10)
    make_process(tmp_path, 11)
    assert host.reset_peak(10, tmp_path) is True
    assert [(tmp_path / pid / "clear_refs").read_text() for pid in ("10", "11")] == ["5", "5"]
    (tmp_path / "10" / "clear_refs").unlink()
    (tmp_path / "10" / "clear_refs").mkdir()  # cannot be written, also not by root
    assert host.reset_peak(10, tmp_path) is False


def test_busy_is_without_steal_waiting_and_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    linux_times = namedtuple("linux_times", "user nice system idle iowait irq softirq steal guest guest_nice")
    monkeypatch.setattr(psutil, "cpu_times", lambda: linux_times(10, 2, 3, 50, 0.5, 0.1, 0.4, 0.77, 9, 0))
    assert host.busy_s() == pytest.approx(15.5)
    windows_times = namedtuple("windows_times", "user system idle interrupt dpc")
    monkeypatch.setattr(psutil, "cpu_times", lambda: windows_times(10, 3, 50, 1, 1))
    assert host.busy_s() == 13


@pytest.mark.parametrize(("system", "swapped"), [("linux", [3.0, 5.0]), ("darwin", [host.NOT_KNOWN] * 2)])
def test_only_linux_counts_what_went_to_swap(
    system: str, swapped: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """psutil's figures on macOS count pages read from files, and on Windows they are 0."""
    swap = types.SimpleNamespace(used=1500, sin=3, sout=5)
    source = host.HostSource()
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap)
    monkeypatch.setattr(sys, "platform", system)
    values = dict(zip((metric.name for metric in source.metrics), source.read(source.metrics), strict=True))
    assert values["swap_used"] == 1500 and [values["swap_in"], values["swap_out"]] == swapped


def test_mean_frequency(tmp_path: Path) -> None:
    assert host.mean_frequency_hz(tmp_path) is None
    for cpu, khz in ((0, 3_000_000), (1, 4_000_000)):
        (tmp_path / f"cpu{cpu}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq").write_text(f"{khz}\n")
    assert host.mean_frequency_hz(tmp_path) == 3.5e9


def test_throttled_time_of_intel_packages(tmp_path: Path) -> None:
    assert host.throttled_s(tmp_path) is None
    folder = tmp_path / "cpu0" / "thermal_throttle"
    folder.mkdir(parents=True)
    (folder / "package_throttle_total_time_ms").write_text("2500\n")
    assert host.throttled_s(tmp_path) == 2.5


def test_systems_without_proc_tell_resident_memory_alone(tmp_path: Path) -> None:
    memory = host.tree_memory(os.getpid(), tmp_path / "no-proc")
    assert memory is not None and memory.rss_bytes > 5e6 and memory.processes >= 1
    assert memory.anonymous_bytes is None and memory.file_backed_bytes is None
    assert host.memory_of([2**22 + 1], tmp_path / "no-proc") is None
    assert host.reset_peak(os.getpid(), tmp_path / "no-proc") is False


def test_a_tree_has_children_and_grandchildren_and_their_time() -> None:
    burn = "import time; end = time.process_time() + 0.08\nwhile time.process_time() < end: pass"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {burn + chr(10) + 'print(1, flush=True); input()'!r}])\n"
        "child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        mine = host.tree_pids(os.getpid())
        assert mine[0] == os.getpid() and child.pid in mine
        (below,) = [pid for pid in host.tree_pids(child.pid) if pid != child.pid]
        assert below in mine and host.process_cpu_s(psutil.Process(below)) >= 0.05
        child.stdin.write("\n")
        child.stdin.close()
    assert host.tree_pids(child.pid) == (child.pid,)


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
    assert host.available_memory_bytes(tmp_path, tmp_path) == 600_000
    assert host.memory_bytes(tmp_path, tmp_path) == 1_000_000
    (tmp_path / "memory.stat").write_text("anon 10\ninactive_file 350000\nactive_file 50000\n")
    assert host.available_memory_bytes(tmp_path, tmp_path) == 950_000  # files that are kept for nobody
    (tmp_path / "memory.max").write_text("max\n")
    assert host.available_memory_bytes(tmp_path, tmp_path) > 1_000_000
    assert host.memory_bytes(tmp_path, tmp_path) == psutil.virtual_memory().total


def own_group(root: Path, line: str, folder: str, **files: str) -> tuple[Path, Path]:
    """(cgroup, proc) of a process in this group."""
    (root / "self").mkdir(parents=True)
    (root / "self/cgroup").write_text(line + "\n")
    place = root / "cgroup" / folder
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text + "\n")
    return root / "cgroup", root


def test_limits_of_the_own_group_and_of_its_parents_count(tmp_path: Path) -> None:
    groups = own_group(tmp_path / "v2", "0::/user.slice/run.scope", "user.slice/run.scope", cpu__max="max 100000")
    (groups[0] / "user.slice/cpu.max").write_text("400000 100000\n")
    assert host.quota_cores(*groups) == 4.0
    assert host.available_memory_bytes(*groups) > 1_000_000


def test_limits_of_version_1_count(tmp_path: Path) -> None:
    line, folder = "4:cpu,cpuacct:/docker/abc", "cpu,cpuacct/docker/abc"
    groups = own_group(tmp_path / "cpu", line, folder, cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert host.quota_cores(*groups) == 2.0
    (groups[0] / folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert host.quota_cores(*groups) is None
    files = {"memory__limit_in_bytes": "1000000", "memory__usage_in_bytes": "900000"}
    groups = own_group(tmp_path / "memory", "9:memory:/docker/abc", "memory/docker/abc", **files)
    assert host.available_memory_bytes(*groups) == 100_000
    assert host.memory_bytes(*groups) == 1_000_000


def test_a_quota_that_stops_the_engine_is_flagged(tmp_path: Path) -> None:
    stat = "nr_periods 100\nnr_throttled 46\nthrottled_usec 5\n"
    groups = own_group(tmp_path, "0::/", "", cpu__stat=stat)
    assert host.quota_periods(*groups) == (100.0, 46.0)
    own = ("1", "host", "cgroup cpu.stat", "host", "counter", "ok")
    readings = [
        Series(name, *own, time_us=(0, 5_000_000), values=values)
        for name, values in (("quota_periods", (100.0, 156.0)), ("quota_throttled", (46.0, 92.0)))
    ]
    (flag,) = flags.reading_flags(readings, [PhaseMark("measure", 0, 5_000_000)], 16)
    assert (flag.name, flag.evidence) == (
        "quota",
        "the container's CPU quota stopped the processes in 82% of its periods",
    )


def test_an_arm_board_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    lines = [
        f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {'0xd87' if n < 10 else '0xd85'}\n" for n in range(20)
    ]
    (tmp_path / "proc/cpuinfo").write_text("\n".join(lines))
    assert host.cpu_name(tmp_path / "proc", tmp_path) == "10x Cortex-A725, 10x Cortex-X925"
    (tmp_path / "class/dmi/id").mkdir(parents=True)
    (tmp_path / "class/dmi/id/product_name").write_text("NVIDIA_DGX_Spark\n")
    assert host.cpu_name(tmp_path / "proc", tmp_path) == "NVIDIA_DGX_Spark (10x Cortex-A725, 10x Cortex-X925)"
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson AGX Orin\0")
    assert host.cpu_name(tmp_path / "proc", tmp_path).startswith("NVIDIA Jetson AGX Orin (")


def test_the_time_of_a_process_that_has_ended_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows do not add it to its parent's, and its load would pass for another program's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    source = host.HostSource()
    monkeypatch.setattr(host, "process_cpu_s", lambda process: {1: 100.0, 2: 40.0}.get(process.pid, 0.0))
    alive = [types.SimpleNamespace(pid=1), types.SimpleNamespace(pid=2)]
    monkeypatch.setattr(host.Tree, "processes", lambda tree: [])
    monkeypatch.setattr(host, "memory_of", lambda pids: None)
    ours = [metric for metric in source.metrics if metric.name == "cpu_ours"]
    source._own = alive[0]
    for processes, seconds in ((alive, 140.0), (alive[:1], 140.0)):
        monkeypatch.setattr(host.Tree, "processes", lambda tree, processes=processes: processes)
        monkeypatch.setattr(host, "process_cpu_s", lambda process: {1: 100.0, 2: 40.0}[process.pid])
        assert source.read(ours) == [seconds]


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


@linux
def test_this_process_is_read_for_real() -> None:
    source = host.HostSource()
    before = dict(zip((m.name for m in source.metrics), source.read(source.metrics), strict=True))
    assert before["rss"] == Missing("no worker is running")
    assert isinstance(before["cpu_busy"], float) and isinstance(before["cpu_ours"], float)
    assert before["cpu_busy"] >= before["cpu_ours"] > 0
    source.watch(os.getpid())
    after = dict(zip((m.name for m in source.metrics), source.read(source.metrics), strict=True))
    total, anonymous, backed = after["rss"], after["rss_anonymous"], after["rss_file_backed"]
    assert not isinstance(total, Missing) and not isinstance(anonymous, Missing) and not isinstance(backed, Missing)
    assert total > 5e6 and total == anonymous + backed
