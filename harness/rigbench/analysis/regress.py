"""What many results say over time: the levels of each case along one axis, and where they changed.

    history   all runs of one (machine, backend, model, workload, users, options), along an axis: driver, engine, os or date
    number    the median of the runs of one day at one value of the axis: runs of one day resemble each other
    level     numbers in a row that do not differ but by chance (levels.py). On the axes but `date` a level can only begin where
              the value of the axis changes
    shift     from one level to the next, a drift, or levels that sink in small steps: more than 3 % against the best level since
              the last shift. It lies where it says, or in the range that it says
    outlier   a single number far from its level; it is named, and no shift
    states    two values between which a machine jumps without order; they are named, and no shift

Values of the axis are ordered as versions (versions.py), runs of one value by their time.

    rigbench regress results/ --axis driver
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

from rigbench.analysis import levels, stats
from rigbench.analysis.compare import SAME, Difference, by_key, differences, direction, distinct, incomparable
from rigbench.analysis.definitions import compared
from rigbench.analysis.table import Row
from rigbench.analysis.versions import order
from rigbench.errors import InputError

AXES = ("driver", "engine", "os", "date")
ENOUGH = 6
"""Numbers from which on a change can be told from chance, unless it is far beyond what runs differ by anywhere."""
FAILED_NIGHTS = 2
NO_DRIVER, NO_VERSION = "no driver", "unknown"
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
class Shift:
    """A level that changed: from `before` to `after` at `at`, the value of the axis of its first run, or somewhere from `earliest`
    to `latest`; it lasted until `until`, None if it still does.

    `kind`: step, drift (it went on until `until`), or sum (of small steps). `verdict` as in a Cell. `against_best`: `after` over
    the best level before it. `differences`: what else changed there. `known`: why it is known (read_known).
    """

    metric: str
    kind: str
    at: str
    earliest: str
    latest: str
    until: str | None
    document_id: str
    created_utc: str
    before: float | None
    after: float | None
    against_best: float | None
    verdict: str
    differences: tuple[Difference, ...] = ()
    reason: str | None = None
    known: str | None = None


@dataclass(frozen=True, slots=True)
class Outlier:
    """A number far from its `level`."""

    metric: str
    at: str
    created_utc: str
    value: float
    level: float


@dataclass(frozen=True, slots=True)
class States:
    """A machine that jumps between two values of a metric."""

    metric: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class History:
    """One case over the axis. `numbers`: how many it has. `left_out`: runs that have no value on the axis."""

    machine_id: str
    group: str
    options: str
    suite: str
    runs: tuple[Run, ...]
    numbers: int
    left_out: int
    shifts: tuple[Shift, ...]
    outliers: tuple[Outlier, ...]
    states: tuple[States, ...]
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A shift that people know of: `at` as `--since` writes it, patterns of group, metric and machine, and why."""

    at: str
    why: str
    group: str = "*"
    metric: str = "*"
    machine: str = "*"


