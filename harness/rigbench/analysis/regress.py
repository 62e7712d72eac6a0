"""What many results say over time: the history of each case along one axis, its steps, and where it changed for good.

    history   all runs of one (machine, backend, model, workload, users, options), along an axis: driver, engine, os or date
    point     the runs at one value of the axis (one driver version)
    step      from one point to the next, compared as in compare.py; Holm over all cases of a machine at that step
    shift     a change point of the series of runs, from 8 runs on (stats.change_points)

Values of the axis are ordered as versions (versions.py), runs of one value by their time.

    rigbench regress results/ --axis driver
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rigbench.analysis import stats
from rigbench.analysis.compare import (
    SAME,
    Cell,
    Difference,
    differences,
    direction,
    judged,
    raw_cells,
)
from rigbench.analysis.definitions import compared
from rigbench.analysis.table import Row
from rigbench.analysis.versions import order

AXES = ("driver", "engine", "os", "date")
SHIFT_MIN_RUNS = 8
MAIN_DRIVERS = ("nvidia", "amdgpu", "macos_build")
AXIS_OF_DIFFERENCE = {"driver": "drivers", "engine": "engine", "os": "system"}


@dataclass(frozen=True, slots=True)
class Run:
    """One document's medians of a case."""

    document_id: str
    created_utc: str
    value: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Step:
    """From the runs at `before` to those at `after`. `differences` are what else changed than the axis."""

    before: str
    after: str
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """A level that changed: medians before and after run `at` (its value, document and time); `verdict` as in a Cell."""

    metric: str
    at: str
    document_id: str
    created_utc: str
    before: float
    after: float
    verdict: str


@dataclass(frozen=True, slots=True)
class History:
    """One case over the axis."""

    machine_id: str
    group: str
    options: str
    suite: str
    runs: tuple[Run, ...]
    steps: tuple[Step, ...]
    shifts: tuple[Shift, ...]


def history(rows: Iterable[Row], axis: str, metrics: Sequence[str] | None = None) -> list[History]:
    """The histories of at least two values of the axis, or of 8 runs. A document that is there twice counts once."""
    metrics = compared() if metrics is None else metrics
    grouped: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        if row.samples or row.error:
            grouped.setdefault(_key(row), {}).setdefault(row.document_id, row)
    found = []
    for documents in grouped.values():
        if not any(row.samples for row in documents.values()):
            continue  # it never ran on this machine: too long a prompt, too large a model
        placed = [(axis_value(row, axis), row) for row in documents.values()]
        placed.sort(key=lambda pair: (order(pair[0]), pair[1].created_utc, pair[1].document_id))
        made = _history(placed, axis, metrics)
        if made.steps or len(made.runs) >= SHIFT_MIN_RUNS:
            found.append(made)
    return _judged(sorted(found, key=lambda each: (each.machine_id, each.group, each.options, each.suite)))


def axis_value(row: Row, axis: str) -> str:
    """Where a run stands on the axis, as people write it."""
    if axis == "driver":
        names = [name for name in MAIN_DRIVERS if name in row.drivers] or sorted(row.drivers)
        return f"{names[0]} {row.drivers[names[0]]}" if names else "no driver"
    if axis == "engine":
        return row.engine_version or "unknown"
    if axis == "os":
        return f"{row.os}, kernel {row.kernel}"
    return row.created_utc[:10]


def since(histories: Sequence[History], value: str) -> list[History]:
    """Only the steps that lead to `value` or beyond, and the shifts that happened there (text before the first digit of an
    axis value is its name: `--since 580.65` means `nvidia 580.65`)."""

    def late(text: str) -> bool:
        return order(_number(text))[0] >= order(_number(value))[0]

    kept = (
        replace(
            each,
            steps=tuple(step for step in each.steps if late(step.after)),
            shifts=tuple(shift for shift in each.shifts if late(shift.at)),
        )
        for each in histories
    )
    return [each for each in kept if each.steps or each.shifts]


def bad(histories: Sequence[History], verdicts: Sequence[str]) -> list[str]:
    """What `--fail-on` names, in words; a case that now fails counts as slower."""
    wanted = {*verdicts, *(("failed",) if "slower" in verdicts else ())}
    found = [
        f"{each.group} {cell.metric} {cell.verdict} at {step.after}"
        for each in histories
        for step in each.steps
        for cell in step.cells
        if cell.verdict in wanted
    ]
    shifts = [
        f"{each.group} {s.metric} {s.verdict} since {s.at}"
        for each in histories
        for s in each.shifts
        if s.verdict in wanted
    ]
    return found + shifts


def _number(text: str) -> str:
    first = next((place for place, letter in enumerate(text) if letter.isdigit()), 0)
    return text[first:]


def _key(row: Row) -> tuple[object, ...]:
    """What must be the same in all runs of one history."""
    return (
        row.machine_id,
        row.device,
        row.group,
        row.model_sha256,
        row.suite,
        row.suite_version,
        row.prompt_tokens,
        row.output_tokens,
        row.options,
        row.load,
        row.imported,
    )


def _history(placed: Sequence[tuple[str, Row]], axis: str, metrics: Sequence[str]) -> History:
    first = placed[0][1]
    points: dict[str, list[Row]] = {}
    for value, row in placed:
        points.setdefault(value, []).append(row)
    steps = []
    for (before, olds), (after, news) in pairwise(points.items()):
        others = tuple(each for each in differences(olds, news) if each.name != AXIS_OF_DIFFERENCE.get(axis))
        steps.append(Step(before, after, tuple(raw_cells(olds, news, metrics)), others))
    runs = tuple(
        Run(
            row.document_id,
            row.created_utc,
            value,
            {name: middle for name in metrics if (middle := stats.median(row.samples.get(name, ()))) is not None},
        )
        for value, row in placed
    )
    shifts = tuple(shift for metric in metrics for shift in _shifts(runs, metric))
    return History(first.machine_id, first.group, first.options, first.suite, runs, tuple(steps), shifts)


def _judged(histories: Sequence[History]) -> list[History]:
    """Holm over all cells of one machine and one step: they are read as one table, and share what disturbed it."""
    tables: dict[tuple[str, str, str], list[Cell]] = {}
    for each in histories:
        for step in each.steps:
            tables.setdefault((each.machine_id, step.before, step.after), []).extend(step.cells)
    rest = {key: iter(judged(cells)) for key, cells in tables.items()}
    return [
        replace(
            each,
            steps=tuple(
                replace(
                    step,
                    cells=tuple(next(rest[each.machine_id, step.before, step.after]) for _ in range(len(step.cells))),
                )
                for step in each.steps
            ),
        )
        for each in histories
    ]


def _shifts(runs: Sequence[Run], metric: str) -> list[Shift]:
    series = [(run, value) for run in runs if (value := run.metrics.get(metric)) is not None and value > 0]
    if len(series) < SHIFT_MIN_RUNS:
        return []
    values = [value for _, value in series]
    edges = [0, *stats.change_points(values), len(values)]
    found = []
    for (start, middle), (_, end) in pairwise(pairwise(edges)):
        before, after = stats.median(values[start:middle]), stats.median(values[middle:end])
        assert before is not None and after is not None
        if abs(after / before - 1) > SAME:
            run = series[middle][0]
            verdict = direction(metric, after / before)
            found.append(Shift(metric, run.value, run.document_id, run.created_utc, before, after, verdict))
    return found
