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
    """Peak memory of a case: the kernel's own high-water mark where it was reset at the case's start, else the largest
    sample.

    Call it while the worker still runs (a dead one leaves the samples). `readings` are the case's window of the
    sampler, `peak_was_reset` is what `host.reset_peak(pid)` answered at its start, `start_us` when that was: readings
    before it (idle time, loading) are another case's business.
    """
    series = {each.name: _values(each, start_us) for each in readings if each.source == "host"}
    memory = host.tree_memory(pid, proc) if pid is not None else None
    sampled = _peak(series.get("rss"))
    if peak_was_reset and memory is not None and memory.hwm_bytes is not None:
        peak: int | None = memory.hwm_bytes
        method = "VmHWM, reset at the start of the case" + (
            f", summed over {memory.processes} processes (an upper bound)" if memory.processes > 1 else ""
        )
    else:
        peak, method = sampled, f"largest sample, every {STATE_PERIOD_S:g} s"
    swap = series.get("swap_used")
    return HostMemory(
        rss_peak_bytes=peak,
        anonymous_peak_bytes=_peak(series.get("rss_anonymous")),
        file_backed_peak_bytes=_peak(series.get("rss_file_backed")),
        swap_growth_bytes=round(max(swap) - swap[0]) if swap else None,
        method=method if peak is not None else None,
        reason=None
        if peak is not None
        else "the worker's memory was not read (telemetry off, or the worker had ended)",
    )


def _values(series: Series, start_us: int | None = None) -> list[float]:
    read = zip(series.time_us, series.values, strict=True)
    return [value for at, value in read if value is not None and (start_us is None or at >= start_us)]


def _peak(values: Sequence[float] | None) -> int | None:
    return round(max(values)) if values else None
