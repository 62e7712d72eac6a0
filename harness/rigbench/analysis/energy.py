"""Energy of a window: the integral of power, the difference of a counter, and what may be said of either.

    integrated = sum of (p[i] + p[i+1]) / 2 x (t[i+1] - t[i]), the curve cut at the window's edges by straight lines
    counter    = c(end) - c(start), the counter taken as straight between its readings
    net        = gross - idle watts x seconds

Both are kept with their ratio: on consumer cards the counter is reported to lose energy, and a sensor that looks at
25 of every 100 ms can miss a burst. A window shorter than the sensor can resolve has no energy (None and the reason),
never a guess.

Everything here is pure: Series in, numbers out; `time_us` and the window's edges count from the same t0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rigbench.analysis import stats
from rigbench.analysis.windows import Window, bracket, counted, gap_share, integrated, period_us, points, valid_share
from rigbench.records import CaseResult, PhaseMark, Series
from rigbench.telemetry import limits
from rigbench.telemetry.base import Limits

MAX_GAP_PERIODS = 5
MIN_VALID = 0.9
MIN_READINGS = 5


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one window from one device of one source, in joules; None with the reason where it cannot be told.

    `joules` is the integral where there is power, else the counter's; both are beside it where both exist, with
    `counter_over_integrated`. `n` is the number of readings inside the window. Watts are over the same window.
    """

    source: str
    scope: str
    device: str | None
    window_s: float
    joules: float | None
    method: str | None = None
    status: str = "ok"
    reason: str | None = None
    integrated_j: float | None = None
    counter_j: float | None = None
    counter_over_integrated: float | None = None
    watts_mean: float | None = None
    watts_peak: float | None = None
    n: int = 0
    net_joules: float | None = None
    net_reason: str | None = None


def window_energy(power: Series | None, counter: Series | None, start_us: float, end_us: float) -> Energy:
    """Energy of one window of one device, from its power, its counter, or both. One of the two must be given."""
    main = power if power is not None else counter
    assert main is not None
    seconds = (end_us - start_us) * 1e-6
    found = Energy(main.source, main.scope, main.device, seconds, None)
    needs = limits(main.source, main.device)
    if seconds < needs.min_s:
        return replace(
            found, status="unavailable", reason=f"window of {seconds:.2f} s; {main.source} needs {needs.min_s:g} s"
        )
    curve = points(power) if power else []
    count = points(counter) if counter else []
    counter_j, counter_reason = _counter_joules(counter, count, start_us, end_us)
    if not curve and counter_j is None:
        status = main.status if main.status in ("unavailable", "denied") else "unavailable"
        return replace(found, status=status, reason=counter_reason or main.reason or "no reading")
    inside = [value for at, value in (curve or _derived(count)) if start_us <= at <= end_us]
    integrated_j = integrated(curve, start_us, end_us) if curve else None
    joules = integrated_j if integrated_j is not None else counter_j
    assert joules is not None
    status, reason = _status(power if curve and power else counter, start_us, end_us, needs)
    if status == "unavailable":
        return replace(found, status=status, reason=reason, n=len(inside))
    over = None
    if integrated_j is not None and counter_j is not None:
        over = _same_span_ratio(curve, count, start_us, end_us)
        counter_j = None if over is None else integrated_j * over
    return replace(
        found,
        joules=joules,
        method="integrated" if curve else "counter",
        status=status,
        reason=reason,
        integrated_j=integrated_j,
        counter_j=counter_j,
        counter_over_integrated=over,
        watts_mean=joules / seconds,
        watts_peak=max(inside, default=None),
        n=len(inside),
    )


def _counter_joules(
    counter: Series | None, count: list[tuple[int, float]], start_us: float, end_us: float
) -> tuple[float | None, str | None]:
    if counter is None:
        return None, None
    if len(count) < 2:
        return None, counter.reason or "the counter was read less than twice"
    if any(later < earlier for (_, earlier), (_, later) in pairwise(count)):
        return None, "the counter went backwards (driver restarted, or device replaced)"
    gained = counted(count, start_us, end_us)
    if gained <= 0 and not limits(counter.source, counter.device).may_rest:
        return None, f"the counter stood still for {(end_us - start_us) * 1e-6:.1f} s"
    return gained, None


