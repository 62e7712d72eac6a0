"""A document as samples: one per case group (a row of its table), with one number per repetition of every metric.

A repetition's number is what harness/rigbench/analysis/metrics.py makes of that case's raw records; medians and intervals come
later. This is what `compare`, `regress` and `index` work on: nothing else of a document is needed to compare it.

    python -c "from rigbench.analysis.samples import *; from rigbench.documents import store; import pathlib, sys; \
               print(*samples(store.read(pathlib.Path(sys.argv[1]))), sep='\\n')" results/…/….json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from rigbench.analysis.metrics import CaseMetrics, case_metrics, noise_flag
from rigbench.analysis.summary import ROUNDING, power_of
from rigbench.records import CaseResult, RunDocument
from rigbench.telemetry.memory import device_memory
from rigbench_backends.base import EngineInfo

METRICS = (
    "user_tps",
    "output_tps",
    "ttft_s",
    "tpot_s",
    "latency_s",
    "prefill_tps",
    "joules_per_token",
    "joules_per_token_net",
    "rss_peak_bytes",
    "device_memory_peak_bytes",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One case group of one document. Plain values only, so that it can be a row of a table.

    `metrics[name]` has one number per repetition that could tell it (a metric that none could is not there); `options` and
    `load` are canonical JSON: the engine's options, and how it was loaded (requests per user, duration, warm-up, seed).
    `prompts_sha256` is of the first repetition's prompts, None where their order is not given by the load alone.
    `imported` names the tool whose figures these are, None for what rigbench measured itself.
    """

    document_id: str
    created_utc: str
    machine_id: str
    os: str
    kernel: str
    drivers: dict[str, str]
    power_limits_w: tuple[float | None, ...]
    backend: str
    engine: str
    engine_version: str
    engine_build: str | None
    device: str
    device_names: tuple[str, ...]
    model: str
    model_sha256: str | None
    model_sha256_of: str | None
    quantization: str | None
    synthetic: bool
    suite: str
    suite_version: str
    suite_sha256: str
    group: str
    workload: str
    workload_kind: str
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    options: str
    load: str
    prompts_sha256: str | None
    repetitions: int
    flags: tuple[str, ...]
    error: str | None
    rigbench_version: str
    imported: str | None = None
    metrics: dict[str, tuple[float, ...]] = field(default_factory=dict)


def samples(document: RunDocument) -> list[Sample]:
    """In the order in which the groups first ran; a group of which nothing was measured has no metrics and an `error`."""
    groups: dict[str, list[CaseResult]] = {}
    for result in document.cases:
        groups.setdefault(result.case.group, []).append(result)
    return [_sample(document, results) for results in groups.values()]


def from_row(row: Mapping[str, Any]) -> Sample:
    """A Sample from a row of a table: every field by its name, tuples as lists, unknown columns left out."""
    content = {each.name: row[each.name] for each in fields(Sample) if each.name in row}
    for name in ("power_limits_w", "device_names", "flags"):
        content[name] = tuple(content.get(name) or ())
    metrics = content.get("metrics") or {}
    content["metrics"] = {name: tuple(values) for name, values in metrics.items() if values is not None and len(values)}
    content["drivers"] = {name: text for name, text in (content.get("drivers") or {}).items() if text is not None}
    return Sample(**content)


def _sample(document: RunDocument, results: Sequence[CaseResult]) -> Sample:
    case, machine = results[0].case, document.machine
    measured = [result for result in results if result.requests]
    model = next((facts for facts in document.models if facts.name == case.model), None)
    engine = next(
        (document.engines[r.engine] for r in results if r.engine is not None), EngineInfo(case.backend, "", "")
    )
    imported = document.annotations.get("imported")
    told = imported.get("metrics", {}).get(case.group) if isinstance(imported, dict) else None
    each = [case_metrics(result) for result in measured]
    numbers = _numbers(document, measured, each) if told is None else told
    failures = [result.error for result in results if result.error is not None]
    content = document.suite.content
    return Sample(
        document_id=document.id,
        created_utc=document.created_utc,
        machine_id=machine.id,
        os=machine.os,
        kernel=machine.kernel,
        drivers=machine.drivers,
        power_limits_w=tuple(gpu.get("power_limit_w") for gpu in machine.gpus),
        backend=case.backend,
        engine=engine.engine,
        engine_version=engine.version,
        engine_build=engine.build,
        device=engine.device,
        device_names=engine.device_names,
        model=case.model,
        model_sha256=model.sha256 if model else None,
        model_sha256_of=model.sha256_of if model else None,
        quantization=model.quantization if model else None,
        synthetic=bool(model and model.synthetic),
        suite=document.suite.name,
        suite_version=document.suite.version,
        suite_sha256=document.suite.sha256,
        group=case.group,
        workload=case.workload.name,
        workload_kind=case.workload.kind,
        prompt_tokens=case.workload.prompt_tokens,
        output_tokens=case.workload.output_tokens,
        concurrency=case.concurrency,
        options=_canonical(case.options),
        load=_canonical(
            {
                "requests_per_user": case.requests_per_user,
                "duration_s": case.duration_s,
                "seed": case.seed,
                "warmup": content.get("warmup"),
            }
        ),
        prompts_sha256=_prompts(measured),
        repetitions=len(measured) or max(map(len, numbers.values()), default=0),
        flags=_flags(document, case.group, each, numbers.get("user_tps", ())),
        error=f"{failures[0].kind}: {failures[0].message}" if failures else None,
        rigbench_version=document.rigbench_version,
        imported=str(imported.get("from", "unknown")) if isinstance(imported, dict) else None,
        metrics={name: tuple(values) for name in METRICS if (values := numbers.get(name))},
    )


def _numbers(
    document: RunDocument, measured: Sequence[CaseResult], each: Sequence[CaseMetrics]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for result, case in zip(measured, each, strict=True):
        power = power_of([result], document)
        devices = [memory.peak_bytes for memory in device_memory(result.readings)]
        told: dict[str, float | None] = {
            "joules_per_token": power.joules_per_token,
            "joules_per_token_net": power.joules_per_token_net,
            "rss_peak_bytes": result.host_memory.rss_peak_bytes if result.host_memory else None,
            "device_memory_peak_bytes": max(devices, default=None),
        }
        for name in METRICS:
            value = told[name] if name in told else getattr(case, name)
            if value is not None:
                found[name].append(value)
    return found


def _prompts(measured: Sequence[CaseResult]) -> str | None:
    """Above one user, who is the first to send a second request is not given, so neither is the order of the prompts."""
    if not measured or measured[0].case.repetition != 0:
        return None
    case = measured[0].case
    fixed = case.duration_s is None and (case.concurrency == 1 or case.requests_per_user == 1)
    return measured[0].prompts_sha256 if fixed else None


def _flags(
    document: RunDocument, group: str, each: Sequence[CaseMetrics], user_tps: Sequence[float]
) -> tuple[str, ...]:
    found = {flag.name: None for case in each for flag in case.flags}
    if (noisy := noise_flag(user_tps)) is not None:
        found[noisy.name] = None
    ceilings = [p.ceiling_user_tps for p in document.predictions if p.group == group and p.ceiling_user_tps]
    if each and user_tps and ceilings and sorted(user_tps)[len(user_tps) // 2] > ceilings[0] * (1 + ROUNDING):
        found["above_ceiling"] = None
    return tuple(found)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
