"""The host as a source of readings: memory of the worker's process tree, swap, and CPU time of all, of ours, and
stolen.

CPU times are counters in seconds over all cores: between two readings, (all busy - ours) / time is the number of
cores that other programs held, which flags.py turns into `foreign_load`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rigbench.telemetry import host
from rigbench.telemetry.source import STATE_PERIOD_S, Metric, Missing, Reading
from rigbench_backends.base import Probe

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
    Metric("throttled_cpu", "s", "package_throttle_total_time_ms", "host", "counter", STATE_PERIOD_S, "cpu"),
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
            "throttled_cpu": _known(sample.throttled_s),
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
