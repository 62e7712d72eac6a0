"""host.py's readings on systems without /proc, through psutil. What it does not know there is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from rigbench.telemetry.host import CpuTimes, HostSample, TreeMemory


def tree_pids(pid: int) -> tuple[int, ...]:
    try:
        return (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True)))
    except psutil.Error:
        return ()


def memory_of(pids: Iterable[int]) -> TreeMemory | None:
    infos = []
    for pid in pids:
        try:
            infos.append(psutil.Process(pid).memory_info())
        except psutil.Error:
            continue
    if not infos:
        return None
    peaks = [getattr(info, "peak_wset", None) for info in infos]
    return TreeMemory(
        rss_bytes=sum(info.rss for info in infos),
        anonymous_bytes=None,
        file_backed_bytes=None,
        hwm_bytes=None if None in peaks else sum(peak for peak in peaks if peak is not None),
        processes=len(infos),
    )


def host_sample(pids: Iterable[int]) -> HostSample:
    times = psutil.cpu_times()
    tree_cpu_s = 0.0
    for pid in pids:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        tree_cpu_s += used.user + used.system
    swap = psutil.swap_memory()
    return HostSample(
        cpu=CpuTimes(times.user + times.system + getattr(times, "nice", 0.0), times.idle, None),
        tree_cpu_s=tree_cpu_s,
        swap_used_bytes=int(swap.used),
        swap_in_bytes=int(swap.sin),
        swap_out_bytes=int(swap.sout),
        frequency_hz=None,
        throttled_s=None,
    )
