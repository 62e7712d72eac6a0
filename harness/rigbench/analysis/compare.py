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
from rigbench.analysis.samples import Sample

DEFAULT_METRICS = ("user_tps", "output_tps", "ttft_s", "joules_per_token", "rss_peak_bytes", "device_memory_peak_bytes")
LOWER_IS_BETTER = {"ttft_s", "tpot_s", "latency_s"}
COSTS = {"joules_per_token", "joules_per_token_net", "rss_peak_bytes", "device_memory_peak_bytes"}
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


def compare(base: Sequence[Sample], new: Sequence[Sample], metrics: Sequence[str] = DEFAULT_METRICS) -> Comparison:
    """All samples of the documents of either side; groups in the order of BASE, then those of NEW alone."""
    groups = dict.fromkeys(sample.group for sample in (*base, *new))
    cells = []
    for group in groups:
        cells += raw_cells(_of(base, group), _of(new, group), metrics)
    return Comparison(
        tuple(dict.fromkeys(sample.document_id for sample in base)),
        tuple(dict.fromkeys(sample.document_id for sample in new)),
        differences(base, new),
        _remarks(base, new),
        judged(cells),
    )


def raw_cells(base: Sequence[Sample], new: Sequence[Sample], metrics: Sequence[str] = DEFAULT_METRICS) -> list[Cell]:
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
    several = sum(bool(sample.metrics) for sample in (*base, *new)) > 2
    cells = []
    for metric in metrics:
        numbers, others = _numbers(base, metric, several), _numbers(new, metric, several)
        if not numbers and not others:
            continue
        cell = replace(
            blank,
            metric=metric,
            base=stats.median(numbers),
            new=stats.median(others),
            unit="document" if several else "repetition",
            n_base=len(numbers),
            n_new=len(others),
            flags=flags,
        )
        if not numbers or not others:
            side = "BASE" if not numbers else "NEW"
            cells.append(replace(cell, verdict="not comparable", reason=f"{side} has no {metric}"))
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
    worse, better = ("more", "less") if cell.metric in COSTS else ("slower", "faster")
    higher = cell.metric not in COSTS and cell.metric not in LOWER_IS_BETTER
    return replace(cell, verdict=better if (cell.ratio > 1) == higher else worse)


def _of(samples: Sequence[Sample], group: str) -> list[Sample]:
    return [sample for sample in samples if sample.group == group]


def _numbers(samples: Sequence[Sample], metric: str, several: bool) -> list[float]:
    """Each repetition of the only document, or the median of each document; what is not above 0 has no ratio."""
    each = [[x for x in sample.metrics.get(metric, ()) if 0 < x < math.inf] for sample in samples]
    if several:
        return [statistics.median(numbers) for numbers in each if numbers]
    return [number for numbers in each for number in numbers]


def _failure(samples: Sequence[Sample]) -> str | None:
    """Why no document of this side measured the case."""
    if any(sample.metrics for sample in samples):
        return None
    return next((sample.error for sample in samples if sample.error), "nothing was measured")


COMPARABLE: tuple[tuple[str, Callable[[Sample], object]], ...] = (
    ("model file", lambda s: s.model_sha256 and (s.model_sha256_of, s.model_sha256)),
    ("suite", lambda s: (s.suite, s.suite_version)),
    ("workload", lambda s: (s.workload_kind, s.prompt_tokens, s.output_tokens, s.concurrency)),
    ("load (requests per user, duration, warm-up or seed)", lambda s: s.load),
    ("prompts", lambda s: s.prompts_sha256),
)
"""What must be the same. None is unknown, and no reason against comparing."""


def incomparable(samples: Sequence[Sample]) -> str | None:
    """Why these samples of one group are not of one thing; None if they are. Power limits bind on one machine only: two
    machines differ by them as by everything else."""
    measured = [sample for sample in samples if sample.imported is None]
    for name, fact in COMPARABLE:
        among = samples if name in ("model file", "workload") else measured
        if len({known for sample in among if (known := fact(sample)) is not None}) > 1:
            return f"another {name}"
    by_machine: dict[str, set[tuple[float | None, ...]]] = {}
    for sample in measured:
        by_machine.setdefault(sample.machine_id, set()).add(sample.power_limits_w)
    return "another power limit" if any(len(limits) > 1 for limits in by_machine.values()) else None


FINGERPRINT: tuple[tuple[str, Callable[[Sample], Hashable]], ...] = (
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


def differences(base: Sequence[Sample], new: Sequence[Sample]) -> tuple[Difference, ...]:
    """What differs between the sides, or within one of them."""
    found = []
    for name, fact in FINGERPRINT:
        left, right = ({fact(sample) for sample in side} for side in (base, new))
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


def _remarks(base: Sequence[Sample], new: Sequence[Sample]) -> tuple[str, ...]:
    counts = [len({sample.document_id for sample in side}) for side in (base, new)]
    found = []
    if counts == [1, 1]:
        found.append(
            "one run a side: what varies from run to run is not in the intervals; give several of each for that"
        )
    if {sample.document_id for sample in base} & {sample.document_id for sample in new}:
        found.append("the same document is on both sides")
    if any(sample.imported for sample in (*base, *new)):
        found.append("imported figures: made by another tool, without raw records")
    return tuple(found)
