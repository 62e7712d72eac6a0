"""Do the readings hold: are they there, at the sensor's own rhythm, by nobody's pencil, and possible for this machine?

there        every source that the run read has written into every case
rhythm       no series is denser than its sensor is read
by hand      no series is straight lines between a few points, no counter goes backwards
possible     watts within the device's limits and above idle, no more core seconds than cores
flags        what the readings show is flagged
energy       integral of power and the counter within 10 %, where the window is long enough for both
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

from rigbench import telemetry
from rigbench.analysis.flags import measured_range, reading_flags
from rigbench.analysis.table import place_of
from rigbench.analysis.windows import period_us, points, steady_window
from rigbench.documents.bounds import Fault
from rigbench.documents.validate.physics import Device, device_of
from rigbench.records import CaseResult, PhaseMark, RunDocument, Series
from rigbench.telemetry import base

PERIODS_S = {"host": base.STATE_PERIOD_S}
"""How often a source is read at most, where that is not as often as power."""
DENSER = 0.85
"""A tick may come late, but the next is not early: no median of the gaps is shorter than that of the period."""
BY_HAND = 0.6
"""Share of the readings that lie on the straight line between their neighbours."""
LEAST_READINGS = 10
POWER_MOST = 1.5
POWER_LEAST = 0.02
"""Of the device's power limit by the catalogue: boards are sold with higher limits, and none idles below."""
POWER_MOST_W = {"board": 2000.0, "soc": 500.0, "package": 2000.0, "wall": 20_000.0, "host": 20_000.0}
POWER_LEAST_W = 0.05
WIDE = {"wall", "host", "soc"}
"""Scopes that one kind of sensor alone has; a card's may be its board or, where it shares one, the package."""
UNITS_ABOVE_0 = ("W", "J", "B", "s", "Hz")
RESIDENT = 0.3
"""Share of the weights that is in memory at least while a processor reads all of them in every step."""

IDLE_CORES = 0.5
"""So many cores had nothing to do: an engine that computes would have had them."""


def reading_faults(document: RunDocument) -> Iterator[Fault]:
    """Each measured case of an engine on this machine."""
    sources = document.telemetry.get("sources")
    listed = [each for each in sources if isinstance(each, dict)] if isinstance(sources, list) else []
    expected = {
        str(each.get("name")): each.get("metrics") for each in listed if each.get("usable") and each.get("calls")
    }
    if not expected and not any(result.readings for result in document.cases):
        yield Fault("$.telemetry", "no readings: nothing tells whether the machine was left alone", below="physical")
    devices = [device_of(document, engine) for engine in document.engines]
    for place, result in enumerate(document.cases):
        if result.engine is None or not result.requests:
            continue
        engine, path = document.engines[result.engine], f"$.cases[{place}]"
        if engine.place == "elsewhere":
            continue
        if not result.readings and not expected:
            yield Fault(
                "$.telemetry", "no readings: nothing tells whether the machine was left alone", below="physical"
            )
        yield from _missing(result, expected, path)
        yield from _series_faults(result, path)
        yield from _flag_faults(document, result, path)
        yield from _power_faults(document, result, devices[result.engine], path)
        yield from _core_faults(document, result, path)
        yield from _memory_faults(document, result, path)


def _missing(result: CaseResult, expected: dict[str, object], path: str) -> Iterator[Fault]:
    counts = Counter(series.source for series in result.readings)
    for source, metrics in expected.items():
        if isinstance(metrics, int) and counts[source] != metrics:
            why = f"{counts[source]} series of {source[:40]!r}; the run read {metrics} of it"
            yield Fault(f"{path}.readings", why)
    for name in counts:
        if expected and name not in expected and any(s.time_us for s in result.readings if s.source == name):
            yield Fault(f"{path}.readings", f"{name[:40]!r} is not among the sources of $.telemetry")


