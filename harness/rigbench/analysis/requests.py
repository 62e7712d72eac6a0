"""The numbers of one request, and of one case in one repetition, from raw records alone.

A request's life: submitted -> (queued, prefill) -> first token -> ... -> last token. Every time is microseconds from the case's t0.

    submit        first                                last
      |--- ttft ----|--- itl ---|--- itl ---| ... --------|
                    |<------ tpot x (tokens - 1) -------->|

harness/rigbench/analysis/definitions.py holds each metric's name and formula, as `rigbench metrics` prints them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from rigbench.analysis import energy, memory, stats
from rigbench.analysis.windows import Window, steady_window
from rigbench.records import CaseResult, RequestRecord

WINDOW_MIN_TPOTS = 5
WINDOW_MIN_TOKENS = 20
HIDDEN_SHARE = 0.02
AT_ONCE = 0.05
"""A chunk that follows within this part of its tokens' mean time came with the one before: a proxy hands over several at once."""
BURST_MIN_TOKENS = 50
ONE_PIECE_US = 100_000
"""Bursts within this time are one answer in the pieces that a network makes of it."""
PREFILL_DOUBT = 0.05
"""Which part of ttft may be decoding before a prefill rate from it says nothing."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A number that could not be computed, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One request. Seconds; None where fewer than two tokens (or one moment) cannot say.

    `output_tokens` is what the server counted, where the chunks do not show all of them; `first_tokens` came at once with the
    first; `bursts`: most chunks came at once with another."""

    ttft_s: float | None
    tpot_s: float | None
    latency_s: float | None
    decode_tps: float | None
    output_tokens: int
    first_tokens: int = 0
    bursts: bool = False
    gaps_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Repetition:
    """One measured case, in one repetition: what its metrics are computed from. `place` is where its engine computes, `idle` are
    the energies of the idle window before the engine was loaded.

    The engine of another process, or its idle window, need not be known: there is no energy then.
    """

    result: CaseResult
    place: energy.Place | None = None
    device_share: float = 1.0
    """The part of the layers that the engine's device holds."""
    idle: tuple[energy.Energy, ...] = ()
    available_bytes: float | None = None
    """Memory that the host had available before the engine was loaded."""

    @cached_property
    def requests(self) -> tuple[RequestMetrics, ...]:
        """Each request's own numbers, in the order of the records."""
        return tuple(request_metrics(record) for record in self.result.requests)

    @cached_property
    def window(self) -> Window | None:
        """The steady window; None if the users never decoded together."""
        window = steady_window(self.result.requests, self.result.case.concurrency)
        return replace(window, tokens=0) if window and (self.units_reason or self.hidden) else window

    @cached_property
    def power(self) -> energy.Power:
        """Energy and power in the steady window."""
        return energy.power_of(self.result, self.window, self.place, self.idle)

    @cached_property
    def units_reason(self) -> str | None:
        """Why the tokens of some request's chunks are not known; None where all are."""
        return next((record.units_reason for record in self.result.requests if record.units_reason), None)

    @cached_property
    def memory(self) -> memory.Memory | None:
        """What held the model, and how that was found."""
        return memory.memory_of(self.result, self.place, self.device_share < 1, self.available_bytes)

    @cached_property
    def hidden(self) -> str | None:
        """That tokens were not streamed, so that nobody knows when they were made; None where all were."""
        most = max(map(hidden_tokens, self.result.requests), default=0)
        return f"{most} tokens of a request were not streamed: when they were made is not known" if most else None

    def median(self, name: str) -> float | None:
        """The median over the requests of that field of RequestMetrics."""
        return stats.median([value for request in self.requests if (value := getattr(request, name)) is not None])