def read_known(path: Path) -> tuple[Known, ...]:
    """The acknowledgement file: TOML tables `[[known]]` with the fields of Known. InputError for anything else."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = content.pop("known", [])
        if content or not isinstance(entries, list):
            raise TypeError("it holds tables [[known]] and nothing else")
        known = tuple(Known(**entry) for entry in entries)
        if any(not isinstance(text, str) for each in entries for text in each.values()):
            raise TypeError("every value is a text in quotes")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        reason = str(error).removeprefix("Known.__init__() ")
        raise InputError(
            f'{path}: {reason}; write [[known]], at = "580.65", why = "...", and group, metric, machine if wanted'
        ) from error
    return known


def history(
    rows: Iterable[Row], axis: str, metrics: Sequence[str] | None = None, known: Sequence[Known] = ()
) -> list[History]:
    """The histories of at least two values of the axis. A run that is there twice counts once. The cases of one machine are read as
    one table: no more than 5 % of tables in which nothing changed hold a shift."""
    metrics = compared() if metrics is None else metrics
    rows = distinct(rows)
    kin: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        kin.setdefault((row.machine_id, row.group, row.options), []).append(row)
    drafts = [draft for each in by_key(rows).values() if (draft := _draft(each, axis, metrics)) is not None]
    histories = []
    for machine in dict.fromkeys(draft.rows[0].machine_id for draft in drafts):
        mine = [draft for draft in drafts if draft.rows[0].machine_id == machine]
        shapes = iter(levels.shapes([series for draft in mine for series in draft.series.values()]))
        for draft in mine:
            entry = _history(draft, {name: next(shapes) for name in draft.series}, axis, known)
            histories.append(replace(entry, remark=incomparable(kin[entry.machine_id, entry.group, entry.options])))
    histories.sort(key=lambda each: (each.machine_id, each.group, each.options, each.suite))
    return histories


def axis_value(row: Row, axis: str) -> str:
    """Where a run stands on the axis, as people write it."""
    if axis == "driver":
        names = [name for name in MAIN_DRIVERS if name in row.drivers] or sorted(row.drivers)
        return f"{names[0]} {row.drivers[names[0]]}" if names else NO_DRIVER
    if axis == "engine":
        return row.engine_version or NO_VERSION
    if axis == "os":
        return f"{row.os}, kernel {row.kernel}"
    return row.created_utc[:10]


def since(histories: Sequence[History], value: str) -> list[History]:
    """Only the shifts that happened at `value` or beyond (text before the first digit of an axis value is its name:
    `--since 580.65` means `nvidia 580.65`). The levels before it still count as what to compare with."""
    rows_since = (
        replace(
            each,
            shifts=tuple(shift for shift in each.shifts if not _earlier(shift.latest, value)),
            outliers=tuple(one for one in each.outliers if not _earlier(one.at, value)),
        )
        for each in histories
    )
    return [each for each in rows_since if each.shifts or any(not _earlier(run.value, value) for run in each.runs)]


def bad(histories: Sequence[History], verdicts: Sequence[str]) -> list[str]:
    """What `--fail-on` names and nobody acknowledged, in words; a case that now fails counts as slower."""
    words = {*verdicts, *(("failed",) if "slower" in verdicts else ())}
    return [
        f"{each.group} {s.metric} {s.verdict} since {s.at}"
        for each in histories
        for s in each.shifts
        if s.verdict in words and s.known is None
    ]


def _earlier(text: str, value: str) -> bool:
    return order(_number(text))[0] < order(_number(value))[0]


def _number(text: str) -> str:
    first = next((place for place, letter in enumerate(text) if letter.isdigit()), 0)
    return text[first:]


@dataclass(frozen=True, slots=True)
class _Draft:
    """One case on the axis: its rows in order, the places of the numbers in them, and the series of each metric with the
    numbers that it has."""

    rows: list[Row]
    values: list[str]
    starts: list[int]
    series: dict[str, levels.Series]
    owners: dict[str, list[int]]
    left_out: int


def _draft(rows: Sequence[Row], axis: str, metrics: Sequence[str]) -> _Draft | None:
    """None for a case that never ran on this machine (too long a prompt, too large a model), or at one value only."""
    placed = [(axis_value(row, axis), row) for row in rows if row.samples or row.error]
    if not any(row.samples for _, row in placed):
        return None
    known = [pair for pair in placed if pair[0] not in (NO_DRIVER, NO_VERSION)] or placed
    left_out = len(placed) - len(known)
    known.sort(key=lambda pair: (order(pair[0]), pair[1].created_utc, pair[1].document_id))
    values, ordered = [value for value, _ in known], [row for _, row in known]
    if len(set(values)) < 2:
        return None
    days = [(value, row.created_utc[:10]) for value, row in known]
    starts = [0, *(place for place in range(1, len(days)) if days[place] != days[place - 1])]
    series: dict[str, levels.Series] = {}
    owners: dict[str, list[int]] = {}
    for name in metrics:
        numbers, own = [], []
        for number, (a, b) in enumerate(pairwise((*starts, len(ordered)))):
            medians = [
                m for row in ordered[a:b] if (m := stats.median(row.samples.get(name, ()))) is not None and m > 0
            ]
            if medians:
                numbers.append(stats.median(medians) or 0.0)
                own.append(number)
        if len(numbers) > 1:
            at = [values[starts[number]] for number in own]
            places = None if axis == "date" else tuple(i for i in range(1, len(at)) if at[i] != at[i - 1])
            series[name], owners[name] = levels.Series(tuple(numbers), places), own
    return _Draft(ordered, values, starts, series, owners, left_out)


def _history(draft: _Draft, shapes: dict[str, levels.Shape], axis: str, known: Sequence[Known]) -> History:
    rows, first = draft.rows, draft.rows[0]
    runs = tuple(
        Run(
            row.document_id,
            row.created_utc,
            value,
            {name: middle for name in draft.series if (middle := stats.median(row.samples.get(name, ()))) is not None},
        )
        for value, row in zip(draft.values, rows, strict=True)
    )
    shifts = [shift for name, shape in shapes.items() for shift in _shifts(draft, name, shape, axis)]
    shifts += _failures(draft)
    shifts = [replace(each, known=_why(known, first, each)) for each in shifts]
    outliers = tuple(
        Outlier(name, draft.values[at], rows[at].created_utc, draft.series[name].values[place], level.value)
        for name, shape in shapes.items()
        for place in shape.outliers
        for level in shape.levels
        if level.start <= place < level.end
        for at in [draft.starts[draft.owners[name][place]]]
    )
    states = tuple(States(name, *shape.states) for name, shape in shapes.items() if shape.states is not None)
    return History(
        first.machine_id,
        first.group,
        first.options,
        first.suite,
        runs,
        len(draft.starts),
        draft.left_out,
        tuple(shifts),
        outliers,
        states,
    )


def _shifts(draft: _Draft, metric: str, shape: levels.Shape, axis: str) -> list[Shift]:
    """The changes of level that count, each against the best level since the one before."""

    def row_of(place: int) -> int:
        return draft.starts[draft.owners[metric][place]]

    def shift(kind: str, level: levels.Level, end: int | None, before: float, after: float) -> Shift:
        at = row_of(level.start)
        others = () if kind == "drift" else _differences(draft, at, axis)
        best = max(values) if direction(metric, 2.0) in ("faster", "less") else min(values)
        return Shift(
            metric,
            kind,
            draft.values[at],
            draft.values[row_of(level.earliest)],
            draft.values[row_of(level.latest)],
            None if end is None or end >= len(draft.owners[metric]) else draft.values[row_of(end)],
            draft.rows[at].document_id,
            draft.rows[at].created_utc,
            before,
            after,
            after / best,
            direction(metric, after / before),
            others,
        )

    shifts: list[Shift] = []
    reference, values = shape.levels[0].value, [shape.levels[0].value]
    for number, level in enumerate(shape.levels):
        last = shape.levels[number - 1].final if number else level.value
        if abs(level.value / last - 1) > SAME:
            shifts.append(shift("step", level, level.end, last, level.value))
            reference = level.value
        elif abs(level.value / reference - 1) > SAME:
            shifts.append(shift("sum", level, level.end, reference, level.value))
            reference = level.value
        elif direction(metric, level.value / reference) in ("faster", "less"):
            reference = level.value
        values.append(level.value)
        if abs(level.final / level.value - 1) > SAME:
            shifts.append(shift("drift", level, level.end, level.value, level.final))
            reference = level.final
        values.append(level.final)
    return shifts


def _failures(draft: _Draft) -> list[Shift]:
    """A case that was measured and now fails, on so many days in a row that it is no single bad night."""
    edges = list(pairwise((*draft.starts, len(draft.rows))))
    failed = [not any(row.samples for row in draft.rows[a:b]) for a, b in edges]
    many = next((number for number, bad in enumerate(reversed(failed)) if not bad), len(failed))
    if many < FAILED_NIGHTS:
        return []
    at = edges[-many][0]
    row, value = draft.rows[at], draft.values[at]
    where = (value, value, value, None, row.document_id, row.created_utc)
    return [Shift("all", "step", *where, None, None, None, "failed", _differences(draft, at, ""), row.error)]


def _differences(draft: _Draft, at: int, axis: str) -> tuple[Difference, ...]:
    """What else than the axis changed between the run before a shift and its first."""
    if at == 0:
        return ()
    lines = differences(draft.rows[at - 1 : at], draft.rows[at : at + 1])
    return tuple(each for each in lines if each.name != AXIS_OF_DIFFERENCE.get(axis))


def _why(known: Sequence[Known], row: Row, shift: Shift) -> str | None:
    """Why this shift is known: an entry whose `at` lies where the shift may lie."""
    for each in known:
        texts = ((row.group, each.group), (shift.metric, each.metric), (row.machine_id, each.machine))
        near = not _earlier(each.at, shift.earliest) and not _earlier(shift.latest, each.at)
        if near and all(fnmatchcase(*pair) for pair in texts):
            return each.why
    return None
