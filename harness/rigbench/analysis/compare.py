"""Two results, case by case: how much faster or slower, how sure, and where they cannot be compared at all.

    ratio     geometric mean of NEW / of BASE, with its 95 % interval (stats.ratio tells which and why)
    p         of no difference, by Holm over the table: so many tables of equal things would hold a false alarm

    verdict   when
    same      the interval lies inside +-3 %, or the numbers are the very same
    slower, faster (memory and energy: more, less)   the interval leaves out 1, and p < 0.03
    ~         cannot tell: the numbers vary too much, or are too few
    failed    measured in BASE, an error in NEW
    not comparable   another model file, suite, workload, power limit ...; `reason` names it

One document a side: the repetitions are what varies, and what differs between two runs on one machine is not in the
interval; so a difference of 3 % or less is not called then, however sure. With several documents a side, each
document's median is one number, and what differs between runs is in it.

    rigbench compare before.json after.json
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from rigbench.analysis import stats
from rigbench.analysis.definitions import compared, metric
from rigbench.analysis.table import Row

SAME = 0.03
ALPHA = 0.03
"""Below 0.05, so that with ten repetitions and with noise that is not normal less than 5 % of equal pairs raise an alarm, too."""
BAD = ("slower", "more", "failed")


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one case. `base`, `new` are medians in SI units; `n_base`, `n_new` count `unit` (repetition or document).

    `ratio`, `low`, `high` are new / base; `p` is adjusted by Holm; `p_ranks` is Mann-Whitney's, unadjusted, None where so few
    numbers cannot be significant.
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
        wanted = {*verdicts, *(("failed",) if "slower" in verdicts else ())}
        return [cell for cell in self.cells if cell.verdict in wanted]


def compare(base: Sequence[Row], new: Sequence[Row], metrics: Sequence[str] | None = None) -> Comparison:
    """All rows of the documents of either side; groups in the order of BASE, then those of NEW alone."""
    groups = dict.fromkeys(row.group for row in (*base, *new))
    cells = []
    for group in groups:
        cells += raw_cells(_of(base, group), _of(new, group), metrics)
    return Comparison(
        tuple(dict.fromkeys(row.document_id for row in base)),
        tuple(dict.fromkeys(row.document_id for row in new)),
        differences(base, new),
        _remarks(base, new),
        judged(cells),
    )


def raw_cells(base: Sequence[Row], new: Sequence[Row], metrics: Sequence[str] | None = None) -> list[Cell]:
    """The cells of one group, with p not adjusted and verdicts only where no statistics are needed; then `judged`."""
    group = (*base, *new)[0].group
    blank = Cell(group, "", None, None, None, None, None, "repetition", 0, 0, None, None, "")
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
    several = sum(bool(row.samples) for row in (*base, *new)) > 2
    cells = []
    for name in compared() if metrics is None else metrics:
        numbers, others = _numbers(base, name, several), _numbers(new, name, several)
        if not numbers and not others:
            continue
        cell = replace(
            blank,
            metric=name,
            base=stats.median(numbers),
            new=stats.median(others),
            unit="document" if several else "repetition",
            n_base=len(numbers),
            n_new=len(others),
            flags=flags,
        )
        if not numbers or not others:
            side = "BASE" if not numbers else "NEW"
            cells.append(replace(cell, verdict="not comparable", reason=f"{side} has no {name}"))
            continue
        if sorted(numbers) == sorted(others):
            cells.append(replace(cell, ratio=1.0, verdict="same", reason="the very same numbers"))
            continue
        found = stats.ratio(numbers, others)
        cells.append(
            replace(
                cell,
                ratio=found.value,
                low=found.low,
                high=found.high,
                p=found.p,
                p_ranks=stats.mann_whitney(numbers, others),
            )
        )
    return cells


def judged(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells of one table with Holm's p and their verdicts."""
    adjusted = stats.holm([cell.p for cell in cells])
    return tuple(
        cell if cell.verdict else _verdict(replace(cell, p=p)) for cell, p in zip(cells, adjusted, strict=True)
    )


def _verdict(cell: Cell) -> Cell:
    if cell.ratio is None or cell.low is None or cell.high is None or cell.p is None:
        return replace(cell, verdict="~", reason=f"one {cell.unit} a side does not tell how much it varies")
    if cell.low >= 1 - SAME and cell.high <= 1 + SAME:
        return replace(cell, verdict="same")
    if cell.low <= 1 <= cell.high or cell.p >= ALPHA:
        return replace(cell, verdict="~")
    if cell.unit == "repetition" and abs(cell.ratio - 1) <= SAME:
        return replace(cell, verdict="~", reason="two runs of one thing may differ by 3 %: give several a side")
    return replace(cell, verdict=direction(cell.metric, cell.ratio))


def direction(name: str, ratio: float) -> str:
    """The verdict on a metric that changed by `ratio`: slower or faster, more or less."""
    judged_by = metric(name)
    worse, better = judged_by.verdicts
    return better if (ratio > 1) == (judged_by.better == "higher") else worse


def _of(rows: Sequence[Row], group: str) -> list[Row]:
    return [row for row in rows if row.group == group]


def _numbers(rows: Sequence[Row], metric: str, several: bool) -> list[float]:
    """Each repetition of the only document, or the median of each document; what is not above 0 has no ratio."""
    each = [[x for x in row.samples.get(metric, ()) if 0 < x < math.inf] for row in rows]
    if several:
        return [statistics.median(numbers) for numbers in each if numbers]
    return [number for numbers in each for number in numbers]


def _failure(rows: Sequence[Row]) -> str | None:
    """Why no document of this side measured the case."""
    if any(row.samples for row in rows):
        return None
    return next((row.error for row in rows if row.error), "nothing was measured")


COMPARABLE: tuple[tuple[str, Callable[[Row], object]], ...] = (
    ("model file", lambda s: s.model_sha256 and (s.model_sha256_of, s.model_sha256)),
    ("suite", lambda s: (s.suite, s.suite_version)),
    ("workload", lambda s: (s.workload_kind, s.prompt_tokens, s.output_tokens, s.concurrency)),
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
    found = []
    for name, fact in FINGERPRINT:
        left, right = ({fact(row) for row in side} for side in (base, new))
        if left != right and left and right:
            found.append(
                Difference(name, *(" | ".join(sorted(_text(name, each) for each in side)) for side in (left, right)))
            )
    return tuple(found)


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


def _remarks(base: Sequence[Row], new: Sequence[Row]) -> tuple[str, ...]:
    counts = [len({row.document_id for row in side}) for side in (base, new)]
    found = []
    if counts == [1, 1]:
        found.append(
            "one run a side: what varies from run to run is not in the intervals; give several of each for that"
        )
    if {row.document_id for row in base} & {row.document_id for row in new}:
        found.append("the same document is on both sides")
    if any(row.imported for row in (*base, *new)):
        found.append("imported figures: made by another tool, without raw records")
    return tuple(found)