def request_metrics(record: RequestRecord) -> RequestMetrics:
    """The request's own numbers; a request that failed in the middle has no tpot and no latency."""
    counts = record.chunk_units or (1,) * len(record.unit_us)
    tokens = record.reported_units or sum(counts)
    if not record.unit_us:
        return RequestMetrics(None, None, None, None, tokens)
    times = record.unit_us
    gaps = tuple((b - a) / 1e6 for a, b in pairwise(times))
    at_once_s = AT_ONCE * sum(gaps) / max(1, sum(counts[1:]))
    apart = zip(gaps, counts[1:], strict=True)
    pieces = [place for place, (gap, units) in enumerate(apart) if gap > at_once_s * units] + [
        len(gaps)
    ]  # the last chunk of each
    bursts = len(gaps) > 1 and 2 * len(pieces) <= len(gaps) + 2
    # Tokens of the first piece all existed then: only the later ones took the time from there. When in its time a burst came is
    # not known; so the last, which the end of the stream may have brought early, does not count.
    start, stop = pieces[0], pieces[-2 if bursts and len(pieces) > 1 else -1]
    later, spread_s = sum(counts[start + 1 : stop + 1]), (times[stop] - times[start]) / 1e6
    too_few = bursts and (later < BURST_MIN_TOKENS or times[-1] - times[0] < ONE_PIECE_US)
    known = later > 0 and spread_s > 0 and not too_few and record.units_reason is None and record.error is None
    tpot_s = spread_s / later if known else None
    return RequestMetrics(
        ttft_s=(times[0] - record.submit_us) / 1e6,
        tpot_s=tpot_s,
        latency_s=(times[-1] - record.submit_us) / 1e6 if record.error is None else None,
        decode_tps=1 / tpot_s if tpot_s else None,
        output_tokens=tokens,
        first_tokens=sum(counts[: start + 1]),
        bursts=bursts,
        gaps_s=gaps,
    )


def tpot(repetition: Repetition) -> float | Unknown:
    """Seconds per output token: the median over the requests."""
    return _known(repetition, repetition.median("tpot_s"))


def user_rate(repetition: Repetition) -> float | Unknown:
    """Tokens per second that one user sees while the text streams: the median over the requests."""
    return _known(repetition, repetition.median("decode_tps"))


def _known(repetition: Repetition, value: float | None) -> float | Unknown:
    if value is not None:
        return value
    pieces = "the answers came in one piece or too few bursts: something on the way holds the stream back"
    bursts = any(request.bursts for request in repetition.requests)
    return Unknown(repetition.units_reason or (pieces if bursts else "no request put out two tokens at two times"))


def prefill_rate(repetition: Repetition) -> float | Unknown | None:
    """Prompt tokens per second of one user alone, unless ttft holds decoding too: tokens that were thought and not streamed, or
    that came at once with the first."""
    if repetition.result.case.concurrency != 1:
        return Unknown("above one user, queueing is inside ttft")
    if reason := repetition.units_reason or repetition.hidden:
        return Unknown(reason)
    rates = []
    for record, m in zip(repetition.result.requests, repetition.requests, strict=True):
        decoding_s = (m.first_tokens - 1) * (m.tpot_s or math.inf) if m.first_tokens > 1 else 0
        if m.bursts or decoding_s > PREFILL_DOUBT * (m.ttft_s or 0):
            return Unknown(f"{m.first_tokens} tokens came at once with the first: ttft may hold their decoding")
        if m.ttft_s:
            rates.append(record.prompt_tokens / m.ttft_s)
    return stats.median(rates)


def hidden_tokens(record: RequestRecord) -> int:
    """Tokens that the server counts and did not stream, where they are more than rounding."""
    units_received = sum(record.chunk_units) if record.chunk_units else len(record.unit_us)
    hidden = (record.reported_units or units_received) - units_received
    return hidden if record.units_reason is None and hidden > max(1, HIDDEN_SHARE * units_received) else 0


def output_rate(repetition: Repetition) -> float | Unknown:
    """Output tokens per second of all users in the steady window. Tokens of failed requests count."""
    if reason := repetition.units_reason or repetition.hidden:
        return Unknown(reason)
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
