"""Flags: what made a measured case unfit, each with its meaning and the function that finds it.

A flag stays with the case; nothing is dropped for it. Those of readings come from the case's own Series (counters by their
difference over the window, states by their samples in it), those of requests from its records, those of a row from the numbers of
all repetitions. `FLAGS` is the whole list, as `rigbench metrics` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rigbench.analysis import stats
from rigbench.analysis.requests import Repetition, Unknown, hidden_tokens, output_rate
from rigbench.analysis.windows import bracket, counted, points
from rigbench.records import Flag, PhaseMark, Series

SLOWED_SHARE = 0.01
FOREIGN_SHARE = 0.05
STEAL_SHARE = 0.02
SWAP_BYTES = 16 * 2**20
GPU_FOREIGN_BYTES = 256 * 2**20
CACHED_BY_CHANCE = 16
NOISY_VARIATION = 0.05
ROUNDING = 0.005
"""Stamps are whole microseconds, so an engine at its ceiling may come out a hair above it."""
PRESSURE = ("nominal", "moderate", "heavy", "trapping", "sleeping")
HEAT = {
    "throttled_sw_thermal": "slowed by the driver for heat",
    "throttled_hw_thermal": "slowed by the chip for heat",
    "throttled_hw_brake": "slowed by the power supply's brake",
    "throttled_cpu": "slowed by the chip for heat",
}
MASK_POWER = 0x04
MASK_HEAT = 0x08 | 0x20 | 0x40 | 0x80
"""Bits of NVML's clocks event reasons: software power cap; hardware slowdown, software and hardware thermal, power brake."""

Range = tuple[float, float]
"""Start and end in microseconds."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A flag: its name, its meaning and what to do about it, and what finds it (a sentence of evidence for each instance).
    `readings` takes the case's series, the range of the measuring and the machine's logical cores; `requests` the case. A flag
    with neither is found where it happens (a backend, the run) or by `row_flags`."""

    name: str
    meaning: str
    readings: Callable[[Sequence[Series], Range, int], Iterable[str]] | None = None
    requests: Callable[[Repetition], Iterable[str]] | None = None


def reading_flags(readings: Sequence[Series], phases: Sequence[PhaseMark], cores: int) -> tuple[Flag, ...]:
    """The flags of a case's readings, over its `measure` phase (over all readings where it has none). `cores`: the logical ones."""
    measured = measured_range(readings, phases)
    if measured is None:
        return ()
    finders = [(each.name, each.readings) for each in FLAGS if each.readings is not None]
    return tuple(Flag(name, evidence) for name, find in finders for evidence in find(readings, measured, cores))


def request_flags(repetition: Repetition) -> tuple[Flag, ...]:
    """The flags that the requests themselves show."""
    finders = [(each.name, each.requests) for each in FLAGS if each.requests is not None]
    return tuple(Flag(name, evidence) for name, find in finders for evidence in find(repetition))


def row_flags(
    user_tps: Sequence[float], ceiling_tps: float | None, rate: str = "user_tps", unit: str = "tokens/s"
) -> tuple[Flag, ...]:
    """The flags of a row: of one user's `rate` in each repetition, beside the ceiling of the machine."""
    flags = []
    variation, middle = stats.variation(user_tps), stats.median(user_tps)
    if variation is not None and variation > NOISY_VARIATION and rate != "prefill_tps":
        flags.append(Flag("noisy", f"{len(user_tps)} repetitions vary by {variation:.1%}"))
    if middle is not None and ceiling_tps is not None and middle > ceiling_tps * (1 + ROUNDING):
        evidence = (
            f"{middle:.4g} {unit} ({rate}) are more than the {ceiling_tps:.4g} that bandwidth and arithmetic allow: the count of "
            "bytes or operations or a measured rate is wrong, or the weights stay in the processor's cache"
        )
        flags.append(Flag("above_ceiling", evidence))
    return tuple(flags)


def measured_range(readings: Sequence[Series], phases: Sequence[PhaseMark]) -> Range | None:
    """Start and end of the measuring in microseconds; None where there is nothing to look at."""
    marks = [mark for mark in phases if mark.name == "measure"]
    if marks:
        return min(mark.start_us for mark in marks), max(mark.end_us for mark in marks)
    times = [at for series in readings for at in series.time_us]
    return (min(times), max(times)) if times else None


def hot(readings: Sequence[Series]) -> str | None:
    """Why the machine is not cool now, from the readings of the last moments; None when it is, or no source knows."""
    times = [at for series in readings for at in series.time_us]
    return next(_throttled(readings, (min(times), max(times)), 0), None) if times else None


