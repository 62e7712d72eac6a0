"""Small statistics on known-good definitions: medians, percentiles with enough samples behind them, bootstrap intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

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


def percentile(values: Sequence[float], p: int) -> float | None:
    """The p-th percentile, linear between order statistics (numpy's default); None with too few samples to mean it."""
    if len(values) < PERCENTILE_MIN_SAMPLES[p]:
        return None
    ordered = sorted(values)
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