def _sparse(result: CaseResult, path: str) -> Iterator[Fault]:
    start_us, end_us = measured_range(result.readings, result.phases) or (0, 0)
    length_s = (end_us - start_us) * 1e-6
    for number, series in enumerate(result.readings):
        period_s = PERIODS_S.get(series.source)
        if period_s is None or series.status != "ok":
            continue
        inside = sum(start_us <= at <= end_us for at in series.time_us)
        if inside < 0.5 * length_s / period_s - 2:
            yield Fault(
                f"{path}.readings[{number}]",
                f"{inside} readings of {series.name} in {length_s:.1f} s, and all is well?",
            )


def _series_faults(result: CaseResult, path: str) -> Iterator[Fault]:
    for number, series in enumerate(result.readings):
        here = f"{path}.readings[{number}]"
        read = points(series)
        values = [value for _, value in read]
        if series.unit in UNITS_ABOVE_0 and min(values, default=0) < 0:
            yield Fault(f"{here}.values", f"a {series.name} below 0")
        backwards = any(later < earlier for earlier, later in pairwise(values))
        if series.source == "host" and series.method == "counter" and backwards:
            yield Fault(f"{here}.values", f"the counter {series.name} goes backwards")
        own = telemetry.BUILT_IN.get(series.source)
        scopes = _scopes(series.source) if own else ()
        other = series.unit in ("W", "J") and scopes and series.scope not in scopes
        if other and WIDE & {series.scope, *scopes}:
            yield Fault(f"{here}.scope", f"is {series.scope[:40]!r}; {series.source} reads the {scopes[0]}")
        if len(read) < LEAST_READINGS or own is None:
            continue
        period = PERIODS_S.get(series.source, base.POWER_PERIOD_S)
        if (between := period_us(series)) is not None and between < DENSER * period * 1e6:
            yield Fault(
                f"{here}.time_us", f"a reading each {between / 1e6:.3g} s; {series.source} is read each {period:g} s"
            )
        if series.method == "sampled" and _straight(values) > BY_HAND:
            yield Fault(
                f"{here}.values", f"{series.name} is straight lines between a few points: no sensor reads like that"
            )


@cache
def _scopes(source: str) -> tuple[str, ...]:
    sensor = telemetry.load(source)
    return sensor.scope, *sensor.wider_scopes


def _straight(values: Sequence[float]) -> float:
    """Share of the readings that changed and lie exactly between their neighbours."""
    triples = zip(values, values[1:], values[2:], strict=False)
    on_line = sum(a != c and abs(2 * b - a - c) <= 1e-6 * abs(c - a) for a, b, c in triples)
    return on_line / (len(values) - 2)


def _flag_faults(document: RunDocument, result: CaseResult, path: str) -> Iterator[Fault]:
    own = {flag.name for flag in result.flags}
    for flag in reading_flags(result.readings, result.phases, document.machine.logical_cores or 1):
        if flag.name not in own:
            yield Fault(f"{path}.flags", f"the readings show {flag.name} ({flag.evidence}), and it is not flagged")


def _power_faults(document: RunDocument, result: CaseResult, device: Device | None, path: str) -> Iterator[Fault]:
    """Energy of the steady window and of the idle one, against each other and against what the boards can draw."""
    idle = next((mark for mark in result.phases if mark.name == "idle"), None)
    resting = {key: watts for key, watts in _watts(result, idle).items() if idle}
    window = steady_window(result.requests, result.case.concurrency)
    if window is None:
        return
    assert result.engine is not None
    on = place_of(document.machine, document.engines[result.engine], result.readings)
    board_w = 0.0
    for key, watts in _watts(result, PhaseMark("window", window.start_us, window.end_us)).items():
        source, device_name, scope = key
        called = f"{source} {device_name or ''}".strip()
        board_w += watts if scope == "board" and on.holds(device_name) else 0.0
        if not POWER_LEAST_W <= watts <= POWER_MOST_W.get(scope, 20_000.0):
            yield Fault(f"{path}.readings", f"{called}: {watts:.4g} W of a {scope[:20]} are impossible")
        if key in resting and resting[key] > 1.3 * watts + 1:
            why = f"{called}: {resting[key]:.4g} W idle and {watts:.4g} W at work"
            yield Fault(f"{path}.readings", why, below="physical")
    power_w = device.power_w if device is not None else None
    if power_w and board_w and not POWER_LEAST * power_w <= board_w <= POWER_MOST * power_w:
        yield Fault(f"{path}.readings", f"{board_w:.4g} W of boards that draw {power_w:.0f} W by the catalogue")


