"""The numbers of one request, and of one case in one repetition, from raw records alone.

A request's life: submitted -> (queued, prefill) -> first token -> ... -> last token. Every time is microseconds from the case's t0.

    submit        first                                last
      |--- ttft ----|--- itl ---|--- itl ---| ... --------|
                    |<------ tpot x (tokens - 1) -------->|

harness/rigbench/analysis/definitions.py holds each metric's name and formula, as `rigbench metrics` prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rigbench.analysis import energy, stats
from rigbench.analysis.windows import Window, steady_window
from rigbench.records import CaseResult, RequestRecord

WINDOW_MIN_TPOTS = 5
WINDOW_MIN_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Unknown:
    """A number that could not be computed, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One request. Seconds; None where fewer than two tokens (or one moment) cannot say."""

    ttft_s: float | None
    tpot_s: float | None
    latency_s: float | None
    decode_tps: float | None
    output_tokens: int
    gaps_s: tuple[float, ...]


@dataclass(frozen=True)
class Repetition:
    """One measured case, in one repetition: what its metrics are computed from. `place` is where its engine computes, `idle` are
    the energies of the idle window before the engine was loaded.

    The engine of another process, or its idle window, need not be known: there is no energy then.
    """

    result: CaseResult
    place: energy.Place | None = None
    idle: tuple[energy.Energy, ...] = ()

    @cached_property
    def requests(self) -> tuple[RequestMetrics, ...]:
        """Each request's own numbers, in the order of the records."""
        return tuple(request_metrics(record) for record in self.result.requests)

    @cached_property
    def window(self) -> Window | None:
        """The steady window; None if the users never decoded together."""
        return steady_window(self.result.requests, self.result.case.concurrency)

    @cached_property
    def power(self) -> energy.Power:
        """Energy and power in the steady window."""
        return energy.power_of(self.result, self.window, self.place, self.idle)

    def median(self, name: str) -> float | None:
        """The median over the requests of that field of RequestMetrics."""
        return stats.median([value for request in self.requests if (value := getattr(request, name)) is not None])


def request_metrics(record: RequestRecord) -> RequestMetrics:
    """The request's own numbers; a request that failed in the middle has no tpot and no latency."""
    tokens = sum(record.chunk_units) if record.chunk_units else len(record.unit_us)
    if not record.unit_us:
        return RequestMetrics(None, None, None, None, 0, ())
    first, last = record.unit_us[0], record.unit_us[-1]
    ttft = (first - record.submit_us) / 1e6
    gaps = tuple((b - a) / 1e6 for a, b in zip(record.unit_us, record.unit_us[1:], strict=False))
    if record.error is not None:
        return RequestMetrics(ttft, None, None, None, tokens, gaps)
    # Tokens of the first chunk all existed at `first`: only the later ones took the time from first to last.
    later = tokens - (record.chunk_units[0] if record.chunk_units else 1)
    spread = (last - first) / 1e6
    tpot = spread / later if later > 0 and spread > 0 else None
    return RequestMetrics(ttft, tpot, (last - record.submit_us) / 1e6, 1 / tpot if tpot else None, tokens, gaps)


def tpot(repetition: Repetition) -> float | Unknown:
    """Seconds per output token: the median over the requests."""
    value = repetition.median("tpot_s")
    return Unknown("no request put out two tokens at two times") if value is None else value


def prefill_rate(repetition: Repetition) -> float | Unknown | None:
    """Prompt tokens per second of one user alone."""
    if repetition.result.case.concurrency != 1:
        return Unknown("above one user, queueing is inside ttft")
    pairs = zip(repetition.result.requests, repetition.requests, strict=True)
    return stats.median([record.prompt_tokens / m.ttft_s for record, m in pairs if m.ttft_s])


def output_rate(repetition: Repetition) -> float | Unknown:
    """Output tokens per second of all users in the steady window. Tokens of failed requests count."""
    window, tpot_s = repetition.window, repetition.median("tpot_s")
    if window is None:
        return Unknown(f"{repetition.result.case.concurrency} requests were never in their decode phase together")
    if window.tokens < WINDOW_MIN_TOKENS or tpot_s is None or window.length_s < WINDOW_MIN_TPOTS * tpot_s:
        return Unknown(
            f"steady window of {window.length_s:.3g} s with {window.tokens} tokens; "
            f"{WINDOW_MIN_TPOTS} median tpot and {WINDOW_MIN_TOKENS} tokens are needed"
        )
    return window.tokens / window.length_s


def percentiles(repetitions: Sequence[Repetition]) -> dict[str, dict[str, float | None]]:
    """Of the requests' ttft, and of the gaps between tokens (`itl_s`, or `chunk_gap_s` where chunks hold several tokens), over all
    repetitions together."""
    several = bool(repetitions) and any(record.chunk_units for record in repetitions[0].result.requests)
    requests = [request for each in repetitions for request in each.requests]
    return {
        "ttft_s": stats.percentiles([request.ttft_s for request in requests if request.ttft_s is not None]),
        "chunk_gap_s" if several else "itl_s": stats.percentiles([gap for m in requests for gap in m.gaps_s]),
    }
