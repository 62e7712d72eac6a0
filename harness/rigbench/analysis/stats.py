"""Small statistics on known-good definitions: medians, percentiles with enough samples behind them, bootstrap intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

PERCENTILE_MIN_SAMPLES = {50: 1, 90: 20, 95: 40, 99: 200}
BOOTSTRAP_MIN_SAMPLES = 5
BOOTSTRAP_RESAMPLES = 10_000


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
class Spread:
    """How much runs of one thing differ: the standard deviation of their logarithms, on `freedom` degrees of freedom (infinite
    for a stated one). `source`: the `runs` compared, the machine's `history`, or the `prior`."""

    sd: float
    freedom: float
    source: str


PRIOR = Spread(0.05, math.inf, "prior")
"""Taken where nothing is known of a machine. Sixteen equal runs on a shared virtual machine differed by 3 to 6 %, a quiet one's
by less than 1 %."""
FEW = 4
"""Below so many degrees of freedom the runs compared do not tell their spread alone: two runs a side of a machine that has two
states lie apart, each side in one state, in one of eight comparisons; three a side in one of 32."""


def spread(base: Sequence[float], new: Sequence[float], history: Spread | None = None) -> Spread:
    """How much runs differ, from the numbers of both sides (one a run) and from the machine's history where there is one."""
    sides = [[math.log(x) for x in side] for side in (base, new)]
    freedom: float = sum(len(side) - 1 for side in sides)
    squares = sum(_squares(side) for side in sides)
    source = "runs"
    if history is not None and history.freedom >= FEW:
        squares += history.sd**2 * history.freedom
        freedom, source = freedom + history.freedom, "history"
    if freedom >= FEW:
        return Spread(math.sqrt(squares / freedom), freedom, source)
    own = math.sqrt(squares / freedom) if freedom else 0.0
    return PRIOR if own <= PRIOR.sd else Spread(own, math.inf, "runs")


def error_of_medians(*runs: Sequence[float]) -> float | None:
    """The standard error of the median of a run's repetitions (as a logarithm), the same for each of `runs`, which measured one
    thing; None where no run has two.

    Repetitions in a row resemble each other: n of them tell as much as n (1 - r) / (1 + r) independent ones, where r is the
    correlation of neighbours, with Kendall's correction for short series and 1.5 standard errors on top. Below four repetitions r
    is unknown, and they tell as much as one. Numbers that resemble each other also vary less within a run than they truly do,
    which is made good.
    """
    logs = [[math.log(x) for x in run] for run in runs if len(run) > 1]
    if not logs:
        return None
    n = sum(map(len, logs)) / len(logs)
    squares = sum(map(_squares, logs))
    variance = squares / sum(len(run) - 1 for run in logs)
    if n < 4 or not squares:
        return math.sqrt(variance)
    deviations = [[x - math.fsum(run) / len(run) for x in run] for run in logs]
    neighbours = sum(x * y for run in deviations for x, y in pairwise(run)) / squares
    unsure = 1.5 / math.sqrt(sum(len(run) - 1 for run in logs))
    r = min(0.95, max(0.0, (n * neighbours + 1) / (n - 3) + unsure))
    share = (1 + 2 * sum((1 - k / n) * r**k for k in range(1, int(n)))) / n
    return math.sqrt(min(1.0, math.pi / 2 * share) * variance * (n - 1) / (n * (1 - share)))


@dataclass(frozen=True, slots=True)
class Ratio:
    """new / base of two groups of runs: geometric means, 95 % interval, and the p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


def ratio(base: Sequence[float], new: Sequence[float], between: Spread, within: float = 0.0) -> Ratio:
    """The ratio of two groups of positive numbers, one a run, by Student's t on their logarithms.

    `between` is how much runs differ, `within` the standard error of each number where that is not in `between` yet.
    """
    shift = math.fsum(map(math.log, new)) / len(new) - math.fsum(map(math.log, base)) / len(base)
    value = math.exp(shift)
    error = math.sqrt((between.sd**2 + within**2) * (1 / len(base) + 1 / len(new)))
    if error < 1e-12:  # numbers that do not vary at all: a simulator's, or sizes in bytes
        return Ratio(value, value, value, 1.0 if abs(shift) < 1e-9 else 0.0)
    from scipy.special import stdtr  # here: most commands need no scipy

    half = t_quantile(between.freedom) * error
    p = 2 * float(stdtr(min(between.freedom, 1e9), -abs(shift) / error))
    return Ratio(value, math.exp(shift - half), math.exp(shift + half), p)


def t_quantile(freedom: float) -> float:
    """Of Student's t: 95 % lie within so many standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(min(freedom, 1e9), 0.975))


def runs_needed(sd: float, within: float, sides: int) -> int:
    """How many runs on each of one or two `sides` it takes until the 95 % interval of what is measured is within `within` (0.03:
    +-3 %), where runs differ by `sd`. At most 1000."""
    return next(
        (n for n in range(2, 1000) if t_quantile(sides * (n - 1)) * sd * math.sqrt(sides / n) <= math.log1p(within)),
        1000,
    )


def _squares(values: Sequence[float]) -> float:
    """The sum of squared deviations from the mean; 20 times as fast as `statistics`, which works in fractions."""
    mean = math.fsum(values) / len(values)
    return math.fsum((x - mean) ** 2 for x in values)


def hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Hochberg's adjustment: with it, one false alarm in the whole table has the chance that a single test has without it."""
    known = sorted(((p, place) for place, p in enumerate(p_values) if p is not None), reverse=True)
    adjusted: list[float | None] = [None] * len(p_values)
    smallest = 1.0
    for rank, (p, place) in enumerate(known, start=1):
        adjusted[place] = smallest = min(smallest, p * rank)
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