def _same_span_ratio(
    curve: list[tuple[int, float]], count: list[tuple[int, float]], start_us: float, end_us: float
) -> float | None:
    """Counter over integral between the counter's own readings next outside the window (a counter read at edges only
    has none at the window's), as far as the power was read there too."""
    start, end = bracket(count, start_us, end_us)
    if end <= start or start < curve[0][0] - 1e6 or end > curve[-1][0] + 1e6:
        return None
    area = integrated(curve, start, end)
    return counted(count, start, end) / area if area > 0 else None


def _derived(count: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Watts between successive readings of a counter, at the middle of each step."""
    return [((t + u) // 2, (b - a) / ((u - t) * 1e-6)) for (t, a), (u, b) in pairwise(count) if u > t]


def _status(series: Series | None, start_us: float, end_us: float, needs: Limits) -> tuple[str, str | None]:
    assert series is not None
    seconds = (end_us - start_us) * 1e-6
    if series.method == "counter":
        return _counter_status(series, start_us, end_us)
    gap_s, share = gap_share(series, start_us, end_us)
    period_s = (period_us(series) or 0) * 1e-6
    readings = sum(start_us <= at <= end_us for at, _ in points(series))
    if readings < MIN_READINGS:
        return "unavailable", f"{readings} readings in the window; {MIN_READINGS} are needed"
    if share > needs.max_gap_share:
        return "unavailable", f"{share:.0%} of the window is without readings (at most {needs.max_gap_share:.0%})"
    if gap_s > MAX_GAP_PERIODS * period_s:
        return "degraded", f"no reading for {gap_s:.2f} s"
    if (valid := valid_share(series, start_us, end_us)) < MIN_VALID:
        return "degraded", f"{1 - valid:.0%} of the readings failed"
    if series.status == "low_confidence":  # degraded speaks of the whole case, of which this window is a part
        return series.status, series.reason
    if seconds < needs.good_s:
        return "low_confidence", f"window of {seconds:.1f} s; {series.source} is good from {needs.good_s:g} s on"
    return "ok", None


def _counter_status(series: Series, start_us: float, end_us: float) -> tuple[str, str | None]:
    """A counter misses nothing between its readings, but where the window's edges lie between two, it is a guess what
    each side of the edge had of it."""
    count = points(series)
    if max(0.0, count[0][0] - start_us) + max(0.0, end_us - count[-1][0]) > 0.05 * (end_us - start_us):
        return "unavailable", "the counter was not read at the edges of the window"
    start, end = bracket(count, start_us, end_us)
    if end - start > 1.2 * (end_us - start_us):
        return (
            "low_confidence",
            f"the counter was read over {(end - start) * 1e-6:.1f} s, of which the window is a part",
        )
    return "ok", None


def case_energies(readings: Sequence[Series], start_us: float, end_us: float) -> tuple[Energy, ...]:
    """Energy of a window from every device that told power or counted energy, and one with a reason for each that
    could not.

    `power` and `energy` of one device are two views of one thing and become one Energy.
    """
    found: dict[tuple[str, str | None, str], dict[str, Series]] = {}
    for series in readings:
        if series.name in ("power", "energy"):
            found.setdefault((series.source, series.device, series.scope), {})[series.name] = series
    return tuple(window_energy(pair.get("power"), pair.get("energy"), start_us, end_us) for pair in found.values())


def with_idle(energy: Energy, idle: Energy | None) -> Energy:
    """`energy` with its net joules, given the same device's energy in the idle window (measured before the model was
    loaded)."""
    if energy.joules is None:
        return replace(energy, net_reason=energy.reason)
    if idle is None or idle.watts_mean is None:
        return replace(energy, net_reason=(idle.reason if idle else None) or "idle power was not measured")
    net = energy.joules - idle.watts_mean * energy.window_s
    if net < 0:
        return replace(energy, net_reason=f"idle power ({idle.watts_mean:.1f} W) was above that of the window")
    return replace(energy, net_joules=net)


def gross_and_net(
    readings: Sequence[Series], start_us: float, end_us: float, idle: Sequence[Energy] = ()
) -> tuple[Energy, ...]:
    """case_energies with net joules from `idle`, the energies of the idle window (case_energies of its readings)."""
    baseline = {(each.source, each.device, each.scope): each for each in idle}
    return tuple(
        with_idle(each, baseline.get((each.source, each.device, each.scope)))
        for each in case_energies(readings, start_us, end_us)
    )


def phase_energies(readings: Sequence[Series], phases: Sequence[PhaseMark]) -> dict[str, tuple[Energy, ...]]:
    """Energies of each named phase (load, idle, warmup, measure ...); give extra marks for steady windows or spans of
    prefill."""
    return {mark.name: case_energies(readings, mark.start_us, mark.end_us) for mark in phases}


def per_token(joules: float | None, tokens: int) -> float | None:
    """Joules per token; None without energy or without tokens."""
    return None if joules is None or tokens <= 0 else joules / tokens


def headline(energies: Sequence[Energy], device: str) -> Energy | None:
    """The widest scope that was measured and holds the engine's `device` (cpu, cuda, metal ...), its parts added up:
    the boards of two GPUs, the packages of two sockets. A sum of which one part is missing is None, with the part
    named.

    Where no scope was measured, the first with its reason; None only where there was no source at all.
    """
    fitting = ("wall", "host", "package" if device == "cpu" else "board", "soc")
    for scope in fitting:
        inside = [each for each in energies if each.scope == scope]
        measuring = {each.source for each in inside if each.joules is not None}
        if measuring:
            return total([each for each in inside if each.source in measuring])
    return next((each for scope in fitting for each in energies if each.scope == scope), None)


def total(parts: Sequence[Energy]) -> Energy:
    """Sum over the parts of one scope; None with the reason if one of them is missing. Peak watts are the sum of
    peaks."""
    if len(parts) == 1:
        return parts[0]
    first, names = parts[0], [each.device or each.source for each in parts]
    for each, name in zip(parts, names, strict=True):
        if each.joules is None:
            reason = f"{name}: {each.reason}"
            return Energy(first.source, first.scope, "+".join(names), first.window_s, None, None, "unavailable", reason)
    worst = max(parts, key=lambda each: ("ok", "low_confidence", "degraded").index(each.status))
    return Energy(
        first.source,
        first.scope,
        "+".join(names),
        first.window_s,
        joules=_sum(each.joules for each in parts),
        method=first.method,
        status=worst.status,
        reason=worst.reason,
        integrated_j=_sum(each.integrated_j for each in parts),
        counter_j=_sum(each.counter_j for each in parts),
        watts_mean=_sum(each.watts_mean for each in parts),
        watts_peak=_sum(each.watts_peak for each in parts),
        n=min(each.n for each in parts),
        net_joules=_sum(each.net_joules for each in parts),
        net_reason=next((each.net_reason for each in parts if each.net_reason), None),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if any(value is None for value in known) else sum(value for value in known if value is not None)


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


def power_of(result: CaseResult, window: Window | None, device: str | None, idle: Sequence[Energy] = ()) -> Power:
    """Energy and power of `result` on the engine's `device`, with `idle` taken off. Phases: loading (in the case that follows it),
    prefill (until all users decode) and decode (the steady window)."""
    if window is None or device is None:
        return Power()
    marks = [mark for mark in result.phases if mark.name == "load"]
    marks += [PhaseMark("prefill", 0, window.start_us), PhaseMark("decode", window.start_us, window.end_us)]
    phases = {name: headline(parts, device) for name, parts in phase_energies(result.readings, marks).items()}
    joules = {name: whole.joules if whole else None for name, whole in phases.items()}
    main = headline(gross_and_net(result.readings, window.start_us, window.end_us, idle), device)
    if main is None or main.joules is None:
        reason = (main.reason if main else None) or "no source tells the power of this device"
        return Power(reason=reason, phase_joules=joules)
    return Power(
        per_token(main.joules, window.tokens),
        per_token(main.net_joules, window.tokens),
        main.watts_mean,
        main.watts_peak,
        main.scope,
        None,
        joules,
    )


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
