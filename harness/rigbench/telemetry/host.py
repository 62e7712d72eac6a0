"""What the host does while an engine runs: memory of its whole process tree, swap, steal, foreign load, frequencies.

Resident memory of a process is anonymous (heap, KV cache, compute buffers) plus file-backed (mmapped weights) plus
shared; the kernel keeps a high-water mark of the whole (`VmHWM`), which writing 5 to /proc/PID/clear_refs sets back
to what is resident now. The parts have no high-water mark, so the sampler reads them. CPU time is a counter: foreign
load is the busy time of all CPUs less that of our own processes; steal is time in which a virtual machine wanted a
CPU and was not given one.

    python -c "from rigbench.telemetry import host; print(host.tree_memory(1))"

Pure functions take the text of a /proc file, thin readers take `proc` (a folder), so that a test can hand in its own.
Other systems are read through psutil, which does not know file-backed memory there: None, never 0.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CPU_SYSFS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
RESET_PEAK_RSS = "5"
"""What /proc/PID/clear_refs takes to set VmHWM back to the present resident size (Linux 4.0 and newer; own processes
or root)."""


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """Bytes held by a process and all its descendants at one moment. `hwm` is the sum of each process's own
    high-water mark, so an upper bound of the tree's peak (and its exact peak where one process holds nearly all).
    None: the system cannot tell."""

    rss_bytes: int
    anonymous_bytes: int | None
    file_backed_bytes: int | None
    hwm_bytes: int | None
    processes: int


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of CPU time of the whole host since boot. `busy` is without idle, iowait, steal and guests' double
    count."""

    busy_s: float
    idle_s: float
    steal_s: float | None


@dataclass(frozen=True, slots=True)
class HostSample:
    """One reading of the host. `tree_cpu_s` is the CPU time of our own processes; counters count from boot or
    their start."""

    cpu: CpuTimes
    tree_cpu_s: float
    swap_used_bytes: int | None
    swap_in_bytes: int | None
    swap_out_bytes: int | None
    frequency_hz: float | None
    throttled_s: float | None


def status_bytes(text: str) -> dict[str, int]:
    """The memory lines of /proc/PID/status in bytes: {'VmHWM': ..., 'VmRSS': ..., 'RssAnon': ..., 'RssFile': ...,
    'RssShmem': ...}."""
    found = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if key.startswith(("Vm", "Rss")) and len(words) == 2 and words[1] == "kB":
            found[key] = int(words[0]) * 1024
    return found


def cpu_times(text: str, ticks_per_s: int) -> CpuTimes:
    """The first line of /proc/stat: user nice system idle iowait irq softirq steal guest guest_nice (guests are
    inside user)."""
    fields = [int(word) for word in text.split("\n", 1)[0].split()[1:]]
    user, nice, system, idle, iowait, irq, softirq = fields[:7]
    steal = fields[7] if len(fields) > 7 else None
    return CpuTimes(
        busy_s=(user + nice + system + irq + softirq) / ticks_per_s,
        idle_s=(idle + iowait) / ticks_per_s,
        steal_s=None if steal is None else steal / ticks_per_s,
    )


def process_cpu_s(stat: str, ticks_per_s: int) -> float:
    """User and system seconds of /proc/PID/stat, its ended children's with them.

    The name in parentheses may itself hold blanks and parentheses.
    """
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / ticks_per_s


def parent_pid(stat: str) -> int:
    """The parent's id from /proc/PID/stat."""
    return int(stat.rpartition(")")[2].split()[1])


def swap_bytes(meminfo: str) -> int | None:
    """Swap in use from /proc/meminfo; None where there are no such lines."""
    values = {line.partition(":")[0]: line.split() for line in meminfo.splitlines()}
    if "SwapTotal" not in values or "SwapFree" not in values:
        return None
    return (int(values["SwapTotal"][1]) - int(values["SwapFree"][1])) * 1024


def swap_traffic_pages(vmstat: str) -> tuple[int | None, int | None]:
    """Pages swapped in and out since boot, from /proc/vmstat."""
    values = dict(line.split() for line in vmstat.splitlines() if line.startswith(("pswpin ", "pswpout ")))
    return tuple(int(values[key]) if key in values else None for key in ("pswpin", "pswpout"))  # type: ignore[return-value]


def tree_pids(pid: int, proc: Path = PROC) -> tuple[int, ...]:
    """`pid` and its descendants, () when it is gone. From the kernel's own lists of children where it keeps them,
    else from every process's parent."""
    if not proc.is_dir():
        from rigbench.telemetry import host_psutil

        return host_psutil.tree_pids(pid)
    if not (proc / str(pid) / "task").is_dir():
        return ()
    found, at = [pid], 0
    while at < len(found):
        children = _children(found[at], proc)
        if children is None:
            return _tree_by_parents(pid, proc)
        found += [child for child in children if child not in found]
        at += 1
    return tuple(found)


def process_exists(pid: int) -> bool:
    """Whether a process of this id is seen from here (a container does not see those of its host)."""
    import psutil

    return bool(psutil.pid_exists(pid))


def tree_memory(pid: int, proc: Path = PROC) -> TreeMemory | None:
    """Memory of `pid` and its descendants now; None when the process is gone."""
    return memory_of(tree_pids(pid, proc), proc)


