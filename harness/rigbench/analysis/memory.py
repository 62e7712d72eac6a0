"""What holds the model: one number for machines that keep it in different places, with the way in which it was had.

A card has it in its own memory, a processor in resident memory, a Mac in the footprint of its processes (resident memory knows
nothing of what its GPU alone uses), other shared memory in what its driver lends. Files that are mapped are in none of these on
some systems, but in the engine's own account. Each of these can only miss something, so the largest is the answer:

    memory = max(device memory added up over the engine's devices, footprint, resident memory, the engine's own account)

A model of which some layers stay with the processor is in both places, so device and resident memory are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rigbench.analysis.energy import Place
from rigbench.analysis.windows import points
from rigbench.records import CaseResult, Series
from rigbench.telemetry import base


class Memory(NamedTuple):
    """Peak bytes of a case, and where or how they were found."""

    size: int
    method: str


def device_memory(result: CaseResult, place: Place | None) -> int | None:
    """Peak memory of the engine's devices, added up: what is used of them, by whomever; where a driver does not tell that, what the
    engine's processes hold. None where neither is read."""
    for name in (base.MEMORY_USED.name, base.MEMORY_USED_PROCESS.name):
        peaks = _peaks(result.readings, name, place)
        if any(peaks.values()):
            return round(sum(peaks.values()))
    return None


def memory_of(
    result: CaseResult, place: Place | None, partly: bool = False, before: float | None = None
) -> Memory | None:
    """What held the model in this case; None where nothing tells. `partly`: some of its layers are the processor's. `before` are
    the bytes that the host had available before the model was loaded."""
    host, account = result.host_memory, result.engine_memory
    resident = host.rss_peak_bytes if host else None
    # macOS may not let the peak begin anew with the case: the largest sample is then the case's alone
    peaks = (_peaks(result.readings, name, None) for name in (base.FOOTPRINT_MAX.name, base.FOOTPRINT.name))
    footprint = next((most for each in peaks if (most := max(each.values(), default=0))), None)
    options = [Memory(resident, "resident memory")] if resident else []
    if footprint:
        options.append(Memory(round(footprint), "footprint"))
    if place is not None and place.device not in ("cpu", "sim", "remote"):
        device = device_memory(result, place)
        parts = [] if account is None else [account.weights_bytes, account.kv_cache_bytes, account.compute_bytes]
        if device and partly and not place.integrated:
            options.append(Memory(device + (resident or 0), "device memory and resident memory"))
        elif device:
            options.append(Memory(device, "device memory"))
        peak = (account.device_peak_bytes if account else None) or 0
        options.append(Memory(max(peak, sum(part or 0 for part in parts)), "the engine's own account"))
        left = min(
            (value for each in result.readings if each.name == base.MEMORY_AVAILABLE.name for _, value in points(each)),
            default=None,
        )
        if not device and not footprint and before is not None and left is not None and place.integrated:
            options.append(Memory(round(before - left), "fall of the available memory"))
    return max(options, key=lambda each: each.size, default=None)


def _peaks(readings: Sequence[Series], name: str, place: Place | None) -> dict[str | None, float]:
    """The largest reading of each of those devices."""
    peaks: dict[str | None, float] = {}
    for each in readings:
        if each.name == name and (place is None or place.holds(each.device)):
            values = [value for _, value in points(each)]
            peaks[each.device] = max(values, default=0.0)
    return peaks
