"""Two results, case by case: how much faster or slower, how sure, and where they cannot be compared at all.

    ratio     geometric mean of NEW / of BASE, one number a run (that of its row), with its 95 % interval
    p         of no difference, by Hochberg over the table: so many tables of equal things would hold a false alarm

    verdict   when
    same      the interval lies inside +-3 %, or the numbers are the very same
    slower, faster (memory and energy: more, less)   the interval leaves out 1, and p < 0.03
    ~         cannot tell: the numbers vary too much, are too few, or the machine has two states that differ by as much
    failed    measured in BASE, an error in NEW
    not comparable   another model file, suite, workload, power limit ...; `reason` names it

Runs differ by more than the repetitions of one run do, so the interval is of runs. How much they differ is read from the runs
of both sides together, and from the history of the machine (documents of the same machine, engine, model and workload). Where
both are too few, runs are taken to differ by 5 % (stats.PRIOR), so that one run a side says `~` of most changes below 20 %.

    rigbench compare before.json after.json
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from rigbench.analysis import levels, stats
from rigbench.analysis.definitions import compared, metric
from rigbench.analysis.table import Row

SAME = 0.03
ALPHA = 0.03
"""Below 0.05, so that with ten repetitions and with noise that is not normal less than 5 % of equal pairs raise an alarm, too."""
BAD = ("slower", "more", "failed")
ONE_RUN = "one run a side: give a second run of each"
FEW_RUNS = "few runs: give three a side"
TWO_STATES = "two states: runs of this machine jump by about as much; give five runs a side"
ALIKE = 1.5
"""Two jumps within this factor of each other may be one state of the machine."""
CORRECTED = "its interval leaves out 0 %, but one of so many comparisons does so by chance: give more runs"


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one case. `base`, `new`: geometric means of the runs' medians, in SI units; `n_base`, `n_new` count `unit`
    (repetition or document).

    `ratio`, `low`, `high` are new / base; `p` is adjusted by Hochberg; `p_ranks` is Mann-Whitney's of the documents, unadjusted,
    None where so few cannot be significant. `spread`: how much runs differ (standard deviation of logarithms), from the `runs`
    compared, the `history` or the `prior`, as `spread_source` says. `jump`: by how much (a logarithm) runs of one thing lie apart
    where they sit in two states, or a single one far off. `apart`: the two sides do not overlap.
    """

    group: str
    metric: str
    base: float | None
    new: float | None
    ratio: float | None
    low: float | None
    high: float | None
    unit: str
    n_base: int
    n_new: int
    p: float | None
    p_ranks: float | None
    verdict: str
    reason: str | None = None
    flags: tuple[str, ...] = ()
    users: int = 0
    spread: float | None = None
    spread_source: str | None = None
    jump: float | None = None
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of the fingerprint that is not the same on both sides."""

    name: str
    base: str
    new: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A whole table. `remarks` are what a reader must know before reading it."""

    base: tuple[str, ...]
    new: tuple[str, ...]
    differences: tuple[Difference, ...]
    remarks: tuple[str, ...]
    cells: tuple[Cell, ...]

    def bad(self, verdicts: Sequence[str]) -> list[Cell]:
        """The cells that `--fail-on` names; a case that now fails counts as slower."""
        words = {*verdicts, *(("failed",) if "slower" in verdicts else ())}
        return [cell for cell in self.cells if cell.verdict in words]


def compare(
    base: Sequence[Row], new: Sequence[Row], metrics: Sequence[str] | None = None, history: Sequence[Row] = ()
) -> Comparison:
    """All rows of the documents of either side; groups in the order of BASE, then those of NEW alone. A run that is there twice
    counts once. `history`: rows of earlier documents, which tell how much runs of one thing differ on this machine."""
    base, new = distinct(base), distinct(new)
    compared_runs = {_run(row) for row in (*base, *new)}
    earlier = by_key(row for row in distinct(history) if _run(row) not in compared_runs)
    groups = dict.fromkeys(row.group for row in (*base, *new))
    cells = []
    for group in groups:
        cells += raw_cells(_of(base, group), _of(new, group), metrics, earlier)
    verdicts_by_cell = judged(cells)
    return Comparison(
        tuple(dict.fromkeys(row.document_id for row in base)),
        tuple(dict.fromkeys(row.document_id for row in new)),
        differences(base, new),
        _remarks(base, new, verdicts_by_cell),
        verdicts_by_cell,
    )


