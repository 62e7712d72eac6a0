"""The host as a source of readings: memory of the worker's process tree, swap, and CPU time of all, of ours, and
stolen.

CPU times are counters in seconds over all cores: between two readings, (all busy - ours) / time is the number of
cores that other programs held, which flags.py turns into `foreign_load`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backends.base import Probe
from harness.records import HostMemory, Series
from harness.telemetry import host
from harness.telemetry.source import STATE_PERIOD_S, Metric, Missing, Reading

NO_WORKER = Missing("no worker is running")
NOT_KNOWN = Missing("this system does not tell")
TREE_EVERY = 4
"""A tree of processes is listed anew every so many readings: it changes rarely, and listing costs more than reading
it."""
_TREE_API = "/proc/PID/status of the process tree"


def _metric(name: str, unit: str, api: str, scope: str, method: str) -> Metric:
    return Metric(name, unit, api, scope, method, STATE_PERIOD_S)


METRICS = (
    _metric("rss", "B", _TREE_API, "process", "sampled"),
    _metric("rss_anonymous", "B", _TREE_API, "process", "sampled"),
    _metric("rss_file_backed", "B", _TREE_API, "process", "sampled"),
    _metric("cpu_busy", "s", "/proc/stat", "host", "counter"),
    _metric("cpu_ours", "s", "/proc/PID/stat of our own process tree", "host", "counter"),
    _metric("cpu_steal", "s", "/proc/stat", "host", "counter"),
    _metric("swap_used", "B", "/proc/meminfo", "host", "sampled"),
    _metric("swap_in", "B", "/proc/vmstat", "host", "counter"),
    _metric("swap_out", "B", "/proc/vmstat", "host", "counter"),
    _metric("cpu_frequency", "Hz", "cpufreq scaling_cur_freq", "host", "sampled"),
)


class HostSource:
    """Reads /proc (or psutil) twice a second. `own_pid`: the root of the tree whose CPU time is ours, the worker
    within it."""

    name = "host"
    metrics = METRICS

    def __init__(self, own_pid: int | None = None, proc: Path = host.PROC, cpu_sysfs: Path = host.CPU_SYSFS) -> None:
        self._own_pid = own_pid or os.getpid()
        self._pid: int | None = None
        self._ours: tuple[int, ...] = ()
        self._worker: tuple[int, ...] = ()
        self._until_listing = 0
        self._proc = proc
        self._cpu_sysfs = cpu_sysfs

    def probe(self) -> Probe:
        return Probe(True, devices=(host.cpu_name(),))

    def watch(self, pid: int | None) -> None:
        self._pid = pid
        self._until_listing = 0

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        if self._until_listing == 0:
            self._until_listing = TREE_EVERY
            self._ours = host.tree_pids(self._own_pid, self._proc)
            self._worker = () if self._pid is None else host.tree_pids(self._pid, self._proc)
        self._until_listing -= 1
        sample = host.host_sample(self._ours, self._proc, self._cpu_sysfs)
        values: dict[str, Reading] = {
            "cpu_busy": sample.cpu.busy_s,
            "cpu_ours": sample.tree_cpu_s,
            "cpu_steal": _known(sample.cpu.steal_s),
            "swap_used": _known(sample.swap_used_bytes),
            "swap_in": _known(sample.swap_in_bytes),
            "swap_out": _known(sample.swap_out_bytes),
            "cpu_frequency": _known(sample.frequency_hz),
        }
        memory = host.memory_of(self._worker, self._proc)
        if memory is None:
            values |= dict.fromkeys(("rss", "rss_anonymous", "rss_file_backed"), NO_WORKER)
        else:
            values["rss"] = memory.rss_bytes
            values["rss_anonymous"] = _known(memory.anonymous_bytes)
            values["rss_file_backed"] = _known(memory.file_backed_bytes)
        return [values[metric.name] for metric in metrics]

    def close(self) -> None: ...


def _known(value: float | None) -> Reading:
    return NOT_KNOWN if value is None else value


def host_memory(
    readings: Sequence[Series], pid: int | None, peak_was_reset: bool, proc: Path = host.PROC
) -> HostMemory:
    """Peak memory of a case: the kernel's own high-water mark where it was reset at the case's start, else the
    largest sample.

    Call it while the worker still runs (a dead one leaves the samples). `readings` are the case's window of the
    sampler, `peak_was_reset` is what `host.reset_peak(pid)` answered at its start.
    """
    series = {each.name: each for each in readings if each.source == "host"}
    memory = host.tree_memory(pid, proc) if pid is not None else None
    sampled = _peak(series.get("rss"))
    swap = [value for value in series["swap_used"].values if value is not None] if "swap_used" in series else []
    if peak_was_reset and memory is not None and memory.hwm_bytes is not None:
        peak: int | None = max(memory.hwm_bytes, sampled or 0)
        method = "VmHWM, reset at the start of the case" + (
            f", summed over {memory.processes} processes (an upper bound)" if memory.processes > 1 else ""
        )
    else:
        peak, method = sampled, f"largest sample, every {STATE_PERIOD_S:g} s"
    return HostMemory(
        rss_peak_bytes=peak,
        anonymous_peak_bytes=_peak(series.get("rss_anonymous")),
        file_backed_peak_bytes=_peak(series.get("rss_file_backed")),
        swap_growth_bytes=round(max(0.0, max(swap) - swap[0])) if swap else None,
        method=method if peak is not None else None,
        reason=None
        if peak is not None
        else "the worker's memory was not read (telemetry off, or the worker had ended)",
    )


def _peak(series: Series | None) -> int | None:
    values = [value for value in series.values if value is not None] if series else []
    return round(max(values)) if values else None
