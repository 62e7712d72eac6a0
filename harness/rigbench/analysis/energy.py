"""Energy of a window: the integral of power, the difference of a counter (both in windows.py), and what may be said of either.

    net = gross - idle watts x seconds

Integral and counter are both computed and their ratio kept: on consumer cards the counter is reported to lose energy, and a
sensor that looks at 25 of every 100 ms can miss a burst. A window shorter than the sensor can resolve has no energy (None and
the reason), never a guess. Everything here is pure; `time_us` and the window's edges count from the same t0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from rigbench.analysis import stats, windows
from rigbench.analysis.windows import Points, Window
from rigbench.records import CaseResult, PhaseMark, Series
from rigbench.telemetry import limits
from rigbench.telemetry.base import Limits

MAX_GAP_PERIODS = 5
MIN_VALID = 0.9
MIN_READINGS = 5
COUNTER_TOLERANCE = 0.10
"""More than this between a counter and the power that it should add up to, and one of them is wrong."""


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one window from one device of one source, in joules; None with the reason where it cannot be told.
    `joules` is the integral where there is power, else the counter's (`method`); `counter_over_integrated` is their ratio where
    both exist. Watts are over the same window."""

    source: str
    scope: str
    device: str | None
    window_s: float
    joules: float | None = None
    method: str | None = None
    status: str = "ok"
    reason: str | None = None
    counter_over_integrated: float | None = None
    watts_mean: float | None = None
    watts_peak: float | None = None
    net_joules: float | None = None


def window_energy(power: Series | None, counter: Series | None, start_us: float, end_us: float) -> Energy:
    """Energy of one window of one device, from its power, its counter, or both. One of the two must be given."""
    main = power or counter
    assert main is not None
    seconds = (end_us - start_us) * 1e-6
    energy = Energy(main.source, main.scope, main.device, seconds)
    needs = limits(main.source, main.device)
    if seconds < needs.min_s:
        short = f"window of {seconds:.2f} s; {main.source} needs {needs.min_s:g} s"
        return replace(energy, status="unavailable", reason=short)
    curve = windows.points(power) if power else []
    count = windows.points(counter) if counter else []
    counter_j, counter_reason = _counter_joules(counter, count, start_us, end_us)
    joules = windows.integrated(curve, start_us, end_us) if curve else counter_j
    if joules is None:
        status = main.status if main.status in ("unavailable", "denied") else "unavailable"
        return replace(energy, status=status, reason=counter_reason or main.reason or "no reading")
    series = power if power and curve else counter
    assert series is not None
    status, reason = _status(series, needs, start_us, end_us)
    if status == "unavailable":
        return replace(energy, status=status, reason=reason)
    both = curve and counter_j is not None
    ratio = _same_span_ratio(curve, count, start_us, end_us) if both else None
    if ratio is not None and abs(ratio - 1) > COUNTER_TOLERANCE:
        status, reason = "low_confidence", f"the counter says {ratio:.2f} of the energy that the power adds up to"
    return replace(
        energy,
        joules=joules,
        method="integrated" if curve else "counter",
        status=status,
        reason=reason,
        counter_over_integrated=ratio,
        watts_mean=joules / seconds,
        watts_peak=max((value for at, value in curve or _derived(count) if start_us <= at <= end_us), default=None),
    )


def _counter_joules(
    counter: Series | None, count: Points, start_us: float, end_us: float
) -> tuple[float | None, str | None]:
    if counter is None:
        return None, None
    if len(count) < 2:
        return None, counter.reason or "the counter was read less than twice"
    if any(later < earlier for (_, earlier), (_, later) in pairwise(count)):
        return None, "the counter went backwards (driver restarted, or device replaced)"
    gained = windows.counted(count, start_us, end_us)
    if gained <= 0 and not limits(counter.source, counter.device).may_rest:
        return None, f"the counter stood still for {(end_us - start_us) * 1e-6:.1f} s"
    return gained, None


def _same_span_ratio(curve: Points, count: Points, start_us: float, end_us: float) -> float | None:
    """Counter over integral between the counter's own readings next outside the window (a counter read at edges only
    has none at the window's), as far as the power was read there too."""
    start, end = windows.bracket(count, start_us, end_us)
    if end <= start or start < curve[0][0] - 1e6 or end > curve[-1][0] + 1e6:
        return None
    area = windows.integrated(curve, start, end)
    return windows.counted(count, start, end) / area if area > 0 else None


