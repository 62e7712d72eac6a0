"""The sampler: threads that wake at fixed instants, read, and account for what they cost.

Deadlines are absolute (start + k x period), so that reading does not shift them; a deadline that has passed while
something else ran is skipped and counted, never made up for by a burst. Each source has a thread of its own: a wall
meter that does not answer must not delay the power of the GPU. Every reading carries the instant in the middle of its
call, on the clock that all processes share, so that it can be laid over the phases which a worker reports.

    python scripts/bench_telemetry.py      # what the sampler costs
"""

from __future__ import annotations

import statistics
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from rigbench.clock import Clock, now_ns
from rigbench.records import Series
from rigbench.telemetry.base import NEVER_0, POWER, Metric, Missing, Reading, Source

MAX_GAP_PERIODS = 5
MIN_VALID = 0.9

Wait = Callable[[float], bool]
"""Waits for so many seconds, or until the end is called for, and says whether it was."""


class Lane:
    """One source, the readings of its metrics, and what reading it cost. `run` is the body of its thread."""

    def __init__(self, source: Source, clock: Clock, wait: Wait) -> None:
        self.source = source
        self.probe = source.probe()
        self.clock = clock
        self.wait = wait
        self.lock = threading.Lock()
        self.call_ns: list[int] = []
        self.cpu_ns = 0
        self.late_ticks = 0
        self.longest_gap_ns = 0
        self.readings: dict[Metric, list[tuple[int, Reading]]] = {metric: [] for metric in source.metrics}
        self.groups: dict[float | None, list[Metric]] = {}
        """What is read together, by period in seconds; None: at edges only."""
        for metric in sorted(source.metrics, key=lambda metric: metric.period_s or 1e9):
            if metric.readable:
                self.groups.setdefault(metric.period_s, []).append(metric)

    def run(self) -> None:
        """Read every group at its deadlines until `wait` says that the end has come."""
        groups = {round(period_s * 1e9): metrics for period_s, metrics in self.groups.items() if period_s is not None}
        if not groups:
            return
        due_ns = dict.fromkeys(groups, self.clock())
        last_ns: dict[int, int] = {}
        stop = False
        while not stop:
            for period_ns, metrics in groups.items():
                if due_ns[period_ns] <= self.clock():
                    instant = self.read(metrics)
                    self.longest_gap_ns = max(self.longest_gap_ns, instant - last_ns.get(period_ns, instant))
                    last_ns[period_ns] = instant
                    late = (self.clock() - due_ns[period_ns]) // period_ns
                    self.late_ticks += late
                    due_ns[period_ns] += (late + 1) * period_ns
            stop = self.wait(max(0, min(due_ns.values()) - self.clock()) * 1e-9)
            self.cpu_ns = time.thread_time_ns()

    def read(self, metrics: Sequence[Metric]) -> int:
        """One reading of each, at the instant that is returned. What a source raises against its contract is missing too."""
        with self.lock:
            begin = self.clock()
            values: Sequence[Reading]
            try:
                values = self.source.read(metrics)
            except Exception as error:
                values = [Missing(f"{type(error).__name__}: {error}")] * len(metrics)
            end = self.clock()
        self.call_ns.append(end - begin)
        instant = (begin + end) // 2
        for metric, value in zip(metrics, values, strict=True):
            self.readings[metric].append((instant, _plausible(metric, value)))
        return instant

    def edge(self) -> None:
        """Read what is read at edges only, now."""
        if None in self.groups:
            self.read(self.groups[None])

    def forget(self, before_ns: int) -> None:
        for metric, known in self.readings.items():
            self.readings[metric] = known[max(0, bisect_left(known, before_ns, key=_instant) - 1) :]