def _watts(result: CaseResult, mark: PhaseMark | None) -> dict[tuple[str, str | None, str], float]:
    """Mean watts in a stretch, by source, device and scope."""
    means = {}
    for series in result.readings:
        if series.unit == "W" and mark is not None:
            inside = [value for at, value in points(series) if mark.start_us <= at <= mark.end_us]
            if inside:
                means[series.source, series.device, series.scope] = statistics.fmean(inside)
    return means


def _core_faults(document: RunDocument, result: CaseResult, path: str) -> Iterator[Fault]:
    """Core seconds against the cores and the clock."""
    logical, physical = document.machine.logical_cores, document.machine.physical_cores
    if logical is not None and physical is not None and not physical <= logical <= 8 * physical:
        yield Fault("$.machine.logical_cores", f"{logical} logical cores of {physical} are impossible")
    assert result.engine is not None
    engine = document.engines[result.engine]
    rates = {}
    for number, series in enumerate(result.readings):
        # From the first request on: before it, a process that is seen for the first time brings all that it ever computed.
        read = [(at, value) for at, value in points(series) if at >= 0]
        if series.name not in ("cpu_busy", "cpu_ours") or len(read) < 3:
            continue
        rate = rates[series.name] = (read[-1][1] - read[0][1]) / max(1e-6, (read[-1][0] - read[0][0]) * 1e-6)
        span_s = (read[-1][0] - read[0][0]) * 1e-6
        if logical and span_s > 2 and rate > 1.05 * logical + 0.1 / span_s:
            yield Fault(f"{path}.readings[{number}].values", f"{rate:.2f} cores were busy of {logical}")
    measured = measured_range((), result.phases)
    ours: Series | None = next((series for series in result.readings if series.name == "cpu_ours"), None)
    if ours is None or measured is None or engine.device != "cpu" or engine.place != "worker" or not engine.threads:
        return
    inside = [(at, value) for at, value in points(ours) if measured[0] <= at <= measured[1]]
    if len(inside) >= 5:
        rate = (inside[-1][1] - inside[0][1]) / ((inside[-1][0] - inside[0][0]) * 1e-6)
        idle = (logical or 1) - rates.get("cpu_busy", 0.0)
        if rate < 0.1 and idle > IDLE_CORES:  # else other programs may have held them
            yield Fault(
                f"{path}.readings", f"the engine computed on {rate:.2f} cores, it says with {engine.threads} threads"
            )


def _memory_faults(document: RunDocument, result: CaseResult, path: str) -> Iterator[Fault]:
    """The peak against the samples, and against the weights that a processor reads."""
    assert result.engine is not None
    memory, engine = result.host_memory, document.engines[result.engine]
    starts = [mark.start_us for mark in result.phases if mark.name in ("warmup", "measure")]
    samples = [
        value
        for series in result.readings
        if series.name == "rss"
        for at, value in points(series)
        if at >= min(starts, default=0)
    ]
    if engine.place != "worker":
        return
    peak = memory.rss_peak_bytes if memory is not None else None
    if peak is None:
        if samples:
            yield Fault(f"{path}.host_memory.rss_peak_bytes", f"is missing; the readings show {max(samples):.0f} bytes")
        return
    if samples and peak < 0.99 * max(samples):
        yield Fault(f"{path}.host_memory.rss_peak_bytes", f"is {peak}; the readings show {max(samples):.0f}")
    model = next((model for model in document.models if model.name == result.case.model), None)
    if model is not None and engine.device == "cpu" and peak < RESIDENT * model.dense_bytes:
        yield Fault(
            f"{path}.host_memory.rss_peak_bytes", f"is {peak}; a step reads {model.dense_bytes} bytes of weights"
        )