def _derived(count: Points) -> Points:
    """Watts between successive readings of a counter, at the middle of each step."""
    return [((t + u) // 2, (b - a) / ((u - t) * 1e-6)) for (t, a), (u, b) in pairwise(count) if u > t]


def _status(series: Series, needs: Limits, start_us: float, end_us: float) -> tuple[str, str | None]:
    seconds = (end_us - start_us) * 1e-6
    short = f"window of {seconds:.1f} s; {series.source} is good from {needs.good_s:g} s on"
    if series.method == "counter":
        status, reason = _counter_status(windows.points(series), start_us, end_us)
        if status == "ok" and series.status == "low_confidence":
            return series.status, series.reason
        return ("low_confidence", short) if status == "ok" and seconds < needs.good_s else (status, reason)
    gap_s, share = windows.gap_share(series, start_us, end_us)
    readings = sum(start_us <= at <= end_us for at, _ in windows.points(series))
    if readings < MIN_READINGS:
        return "unavailable", f"{readings} readings in the window; {MIN_READINGS} are needed"
    if share > needs.max_gap_share:
        return "unavailable", f"{share:.0%} of the window is without readings (at most {needs.max_gap_share:.0%})"
    if gap_s > MAX_GAP_PERIODS * (windows.period_us(series) or 0) * 1e-6:
        return "degraded", f"no reading for {gap_s:.2f} s"
    if (valid := windows.valid_share(series, start_us, end_us)) < MIN_VALID:
        return "degraded", f"{1 - valid:.0%} of the readings failed"
    if series.status == "low_confidence":  # degraded speaks of the whole case, of which this window is a part
        return series.status, series.reason
    if seconds < needs.good_s:
        return "low_confidence", short
    return "ok", None


def _counter_status(count: Points, start_us: float, end_us: float) -> tuple[str, str | None]:
    """A counter misses nothing between its readings, but where the window's edges lie between two, it is a guess what
    each side of the edge had of it."""
    if max(0.0, count[0][0] - start_us) + max(0.0, end_us - count[-1][0]) > 0.05 * (end_us - start_us):
        return "unavailable", "the counter was not read at the edges of the window"
    start, end = windows.bracket(count, start_us, end_us)
    if end - start > 1.2 * (end_us - start_us):
        reason = f"the counter was read over {(end - start) * 1e-6:.1f} s, of which the window is a part"
        return "low_confidence", reason
    return "ok", None


def case_energies(readings: Sequence[Series], start_us: float, end_us: float) -> tuple[Energy, ...]:
    """Energy of a window from every device that told power or counted energy (two views of one thing), or its reason why not."""
    by_source: dict[tuple[str, str | None, str], dict[str, Series]] = {}
    for series in readings:
        if series.name in ("power", "energy"):
            by_source.setdefault((series.source, series.device, series.scope), {})[series.name] = series
    return tuple(window_energy(pair.get("power"), pair.get("energy"), start_us, end_us) for pair in by_source.values())


def gross_and_net(
    readings: Sequence[Series], start_us: float, end_us: float, idle: Sequence[Energy] = ()
) -> tuple[Energy, ...]:
    """case_energies with net joules, given those of the idle window (before the model was loaded). No net where idle power is not
    known, or was above that of the window."""
    idle_w = {(each.source, each.device, each.scope): each.watts_mean for each in idle}
    totals = []
    for each in case_energies(readings, start_us, end_us):
        baseline = idle_w.get((each.source, each.device, each.scope))
        if each.joules is not None and baseline is not None and each.joules >= baseline * each.window_s:
            each = replace(each, net_joules=each.joules - baseline * each.window_s)
        totals.append(each)
    return tuple(totals)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine computes: its `device` (cpu, cuda, metal ...), and which of the read devices (`gpu0`, `amd0`) that is; None
    where nobody can tell them apart. `integrated`: it shares the processor's package and memory."""

    device: str
    devices: frozenset[str] | None = None
    integrated: bool = False

    def holds(self, name: str | None) -> bool:
        """Whether the readings of that device are the engine's."""
        return self.devices is None or name in self.devices


def headline(energies: Sequence[Energy], place: Place) -> Energy | None:
    """The widest scope that was measured and holds the engine: its boards added up, the packages of two sockets. A sum of which one
    part is missing is None, with the part named.

    Of two sources that measure one scope the first counts, but every source measures its own boards. A package is that of the
    processor, which an engine on its graphics, or a server on a device that nobody knows, may share. Where no scope was measured,
    the first with its reason; None only where there was no source at all.
    """
    boards = [] if place.device == "cpu" else ["board"]
    packages = ["package"] if place.device in ("cpu", "remote") or place.integrated else []
    fitting = (
        ("wall", "host", *packages, *boards, "soc") if place.integrated else ("wall", "host", *boards, *packages, "soc")
    )
    for scope in fitting:
        inside = [each for each in energies if each.scope == scope and (scope != "board" or place.holds(each.device))]
        measuring = list(dict.fromkeys(each.source for each in inside if each.joules is not None))
        if measuring:
            return _total(
                [each for each in inside if each.source in (measuring if scope == "board" else measuring[:1])]
            )
    return next((each for scope in fitting for each in energies if each.scope == scope), None)


def _total(parts: Sequence[Energy]) -> Energy:
    """Sum over the parts of one scope; None with the reason if one of them is missing. Peak watts are the sum of peaks."""
    if len(parts) == 1:
        return parts[0]
    names = [each.device or each.source for each in parts]
    whole = Energy(parts[0].source, parts[0].scope, "+".join(names), parts[0].window_s)
    for each, name in zip(parts, names, strict=True):
        if each.joules is None:
            return replace(whole, status="unavailable", reason=f"{name}: {each.reason}")

    def total(name: str) -> float | None:
        values = [getattr(each, name) for each in parts]
        return None if None in values else sum(values)

    worst = max(parts, key=lambda each: ("ok", "low_confidence", "degraded").index(each.status))
    sums: dict[str, Any] = {name: total(name) for name in ("joules", "watts_mean", "watts_peak", "net_joules")}
    return replace(whole, method=parts[0].method, status=worst.status, reason=worst.reason, **sums)


@dataclass(frozen=True, slots=True)
class Power:
    """Energy and power of one case in its steady window, of the widest scope that was measured and holds the engine's device.
    Joules are per output token, gross and net of idle; None with the reason where no source knows."""

    joules_per_token: float | None = None
    joules_per_token_net: float | None = None
    watts_mean: float | None = None
    watts_peak: float | None = None
    scope: str | None = None
    reason: str | None = None
    phase_joules: dict[str, float | None] = field(default_factory=dict)


def power_of(result: CaseResult, window: Window | None, place: Place | None, idle: Sequence[Energy] = ()) -> Power:
    """Energy and power of `result` where its engine computes, with `idle` taken off. Phases: loading (in the case that follows it),
    prefill (until all users decode) and decode (the steady window)."""
    if window is None or place is None:
        return Power()
    marks = [mark for mark in result.phases if mark.name == "load"]
    marks += [PhaseMark("prefill", 0, window.start_us), PhaseMark("decode", window.start_us, window.end_us)]
    joules = {}
    for mark in marks:
        whole = headline(case_energies(result.readings, mark.start_us, mark.end_us), place)
        joules[mark.name] = whole.joules if whole else None
    main = headline(gross_and_net(result.readings, window.start_us, window.end_us, idle), place)
    if main is None or main.joules is None:
        reason = (main.reason if main else None) or "no source tells the power of this device"
        return Power(reason=reason, phase_joules=joules)

    def per_token(energy_j: float | None) -> float | None:
        return energy_j / window.tokens if energy_j is not None and window.tokens > 0 else None

    gross, net = per_token(main.joules), per_token(main.net_joules)
    return Power(gross, net, main.watts_mean, main.watts_peak, main.scope, None, joules)


def phase_joules(powers: Sequence[Power]) -> dict[str, float | None]:
    """The median of each phase over the repetitions that know it."""
    names = dict.fromkeys(name for power in powers for name in power.phase_joules)
    each = {name: [power.phase_joules.get(name) for power in powers] for name in names}
    return {name: stats.median([joules for joules in all_ if joules is not None]) for name, all_ in each.items()}


def idle_energies(cases: Sequence[CaseResult], engine: int | None) -> tuple[Energy, ...]:
    """Of the idle window before this engine was loaded: it stands in the first case that the engine ran."""
    for result in cases:
        marks = [mark for mark in result.phases if mark.name == "idle"]
        if engine is not None and result.engine == engine and marks:
            return case_energies(result.readings, marks[0].start_us, marks[0].end_us)
    return ()
