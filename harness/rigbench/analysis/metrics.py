"""The numbers of one case and of one table row, from raw records alone.

A request's life: submitted -> (queued, prefill) -> first token -> ... -> last token. Every time is microseconds from the case's t0.

    submit        first                                last
      |--- ttft ----|--- itl ---|--- itl ---| ... --------|
                    |<------ tpot x (tokens - 1) -------->|

`METRICS` holds each name with its formula, as `rigbench metrics` prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rigbench.analysis import stats
from rigbench.records import CaseResult, Flag, RequestRecord

CACHED_BY_CHANCE = 16
WINDOW_MIN_TPOTS = 5
WINDOW_MIN_TOKENS = 20
NOISY_VARIATION = 0.05


@dataclass(frozen=True, slots=True)
class Metric:
    """A name, its formula and its unit."""

    name: str
    formula: str
    unit: str
    of: str


METRICS = (
    Metric("ttft", "first output token - request submitted (queueing included)", "s", "request"),
    Metric(
        "tpot",
        "(last token - first token) / (output tokens - 1); where chunks hold several tokens, less those of the first chunk",
        "s/token",
        "request",
    ),
    Metric("itl", "gaps between successive tokens; called chunk_gap where chunks hold several tokens", "s", "request"),
    Metric("latency", "last token - request submitted", "s", "request"),
    Metric("decode_tps", "1 / tpot: what one user sees while the text streams", "tokens/s", "request"),
    Metric("user_tps", "median of decode_tps over the measured requests", "tokens/s", "case"),
    Metric("output_tps", "output tokens stamped inside the steady window / its length", "tokens/s", "case"),
    Metric("prefill_tps", "prompt tokens / ttft, at concurrency 1 only", "tokens/s", "case"),
    Metric(
        "steady window",
        "from N requests first being in their decode phase together until the requests in flight last fall below N; "
        "shorter than 5 median tpot or with < 20 tokens: no output_tps",
        "s",
        "case",
    ),
    Metric("percentiles", "p50 always; p90, p95, p99 only from 20, 40, 200 samples", "", "case"),
    Metric(
        "rss_peak_bytes", "peak resident memory of the engine's whole process tree during the case", "bytes", "case"
    ),
    Metric(
        "joules_per_token",
        "energy in the steady window / output tokens in it; gross, and net of the idle power before the model was loaded",
        "J",
        "case",
    ),
    Metric(
        "phase_joules",
        "energy of load, of prefill (first submission until all users decode) and of decode (the steady window)",
        "J",
        "case",
    ),
    Metric(
        "watts_mean", "mean power over the steady window, with its scope (board, package, soc, host, wall)", "W", "case"
    ),
    Metric("device_memory_peak_bytes", "largest reading of the device's used memory during the case", "bytes", "case"),
    Metric(
        "ceiling_tps", "read bandwidth / bytes that one decode step must read: no user can see more", "tokens/s", "case"
    ),
    Metric(
        "predicted_tps",
        "roofline: 1 / (time to stream the bytes + per layer + per user ...), per user; `rigbench predict` shows its terms",
        "tokens/s",
        "case",
    ),
    Metric("published_tps", "published rule: bandwidth / file size x 0.65, for one user", "tokens/s", "case"),
    Metric("mbu", "bytes that a decode step must read x steps per second (user_tps) / read bandwidth", "ratio", "case"),
    Metric("measured_over_predicted", "user_tps / predicted_tps", "ratio", "case"),
    Metric(
        "across repetitions",
        "median; 95 % interval by bootstrap of the repetitions' numbers, minimum and maximum below 5 repetitions",
        "",
        "row",
    ),
)


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One request. Seconds; None where fewer than two tokens (or one moment) cannot say."""

    ttft_s: float | None
    tpot_s: float | None
    latency_s: float | None
    decode_tps: float | None
    output_tokens: int
    gaps_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The steady window in microseconds from t0, and the output tokens stamped in (start, end]."""

    start_us: int
    end_us: int
    tokens: int

    @property
    def length_s(self) -> float:
        return (self.end_us - self.start_us) / 1e6


@dataclass(frozen=True, slots=True)
class CaseMetrics:
    """One case in one repetition; a None has its reason in `reasons` under the same name."""

    user_tps: float | None
    output_tps: float | None
    prefill_tps: float | None
    ttft_s: float | None
    tpot_s: float | None
    latency_s: float | None
    ttft_percentiles_s: dict[str, float | None]
    gap_percentiles_s: dict[str, float | None]
    gap_name: str
    window: Window | None
    output_tokens: int
    flags: tuple[Flag, ...]
    reasons: dict[str, str]


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


def steady_window(records: Sequence[RequestRecord], users: int) -> Window | None:
    """The stretch in which all N users are served; None if N requests never decoded at once."""
    edges: list[tuple[int, int, int]] = []
    for record in records:
        if record.unit_us:
            # At one instant ends come before beginnings, so that a request's successor is not counted beside it.
            edges.append((record.unit_us[0], 1, 1))
            edges.append((record.unit_us[-1], 0, -1))
    start, decoding = None, 0
    for time_us, _, change in sorted(edges):
        decoding += change
        if decoding >= users:
            start = time_us
            break
    if start is None:
        return None
    flights = [(r.submit_us, 1, 1) for r in records] + [(r.unit_us[-1], 0, -1) for r in records if r.unit_us]
    end, in_flight = None, 0
    for time_us, _, change in sorted(flights):
        if change < 0 and in_flight == users:
            end = time_us
        in_flight += change
    if end is None or end <= start:
        return None
    tokens = 0
    for record in records:
        counts = record.chunk_units or (1,) * len(record.unit_us)
        tokens += sum(n for stamp, n in zip(record.unit_us, counts, strict=True) if start < stamp <= end)
    return Window(start, end, tokens)


def case_metrics(result: CaseResult) -> CaseMetrics:
    """Every number of one case. Failed requests count in the window's tokens but in no per-request median."""
    users = result.case.concurrency
    each = [request_metrics(record) for record in result.requests]
    reasons: dict[str, str] = {}
    if result.error is not None:
        reasons["case"] = f"{result.error.kind}: {result.error.message}"
    tpots = [m.tpot_s for m in each if m.tpot_s is not None]
    ttfts = [m.ttft_s for m in each if m.ttft_s is not None]
    latencies = [m.latency_s for m in each if m.latency_s is not None]
    tpot = stats.median(tpots)
    if tpot is None:
        reasons["tpot_s"] = "no request put out two tokens at two times"
    prefill = None
    if users == 1:
        rates = [r.prompt_tokens / m.ttft_s for r, m in zip(result.requests, each, strict=True) if m.ttft_s]
        prefill = stats.median(rates)
    else:
        reasons["prefill_tps"] = "above one user, queueing is inside ttft"
    window = steady_window(result.requests, users)
    flags = list(result.flags)
    output = None
    if window is None:
        reasons["output_tps"] = f"{users} requests were never in their decode phase together"
    elif window.tokens < WINDOW_MIN_TOKENS or tpot is None or window.length_s < WINDOW_MIN_TPOTS * tpot:
        reasons["output_tps"] = (
            f"steady window of {window.length_s:.3g} s with {window.tokens} tokens; "
            f"{WINDOW_MIN_TPOTS} median tpot and {WINDOW_MIN_TOKENS} tokens are needed"
        )
    else:
        output = window.tokens / window.length_s
    if result.requests and output is None:
        flags.append(Flag("short_window", reasons["output_tps"]))
    flags += _length_flags(result, each)
    multiple = any(record.chunk_units for record in result.requests)
    gaps = [gap for m in each for gap in m.gaps_s]
    return CaseMetrics(
        user_tps=stats.median([m.decode_tps for m in each if m.decode_tps is not None]),
        output_tps=output,
        prefill_tps=prefill,
        ttft_s=stats.median(ttfts),
        tpot_s=tpot,
        latency_s=stats.median(latencies),
        ttft_percentiles_s=_percentiles(ttfts),
        gap_percentiles_s=_percentiles(gaps),
        gap_name="chunk_gap" if multiple else "itl",
        window=window,
        output_tokens=sum(m.output_tokens for m in each),
        flags=tuple(flags),
        reasons=reasons,
    )


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    return {f"p{p}": stats.percentile(values, p) if values else None for p in stats.PERCENTILE_MIN_SAMPLES}


def _length_flags(result: CaseResult, each: Sequence[RequestMetrics]) -> list[Flag]:
    """What the requests themselves say against the case."""
    flags = []
    wanted = result.case.workload.output_tokens
    other = [m.output_tokens for m in each if m.output_tokens != wanted]
    if other:
        flags.append(Flag("variable_length", f"{len(other)} of {len(each)} requests did not put out {wanted} tokens"))
    # Every prompt begins in its own way; that the very first tokens of text are often the same says nothing.
    cached = sum(1 for record in result.requests if (record.cached_tokens or 0) > CACHED_BY_CHANCE)
    if cached:
        flags.append(Flag("cached_prompt", f"the server took {cached} of {len(each)} prompts partly from its cache"))
    failed = [record.error for record in result.requests if record.error]
    if failed:
        flags.append(Flag("failed_requests", f"{len(failed)} of {len(each)} requests failed: {failed[0]}"))
    return flags


def noise_flag(values: Sequence[float]) -> Flag | None:
    """`noisy` when the repetitions' numbers vary by more than 5 %."""
    variation = stats.variation(values)
    if variation is None or variation <= NOISY_VARIATION:
        return None
    return Flag("noisy", f"{len(values)} repetitions vary by {variation:.1%}")
