"""Peak memory of the host during a case: from the kernel's own mark, else from samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rigbench.records import HostMemory, Series
from rigbench.telemetry import host
from rigbench.telemetry.base import STATE_PERIOD_S


def host_memory(
    readings: Sequence[Series],
    pid: int | None,
    peak_was_reset: bool,
    start_us: int | None = None,
    proc: Path = host.PROC,
) -> HostMemory:
    """Peak memory of a case: the kernel's own high-water mark where it was reset at its start, else the largest sample.

    Call it while the worker still runs (a dead one leaves the samples). `readings` are the case's window of the sampler,
    `peak_was_reset` is what `host.reset_peak(pid)` answered at its start, `start_us` when that was: readings before it
    (idle time, loading) are another case's business.
    """

    def values(name: str) -> list[float]:
        own = [each for each in readings if each.source == "host" and each.name == name]
        read = [pair for each in own for pair in zip(each.time_us, each.values, strict=True)]
        return [value for at, value in read if value is not None and (start_us is None or at >= start_us)]

    def sampled(name: str) -> int | None:
        return round(max(found)) if (found := values(name)) else None

    memory = host.tree_memory(pid, proc) if pid is not None else None
    peak, method = sampled("rss"), f"largest sample, every {STATE_PERIOD_S:g} s"
    if peak_was_reset and memory is not None and memory.hwm_bytes is not None:
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
