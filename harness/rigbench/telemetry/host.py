"""The host while an engine runs: memory of its whole process tree, swap, steal, foreign load, frequencies.

Resident memory of a process is anonymous (heap, KV cache, compute buffers) plus file-backed (mmapped weights) plus
shared; Linux keeps a high-water mark of the whole (`VmHWM`), which writing 5 to /proc/PID/clear_refs sets back to what is
resident now. The parts have no high-water mark, so the sampler reads them. All that psutil has on every system comes from
it; what it does not know is None, never 0.

CPU times are counters in seconds over all cores: between two readings, (all busy - ours) / time is the number of cores
that other programs used; steal is time in which a virtual machine wanted a CPU and was not given one.

    python -c "from rigbench.telemetry import host; print(host.tree_memory(1))"
"""

from __future__ import annotations

import platform
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from rigbench.records import HostMemory, Series
from rigbench.telemetry import base
from rigbench.telemetry.base import Metric, Missing, Reading, Source, SourceOptions, output, read_text, whole

PROC = Path("/proc")
CPU_SYSFS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
RESET_PEAK_RSS = "5"
"""What sets VmHWM back to the present resident size (Linux 4.0 and newer; own processes or root)."""
NO_WORKER = Missing("no worker is running")
NOT_KNOWN = Missing("this system does not tell")


class HostSource(Source):
    """Read twice a second. CPU time of this process and of the worker's tree is ours."""

    name = "host"
    scope = "host"
    metrics = tuple(
        Metric(*quantity, api, scope, method, base.STATE_PERIOD_S, device)
        for quantity, api, scope, method, device in (
            (base.RSS, "/proc/PID/status of the process tree", "process", "sampled", None),
            (base.RSS_ANONYMOUS, "/proc/PID/status of the process tree", "process", "sampled", None),
            (base.RSS_FILE_BACKED, "/proc/PID/status of the process tree", "process", "sampled", None),
            (base.CPU_BUSY, "/proc/stat", "host", "counter", None),
            (base.CPU_OURS, "/proc/PID/stat of our own process tree", "host", "counter", None),
            (base.CPU_STEAL, "/proc/stat", "host", "counter", None),
            (base.QUOTA_PERIODS, "cgroup cpu.stat", "host", "counter", None),
            (base.QUOTA_THROTTLED, "cgroup cpu.stat", "host", "counter", None),
            (base.MEMORY_AVAILABLE, "/proc/meminfo", "host", "sampled", None),
            (base.THROTTLED_CPU, "package_throttle_total_time_ms", "host", "counter", "cpu"),
            (base.SWAP_USED, "/proc/meminfo", "host", "sampled", None),
            (base.SWAP_IN, "/proc/vmstat", "host", "counter", None),
            (base.SWAP_OUT, "/proc/vmstat", "host", "counter", None),
            (base.CPU_FREQUENCY, "cpufreq scaling_cur_freq", "host", "sampled", None),
        )
    )

    def __init__(self) -> None:
        self.devices = (cpu_name(),)
        self._own = psutil.Process()
        self._tree = Tree(None)
        self._ours_s: dict[int, float] = {}
        """The largest CPU time seen of each process: only Linux adds an ended one's to its parent."""

    @classmethod
    def open(cls, options: SourceOptions) -> Source:
        return cls()

    @classmethod
    def modes(cls, sysfs: Path = Path("/sys")) -> dict[str, str]:
        """cpufreq's governor and the firmware's profile, where Linux has them."""
        governor = read_text(sysfs / "devices/system/cpu/cpu0/cpufreq/scaling_governor")
        profile = read_text(sysfs / "firmware/acpi/platform_profile")
        return {name: mode for name, mode in {"cpu_governor": governor, "platform_profile": profile}.items() if mode}

    def watch(self, pid: int | None) -> None:
        self._tree = Tree(pid)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        worker = self._tree.processes()
        swap = psutil.swap_memory()
        # Elsewhere psutil has 0 for these (Windows), or what was read from files as well (macOS: see apple.py).
        swap_in, swap_out = (swap.sin, swap.sout) if sys.platform == "linux" else (None, None)
        memory = memory_of(process.pid for process in worker)
        ours_s = {process.pid: process_cpu_s(process) for process in (self._own, *worker)}
        if sys.platform != "linux":
            self._ours_s |= {pid: max(seconds, self._ours_s.get(pid, 0.0)) for pid, seconds in ours_s.items()}
            ours_s = self._ours_s
        periods, stopped = quota_periods()
        values: dict[str, float | Missing | None] = {
            base.CPU_BUSY.name: busy_s(),
            base.CPU_OURS.name: sum(ours_s.values()),
            base.QUOTA_PERIODS.name: periods,
            base.QUOTA_THROTTLED.name: stopped,
            base.MEMORY_AVAILABLE.name: available_memory_bytes(),
            base.CPU_STEAL.name: getattr(psutil.cpu_times(), "steal", None),
            base.THROTTLED_CPU.name: throttled_s(),
            base.SWAP_USED.name: swap.used,
            base.SWAP_IN.name: swap_in,
            base.SWAP_OUT.name: swap_out,
            base.CPU_FREQUENCY.name: mean_frequency_hz(),
            base.RSS.name: memory.rss_bytes if memory else NO_WORKER,
            base.RSS_ANONYMOUS.name: memory.anonymous_bytes if memory else NO_WORKER,
            base.RSS_FILE_BACKED.name: memory.file_backed_bytes if memory else NO_WORKER,
        }
        return [NOT_KNOWN if (value := values[metric.name]) is None else value for metric in metrics]


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """Bytes of a process and all its descendants at one moment. `hwm` is the sum of each process's own high-water mark, so
    an upper bound of the tree's peak (and its exact peak where one process has nearly all). None: the system cannot tell."""

    rss_bytes: int
    anonymous_bytes: int | None
    file_backed_bytes: int | None
    hwm_bytes: int | None
    processes: int


