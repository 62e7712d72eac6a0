"""The same measurement twice: times that stand in two cases or two documents, and repetitions that are each other with some noise.

Two measurements share no noise. Their gaps may follow one pattern (a cache that grows, a server that hands over in pairs), but what
remains of each gap after its neighbours is its own; a copy keeps that however it was scaled, shifted or shaken a little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from rigbench.analysis.windows import points
from rigbench.documents.bounds import Fault
from rigbench.records import CaseResult, RunDocument

LEAST_GAPS = 16
"""Fewer may be alike by chance."""
LEAST_DISTINCT = 6
MOST_ALIKE, SIGMAS = 0.8, 5.5
"""Rank correlation of the gaps of two repetitions; where they are few, so many standard errors (Fisher's): chance gives more than
0.8 to one of thousands of pairs of 16 gaps."""
LEAST_SPREAD_US = 2.0
"""Gaps that vary by less are the clock's own grid, which two measurements share."""
MOST_COMPARED = 12
"""Repetitions of a group that are compared with each other, and requests of each."""


def gaps_us(times: Sequence[int]) -> list[int]:
    """Distances of a request's stamps."""
    return [later - earlier for earlier, later in pairwise(times)]


def copy_faults(document: RunDocument) -> Iterator[Fault]:
    """Cases whose times or readings are another's."""
    groups: dict[tuple[str, int, int], list[tuple[str, list[int]]]] = {}
    copies: dict[tuple[int, ...], str] = {}
    for place, result in enumerate(document.cases):
        if result.engine is None or document.engines[result.engine].device == "sim":
            continue
        for number, record in enumerate(result.requests):
            gaps = gaps_us(record.unit_us)
            if len(gaps) < LEAST_GAPS or len(set(gaps)) < LEAST_DISTINCT:
                continue
            here = f"$.cases[{place}].requests[{number}].unit_us"
            other = copies.setdefault(tuple(gaps), here)
            if other != here and not _together(other, here, document):
                yield Fault(here, f"has the very gaps of {other}")
            groups.setdefault((result.case.group, record.user, record.index), []).append((here, gaps))
    yield from _alike(groups)
    yield from _pasted(document.cases)


def _together(one: str, other: str, document: RunDocument) -> bool:
    """Two users of one case who are served in the same steps have the same gaps."""
    return one.split(".requests")[0] == other.split(".requests")[0]


def _alike(groups: dict[tuple[str, int, int], list[tuple[str, list[int]]]]) -> Iterator[Fault]:
    import numpy as np

    for (_, user, index), all_found in groups.items():
        pairs = all_found[:MOST_COMPARED]
        if user >= MOST_COMPARED or index >= MOST_COMPARED or len(pairs) < 2:
            continue
        length = min(len(gaps) for _, gaps in pairs)
        lines = np.asarray([gaps[:length] for _, gaps in pairs], dtype=float)
        padded = np.concatenate([lines[:, :1], lines[:, :1], lines, lines[:, -1:], lines[:, -1:]], axis=1)
        middle = np.mean([padded[:, place : place + length] for place in range(5)], axis=0)
        remains = lines - middle
        ranks = np.argsort(np.argsort(remains, axis=1, kind="stable"), axis=1, kind="stable")
        table, varies = np.asarray(np.corrcoef(ranks)), remains.std(axis=1) >= LEAST_SPREAD_US
        by_chance = max(MOST_ALIKE, math.tanh(SIGMAS / math.sqrt(length - 3)))
        for one, other in combinations(range(len(pairs)), 2):
            if table[one, other] > by_chance and varies[one] and varies[other]:
                here, there = pairs[other][0], pairs[one][0]
                if pairs[one][1] != pairs[other][1]:
                    why = f"rises and falls as {there} does (rank correlation {table[one, other]:.2f}): two measurements would not"
                    yield Fault(here, why, below="physical")
                break


def _pasted(cases: Sequence[CaseResult]) -> Iterator[Fault]:
    """Readings that another case has, to the last digit."""
    blocks: dict[tuple[object, ...], str] = {}
    for place, result in enumerate(cases):
        for number, series in enumerate(result.readings):
            values = [value for _, value in points(series)]
            if series.method == "counter":
                values = [round(later - earlier, 9) for earlier, later in pairwise(values)]
            if len(values) < 2 * LEAST_DISTINCT or len(set(values)) < LEAST_DISTINCT:
                continue
            here = f"$.cases[{place}].readings[{number}].values"
            other = blocks.setdefault((series.source, series.name, series.device, *values), here)
            if other != here:
                yield Fault(here, f"are those of {other}")