def memory_of(pids: Iterable[int], proc: Path = PROC) -> TreeMemory | None:
    """Memory of these processes together; None when all are gone."""
    if not proc.is_dir():
        from rigbench.telemetry import host_psutil

        return host_psutil.memory_of(pids)
    rss = anonymous = file_backed = hwm = processes = 0
    for each in pids:
        values = status_bytes(read_text(proc / str(each) / "status"))
        if "VmRSS" not in values:  # it ended between the listing and the reading, or is a zombie
            continue
        processes += 1
        rss += values["VmRSS"]
        hwm += values.get("VmHWM", values["VmRSS"])
        anonymous += values.get("RssAnon", 0)
        file_backed += values.get("RssFile", 0) + values.get("RssShmem", 0)
    return TreeMemory(rss, anonymous, file_backed, hwm, processes) if processes else None


def reset_peak(pid: int, proc: Path = PROC) -> bool:
    """Set the high-water mark of the tree back to its present size, so that the next VmHWM is the peak of one case
    alone.

    False where the system does not allow it for every process of the tree: the peak must then come from samples.
    """
    pids = tree_pids(pid, proc)
    try:
        for each in pids:
            (proc / str(each) / "clear_refs").write_text(RESET_PEAK_RSS)
    except OSError:
        return False
    return bool(pids)


def host_sample(pids: Iterable[int], proc: Path = PROC, cpu_sysfs: Path = CPU_SYSFS) -> HostSample:
    """CPU, swap and frequency now; `pids` are the processes that are ours (see tree_pids)."""
    if not (proc / "stat").is_file():
        from rigbench.telemetry import host_psutil

        return host_psutil.host_sample(pids)
    ticks = os.sysconf("SC_CLK_TCK")
    stats = [read_text(proc / str(each) / "stat") for each in pids]
    page = os.sysconf("SC_PAGE_SIZE")
    pages_in, pages_out = swap_traffic_pages(read_text(proc / "vmstat"))
    return HostSample(
        cpu=cpu_times(read_text(proc / "stat"), ticks),
        tree_cpu_s=sum(process_cpu_s(stat, ticks) for stat in stats if stat),
        swap_used_bytes=swap_bytes(read_text(proc / "meminfo")),
        swap_in_bytes=None if pages_in is None else pages_in * page,
        swap_out_bytes=None if pages_out is None else pages_out * page,
        frequency_hz=mean_frequency_hz(cpu_sysfs),
        throttled_s=throttled_s(cpu_sysfs),
    )


def mean_frequency_hz(cpu_sysfs: Path = CPU_SYSFS) -> float | None:
    """Mean of what cpufreq says of each CPU; None where there is none (most virtual machines)."""
    values = [read_text(path) for path in sorted(cpu_sysfs.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    known = [int(value) * 1000 for value in values if value.strip().isdigit()]
    return sum(known) / len(known) if known else None


def throttled_s(cpu_sysfs: Path = CPU_SYSFS) -> float | None:
    """Seconds that the first package was slowed for heat since boot; None where the processor does not count (only
    Intel's do)."""
    text = read_text(cpu_sysfs / "cpu0" / "thermal_throttle" / "package_throttle_total_time_ms").strip()
    return int(text) * 1e-3 if text.isdigit() else None


def last_level_cache_bytes(cpu_sysfs: Path = CPU_SYSFS) -> int | None:
    """All last-level caches of the machine together (a cache shared by several CPUs counts once); None where
    unknown."""
    caches: dict[tuple[int, str], int] = {}
    for index in cpu_sysfs.glob("cpu[0-9]*/cache/index[0-9]*"):
        size, level, shared = (read_text(index / name).strip() for name in ("size", "level", "shared_cpu_list"))
        if size.endswith("K") and level.isdigit():
            caches[int(level), shared or index.parent.parent.name] = int(size[:-1]) * 1024
    if caches:
        last = max(level for level, _ in caches)
        return sum(size for (level, _), size in caches.items() if level == last)
    if sys.platform == "darwin":
        sizes = [sysctl(f"hw.perflevel{n}.l2cachesize") for n in (0, 1)] + [sysctl("hw.l3cachesize")]
        return sum(int(size) for size in sizes if size and size.isdigit()) or None
    return None


def available_memory_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that can be had without swapping, within the limit of the container if there is one."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = (read_text(cgroup / name).strip() for name in ("memory.max", "memory.current"))
    return min(free, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else free


def usable_cores() -> int:
    """Physical cores that this process may run on (all logical ones where the physical ones are unknown)."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def cpu_name(proc: Path = PROC) -> str:
    """The processor's own name: 'AMD EPYC 9654 96-Core Processor', 'Apple M3 Ultra'."""
    if sys.platform == "darwin":
        return sysctl("machdep.cpu.brand_string") or platform.machine()
    for line in read_text(proc / "cpuinfo").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def sysctl(name: str) -> str | None:
    """A value of macOS's sysctl as text; None where there is no such name."""
    try:
        answer = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def read_text(path: Path) -> str:
    """The text of a small file, '' where there is none or it may not be read: a process can end between any two
    reads."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _children(pid: int, proc: Path) -> list[int] | None:
    """Children of all threads of `pid`; None where the kernel was built without these lists."""
    found = []
    for task in (proc / str(pid) / "task").glob("[0-9]*"):
        if not (task / "children").is_file() and task.is_dir():
            return None
        found += [int(word) for word in read_text(task / "children").split()]
    return found


def _tree_by_parents(pid: int, proc: Path) -> tuple[int, ...]:
    parents = {int(path.name): read_text(path / "stat") for path in proc.glob("[0-9]*")}
    found = [pid]
    for each in found:  # grows while it is walked
        found += [child for child, stat in parents.items() if stat and parent_pid(stat) == each and child not in found]
    return tuple(found)