def status_bytes(text: str) -> dict[str, int]:
    """The memory lines of /proc/PID/status in bytes: VmHWM, VmRSS, RssAnon, RssFile, RssShmem ..."""
    return {name: int(size) * 1024 for name, size in re.findall(r"^((?:Vm|Rss)\w+):\s*(\d+) kB$", text, re.MULTILINE)}


def busy_s() -> float:
    """Seconds of CPU time of all cores since boot, without idle, iowait, steal, and guests (whom user time includes)."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, part, 0.0) for part in ("user", "nice", "system", "irq", "softirq")))


def process_cpu_s(process: psutil.Process) -> float:
    """User and system seconds, on Linux those of its ended children too; 0 once it is gone."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


class Tree:
    """A process and its descendants. They are listed anew at every eighth look: a tree changes rarely, and listing it costs
    more than reading it, for the parent of every process of the machine is asked for."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._known: list[psutil.Process] = []
        self._looks = 0

    def processes(self) -> list[psutil.Process]:
        """Those that lived at the last listing; [] when the first has ended, or there is none."""
        if self._pid is not None and self._looks % 8 == 0:
            try:
                root = psutil.Process(self._pid)
                self._known = [root, *root.children(recursive=True)]
            except psutil.Error:
                self._known = []
        self._looks += 1
        return self._known


def tree_pids(pid: int) -> tuple[int, ...]:
    """`pid` and its descendants now."""
    return (pid, *(process.pid for process in Tree(pid).processes()[1:]))


def tree_memory(pid: int, proc: Path = PROC) -> TreeMemory | None:
    """Memory of `pid` and its descendants now; None when the process is gone."""
    return memory_of(tree_pids(pid), proc)


def memory_of(pids: Iterable[int], proc: Path = PROC) -> TreeMemory | None:
    """Memory of these processes together; None when all are gone. Only Linux tells it by kind, and only Linux and Windows
    keep a peak."""
    known = [part for pid in pids if (part := _process_memory(pid, proc)) is not None]
    if not known:
        return None
    rss, *rest = zip(*known, strict=True)
    anonymous, file_backed, hwm = (None if None in each else sum(filter(None, each)) for each in rest)
    return TreeMemory(sum(filter(None, rss)), anonymous, file_backed, hwm, len(known))


def _process_memory(pid: int, proc: Path) -> tuple[int | None, ...] | None:
    """Resident, anonymous, file-backed and peak bytes; None where it ended between the listing and now, or is a zombie."""
    if not proc.is_dir():
        try:
            info = psutil.Process(pid).memory_info()
        except psutil.Error:
            return None
        return info.rss, None, None, getattr(info, "peak_wset", None)
    values = status_bytes(read_text(proc / str(pid) / "status"))
    if "VmRSS" not in values:
        return None
    shared = values.get("RssFile", 0) + values.get("RssShmem", 0)
    return values["VmRSS"], values.get("RssAnon", 0), shared, values.get("VmHWM", values["VmRSS"])


def reset_peak(pid: int, proc: Path = PROC) -> bool:
    """Set the high-water mark of the tree back to its present size, so that the next VmHWM is the peak of one case alone.

    False where the system does not allow it for every process of the tree: the peak must then come from samples.
    """
    try:
        for each in tree_pids(pid):
            (proc / str(each) / "clear_refs").write_text(RESET_PEAK_RSS)
    except OSError:
        return False
    return True


def host_memory(
    readings: Sequence[Series],
    pid: int | None,
    peak_was_reset: bool,
    start_us: int | None = None,
    proc: Path = PROC,
) -> HostMemory:
    """Peak memory of a case: the kernel's own high-water mark where it was reset at its start, else the largest sample; that too
    where it was larger, since processes that have ended (a compiler that the engine started) leave no mark.

    Call it while the worker still runs (a dead one leaves the samples). `readings` are the case's window of the sampler,
    `peak_was_reset` is what `host.reset_peak(pid)` answered at its start, `start_us` when that was: readings before it
    (idle time, loading) are another case's business.
    """

    def values(name: str) -> list[float]:
        own = [each for each in readings if each.source == "host" and each.name == name]
        read = [pair for each in own for pair in zip(each.time_us, each.values, strict=True)]
        return [value for at, value in read if value is not None and (start_us is None or at >= start_us)]

    def sampled(name: str) -> int | None:
        return round(max(samples)) if (samples := values(name)) else None

    memory = tree_memory(pid, proc) if pid is not None else None
    peak, method = sampled("rss"), f"largest sample, every {base.STATE_PERIOD_S:g} s"
    if peak_was_reset and memory is not None and memory.hwm_bytes is not None and memory.hwm_bytes >= (peak or 0):
        peak, method = memory.hwm_bytes, "VmHWM, reset at the start of the case"
        if memory.processes > 1:
            method += f", summed over {memory.processes} processes (an upper bound)"
    swap = values("swap_used")
    return HostMemory(
        rss_peak_bytes=peak,
        anonymous_peak_bytes=sampled("rss_anonymous"),
        file_backed_peak_bytes=sampled("rss_file_backed"),
        swap_growth_bytes=round(max(swap) - swap[0]) if swap else None,
        method=None if peak is None else method,
        reason="the worker's memory was not read (telemetry off, or the worker had ended)" if peak is None else None,
    )


def mean_frequency_hz(cpu_sysfs: Path = CPU_SYSFS) -> float | None:
    """Mean of what cpufreq says of each CPU; None where there is none (most virtual machines)."""
    files = cpu_sysfs.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    known = [khz * 1000 for path in files if (khz := whole(read_text(path))) is not None]
    return sum(known) / len(known) if known else None


def throttled_s(cpu_sysfs: Path = CPU_SYSFS) -> float | None:
    """Seconds that the first package was slowed for heat since boot; None where the processor does not count (only Intel's)."""
    counted_ms = whole(read_text(cpu_sysfs / "cpu0" / "thermal_throttle" / "package_throttle_total_time_ms"))
    return None if counted_ms is None else counted_ms * 1e-3


def last_level_cache_bytes(cpu_sysfs: Path = CPU_SYSFS) -> int | None:
    """All last-level caches of the machine together (one shared by several CPUs counts once); None where unknown."""
    caches: dict[tuple[int, str], int] = {}
    for index in cpu_sysfs.glob("cpu[0-9]*/cache/index[0-9]*"):
        size, level, shared = (read_text(index / name) for name in ("size", "level", "shared_cpu_list"))
        if size.endswith("K") and level.isdigit():
            caches[int(level), shared or index.parent.parent.name] = int(size[:-1]) * 1024
    if caches:
        last = max(level for level, _ in caches)
        return sum(size for (level, _), size in caches.items() if level == last)
    names = ("hw.perflevel0.l2cachesize", "hw.perflevel1.l2cachesize", "hw.l3cachesize")
    return sum(whole(sysctl(name)) or 0 for name in names) or None if sys.platform == "darwin" else None


def own_groups(controller: str, cgroup: Path = CGROUP, proc: Path = PROC) -> list[Path]:
    """Folders of the control groups that bind this process, its own first: of version 2, or of a controller of version 1. Of a
    container that sees its own group as the root, the root alone."""
    groups = [cgroup]
    for line in read_text(proc / "self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = cgroup / names if names else cgroup
        root = root if root.is_dir() else cgroup / controller
        inside = [root.joinpath(*Path(path).parts[1:end]) for end in range(len(Path(path).parts), 0, -1)]
        groups = [folder for folder in inside if folder.is_dir()] + groups
    return groups


def _memory_limits(cgroup: Path, proc: Path) -> Iterator[tuple[int, int, int]]:
    """(limit, memory in use, of it files that the kernel keeps for nobody) of each group that has a limit."""
    for group in own_groups("memory", cgroup, proc):
        statistics = dict(re.findall(r"^(\w+) (\d+)$", read_text(group / "memory.stat"), re.MULTILINE))
        inactive = int(statistics.get("total_inactive_file") or statistics.get("inactive_file") or 0)
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = (whole(read_text(group / name)) for name in (limit_name, used_name))
            if limit is not None and used is not None:
                yield limit, used, inactive


def available_memory_bytes(cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """Memory that can be had without swapping, within the limits of the container if there are any. Files that the kernel keeps for
    nobody count as free."""
    left = (max(0, limit - used + inactive) for limit, used, inactive in _memory_limits(cgroup, proc))
    return min([int(psutil.virtual_memory().available), *left])


def memory_bytes(cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """All memory that processes may have here: the machine's, or what the container allows."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, *_ in _memory_limits(cgroup, proc))])


def quota_cores(cgroup: Path = CGROUP, proc: Path = PROC) -> float | None:
    """Processors' worth of time that the container may use; None without a quota."""
    quotas = []
    for group in own_groups("cpu", cgroup, proc):
        words = read_text(group / "cpu.max").split()
        words = words or [read_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        quota, period = (whole(word) for word in words[:2]) if len(words) >= 2 else (None, None)
        if quota and period:  # version 1 writes -1 for none, version 2 `max`
            quotas.append(quota / period)
    return min(quotas, default=None)


def quota_periods(cgroup: Path = CGROUP, proc: Path = PROC) -> tuple[float | None, float | None]:
    """(periods of the quota so far, those in which it stopped us) of the group that has stopped us most; None without a quota."""
    periods: list[tuple[float, float]] = []
    for group in own_groups("cpu", cgroup, proc):
        values = dict(re.findall(r"^(\w+) (\d+)$", read_text(group / "cpu.stat"), re.MULTILINE))
        if int(values.get("nr_periods", 0)):
            periods.append((float(values["nr_periods"]), float(values["nr_throttled"])))
    return max(periods, key=lambda pair: pair[1], default=(None, None))


ARM_CORES = {
    "0x41": {0xD05: "Cortex-A55", 0xD08: "Cortex-A72", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD40: "Neoverse-V1",
             0xD42: "Cortex-A78AE", 0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2", 0xD83: "Neoverse-V3", 0xD85: "Cortex-X925",
             0xD87: "Cortex-A725", 0xD8E: "Neoverse-N3"},
    "0xc0": {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a"},
    "0x51": {0x001: "Oryon"},
}  # fmt: skip
"""Names of ARM's cores by implementer and part, which is all that /proc/cpuinfo says of them."""


def cpu_name(proc: Path = PROC, sysfs: Path = Path("/sys")) -> str:
    """The processor's own name: 'AMD EPYC 9654 96-Core Processor', 'Apple M3 Ultra'; of an ARM board the board's and its cores'."""
    if sys.platform == "darwin":
        return sysctl("machdep.cpu.brand_string") or platform.machine()
    if sys.platform == "win32":
        return _registry_cpu_name() or platform.processor() or platform.machine()
    cpuinfo = read_text(proc / "cpuinfo")
    if named := re.search(r"^model name\s*:\s*(.*\S)", cpuinfo, re.MULTILINE):
        return named[1]
    model = read_text(proc / "device-tree/model").strip("\0") or read_text(sysfs / "class/dmi/id/product_name")
    parts = zip(
        re.findall(r"^CPU implementer\s*: (\w+)", cpuinfo, re.MULTILINE),
        re.findall(r"^CPU part\s*: (\w+)", cpuinfo, re.MULTILINE),
        strict=False,
    )
    counts = Counter(ARM_CORES.get(maker, {}).get(int(part, 16), f"{maker}/{part}") for maker, part in parts)
    cores = ", ".join(f"{count}x {name}" for name, count in counts.items())
    whole_name = f"{model} ({cores})" if model and cores else model or cores
    return whole_name or platform.processor() or platform.machine()


def _registry_cpu_name() -> str | None:
    """Windows' platform.processor() is a family and a stepping, the same for many processors."""
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    except OSError:
        return None


def sysctl(name: str) -> str | None:
    """A value of macOS's sysctl as text; None where there is no such name."""
    return output("sysctl", "-n", name).strip() or None
