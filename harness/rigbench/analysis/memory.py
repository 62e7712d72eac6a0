"""Peak memory of each device during a case, from its readings. The host's peak is read from the live processes: see
harness/rigbench/telemetry/host.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rigbench.analysis.windows import points
from rigbench.records import Series


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Peak bytes in use on one device during a case, whoever uses them, and those of the worker's own processes where the
    driver tells (read at the edges of phases, so no true peak). The engine's own account stands in records.EngineMemory."""

    device: str
    peak_bytes: int
    process_bytes: int | None


def device_memory(readings: Sequence[Series]) -> tuple[DeviceMemory, ...]:
    """Each device whose memory was read, from the case's readings. Apple's memory is the host's: see `footprint` there."""
    process = {each.device: _peak(each) for each in readings if each.name == "memory_used_process"}
    return tuple(
        DeviceMemory(each.device or each.source, peak, process.get(each.device))
        for each in readings
        if each.name == "memory_used" and (peak := _peak(each)) is not None
    )


def _peak(series: Series) -> int | None:
    values = [value for _, value in points(series)]
    return round(max(values)) if values else None