@dataclass(frozen=True, slots=True)
class Scatter:
    """How much `runs` runs of one thing differ in a metric: their geometric mean, the standard deviation of their logarithms, and
    how many `more` it takes until the mean is known within +-3 %."""

    group: str
    metric: str
    value: float
    runs: int
    sd: float
    more: int


def spreads(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> list[Scatter]:
    """Of each case and metric that at least two of the runs have."""
    rows = distinct(rows)
    scatters = []
    for group in dict.fromkeys(row.group for row in rows):
        for name in compared() if metrics is None else metrics:
            numbers = [metric(name).join(run) for run in _numbers(_of(rows, group), name)]
            if len(numbers) > 1:
                sd = statistics.stdev(map(math.log, numbers))
                needed = stats.runs_needed(sd, SAME, 1)
                middle = math.exp(math.fsum(map(math.log, numbers)) / len(numbers))
                scatters.append(Scatter(group, name, middle, len(numbers), sd, max(0, needed - len(numbers))))
    return scatters


def more_runs(cells: Sequence[Cell]) -> tuple[int, Cell] | None:
    """(how many more runs a side it takes until each change is known within +-3 %, the cell that takes most); None where no
    more are needed, or nothing tells how much runs differ."""
    needs = []
    for cell in cells:
        if cell.spread is not None and cell.spread_source != "prior":
            runs = min(cell.n_base, cell.n_new) if cell.unit == "document" else 1
            needs.append((stats.runs_needed(cell.spread, SAME, 2) - runs, cell))
    most = max(needs, key=lambda each: each[0], default=None)
    return most if most is not None and most[0] > 0 else None


def _run(row: Row) -> tuple[object, ...]:
    """What two copies of one run share, whatever a person has added to one of them."""
    return row.machine_id, row.created_utc, row.group, row.options, tuple(sorted(row.samples.items()))


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Each run once, whatever the number of its copies."""
    return list({_run(row): row for row in rows}.values())


def history_key(row: Row) -> tuple[object, ...]:
    """What must be the same in all runs of one history."""
    names = (
        "machine_id",
        "device",
        "group",
        "model_sha256",
        "suite",
        "suite_version",
        "work",
    )
    return *(getattr(row, name) for name in names), row.options, row.load, row.imported, row.power_limits_w


def by_key(rows: Iterable[Row]) -> dict[tuple[object, ...], list[Row]]:
    """The rows of each history in the order of time."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda each: (each.created_utc, each.document_id)):
        groups.setdefault(history_key(row), []).append(row)
    return groups


def raw_cells(
    base: Sequence[Row],
    new: Sequence[Row],
    metrics: Sequence[str] | None = None,
    earlier: Mapping[tuple[object, ...], Sequence[Row]] = MappingProxyType({}),
) -> list[Cell]:
    """The cells of one group, with p not adjusted and verdicts only where no statistics are needed; then `judged`."""
    first = (*base, *new)[0]
    several = sum(bool(row.samples) for row in (*base, *new)) > 2
    unit = "document" if several else "repetition"
    blank = Cell(first.group, "", None, None, None, None, None, unit, 0, 0, None, None, "", users=first.concurrency)
    if not base or not new:
        side = "BASE" if not base else "NEW"
        return [replace(blank, metric="all", verdict="not comparable", reason=f"is not in {side}")]
    if (reason := incomparable([*base, *new])) is not None:
        return [replace(blank, metric="all", verdict="not comparable", reason=reason)]
    base_fails, new_fails = _failure(base), _failure(new)
    if new_fails is not None and base_fails is None:
        return [replace(blank, metric="all", verdict="failed", reason=f"NEW: {new_fails}")]
    if base_fails is not None:
        both = "both" if new_fails is not None else "BASE"
        return [replace(blank, metric="all", verdict="not comparable", reason=f"{both}: {base_fails}")]
    flags = tuple(
        sorted({flag for s in (*base, *new) for flag in (*s.flags, *(("partly_failed",) if s.error else ()))})
    )
    past = [row for key in dict.fromkeys(map(history_key, (*base, *new))) for row in earlier.get(key, ())]
    cells = []
    for name in compared() if metrics is None else metrics:
        runs, others = _numbers(base, name), _numbers(new, name)
        if runs or others:
            counts = (len(runs), len(others)) if several else (sum(map(len, runs)), sum(map(len, others)))
            cell = replace(blank, metric=name, n_base=counts[0], n_new=counts[1], flags=flags)
            cells.append(_cell(cell, runs, others, past))
    return cells


def _cell(cell: Cell, base: Sequence[Sequence[float]], new: Sequence[Sequence[float]], past: Sequence[Row]) -> Cell:
    """One metric, from the repetitions of each run on either side."""
    old, young = ([metric(cell.metric).join(run) for run in side] for side in (base, new))  # as in a row
    cell = replace(cell, base=_middle(old), new=_middle(young))
    if not base or not new:
        return replace(cell, verdict="not comparable", reason=f"{'BASE' if not base else 'NEW'} has no {cell.metric}")
    if sorted(map(sorted, base)) == sorted(map(sorted, new)):
        return replace(cell, ratio=1.0, verdict="same", reason="the very same numbers")
    earlier = levels.shape_of_runs(past, cell.metric)
    jumps = [jump for jump in (levels.jump_within(old, young), earlier.jump if earlier else None) if jump is not None]
    cell = replace(
        cell,
        jump=max(jumps, default=None),
        apart=max(old) < min(young) or max(young) < min(old),
    )
    between = stats.spread(old, young, earlier.spread if earlier else None)
    within = 0.0
    if math.isinf(between.freedom):  # stated, so what varies within a run is not in it
        error = stats.error_of_medians(*base, *new)
        if error is None and len(old) == len(young) == 1:
            return replace(cell, ratio=young[0] / old[0])
        within = error or 0.0
    estimate = stats.ratio(old, young, between, within)
    return replace(
        cell,
        ratio=estimate.value,
        low=estimate.low,
        high=estimate.high,
        p=estimate.p,
        p_ranks=stats.mann_whitney(old, young),
        spread=between.sd,
        spread_source=between.source,
        reason=None if math.isfinite(between.freedom) else ONE_RUN if len(old) == len(young) == 1 else FEW_RUNS,
    )


def judged(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells of one table with Hochberg's p and their verdicts."""
    families: dict[tuple[str, str], float] = {}
    for cell in cells:
        if cell.p is not None:
            families[_family(cell)] = max(cell.p, families.get(_family(cell), 0.0))
    adjusted = dict(zip(families, stats.hochberg(list(families.values())), strict=True))
    jumps = [cell.jump for cell in cells if cell.jump is not None]
    return tuple(
        cell
        if cell.verdict
        else _verdict(
            replace(cell, p=None if cell.p is None else adjusted[_family(cell)]),
            _may_be_state(cell, jumps, len(families)),
        )
        for cell in cells
    )


def _may_be_state(cell: Cell, jumps: Sequence[float], families: int) -> bool:
    """Whether the sides may differ only because their runs sit in two states: runs somewhere in the table or its history jump by
    as much, and it is no rare chance that all runs of one side are in one state, all of the other in the other."""
    if cell.ratio is None:
        return False
    shift = abs(math.log(cell.ratio))
    alike = any(shift / ALIKE <= jump <= shift * ALIKE for jump in jumps)
    runs = cell.n_base + cell.n_new if cell.unit == "document" else 2
    return alike and not (cell.apart and families * 2 * 0.5**runs < ALPHA)


def _family(cell: Cell) -> tuple[str, str]:
    """Cells that are one measurement: of one user, user t/s and all t/s."""
    return cell.group, "user_tps" if cell.users == 1 and cell.metric == "output_tps" else cell.metric


def _verdict(cell: Cell, may_be_state: bool) -> Cell:
    if cell.ratio is None or cell.low is None or cell.high is None or cell.p is None:
        return replace(cell, verdict="~", reason="one repetition a side does not tell how much it varies")
    if cell.low >= 1 - SAME and cell.high <= 1 + SAME:
        return replace(cell, verdict="same", reason=None)
    if cell.low <= 1 <= cell.high or cell.p >= ALPHA:
        beyond = not cell.low <= 1 <= cell.high
        return replace(cell, verdict="~", reason=cell.reason or (CORRECTED if beyond else None))
    if may_be_state:
        return replace(cell, verdict="~", reason=TWO_STATES)
    return replace(cell, verdict=direction(cell.metric, cell.ratio), reason=None)


def direction(name: str, ratio: float) -> str:
    """The verdict on a metric that changed by `ratio`: slower or faster, more or less."""
    judged_by = metric(name)
    worse, better = judged_by.verdicts
    return better if (ratio > 1) == (judged_by.better == "higher") else worse


def _of(rows: Sequence[Row], group: str) -> list[Row]:
    return [row for row in rows if row.group == group]


def _numbers(rows: Sequence[Row], metric: str) -> list[list[float]]:
    """The repetitions of each run that has this metric; what is not above 0 has no ratio."""
    each = [[x for x in row.samples.get(metric, ()) if 0 < x < math.inf] for row in rows]
    return [numbers for numbers in each if numbers]


def _middle(numbers: Sequence[float]) -> float | None:
    """What the ratio is of: the geometric mean of the runs."""
    return math.exp(math.fsum(map(math.log, numbers)) / len(numbers)) if numbers else None


def _failure(rows: Sequence[Row]) -> str | None:
    """Why no document of this side measured the case."""
    if any(row.samples for row in rows):
        return None
    return next((row.error for row in rows if row.error), "nothing was measured")


COMPARABLE: tuple[tuple[str, Callable[[Row], object]], ...] = (
    ("model file", lambda s: s.model_sha256 and (s.model_sha256_of, s.model_sha256)),
    ("suite", lambda s: (s.suite, s.suite_version)),
    ("workload", lambda s: (s.workload_kind, s.work, s.concurrency)),
    ("load (requests per user, duration, warm-up or seed)", lambda s: s.load),
    ("prompts", lambda s: s.prompts_sha256),
)
"""What must be the same. None is unknown, and no reason against comparing."""


def incomparable(rows: Sequence[Row]) -> str | None:
    """Why these rows of one group are not of one thing; None if they are. Power limits bind on one machine only: two
    machines differ by them as by everything else."""
    measured = [row for row in rows if row.imported is None]
    for name, fact in COMPARABLE:
        among = rows if name in ("model file", "workload") else measured
        if len({known for row in among if (known := fact(row)) is not None}) > 1:
            return f"another {name}"
    by_machine: dict[str, set[tuple[float | None, ...]]] = {}
    for row in measured:
        by_machine.setdefault(row.machine_id, set()).add(row.power_limits_w)
    return "another power limit" if any(len(limits) > 1 for limits in by_machine.values()) else None


FINGERPRINT: tuple[tuple[str, Callable[[Row], Hashable]], ...] = (
    ("machine", lambda s: s.machine_id),
    ("system", lambda s: s.os),
    ("kernel", lambda s: s.kernel),
    ("drivers", lambda s: tuple(sorted(s.drivers.items()))),
    ("engine", lambda s: s.engine_version or s.engine),
    ("engine build", lambda s: s.engine_build),
    ("device", lambda s: (s.device, *s.device_names)),
    ("options", lambda s: s.options),
    ("power limit", lambda s: s.power_limits_w),
    ("rigbench", lambda s: s.rigbench_version),
    ("source", lambda s: f"imported from {s.imported}" if s.imported else "measured by rigbench"),
)


def differences(base: Sequence[Row], new: Sequence[Row]) -> tuple[Difference, ...]:
    """What differs between the sides, or within one of them."""
    lines = []
    for name, fact in FINGERPRINT:
        left, right = ({fact(row) for row in side} for side in (base, new))
        if left != right and left and right:
            lines.append(
                Difference(name, *(" | ".join(sorted(_text(name, each) for each in side)) for side in (left, right)))
            )
    return tuple(lines)


def _text(name: str, value: object) -> str:
    """A fact of the fingerprint as people read it."""
    if name == "options":
        options = json.loads(str(value) or "{}")
        return ", ".join(f"{key}={json.dumps(each)}" for key, each in sorted(options.items())) or "defaults"
    if name == "power limit" and isinstance(value, tuple):
        return ", ".join("?" if watts is None else f"{watts:g} W" for watts in value) or "none"
    if isinstance(value, tuple):
        return ", ".join(" ".join(each) if isinstance(each, tuple) else str(each) for each in value) or "none"
    return str(value or "none")


def _remarks(base: Sequence[Row], new: Sequence[Row], cells: Sequence[Cell]) -> tuple[str, ...]:
    remarks = []
    if any(cell.spread_source == "prior" for cell in cells):
        remarks.append(
            f"too few runs to tell how much they differ: {stats.PRIOR.sd * 100:g} % (sd) is taken; give three runs a side, or "
            "`--history results` to read it from this machine's earlier runs"
        )
    if (needed := more_runs(cells)) is not None:
        more, cell = needed
        remarks.append(
            f"{more}{' or more' if more > 900 else ''} more runs a side until every change is known within +-{SAME * 100:g} %: "
            f"{metric(cell.metric).label} of {cell.group} differs by {(cell.spread or 0) * 100:.1f} % (sd) from run to run"
        )
    if {row.document_id for row in base} & {row.document_id for row in new}:
        remarks.append("the same document is on both sides")
    if any(row.imported for row in (*base, *new)):
        remarks.append("imported figures: made by another tool, without raw records")
    return tuple(remarks)
