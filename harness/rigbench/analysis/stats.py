"""Small statistics on known-good definitions: medians, percentiles with enough samples behind them, bootstrap intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

PERCENTILE_MIN_SAMPLES = {50: 1, 90: 20, 95: 40, 99: 200}
BOOTSTRAP_MIN_SAMPLES = 5
BOOTSTRAP_RESAMPLES = 10_000
SHUFFLES = 199
LEVEL_MIN = 3
"""Numbers that a level of a series has at the least."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median over repetitions. `low`, `high`: 95 % confidence (`method` = bootstrap) or minimum and maximum (`range`, n < 5)."""

    value: float
    low: float
    high: float
    n: int
    method: str


def median(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return statistics.median(values) if values else None


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p90, p95 and p99, linear between order statistics (numpy's default); None with too few samples to mean it."""
    ordered = sorted(values)
    return {f"p{p}": _percentile(ordered, p) for p in PERCENTILE_MIN_SAMPLES}


def _percentile(ordered: Sequence[float], p: int) -> float | None:
    if len(ordered) < PERCENTILE_MIN_SAMPLES[p]:
        return None
    place = (len(ordered) - 1) * p / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def variation(values: Sequence[float]) -> float | None:
    """Coefficient of variation (sample standard deviation / mean); None of fewer than two."""
    if len(values) < 2 or not statistics.fmean(values):
        return None
    return statistics.stdev(values) / statistics.fmean(values)


def estimate(values: Sequence[float]) -> Estimate | None:
    """Median of one number per repetition, with a 95 % percentile-bootstrap interval from 5 repetitions on."""
    if not values:
        return None
    middle = statistics.median(values)
    if len(values) < BOOTSTRAP_MIN_SAMPLES:
        return Estimate(middle, min(values), max(values), len(values), "range")
    import numpy as np  # here: `show --json` of short runs needs no numpy

    resamples = np.random.default_rng(0).choice(np.asarray(values), (BOOTSTRAP_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(resamples, axis=1), (2.5, 97.5))
    return Estimate(middle, float(low), float(high), len(values), "bootstrap")


@dataclass(frozen=True, slots=True)
class Ratio:
    """new / base of two groups of numbers: geometric means, 95 % interval, and the p-value of no difference.

    All but `value` are None where there is no telling how much the numbers vary (`value` alone is no evidence).
    """

    value: float
    low: float | None
    high: float | None
    p: float | None


def ratio(base: Sequence[float], new: Sequence[float]) -> Ratio:
    """The ratio of two groups of positive numbers, by Student's t on their logarithms.

    Why no bootstrap: with so few numbers it knows too little of how much they vary. Over 1,000 pairs of equal groups with 2 %
    noise, its 95 % interval left out 1 in

                                        n = 3    n = 5    n = 10
        percentile bootstrap, means      17 %     12 %     8 %
        BCa bootstrap, means              -       12 %     8 %
        percentile bootstrap, medians     8 %      3 %     4 %
        Welch's t on logarithms           2 %      3 %     5 %

    and much the same with heavy tails (Student's t of 3) and skewed noise; the median's is wide besides. From three numbers on
    each side the variances may differ (Welch); below, and where one side has a single number, they are taken as equal, and
    the side that repeats tells both.
    """
    base_logs, new_logs = [math.log(x) for x in base], [math.log(x) for x in new]
    n, m = len(base_logs), len(new_logs)
    (base_mean, base_square), (new_mean, new_square) = _moments(base_logs), _moments(new_logs)
    shift = new_mean - base_mean
    value = math.exp(shift)
    if n + m < 3:
        return Ratio(value, None, None, None)
    if min(n, m) >= 3:
        a, b = base_square / n, new_square / m
        freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1)) if a + b > 0 else 1.0
        error = math.sqrt(a + b)
    else:
        freedom = n + m - 2
        error = math.sqrt(((n - 1) * base_square + (m - 1) * new_square) / freedom * (1 / n + 1 / m))
    if error < 1e-12:  # numbers that do not vary at all: a simulator's, or sizes in bytes
        return Ratio(value, value, value, 1.0 if abs(shift) < 1e-9 else 0.0)
    from scipy.special import stdtr, stdtrit  # here: most commands need no scipy

    half = float(stdtrit(freedom, 0.975)) * error
    p = 2 * float(stdtr(freedom, -abs(shift) / error))
    return Ratio(value, math.exp(shift - half), math.exp(shift + half), p)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample variance (0 of a single number); 20 times as fast as `statistics`, which works in fractions."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((x - mean) ** 2 for x in values) / max(1, len(values) - 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment: with it, one false alarm in the whole table has the chance that a single test has without it."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def mann_whitney(base: Sequence[float], new: Sequence[float]) -> float | None:
    """Two-sided exact p of the rank-sum test (ties count half, rounded to the side of no difference).

    None where even complete separation could not reach 0.05 (3 against 3: 0.1), and above 400 pairs, where ranks add nothing
    to `ratio`.
    """
    n, m = len(base), len(new)
    if not n or not m or n * m > 400 or 2 / math.comb(n + m, n) > 0.05:
        return None
    wins = sum((x < y) + 0.5 * (x == y) for x in base for y in new)
    counts = _rank_sums(n, m)
    tail = sum(counts[: math.ceil(min(wins, n * m - wins)) + 1])
    return min(1.0, 2 * tail / math.comb(n + m, n))


@cache
def _rank_sums(n: int, m: int) -> list[int]:
    """How many of the orderings of n and m numbers have U = 0, 1, ... n m (Mann and Whitney's recursion)."""
    if n == 0 or m == 0:
        return [1]
    counts = [0] * (n * m + 1)
    for shift, part in ((m, _rank_sums(n - 1, m)), (0, _rank_sums(n, m - 1))):
        for u, count in enumerate(part):
            counts[u + shift] += count
    return counts


def change_points(values: Sequence[float]) -> list[int]:
    """Where a series of positive numbers changes its level: the places of the first numbers of each new level.

    The split with the largest difference of means (of logarithms, weighted for the lengths of the parts) is a change if at
    most 5 % of 199 shuffles of the series have as large a one; then each part again. A shuffle has the series' own noise,
    whatever its shape, so there is no penalty to tune; a level has at least three numbers, so an outlier is none. At the cost
    of a few milliseconds for hundreds of runs. After Matteson and James' E-divisive means, as used on MongoDB's benchmarks.
    """
    import numpy as np  # here: `show --json` of short runs needs no numpy

    logs = np.log(np.asarray(values, dtype=float))

    def within(start: int, end: int) -> list[int]:
        n = end - start
        if n < 2 * LEVEL_MIN or np.ptp(logs[start:end]) < 1e-9:
            return []
        part = logs[start:end] - logs[start:end].mean()
        lengths = np.arange(LEVEL_MIN, n - LEVEL_MIN + 1)
        weights = np.sqrt(n / (lengths * (n - lengths)))
        orders = np.vstack([np.arange(n), _shuffles(n)])
        sums = np.abs(np.cumsum(part[orders], axis=1)[:, LEVEL_MIN - 1 : n - LEVEL_MIN]) * weights
        largest = sums.max(axis=1)
        if np.count_nonzero(largest[1:] >= largest[0] * (1 - 1e-12)) > 0.05 * SHUFFLES - 1:
            return []
        place = start + LEVEL_MIN + int(sums[0].argmax())
        return [*within(start, place), place, *within(place, end)]

    return within(0, len(values))


@cache
def _shuffles(n: int) -> Any:
    """The same for every series of n numbers, so that an answer can be repeated."""
    import numpy as np

    return np.random.default_rng(n).permuted(np.tile(np.arange(n), (SHUFFLES, 1)), axis=1)
