"""A document's table: one row per case group (backend, model, workload, users), repetitions joined by their median.

Derived from raw records and from the stored predictions alone, so that anybody can recompute it; never read back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rigbench.analysis import stats
from rigbench.analysis.metrics import CaseMetrics, Window, case_metrics, noise_flag, request_metrics, steady_window
from rigbench.records import CaseResult, PhaseMark, Prediction, RunDocument
from rigbench.telemetry import energy
from rigbench.telemetry.memory import device_memory

ROUNDING = 0.005
"""Stamps are whole microseconds, so an engine at its ceiling may come out a hair above it."""
PUBLISHED = "published"
"""The rule of the published tables: kept beside the prediction, to show where it fails."""
ESTIMATED = ("user_tps", "output_tps", "ttft_s", "tpot_s", "prefill_tps", "latency_s")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `intervals[name]` = low, high and how they were got; a None figure has its reason in `reasons`."""

    group: str
    backend: str
    model: str
    workload: str
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    repetitions: int
    user_tps: float | None
    output_tps: float | None
    ttft_s: float | None
    tpot_s: float | None
    latency_s: float | None
    prefill_tps: float | None
    joules_per_token: float | None
    joules_per_token_net: float | None
    watts_mean: float | None
    watts_peak: float | None
    power_scope: str | None
    phase_joules: dict[str, float | None]
    rss_peak_bytes: int | None
    device_memory_peak_bytes: int | None
    ceiling_tps: float | None
    predicted_tps: float | None
    predictor: str | None
    published_tps: float | None
    measured_over_predicted: float | None
    mbu: float | None
    flags: tuple[str, ...]
    error: str | None
    intervals: dict[str, dict[str, Any]] = field(default_factory=dict)
    percentiles: dict[str, dict[str, float | None]] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def rows(document: RunDocument) -> list[Row]:
    """In the order in which the groups first ran."""
    predictions: dict[str, dict[str, Prediction]] = {}
    for prediction in document.predictions:
        predictions.setdefault(prediction.group, {})[prediction.predictor] = prediction
    groups: dict[str, list[CaseResult]] = {}
    for result in document.cases:
        groups.setdefault(result.case.group, []).append(result)
    return [_row(results, predictions.get(group, {}), document) for group, results in groups.items()]


def summary(document: RunDocument) -> tuple[dict[str, Any], ...]:
    """The rows as plain JSON types, as the document stores them."""
    return tuple(asdict(row) for row in rows(document))


def _row(results: Sequence[CaseResult], predictions: dict[str, Prediction], document: RunDocument) -> Row:
    case = results[0].case
    measured = [result for result in results if result.requests]
    each = [case_metrics(result) for result in measured]
    told = imported_figures(document, case.group)
    estimates = {name: stats.estimate(_values(each, name) or told.get(name, ())) for name in ESTIMATED}
    middle = {name: None if found is None else found.value for name, found in estimates.items()}
    reasons: dict[str, str] = {}
    for metrics in each:
        reasons |= {name: why for name, why in metrics.reasons.items() if middle.get(name) is None}
    peaks = [m.rss_peak_bytes for r in measured if (m := r.host_memory) and m.rss_peak_bytes is not None]
    if not peaks:
        reasons["rss_peak_bytes"] = next(
            (r.host_memory.reason for r in measured if r.host_memory and r.host_memory.reason), "not read"
        )
    published = predictions.get(PUBLISHED)
    prediction = next((each for name, each in predictions.items() if name != PUBLISHED), published)
    power = power_of(results, document)
    if power.joules_per_token is None:
        reasons["joules_per_token"] = power.reason or "not read"
    device_peaks = [memory.peak_bytes for result in measured for memory in device_memory(result.readings)]
    user_tps = middle["user_tps"]
    ceiling, predicted, mbu = _against(prediction, user_tps, reasons)
    evidence = {flag.name: flag.evidence for metrics in reversed(each) for flag in metrics.flags}
    if (noisy := noise_flag(_values(each, "user_tps"))) is not None:
        evidence[noisy.name] = noisy.evidence
    if user_tps is not None and ceiling is not None and user_tps > ceiling * (1 + ROUNDING):
        evidence["above_ceiling"] = (
            f"{user_tps:.4g} tokens/s are more than the {ceiling:.4g} that the memory bandwidth allows: the byte count or the "
            "bandwidth is wrong, or the weights stay in the processor's cache"
        )
    failures = [result.error for result in results if result.error is not None]
    error = str(failures[0]) if failures else None
    return Row(
        group=case.group,
        backend=case.backend,
        model=case.model,
        workload=case.workload.name,
        prompt_tokens=case.workload.prompt_tokens,
        output_tokens=case.workload.output_tokens,
        concurrency=case.concurrency,
        repetitions=len(measured) or max(map(len, told.values()), default=0),
        user_tps=user_tps,
        output_tps=middle["output_tps"],
        ttft_s=middle["ttft_s"],
        tpot_s=middle["tpot_s"],
        latency_s=middle["latency_s"],
        prefill_tps=middle["prefill_tps"],
        joules_per_token=power.joules_per_token,
        joules_per_token_net=power.joules_per_token_net,
        watts_mean=power.watts_mean,
        watts_peak=power.watts_peak,
        power_scope=power.scope,
        phase_joules=power.phase_joules,
        rss_peak_bytes=max(peaks, default=None),
        device_memory_peak_bytes=max(device_peaks, default=None),
        ceiling_tps=ceiling,
        predicted_tps=predicted,
        predictor=prediction.predictor if prediction else None,
        published_tps=published.user_tps if published else None,
        measured_over_predicted=user_tps / predicted if user_tps and predicted else None,
        mbu=mbu,
        flags=tuple(evidence),
        error=error,
        intervals={
            name: {"low": found.low, "high": found.high, "method": found.method, "n": found.n}
            for name, found in estimates.items()
            if found is not None
        },
        percentiles=_percentiles(measured, each),
        evidence=evidence,
        reasons=reasons,
    )


