"""Peak memory of a case: of the host from the kernel's own mark or from samples, of each device from samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rigbench.records import HostMemory, Series
from rigbench.telemetry import host
from rigbench.telemetry.base import STATE_PERIOD_S
from rigbench.telemetry.curves import points


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Peak bytes in use on one device during a case, whoever holds them, and those of the worker's own processes
    where the driver tells (read at the edges of phases, so no true peak). The engine's own account stands in
    records.EngineMemory."""

    device: str
    peak_bytes: int
    process_bytes: int | None


def device_memory(readings: Sequence[Series]) -> tuple[DeviceMemory, ...]:
    """Each device that told its memory, from the case's readings. Apple's memory is the host's: see `footprint`
    there."""
    process = {each.device: _peak(_values(each)) for each in readings if each.name == "memory_used_process"}
    return tuple(
        DeviceMemory(each.device or each.source, peak, process.get(each.device))
        for each in readings
        if each.name == "memory_used" and (peak := _peak(_values(each))) is not None
    )


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
    return [value for at, value in points(series) if start_us is None or at >= start_us]


def _peak(values: Sequence[float] | None) -> int | None:
    return round(max(values)) if values else None