class Sampler:
    """Reads all sources from `start` to `stop`; `window` may be called at any time, for what has not been forgotten."""

    def __init__(self, sources: Sequence[Source], clock: Clock = now_ns, wait: Wait | None = None) -> None:
        self._stop = threading.Event()
        self._clock = clock
        self.lanes = [Lane(source, clock, wait or self._stop.wait) for source in sources]
        self._threads: list[tuple[Lane, threading.Thread]] = []
        self._started_ns: int | None = None
        self._stopped_ns: int | None = None

    def start(self) -> Sampler:
        """Begin to read. Sampler(sources).start() is the usual way."""
        self._started_ns = self._clock()
        for lane in self.lanes:
            lane.edge()
            if lane.groups:
                thread = threading.Thread(target=lane.run, name=f"telemetry-{lane.source.name}", daemon=True)
                self._threads.append((lane, thread))
                thread.start()
        return self

    def stop(self, timeout_s: float = 3.0) -> None:
        """End the threads and close the sources. Readings stay. May be called twice."""
        self._stop.set()
        for _, thread in self._threads:
            thread.join(timeout_s)
        if self._stopped_ns is None:
            self._stopped_ns = self._clock()
            hanging = [lane for lane, thread in self._threads if thread.is_alive()]
            for lane in self.lanes:
                if lane not in hanging:  # a thread that hangs inside a driver still uses its source
                    lane.source.close()

    def watch(self, pid: int | None) -> None:
        """The worker's process, whose tree's memory is read from now on; None when it has ended."""
        for lane in self.lanes:
            with lane.lock:
                lane.source.watch(pid)

    def begin_case(self) -> None:
        """New peaks: a case begins."""
        for lane in self.lanes:
            with lane.lock:
                lane.source.begin_case()

    def edge(self) -> None:
        """Read the costly things (energy counters, memory per process) now: at the start and end of a case or phase."""
        for lane in self.lanes:
            lane.edge()

    def window(self, t0_ns: int, start_ns: int, end_ns: int) -> tuple[Series, ...]:
        """All readings from `start_ns` to `end_ns`, and one on each side for interpolation, as times relative to `t0_ns`.

        A metric that could not be read is there as an empty Series with its status and reason.
        """
        series = []
        for lane in self.lanes:
            for metric, known in lane.readings.items():
                first = max(0, bisect_left(known, start_ns, key=_instant) - 1)
                cut = known[first : bisect_right(known, end_ns, key=_instant) + 1]
                series.append(_judged(lane.source.name, metric, cut, t0_ns, start_ns, end_ns))
        return tuple(series)

    def recent(self, seconds: float) -> tuple[Series, ...]:
        """The readings of the last `seconds`, times relative to now."""
        now = self._clock()
        return self.window(now, now - round(seconds * 1e9), now)

    def forget(self, before_ns: int) -> None:
        """Drop readings older than `before_ns`, so that a run of days stays small."""
        for lane in self.lanes:
            lane.forget(before_ns)

    def report(self) -> dict[str, Any]:
        """What was there, and what reading it cost, as plain JSON: {'sources': [...], 'sampler': {...}}."""
        end = self._stopped_ns or self._clock()
        elapsed_s = 0.0 if self._started_ns is None else (end - self._started_ns) * 1e-9
        cpu_s = sum(lane.cpu_ns for lane in self.lanes) * 1e-9
        return {
            "sources": [_source_report(lane) for lane in self.lanes],
            "sampler": {
                "elapsed_s": elapsed_s,
                "cpu_s": cpu_s,
                "cpu_share_of_a_core": cpu_s / elapsed_s if elapsed_s else None,
                "calls": sum(len(lane.call_ns) for lane in self.lanes),
                "late_ticks": sum(lane.late_ticks for lane in self.lanes),
            },
        }


def _instant(reading: tuple[int, Reading]) -> int:
    return reading[0]


LEAST_W = 0.5
"""No board, package or machine that computes draws less. Some drivers tell thousandths of what they measure."""


def _plausible(metric: Metric, value: Reading) -> Reading:
    """A power, clock or temperature that nothing which runs can have says that the sensor does not know."""
    if metric.name in NEVER_0 and value == 0:
        return Missing(f"{metric.api} reads 0 {metric.unit}: it does not know, or this part rests")
    if metric.unit == POWER.unit and not isinstance(value, Missing) and value < LEAST_W:
        unit = ": its unit may be wrong" if value > 0 else ""
        return Missing(f"{metric.api} reads {value:g} W, which no running machine draws{unit}")
    return value


def _judged(
    source: str, metric: Metric, cut: Sequence[tuple[int, Reading]], t0_ns: int, start_ns: int, end_ns: int
) -> Series:
    """One metric's readings and their status: unavailable, denied, degraded, or what the source itself said."""
    valid = [instant for instant, value in cut if not isinstance(value, Missing)]
    failures = [value for _, value in cut if isinstance(value, Missing)]
    status, reason = metric.status, metric.reason
    if not metric.readable:
        cut = ()
    elif not valid:
        last = failures[-1] if failures else Missing("not read in this window")
        cut, status, reason = (), last.status, last.reason
    elif len(valid) < MIN_VALID * len(cut):
        status = "degraded"
        reason = f"{len(failures)} of {len(cut)} readings failed: {failures[-1].reason}"
    elif metric.period_s is not None:
        points = [start_ns, *(min(max(instant, start_ns), end_ns) for instant in valid), end_ns]
        gap_s = max(later - earlier for earlier, later in pairwise(points)) * 1e-9
        if gap_s > MAX_GAP_PERIODS * metric.period_s:
            status, reason = "degraded", f"no reading for {gap_s:.2f} s (one is due every {metric.period_s:g} s)"
    return Series(
        *(metric.name, metric.unit, source, metric.api, metric.scope, metric.method, status, reason, metric.device),
        time_us=tuple((instant - t0_ns) // 1000 for instant, _ in cut),
        # ten digits: 1 mJ of a counter at 1 MJ, and no tails of binary fractions in the documents
        values=tuple(None if isinstance(value, Missing) else float(f"{value:.10g}") for _, value in cut),
    )


def _source_report(lane: Lane) -> dict[str, Any]:
    """One source: usable or why not, its calls and their time, late ticks and the longest gap between two readings."""
    probe = lane.probe
    calls = sorted(lane.call_ns)
    return {
        "name": lane.source.name,
        "usable": probe.usable,
        "version": probe.version,
        "devices": list(probe.devices),
        "reason": probe.reason,
        "fix": probe.fix,
        "metrics": len(lane.source.metrics),
        "calls": len(calls),
        "call_p50_s": statistics.median(calls) * 1e-9 if calls else None,
        "call_p99_s": calls[min(len(calls) - 1, len(calls) * 99 // 100)] * 1e-9 if calls else None,
        "late_ticks": lane.late_ticks,
        "longest_gap_s": lane.longest_gap_ns * 1e-9 or None,
        "cpu_s": lane.cpu_ns * 1e-9,
    }