def imported_figures(document: RunDocument, group: str) -> dict[str, list[float]]:
    """Another tool's figures of a group, one per repetition (documents/importing.py); {} of what rigbench measured."""
    imported = document.annotations.get("imported")
    metrics = imported.get("metrics") if isinstance(imported, dict) else None
    figures = metrics.get(group) if isinstance(metrics, dict) else None
    if not isinstance(figures, dict):
        return {}
    return {
        name: [value for value in values if isinstance(value, int | float) and 0 < value < math.inf]
        for name, values in figures.items()
        if isinstance(values, list)
    }


@dataclass(frozen=True, slots=True)
class Power:
    """Energy and power of a group; None with the reason where nobody tells."""

    joules_per_token: float | None
    joules_per_token_net: float | None
    watts_mean: float | None
    watts_peak: float | None
    scope: str | None
    reason: str | None
    phase_joules: dict[str, float | None]


def power_of(results: Sequence[CaseResult], document: RunDocument) -> Power:
    """Energy per output token in the steady window, gross and net of idle, and watts; medians over the repetitions.

    Of the widest scope that was measured and holds the engine's device.
    """
    gross, net, mean, peak = [], [], [], []
    phases: dict[str, list[float | None]] = {}
    scope = reason = None
    for result in results:
        window = steady_window(result.requests, result.case.concurrency)
        if window is None or result.engine is None:
            continue
        idle = _idle_energies(document.cases, result.engine)
        energies = energy.gross_and_net(result.readings, window.start_us, window.end_us, idle)
        device = document.engines[result.engine].device
        for name, parts in energy.phase_energies(result.readings, _phases(result, window)).items():
            whole = energy.headline(parts, device)
            phases.setdefault(name, []).append(whole.joules if whole else None)
        main = energy.headline(energies, device)
        if main is None or main.joules is None:
            reason = (main.reason if main else None) or "no source tells the power of this device"
            continue
        scope = main.scope
        gross.append(energy.per_token(main.joules, window.tokens))
        net.append(energy.per_token(main.net_joules, window.tokens))
        mean.append(main.watts_mean)
        peak.append(main.watts_peak)
    joules = {name: _middle(values) for name, values in phases.items()}
    return Power(_middle(gross), _middle(net), _middle(mean), _middle(peak), scope, reason, joules)


def _phases(result: CaseResult, window: Window) -> list[PhaseMark]:
    """Loading (in the case that follows it), prefill (until all users decode) and decode (the steady window)."""
    loads = [mark for mark in result.phases if mark.name == "load"]
    return [*loads, PhaseMark("prefill", 0, window.start_us), PhaseMark("decode", window.start_us, window.end_us)]


def _middle(values: Sequence[float | None]) -> float | None:
    return stats.median([value for value in values if value is not None])


def _idle_energies(cases: Sequence[CaseResult], engine: int) -> tuple[energy.Energy, ...]:
    """Of the idle window before this engine was loaded: it stands in the first case that the engine ran."""
    for result in cases:
        marks = [mark for mark in result.phases if mark.name == "idle"]
        if result.engine == engine and marks:
            return energy.case_energies(result.readings, marks[0].start_us, marks[0].end_us)
    return ()


def _values(each: Sequence[CaseMetrics], name: str) -> list[float]:
    return [value for metrics in each if (value := getattr(metrics, name)) is not None]


def _against(
    prediction: Prediction | None, user_tps: float | None, reasons: dict[str, str]
) -> tuple[float | None, float | None, float | None]:
    """(ceiling, predicted, mbu) of the group."""
    if prediction is None:
        reasons["predicted_tps"] = reasons["ceiling_tps"] = "no prediction was made"
        return None, None, None
    if prediction.user_tps is None:
        reasons["predicted_tps"] = prediction.reason or "unknown"
    if prediction.ceiling_user_tps is None:
        reasons["ceiling_tps"] = reasons["mbu"] = prediction.reason or "unknown"
    mbu = None
    if user_tps and prediction.bytes_per_step and prediction.bandwidth_bytes_per_s:
        mbu = prediction.bytes_per_step * user_tps / prediction.bandwidth_bytes_per_s
    return prediction.ceiling_user_tps, prediction.user_tps, mbu


def _percentiles(measured: Sequence[CaseResult], each: Sequence[CaseMetrics]) -> dict[str, dict[str, float | None]]:
    """Over the requests (ttft) and the gaps of all repetitions together."""
    requests = [request_metrics(record) for result in measured for record in result.requests]
    gap_name = each[0].gap_name if each else "itl"

    def of(values: Callable[[Any], Sequence[float]]) -> dict[str, float | None]:
        pool = [value for request in requests for value in values(request)]
        return {f"p{p}": stats.percentile(pool, p) if pool else None for p in stats.PERCENTILE_MIN_SAMPLES}

    return {
        "ttft_s": of(lambda request: () if request.ttft_s is None else (request.ttft_s,)),
        f"{gap_name}_s": of(lambda request: request.gaps_s),
    }
