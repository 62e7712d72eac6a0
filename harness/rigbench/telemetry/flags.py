"""What made a measured case unfit: throttling, a power cap, swapping, other programs. And the wait for a cool machine
before it.

A flag says what happened with its figures and stays with the case; nothing is dropped for it. Everything is read from
the case's own Series: counters by their difference over the window, states by their samples in it.

    throttled      clocks were held down for heat or supply for over 1 % of the window, or macOS told thermal pressure
    power_capped   the power limit held clocks down for over 1 % of the window
    swapping       over 16 MB went to or from swap, or swap grew by as much
    foreign_load   other programs held over 5 % of the cores, the hypervisor over 2 % (steal), or another one the GPU
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from rigbench.clock import Clock, now_ns
from rigbench.records import Flag, PhaseMark, Series
from rigbench.telemetry.curves import bracket, counted, points

HELD_SHARE = 0.01
FOREIGN_SHARE = 0.05
STEAL_SHARE = 0.02
SWAP_BYTES = 16 * 2**20
GPU_FOREIGN_BYTES = 256 * 2**20
PRESSURE = ("nominal", "moderate", "heavy", "trapping", "sleeping")
HEAT = {
    "throttled_sw_thermal": "by the driver for heat",
    "throttled_hw_thermal": "by the chip for heat",
    "throttled_hw_brake": "by the power supply's brake",
    "throttled_cpu": "by the chip for heat",
}
MASK_POWER = 0x04
MASK_HEAT = 0x08 | 0x20 | 0x40 | 0x80
"""Bits of NVML's clocks event reasons: software power cap; hardware slowdown, software and hardware thermal, power
brake."""

Window = tuple[float, float]


def flags(readings: Sequence[Series], phases: Sequence[PhaseMark], cores: int) -> tuple[Flag, ...]:
    """The flags of a case, over its `measure` phase (over all readings where it has none). `cores`: logical ones of
    the machine."""
    window = measured_window(readings, phases)
    if window is None:
        return ()
    return (
        *_throttled(readings, window),
        *_power_capped(readings, window),
        *_swapping(readings, window),
        *_foreign_load(readings, window, cores),
    )


def measured_window(readings: Sequence[Series], phases: Sequence[PhaseMark]) -> Window | None:
    """Start and end of the measuring in microseconds; None where there is nothing to look at."""
    marks = [mark for mark in phases if mark.name == "measure"]
    if marks:
        return min(mark.start_us for mark in marks), max(mark.end_us for mark in marks)
    times = [at for series in readings for at in series.time_us]
    return (min(times), max(times)) if times else None


def rate(series: Series, window: Window) -> float | None:
    """Gain of a counter per second over the window (over its readings next outside it, so that short windows are seen
    too)."""
    count = points(series)
    if len(count) < 2:
        return None
    start, end = bracket(count, *window)
    gained = counted(count, start, end)
    return gained / ((end - start) * 1e-6) if end > start and gained >= 0 else None


def _named(readings: Iterable[Series], name: str) -> list[Series]:
    return [series for series in readings if series.name == name]


def _in(series: Series, window: Window) -> list[float]:
    return [value for at, value in points(series) if window[0] <= at <= window[1]]


def _of(series: Series) -> str:
    return series.device or series.source


def _throttled(readings: Sequence[Series], window: Window) -> list[Flag]:
    found = []
    for name, cause in HEAT.items():
        for series in _named(readings, name):
            share = rate(series, window)
            if share is not None and share > HELD_SHARE:
                found.append(Flag("throttled", f"{_of(series)} was slowed {cause} during {share:.0%} of the window"))
    for series in _named(readings, "clocks_event_reasons"):
        held = _mask_share(_in(series, window), MASK_HEAT)
        if held > HELD_SHARE:
            found.append(Flag("throttled", f"{_of(series)} was slowed for heat or supply in {held:.0%} of the samples"))
    for series in _named(readings, "thermal_pressure"):
        worst = round(max(_in(series, window), default=0))
        if worst > 0:
            found.append(Flag("throttled", f"thermal pressure was {_pressure(worst)}"))
    return found


def _power_capped(readings: Sequence[Series], window: Window) -> list[Flag]:
    found = []
    for series in _named(readings, "throttled_power"):
        share = rate(series, window)
        if share is not None and share > HELD_SHARE:
            found.append(Flag("power_capped", f"{_of(series)} was at its power limit during {share:.0%} of the window"))
    for series in _named(readings, "clocks_event_reasons"):
        held = _mask_share(_in(series, window), MASK_POWER)
        if held > HELD_SHARE:
            found.append(Flag("power_capped", f"{_of(series)} was at its power limit in {held:.0%} of the samples"))
    return found


def _swapping(readings: Sequence[Series], window: Window) -> list[Flag]:
    seconds = (window[1] - window[0]) * 1e-6
    for name, words in (("swap_in", "were read back from swap"), ("swap_out", "were written to swap")):
        for series in _named(readings, name):
            moved = (rate(series, window) or 0) * seconds
            if moved > SWAP_BYTES:
                return [Flag("swapping", f"{moved / 1e6:.0f} MB {words} during the window")]
    for series in _named(readings, "swap_used"):
        used = _in(series, window)
        if used and max(used) - used[0] > SWAP_BYTES:
            return [Flag("swapping", f"swap in use grew by {(max(used) - used[0]) / 1e6:.0f} MB during the window")]
    return []


def _foreign_load(readings: Sequence[Series], window: Window, cores: int) -> list[Flag]:
    found = []
    rates = {
        series.name: rate(series, window) for series in readings if series.name in ("cpu_busy", "cpu_ours", "cpu_steal")
    }
    busy, ours, steal = (rates.get(name) for name in ("cpu_busy", "cpu_ours", "cpu_steal"))
    if busy is not None and ours is not None and busy - ours > FOREIGN_SHARE * cores:
        found.append(Flag("foreign_load", f"other programs held {busy - ours:.2f} of {cores} cores"))
    if steal is not None and steal > STEAL_SHARE * cores:
        found.append(Flag("foreign_load", f"the hypervisor took {steal:.2f} of {cores} cores (steal)"))
    for series in _named(readings, "memory_used_foreign"):
        held = max((value for _, value in points(series)), default=0.0)
        if held > GPU_FOREIGN_BYTES:
            found.append(Flag("foreign_load", f"another program held {held / 1e9:.1f} GB of {_of(series)}"))
    return found


def _mask_share(masks: Sequence[float], bits: int) -> float:
    return sum(1 for mask in masks if round(mask) & bits) / len(masks) if masks else 0.0


def _pressure(level: int) -> str:
    return PRESSURE[level] if level < len(PRESSURE) else f"level {level}"


def hot(readings: Sequence[Series]) -> str | None:
    """Why the machine is not cool now, from the readings of the last moments; None when it is, or nobody tells."""
    times = [at for series in readings for at in series.time_us]
    found = _throttled(readings, (min(times), max(times))) if times else []
    return found[0].evidence if found else None


def settle(
    look: Callable[[], Sequence[Series]],
    settle_s: float,
    clock: Clock = now_ns,
    wait: Callable[[float], object] = time.sleep,
    every_s: float = 0.5,
) -> tuple[Flag, ...]:
    """Wait until the machine is cool, `settle_s` seconds at most; a flag where it was still hot then.

    `look` gives the readings of the last moments: `lambda: sampler.recent(1.5)`.
    """
    until_ns = clock() + round(settle_s * 1e9)
    while (reason := hot(look())) is not None:
        if clock() >= until_ns:
            return (Flag("throttled", f"not cool after {settle_s:g} s of waiting: {reason}"),)
        wait(every_s)
    return ()
