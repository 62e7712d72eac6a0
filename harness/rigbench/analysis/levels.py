"""Levels of a series: where its numbers changed for good, where they drift, which of them stand alone, and how much they differ.

    level     at least three numbers in a row (two where changes can only be at given places) that differ from their neighbours
              by more than chance: no more than 3 % of shuffles of the same numbers have as clear a change
    drift     levels that all go one way and that a straight line describes better
    outlier   a single number far from its level: one bad night is not a level
    states    numbers that jump between two values without order: a machine with two states has one level

Series that are read as one table are shuffled together, and a change must be clearer than the clearest of the whole shuffled
table. A shuffle has the numbers' own noise, whatever its shape, and the table's own correlation, so that nothing is to be tuned.
After Matteson and James' E-divisive means, with the two-ended changes of circular binary segmentation (Olshen et al.) for levels
that come back. Numbers are taken as logarithms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rigbench.analysis import stats
from rigbench.analysis.table import Row

if TYPE_CHECKING:
    import numpy as np

SHUFFLES = 499
SPLIT_ALPHA, DIP_ALPHA, FAR_ALPHA = 0.015, 0.01, 0.005
"""Chances of a false alarm in a whole table: of one change, of a level that comes back, and of a change far beyond PRIOR."""
LEVEL_MIN = 3
PLACES = 64
"""Longer series are searched at so many places, then around them."""
PLACE = 13.0
"""A change may be wherever twice the logarithm of the likelihood is less than the best by at most so much: 99.7 % of ranges hold
its place (Bai 1997: (1 - exp(-x / 2))^2), less where both levels and the noise are estimated from few numbers."""
CLIP = 4.0
"""Numbers farther out than so many standard deviations count as at that distance."""
STATES_EXPLAIN, FEW_EXPLAIN = 0.9, 0.96
"""Two states explain so much of the variance of a history, and of a few runs (of normal noise, a cut in two explains 64 %)."""
JUMP_MIN = 6
"""Runs of both sides from which on two states are looked for."""
CLEAR = 3.5
"""A cut between two levels stays if they differ by so many standard errors: of a level that comes back, one end may be chance."""
SURE = 12.0
"""By so much must a line be better (Bayesian information) than two levels alone."""


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers above 0 in order. `places`: where a level may begin, anywhere if None."""

    values: tuple[float, ...]
    places: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """The numbers from `start` to before `end`. It may begin anywhere from `earliest` to `latest`. A drift goes from `value` to
    `final`; else both are the median."""

    start: int
    end: int
    earliest: int
    latest: int
    value: float
    final: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A whole series. `spread`: how much numbers of one level differ. `states`: the values of a machine with two states."""

    levels: tuple[Level, ...]
    outliers: tuple[int, ...]
    states: tuple[float, float] | None
    spread: stats.Spread


@dataclass(slots=True)
class _Work:
    """A series at work: its logarithms (clipped), where a level may begin, and the beginnings found."""

    logs: Any
    places: Any
    least: int
    cuts: set[int]


def shapes(table: Sequence[Series]) -> list[Shape]:
    """The shape of each series of one table."""
    import numpy as np  # here: `show --json` of short runs needs no numpy

    works = []
    for one in table:
        places = np.arange(1, len(one.values)) if one.places is None else np.array(one.places, dtype=int)
        works.append(_Work(_clipped(one.values), places, LEVEL_MIN if one.places is None else LEVEL_MIN - 1, set()))
    _search(works)
    return [_shape(one.values, work) for one, work in zip(table, works, strict=True)]


@dataclass(frozen=True, slots=True)
class History:
    """How runs of one level differ: their `spread`, and the largest `jump` (a logarithm) between two states or to an outlier."""

    spread: stats.Spread | None
    jump: float | None


def shape_of_runs(rows: Sequence[Row], metric: str) -> History | None:
    """How runs of one level differ, by the history of one case in the order of time; None of fewer than three runs."""
    numbers = [
        (row.created_utc[:10], middle)
        for row in rows
        if (middle := stats.median([x for x in row.samples.get(metric, ()) if 0 < x < math.inf])) is not None
    ]
    if len(numbers) < LEVEL_MIN:
        return None
    values = tuple(middle for _, middle in numbers)
    (shape,) = shapes([Series(values)])
    days = len({day for day, _ in numbers})
    freedom = min(shape.spread.freedom, days - len(shape.levels))  # runs of one day are no independent numbers
    jumps = [
        abs(math.log(values[place] / each.value))
        for place in shape.outliers
        for each in shape.levels
        if each.start <= place < each.end
    ]
    if shape.states is not None:
        jumps.append(math.log(shape.states[1] / shape.states[0]))
    return History(stats.Spread(shape.spread.sd, freedom, "history") if freedom > 0 else None, max(jumps, default=None))


def jump_within(*sides: Sequence[float]) -> float | None:
    """How far apart (a logarithm) two states lie between which the runs of a side jump; None where they do not."""
    import numpy as np

    logs = np.log(np.concatenate([np.asarray(side, dtype=float) for side in sides]))
    states = _states(logs, 2, FEW_EXPLAIN) if len(logs) >= JUMP_MIN else None
    if states is None:
        return None
    middle = sum(states) / 2
    mixed = any(min(side) < math.exp(middle) < max(side) for side in sides)
    return states[1] - states[0] if mixed else None


def _clipped(values: Sequence[float]) -> Any:
    import numpy as np

    logs = np.log(np.asarray(values, dtype=float))
    middle = np.median(logs)
    reach = CLIP * 1.4826 * np.median(np.abs(logs - middle))
    return np.clip(logs, middle - reach, middle + reach) if reach > 0 else logs


def _search(works: Sequence[_Work]) -> None:
    """Find the cuts of all series. A round tests every piece; those in which a change is found are cut, and the rest is tested
    again against a smaller table."""
    import numpy as np

    pieces = [(work, 0, len(work.logs)) for work in works]
    share = 1.0  # of the chances of a false alarm: each round spends half as much as the one before it
    while pieces:
        tested = [(piece, one) for piece in pieces if (one := _tests(*piece)) is not None]
        if not tested:
            return
        nulls = [np.max([one.null[kind] for _, one in tested], axis=0) for kind in (0, 1)]
        left, children = [], []
        for (work, start, end), one in tested:
            chances = [np.mean(null >= statistic - 1e-12) for null, statistic in zip(nulls, one.statistic, strict=True)]
            if chances[0] <= share * SPLIT_ALPHA or one.far * len(tested) <= FAR_ALPHA:
                cuts = one.split
            elif chances[1] <= share * DIP_ALPHA:
                cuts = one.dip
            else:
                left.append((work, start, end))
                continue
            work.cuts.update(cuts)
            children += [(work, a, b) for a, b in pairwise((start, *cuts, end))]
        if not children:
            return
        pieces, share = left + children, share / 2


@dataclass(frozen=True, slots=True)
class _Tests:
    """Of one piece: the clearest split and the clearest level that comes back (`statistic`), the same in each shuffle (`null`),
    where they are, and the chance of the split were PRIOR all that makes runs differ."""

    statistic: tuple[float, float]
    null: tuple[Any, Any]
    split: tuple[int, ...]
    dip: tuple[int, ...]
    far: float


def _tests(work: _Work, start: int, end: int) -> _Tests | None:
    """None where there is no place for a change, or nothing that varies."""
    import numpy as np

    n, least = end - start, work.least
    places = work.places - start
    places = places[(places >= least) & (places <= n - least)]
    if len(places) == 0 or np.ptp(work.logs[start:end]) < 1e-9:
        return None
    places = places[:: -(-len(places) // PLACES)]
    part = work.logs[start:end] - work.logs[start:end].mean()
    sums = np.concatenate([np.zeros((SHUFFLES + 1, 1)), np.cumsum(part[_shuffles(n)], axis=1)], axis=1)
    sums = sums[:, places] / math.sqrt(part @ part / n)
    splits = np.abs(sums) * np.sqrt(n / (places * (n - places)))
    best = int(splits[0].argmax())
    a, b = places[best], n - places[best]
    means = abs(float(part[:a].mean() - part[a:].mean()))
    within = math.sqrt((((part[:a] - part[:a].mean()) ** 2).sum() + ((part[a:] - part[a:].mean()) ** 2).sum()) / n)
    z = means / (max(within, stats.PRIOR.sd) * math.sqrt(1 / a + 1 / b))
    far = len(places) * math.erfc(z / math.sqrt(2))
    i, j = np.triu_indices(len(places), 1)
    lengths = places[j] - places[i]
    i, j, lengths = i[lengths >= least], j[lengths >= least], lengths[lengths >= least]
    cut = (start + int(places[best]),)
    if len(i) == 0:
        return _Tests((splits[0, best], 0.0), (splits[1:].max(axis=1), np.zeros(SHUFFLES)), cut, (), far)
    weights = np.sqrt(n / (lengths * (n - lengths)))
    dips = np.empty(SHUFFLES + 1)
    for k in range(0, SHUFFLES + 1, 50):  # all at once would take hundreds of megabytes
        dips[k : k + 50] = (np.abs(sums[k : k + 50, j] - sums[k : k + 50, i]) * weights).max(axis=1)
    at = int((np.abs(sums[0, j] - sums[0, i]) * weights).argmax())
    dip = (start + int(places[i[at]]), start + int(places[j[at]]))
    return _Tests((splits[0, best], dips[0]), (splits[1:].max(axis=1), dips[1:]), cut, dip, far)


@cache
def _shuffles(n: int) -> np.ndarray[Any, Any]:
    """Orders of n numbers, first their own; the same for every series of n, which so are shuffled together."""
    import numpy as np

    shuffled = np.random.default_rng(n).permuted(np.tile(np.arange(n), (SHUFFLES, 1)), axis=1)
    return np.vstack([np.arange(n), shuffled])


def _shape(values: Sequence[float], work: _Work) -> Shape:
    import numpy as np

    logs, n = work.logs, len(values)
    cuts, ranges = _settled(work)
    edges = [0, *cuts, n]
    steps = [
        Level(a, b, *ranges.get(a, (a, a)), value=middle, final=middle)
        for a, b in pairwise(edges)
        for middle in [statistics.median(values[a:b])]
    ]
    steps = _with_drifts(steps, logs)
    fitted = np.concatenate(
        [np.linspace(math.log(each.value), math.log(each.final), each.end - each.start) for each in steps]
    )
    raw = np.log(np.asarray(values)) - fitted
    states = _states(raw) if n >= 8 else None
    scale = 1.4826 * float(np.median(np.abs(raw)))
    far = np.abs(raw) > max(2 * math.log1p(0.03), 5 * scale)
    outliers = () if states else tuple(int(place) for place in np.flatnonzero(far))
    freedom = n - sum(1 if each.value == each.final else 2 for each in steps)
    sd = math.sqrt(float(raw @ raw) / freedom) if freedom > 0 else 0.0
    pair = None
    if states is not None:
        last = math.log(steps[-1].final)
        pair = (math.exp(last + states[0]), math.exp(last + states[1]))
    return Shape(tuple(steps), outliers, pair, stats.Spread(sd, freedom, "history"))


def _settled(work: _Work) -> tuple[list[int], dict[int, tuple[int, int]]]:
    """The cuts, each at its best place between its neighbours and without those that are not clear there, and the range of each."""
    cuts, n = sorted(work.cuts), len(work.logs)
    while True:
        ranges: dict[int, tuple[int, int]] = {}
        clear: list[float] = []
        for _ in range(2):  # a cut was placed before its neighbours were known
            clear = []
            for number in range(len(cuts)):
                before, after = [0, *cuts][number], [*cuts, n][number + 1]
                cuts[number], low, high, errors = _placed(work, before, after)
                ranges[cuts[number]] = (low, high)
                clear.append(errors)
        if not cuts or min(clear) >= CLEAR:
            return cuts, ranges
        del cuts[clear.index(min(clear))]


def _placed(work: _Work, before: int, after: int) -> tuple[int, int, int, float]:
    """(the best place of the only change between two edges, the earliest and the latest that it may have, by how many standard
    errors the two sides differ)."""
    import numpy as np

    n = after - before
    places = work.places - before
    places = places[(places >= work.least) & (places <= n - work.least)]
    part = work.logs[before:after] - work.logs[before:after].mean()
    explained = np.cumsum(part)[places - 1] ** 2 * n / (places * (n - places))
    best = int(explained.argmax())
    variance = max(float(part @ part) - float(explained[best]), 0.0) / max(1, n - 2)
    reach = (n - 2) * math.expm1(PLACE / n) * variance
    may = places[explained[best] - explained <= reach + 1e-15]
    errors = math.sqrt(float(explained[best]) / variance) if variance > 1e-18 else math.inf
    return before + int(places[best]), before + int(may.min()), before + int(may.max()), errors


def _with_drifts(levels: Sequence[Level], logs: Any) -> list[Level]:
    """Levels that all go one way become one drift where a line fits them better, with fewer numbers to choose."""
    import numpy as np

    merged: list[Level] = []
    start = 0
    while start < len(levels):
        end = start + 1
        while end < len(levels) and (
            end == start + 1
            or (levels[end].value > levels[end - 1].value) == (levels[start + 1].value > levels[start].value)
        ):
            end += 1
        run = levels[start:end]
        a, b, many = run[0].start, run[-1].end, len(run)
        if many > 1:
            part, at = logs[a:b], np.arange(b - a)
            slope, base = np.polyfit(at, part, 1)
            line = float(((part - base - slope * at) ** 2).sum())
            steps = sum(float(((x - x.mean()) ** 2).sum()) for x in (logs[each.start : each.end] for each in run))
            n = b - a
            gain = n * math.log((steps + 1e-18) / (line + 1e-18)) + (2 * many - 3) * math.log(n)
            if gain > (SURE if many == 2 else 0):
                final = math.exp(base + slope * (n - 1))
                merged.append(Level(a, b, run[0].earliest, run[0].latest, math.exp(base), final))
                start = end
                continue
            end = start + 1
        merged.append(levels[start])
        start = end
    return merged


def _states(residuals: Any, least: int = LEVEL_MIN, explain: float = STATES_EXPLAIN) -> tuple[float, float] | None:
    """The two values that the residuals jump between, at least `least` of them at each; None where they do not."""
    import numpy as np

    n = len(residuals)
    ordered = np.sort(residuals - residuals.mean())
    total = float(ordered @ ordered)
    if n < 2 * least or total < 1e-12:
        return None
    sizes = np.arange(least, n - least + 1)
    explained = np.cumsum(ordered)[sizes - 1] ** 2 * n / (sizes * (n - sizes)) / total
    best = int(explained.argmax())
    low, high = float(ordered[: sizes[best]].mean()), float(ordered[sizes[best] :].mean())
    if explained[best] < explain or high - low < math.log1p(0.03):
        return None
    shift = float(residuals.mean())
    return low + shift, high + shift
