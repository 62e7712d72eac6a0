#!/usr/bin/env python3
"""How often `compare` and `regress` are wrong, and what they find: simulated rows with fixed seeds, judged by the product itself.

Each pair or history has six cells: two groups of user t/s, all t/s and TTFT. Runs differ independently by cell unless it says
`all cells alike`. A repetition differs by 1 % within its run. An alarm is any slower or faster where nothing changed.

.venv/bin/python scripts/bench_verdicts.py [--pairs 1000] [--histories 200] [--only compare|regress] [--seed 1]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rigbench.analysis.compare import compare
from rigbench.analysis.regress import history
from rigbench.analysis.table import Row

METRICS = ("user_tps", "output_tps", "ttft_s")
USERS = (2, 8)
CELLS = len(METRICS) * len(USERS)
CALLED = ("slower", "faster")
DRIVERS = tuple(f"580.{minor}" for minor in (65, 76, 82, 95, 105, 126))
RUNS = 30
STATES = 10.0
"""Per cent between the two states."""
Rng = np.random.Generator
PLAIN = Row(
    **dict.fromkeys(("engine_build", "model_sha256", "model_sha256_of", "quantization", "prompts_sha256", "error")),
    **dict.fromkeys(("suite", "suite_version", "suite_sha256", "workload", "rigbench_version"), "s"),
    **dict.fromkeys(("backend", "engine", "engine_version", "device", "model"), "sim"),
    document_id="",
    created_utc="",
    machine_id="box",
    os="Linux",
    kernel="6.1",
    drivers={},
    power_limits_w=(),
    device_names=(),
    synthetic=False,
    group="",
    workload_kind="tokens",
    prompt_tokens=128,
    output_tokens=64,
    concurrency=2,
    options="{}",
    load="{}",
    repetitions=5,
    flags=(),
)


@dataclass(frozen=True)
class World:
    """What runs are like: they differ by `between` per cent (sd), or sit in two states, the slow one with the chance `slow`;
    repetitions differ by `within` per cent, a neighbour resembling the last by `rho`."""

    between: float = 0.0
    slow: float = 0.0
    within: float = 1.0
    rho: float = 0.0
    repetitions: int = 5
    alike: bool = False


def logs(world: World, runs: int, rng: Rng) -> np.ndarray:
    """Logarithms by run, cell and repetition."""
    shape = (runs, 1 if world.alike else CELLS, 1)
    of_run = rng.normal(0, world.between / 100, shape) if world.between else np.zeros(shape)
    if world.slow:
        of_run = of_run + math.log(1 - STATES / 100) * (rng.random(shape) < world.slow)
    noise = rng.normal(0, 1, (runs, CELLS, world.repetitions))
    for place in range(1, world.repetitions if world.rho else 0):
        noise[..., place] = world.rho * noise[..., place - 1] + math.sqrt(1 - world.rho**2) * noise[..., place]
    return of_run + noise * world.within / 100


def rows(numbers: np.ndarray, first: int = 0, drivers: Sequence[str] = ()) -> list[Row]:
    """As rows of documents, one a day: speeds go down with the logarithm, times up."""
    values = 50 * np.exp(numbers)
    lines = []
    for run in range(len(values)):
        month, day = divmod(first + run, 28)
        for place, users in enumerate(USERS):
            samples = {}
            for cell, name in enumerate(METRICS, start=place * len(METRICS)):
                each = values[run, cell]
                samples[name] = tuple((2500 / each if name == "ttft_s" else each).tolist())
            lines.append(
                replace(
                    PLAIN,
                    document_id=f"d{first + run}",
                    created_utc=f"2026-{1 + month:02d}-{1 + day:02d}T00:00:00Z",
                    drivers={"nvidia": drivers[run]} if drivers else {},
                    group=f"sim/m/w/c{users}",
                    concurrency=users,
                    samples=samples,
                )
            )
    return lines


def tables(
    world: World, sides: tuple[int, int], pairs: int, rng: Rng, slower: float = 0.0, past: int = 0
) -> tuple[float, float]:
    """(share of tables in which a cell is called, share of the calls of the first cell); `past`: runs of history."""
    any_cell = first_cell = 0
    for _ in range(pairs):
        numbers = logs(world, sum(sides) + past, rng)
        new = numbers[sides[0] : sum(sides)] + math.log(1 - slower / 100)
        cells = compare(
            rows(numbers[: sides[0]]), rows(new, sides[0]), METRICS, rows(numbers[sum(sides) :], sum(sides))
        ).cells
        called = [cell.verdict in (("slower",) if slower else CALLED) for cell in cells]
        any_cell += any(called)
        first_cell += called[0]
    return any_cell / pairs, first_cell / pairs


@dataclass(frozen=True)
class Histories:
    """Shares of histories: `alarm`: with any shift; `located`: the planted one in a cell at its place or in a range that holds it;
    `exact`: to the run; `wrong`: with a shift elsewhere."""

    alarm: float
    located: float
    exact: float
    wrong: float


def histories(
    world: World,
    axis: str,
    count: int,
    rng: Rng,
    change: Callable[[int], float] = lambda run: 0.0,
    at: int | None = None,
) -> Histories:
    """30 runs, one a day, five on each of six drivers. `change`: per cent by which a run is slower."""
    drivers = [DRIVERS[run * len(DRIVERS) // RUNS] for run in range(RUNS)]
    effect = np.array([math.log(1 - change(run) / 100) for run in range(RUNS)])[:, None, None]
    totals = [0, 0, 0, 0]
    for _ in range(count):
        lines = rows(logs(world, RUNS, rng) + effect, 0, drivers)
        value = (
            None if at is None else (f"nvidia {drivers[at]}" if axis == "driver" else lines[2 * at].created_utc[:10])
        )
        shifts = [shift for each in history(lines, axis, METRICS) for shift in each.shifts]
        right = [shift for shift in shifts if value is not None and holds(shift.earliest, value, shift.latest)]
        exact = any(shift.earliest == shift.latest for shift in right)
        for number, yes in enumerate((bool(shifts), bool(right), exact, len(right) < len(shifts))):
            totals[number] += yes
    return Histories(*(total / count for total in totals))


def holds(low: str, value: str, high: str) -> bool:
    """Drivers and dates of this script are in the order of their texts, but for their last number."""

    def key(text: str) -> tuple[int, ...]:
        return tuple(int(word) for word in text.replace("nvidia ", "").replace(".", "-").split("-"))

    return key(low) <= key(value) <= key(high)


WORLDS = (
    *(
        (f"runs differ by {sd} %{', all cells alike' * alike}", World(sd, alike=alike))
        for sd in (1, 2, 3, 5)
        for alike in (False, True)
    ),
    ("two states 10 % apart", World(slow=0.5)),
    ("two states 10 % apart, all cells alike", World(slow=0.5, alike=True)),
    ("a slow state in 10 % of runs", World(slow=0.1)),
)
CORRELATED = tuple(
    (f"repetitions {noise} %, AR(1) 0.9, 10 of them", World(within=noise, rho=0.9, repetitions=10)) for noise in (3, 10)
)


def percent(share: float) -> str:
    """A share as the tables have it."""
    return f"{100 * share:.1f}"


def compare_lines(pairs: int, seed: int) -> Iterable[str]:
    """The tables of `compare`, as Markdown."""
    sides = ((1, 1), (2, 2), (3, 3), (5, 5))
    yield "| nothing changed: alarms, % of tables | 1 run a side | 2 | 3 | 5 | 1, with 20 of history |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, world in (*WORLDS, *CORRELATED):
        rng = np.random.default_rng(seed)
        cells = [tables(world, side, pairs, rng)[0] for side in sides]
        cells.append(tables(world, (1, 1), pairs, rng, past=20)[0])
        yield f"| {name} | {' | '.join(map(percent, cells))} |"
    yield ""
    yield "| found, % of tables (% of one given cell) | 1 run a side | 2 | 3 | 5 | 1, with 20 of history |"
    yield "|---|--:|--:|--:|--:|--:|"
    for slower in (3, 5, 10, 20):
        for sd in (1, 3):
            rng = np.random.default_rng(seed)
            shares = [tables(World(sd), side, pairs, rng, slower) for side in sides]
            shares.append(tables(World(sd), (1, 1), pairs, rng, slower, past=20))
            texts = " | ".join(f"{percent(a)} ({percent(b)})" for a, b in shares)
            yield f"| {slower} % slower, runs differ by {sd} % | {texts} |"


def regress_lines(count: int, seed: int) -> Iterable[str]:
    """The tables of `regress`, as Markdown."""
    yield "| nothing changed: a shift in % of histories | driver | date |"
    yield "|---|--:|--:|"
    noisy = ("runs differ by 1 %, repetitions by 3 %", World(1, within=3, repetitions=3))
    for name, world in (*WORLDS, noisy):
        cells = [histories(world, axis, count, np.random.default_rng(seed)).alarm for axis in ("driver", "date")]
        yield f"| {name} | {' | '.join(map(percent, cells))} |"
    yield ""
    yield "| planted | axis | found % | at the very run or driver % | a wrong place % |"
    yield "|---|---|--:|--:|--:|"
    planted = (
        ("5 % at run 16", lambda run: 5 * (run >= 15), 15, ("driver", "date")),
        ("10 % at run 16", lambda run: 10 * (run >= 15), 15, ("driver", "date")),
        ("5 % in runs 11 to 16, then back", lambda run: 5 * (10 <= run < 16), 10, ("date",)),
    )
    for name, change, at, axes in planted:
        for sd in (1, 2, 3):
            for axis in axes:
                shares = histories(World(sd), axis, count, np.random.default_rng(seed), change, at)
                back = "" if name[0] != "5" or "back" not in name else " (its end counts here)"
                texts = " | ".join(map(percent, (shares.located, shares.exact, shares.wrong)))
                yield f"| {name}, runs differ by {sd} % | {axis} | {texts}{back} |"
    drift = histories(World(1), "date", count, np.random.default_rng(seed), lambda run: 0.3 * run)
    yield f"| 0.3 % a run, 9 % in all, runs differ by 1 % | date | {percent(drift.alarm)} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("compare", "regress"))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.pairs} pairs and {options.histories} histories a cell\n", flush=True)
    for line in compare_lines(options.pairs, options.seed) if options.only != "regress" else ():
        print(line, flush=True)
    print()
    for line in regress_lines(options.histories, options.seed) if options.only != "compare" else ():
        print(line, flush=True)


if __name__ == "__main__":
    main()