def _rate(series: Series, measured: Range) -> float | None:
    """Gain of a counter per second (over its readings next outside the range, so that short ones are seen too)."""
    count = points(series)
    if len(count) < 2:
        return None
    start, end = bracket(count, *measured)
    gained = counted(count, start, end)
    return gained / ((end - start) * 1e-6) if end > start and gained >= 0 else None


def _named(readings: Iterable[Series], name: str) -> Iterator[tuple[Series, str]]:
    """The series of that name, with the device that each is of."""
    return ((series, series.device or series.source) for series in readings if series.name == name)


def _inside(series: Series, measured: Range) -> list[float]:
    return [value for at, value in points(series) if measured[0] <= at <= measured[1]]


def _slowed(
    readings: Sequence[Series], measured: Range, counters: dict[str, str], mask: int, masked: str
) -> Iterator[str]:
    """What slowed a device, in words: by counters of seconds, or by the bits of NVML's reasons in its samples."""
    for name, words in counters.items():
        for series, device in _named(readings, name):
            if (share := _rate(series, measured) or 0) > SLOWED_SHARE:
                yield f"{device} was {words} during {share:.0%} of the window"
    for series, device in _named(readings, "clocks_event_reasons"):
        hits = [bool(round(reasons) & mask) for reasons in _inside(series, measured)]
        if hits and (share := sum(hits) / len(hits)) > SLOWED_SHARE:
            yield f"{device} was {masked} in {share:.0%} of the samples"


def _throttled(readings: Sequence[Series], measured: Range, cores: int) -> Iterator[str]:
    yield from _slowed(readings, measured, HEAT, MASK_HEAT, "slowed for heat or supply")
    for series, _ in _named(readings, "thermal_pressure"):
        worst = round(max(_inside(series, measured), default=0))
        if worst > 0:
            yield f"thermal pressure was {PRESSURE[worst] if worst < len(PRESSURE) else f'level {worst}'}"


def _power_capped(readings: Sequence[Series], measured: Range, cores: int) -> Iterator[str]:
    limited = "at its power limit"
    yield from _slowed(readings, measured, {"throttled_power": limited}, MASK_POWER, limited)


def _swapping(readings: Sequence[Series], measured: Range, cores: int) -> list[str]:
    seconds = (measured[1] - measured[0]) * 1e-6
    for name, words in (("swap_in", "were read back from swap"), ("swap_out", "were written to swap")):
        for series, _ in _named(readings, name):
            moved = (_rate(series, measured) or 0) * seconds
            if moved > SWAP_BYTES:
                return [f"{moved / 1e6:.0f} MB {words} during the window"]
    for series, _ in _named(readings, "swap_used"):
        used = _inside(series, measured)
        if used and max(used) - used[0] > SWAP_BYTES:
            return [f"swap in use grew by {(max(used) - used[0]) / 1e6:.0f} MB during the window"]
    return []


def _foreign_load(readings: Sequence[Series], measured: Range, cores: int) -> Iterator[str]:
    names = ("cpu_busy", "cpu_ours", "cpu_steal")
    rates = {series.name: _rate(series, measured) for series in readings if series.name in names}
    busy, ours, steal = map(rates.get, names)
    if busy is not None and ours is not None and busy - ours > FOREIGN_SHARE * cores:
        yield f"other programs held {busy - ours:.2f} of {cores} cores"
    if steal is not None and steal > STEAL_SHARE * cores:
        yield f"the hypervisor took {steal:.2f} of {cores} cores (steal)"
    for series, device in _named(readings, "memory_used_foreign"):
        used = max((value for _, value in points(series)), default=0.0)
        if used > GPU_FOREIGN_BYTES:
            yield f"another program held {used / 1e9:.1f} GB of {device}"


def _quota(readings: Sequence[Series], measured: Range, cores: int) -> Iterator[str]:
    rates = {each.name: _rate(each, measured) for each in readings if each.name in ("quota_periods", "quota_throttled")}
    periods, stopped = rates.get("quota_periods"), rates.get("quota_throttled")
    if periods and stopped and (share := stopped / periods) > SLOWED_SHARE:
        yield f"the container's CPU quota stopped the processes in {share:.0%} of its periods"


def _short_window(repetition: Repetition) -> Iterator[str]:
    rate = output_rate(repetition)
    if repetition.result.case.workload.kind not in ("text", "tokens"):
        return  # there is no rate of all users: an image and a training are alone on the machine
    if (
        repetition.result.requests
        and isinstance(rate, Unknown)
        and rate.reason not in (repetition.units_reason, repetition.hidden)
    ):
        yield rate.reason


