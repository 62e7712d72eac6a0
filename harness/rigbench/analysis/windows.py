"""Windows of time: the steady window of a case, and readings as a curve over one (between them, under them, how far apart).

    integrated = sum of (p[i] + p[i+1]) / 2 x (t[i+1] - t[i]), the curve cut at the window's edges by straight lines
    counted    = c(end) - c(start), the counter taken as straight between its readings

Times and edges are microseconds from the same t0.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from rigbench.records import RequestRecord, Series

Points = list[tuple[int, float]]
"""Readings: (microseconds, value)."""


@dataclass(frozen=True, slots=True)
class Window:
    """The steady window in microseconds from t0, and the output tokens stamped in (start, end]."""

    start_us: int
    end_us: int
    tokens: int

    @property
    def length_s(self) -> float:
        return (self.end_us - self.start_us) / 1e6


def steady_window(records: Sequence[RequestRecord], users: int) -> Window | None:
    """The stretch in which all N users are served; None if N requests never decoded at once."""
    # Sorted, ends (-1) come before beginnings (1) of one instant, so that a request's successor is not counted beside it.
    ends = [(record.unit_us[-1], -1) for record in records if record.unit_us]
    begins = sorted(ends + [(record.unit_us[0], 1) for record in records if record.unit_us])
    decoding = accumulate(change for _, change in begins)
    start = next((at for (at, _), count in zip(begins, decoding, strict=True) if count >= users), None)
    flights = sorted(ends + [(record.submit_us, 1) for record in records])
    in_flight = accumulate(change for _, change in flights)
    falls = [at for (at, change), count in zip(flights, in_flight, strict=True) if change < 0 and count == users - 1]
    end = falls[-1] if falls else None
    if start is None or end is None or end <= start:
        return None
    tokens = sum(
        count
        for record in records
        for stamp, count in zip(record.unit_us, record.chunk_units or (1,) * len(record.unit_us), strict=True)
        if start < stamp <= end
    )
    return Window(start, end, tokens)


def points(series: Series) -> Points:
    """The readings that exist: (microseconds, value)."""
    return [(at, value) for at, value in zip(series.time_us, series.values, strict=True) if value is not None]


def period_us(series: Series) -> float | None:
    """How often the series was read: the median distance of its readings."""
    gaps = [later - earlier for earlier, later in pairwise(series.time_us)]
    return statistics.median(gaps) if gaps else None


def valid_share(series: Series, start_us: float, end_us: float) -> float:
    """Which part of the readings inside the window succeeded; 0 where there are none."""
    inside = [value for at, value in zip(series.time_us, series.values, strict=True) if start_us <= at <= end_us]
    return sum(value is not None for value in inside) / len(inside) if inside else 0.0


def value_at(readings: Points, at_us: float) -> float:
    """Straight line between the readings on either side; beyond the first or last, that reading."""
    index = bisect_left(readings, at_us, key=lambda reading: reading[0])
    if index == 0:
        return readings[0][1]
    if index == len(readings):
        return readings[-1][1]
    (left, low), (right, high) = readings[index - 1], readings[index]
    return high if right == left else low + (high - low) * (at_us - left) / (right - left)


def integrated(readings: Points, start_us: float, end_us: float) -> float:
    """Joules under the curve of watts between the edges. At least one reading is needed."""
    first = bisect_right(readings, start_us, key=lambda reading: reading[0])
    last = bisect_left(readings, end_us, key=lambda reading: reading[0])
    curve = [(start_us, value_at(readings, start_us)), *readings[first:last], (end_us, value_at(readings, end_us))]
    return sum((p + q) / 2 * (u - t) for (t, p), (u, q) in pairwise(curve)) * 1e-6


def counted(readings: Points, start_us: float, end_us: float) -> float:
    """Joules that a counter gained between the edges. At least two readings are needed."""
    return value_at(readings, end_us) - value_at(readings, start_us)


def gap_share(series: Series, start_us: float, end_us: float) -> tuple[float, float]:
    """Longest stretch of the window without a reading in seconds, and the window's share in stretches of over 2.5 periods."""
    inside = [min(max(at, start_us), end_us) for at, _ in points(series)]
    edges = [start_us, *inside, end_us]
    gaps = [later - earlier for earlier, later in pairwise(edges)]
    allowed = 2.5 * (period_us(series) or 0)
    return max(gaps) * 1e-6, sum(gap for gap in gaps if gap > allowed) / (end_us - start_us)


def bracket(count: Points, start_us: float, end_us: float) -> tuple[int, int]:
    """The counter's readings next outside the window."""
    before = [at for at, _ in count if at <= start_us]
    after = [at for at, _ in count if at >= end_us]
    return (before[-1] if before else count[0][0]), (after[0] if after else count[-1][0])