def _variable_length(repetition: Repetition) -> Iterator[str]:
    each, units_expected = repetition.requests, repetition.result.case.workload.units
    known = [record.units_reason is None or record.reported_units is not None for record in repetition.result.requests]
    other = sum(known and request.output_tokens != units_expected for request, known in zip(each, known, strict=True))
    if other:
        yield f"{other} of {len(each)} requests did not put out {units_expected} tokens"


def _cached_prompt(repetition: Repetition) -> Iterator[str]:
    """Every prompt begins in its own way; that the very first tokens of text are often the same says nothing."""
    records = repetition.result.requests
    cached = sum((record.cached_tokens or 0) > CACHED_BY_CHANCE for record in records)
    if cached:
        yield f"the server took {cached} of {len(records)} prompts partly from its cache"


def _unknown_tokens(repetition: Repetition) -> Iterator[str]:
    if repetition.units_reason:
        yield repetition.units_reason


def _hidden_tokens(repetition: Repetition) -> Iterator[str]:
    hidden = [count for record in repetition.result.requests if (count := hidden_tokens(record))]
    if hidden:
        yield f"{len(hidden)} of {len(repetition.requests)} requests had tokens that were not streamed (up to {max(hidden)})"


def _bursts(repetition: Repetition) -> Iterator[str]:
    hidden = [request.tpot_s is None for request in repetition.requests if request.bursts]
    if hidden:
        how = "too few bursts for a rate" if all(hidden) else "bursts"
        yield f"{len(hidden)} of {len(repetition.requests)} answers came in {how}"


def _failed_requests(repetition: Repetition) -> Iterator[str]:
    records = repetition.result.requests
    failed = [record.error for record in records if record.error]
    if failed:
        yield f"{len(failed)} of {len(records)} requests failed: {failed[0]}"


# fmt: off
FLAGS = (
    Definition("noisy", "the repetitions vary by more than 5 %: measure again on a quiet machine, or more often"),
    Definition("throttled",
               "heat or the power supply slowed the device for over 1 % of the time: cool it, or wait longer between cases",
               readings=_throttled),
    Definition("power_capped",
               "the power limit slowed the device for over 1 % of the time: compare only at the same limit, or raise it",
               readings=_power_capped),
    Definition("swapping",
               "over 16 MB of memory moved to or from the disk: take a smaller model or context, or end other programs",
               readings=_swapping),
    Definition("foreign_load",
               "other programs (over 5 % of the cores, or memory of the GPU) or the hypervisor (over 2 %) worked meanwhile: "
               "end them",
               readings=_foreign_load),
    Definition("quota",
               "the container's CPU quota stopped the processes in over 1 % of its periods: raise it, or take fewer threads",
               readings=_quota),
    Definition("short_window", "too few tokens while all users decoded, so there is no all t/s: ask for more output tokens",
               requests=_short_window),
    Definition("variable_length",
               "requests ended before or after the number of tokens asked for: do not compare with cases where they did not",
               requests=_variable_length),
    Definition("unknown_tokens", "which chunks held how many tokens the server does not tell, so there is no t/s: let it send "
               "one token a chunk, or usage with each", requests=_unknown_tokens),
    Definition("hidden_tokens", "the server counts tokens that it did not stream (thinking): t/s is of the others, TTFT holds "
               "the time of these", requests=_hidden_tokens),
    Definition("bursts", "answers came several chunks at a time, or whole: a proxy holds the stream back; measure at the server",
               requests=_bursts),
    Definition("other_model", "the server's answers name more than one model: make sure that one alone answered"),
    Definition("cached_prompt",
               "the server took prompts from its cache, so TTFT and prefill are too good: switch its prefix cache off",
               requests=_cached_prompt),
    Definition("failed_requests", "requests failed; the numbers are of the others: read the server's log",
               requests=_failed_requests),
    Definition("client_bound", "our own client could not keep up with the streams, so the figures say as much of it as of the "
               "server: use fewer users"),
    Definition("gpu_unused", "a GPU of this machine is not used: the engine's build does not know it; `rigbench doctor` shows "
               "the command that helps"),
    Definition("partly_failed", "some repetitions failed, and `compare` has only the others: see the error of the case"),
    Definition("above_ceiling", "faster than the memory can be: the byte count or the bandwidth is wrong, or the weights stay in "
               "the processor's cache"),
)
# fmt: on
"""In the order in which README lists them; a case has its flags of readings and requests in this order, too."""
