"""Honest documents of machines that nobody here has: the simulator at a catalogued device's figures, with noise, readings and all
that a run writes. What a test of validation forges, and what scripts/honest_documents.py counts.

    content = device_document("rtx-4090", "llama-3.1-8b", "Q4_K_M", seed=1)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from dataclasses import asdict, fields, replace
from typing import Any

import rigbench_backends
from rigbench import __version__
from rigbench.analysis.flags import reading_flags
from rigbench.analysis.table import summary
from rigbench.documents import store
from rigbench.models.footprint import weight_bytes
from rigbench.models.shapes import shape
from rigbench.models.synthetic.gguf import facts_from_shape
from rigbench.predict import hardware
from rigbench.predict.document import predictions
from rigbench.records import (
    Bandwidth,
    Case,
    CaseResult,
    HostMemory,
    Machine,
    ModelFacts,
    PhaseMark,
    RequestRecord,
    RunDocument,
    Series,
)
from rigbench.suites.suite import Suite, parse_suite, suite_record
from rigbench.telemetry.machine import machine_id
from rigbench.worker import drive
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo, ModelFile, StepBytes

DEVICES = {"nvidia": "cuda", "apple": "metal", "amd": "vulkan", "intel": "vulkan", "cpu": "cpu"}
VOCABULARY = 1000
IDLE_S = 10.5


def suite(users: list[int], repetitions: int, prompt: int, output: int, requests: int) -> Suite:
    load = {"concurrency": users, "repetitions": repetitions, "requests_per_user": requests}
    workload = {"name": "made", "kind": "tokens", "prompt_tokens": prompt, "output_tokens": output}
    warmup = {"max_rounds": 3, "prompt_tokens": 16, "output_tokens": 8}
    return parse_suite({"name": "made", "version": "1", "load": load, "warmup": warmup, "workload": [workload]}, "made")


def device_document(
    device_id: str,
    shape_id: str,
    quant: str,
    seed: int = 0,
    users: tuple[int, ...] = (1, 4),
    repetitions: int = 3,
    prompt: int = 64,
    output: int = 40,
    requests: int = 2,
    noise: float = 0.01,
) -> dict[str, Any]:
    """The content of such a document."""
    luck = random.Random(seed)
    device, facts = hardware.find(device_id), facts_from_shape(shape(shape_id), quant)
    facts = replace(facts, format="gguf", sha256=hashlib.sha256(f"{seed}".encode()).hexdigest(), sha256_of="edges")
    on_cpu, plan = device.vendor == "cpu", suite(list(users), repetitions, prompt, output, requests)
    machine = _machine(device, on_cpu)
    speed = device.bandwidth_bytes_per_s * luck.uniform(0.5, 0.9)
    flops = device.fp16_flops or (device.gpu_cores or 4) * (device.clock_hz or 2e9) * 16
    overhead_s = luck.uniform(0, 1e-3)
    step_s = weight_bytes(facts, 1) / speed + overhead_s  # a prompt takes no less than one step
    options = {
        "bandwidth_gb_per_s": speed / 1e9,
        "prefill_tps": max(1e-3, min(luck.uniform(0.1, 0.5) * flops / 2 / facts.active_parameters, prompt / step_s)),
        "step_overhead_s": overhead_s,
    }
    engine = EngineInfo(
        engine="llama.cpp",
        version="llama-cpp-python 0.3.36",
        device=DEVICES[device.vendor],
        device_names=(machine.cpu if on_cpu else device.name,),
        build="CPU : AVX2 = 1",
        weights_bytes=facts.file_bytes,
        parameters=facts.parameters,
        vocab_size=VOCABULARY,
        context_limit=facts.context_limit,
        threads=machine.physical_cores,
    )
    cases, at_s = [], IDLE_S + 3.0
    for repetition in range(repetitions):
        for count in users:
            result = _case(
                plan, facts, engine, machine, options, count, repetition, len(cases), at_s, luck, noise, device
            )
            at_s += result.requests[-1].unit_us[-1] * 1e-6 + 2.0 + max(r.unit_us[-1] for r in result.requests) * 1e-6
            at_s -= min((r.submit_us for r in result.warmup), default=0) * 1e-6
            cases.append(result)
    measured = Bandwidth(engine.device, device.bandwidth_bytes_per_s * luck.uniform(0.8, 0.95), source="made")
    document = RunDocument(
        schema_version=2,
        id="",
        rigbench_version=__version__,
        created_utc="2026-10-01T12:00:00Z",
        duration_s=at_s + 1,
        suite=suite_record(plan),
        machine=machine,
        engines=(engine,),
        models=(facts,),
        bandwidth=(measured,),
        cases=tuple(cases),
        telemetry={"sources": [_source("host", 4), *([] if on_cpu else [_source("nvml", 3)])]},
    )
    document = replace(document, predictions=predictions(document))
    return store.to_content(store.with_id(replace(document, summary=summary(document))))


def _machine(device: hardware.Hardware, on_cpu: bool) -> Machine:
    cores = (device.gpu_cores or 4) if on_cpu else 16
    memory = 64 * 2**30
    gpu = {"name": device.name, "memory_bytes": device.memory_bytes, "power_limit_w": device.power_w, "device": "gpu0"}
    gpus: tuple[dict[str, Any], ...] = () if on_cpu else (gpu,)
    cpu = device.name if on_cpu else "AMD Ryzen 9 9950X"
    return Machine(
        id=machine_id(cpu, cores, memory, gpus),
        cpu=cpu,
        physical_cores=cores,
        logical_cores=2 * cores,
        memory_bytes=memory,
        gpus=gpus,
        os="Linux",
        kernel="6.12",
        arch="x86_64",
        python="3.12.1",
    )


def _source(name: str, metrics: int) -> dict[str, Any]:
    return {"name": name, "usable": True, "metrics": metrics, "calls": 100}


def _case(
    plan: Suite,
    facts: ModelFacts,
    engine: EngineInfo,
    machine: Machine,
    options: dict[str, float],
    users: int,
    repetition: int,
    order: int,
    at_s: float,
    luck: random.Random,
    noise: float,
    device: hardware.Hardware,
) -> CaseResult:
    part = plan.workload[0]
    group = f"llama_cpp/{facts.name}/{part.name}/c{users}"
    workload = Generation(part.name, part.kind, part.prompt_tokens, part.output_tokens)
    load = plan.load
    case = Case(
        f"{group}/r{repetition}",
        group,
        "llama_cpp",
        facts.name,
        workload,
        users,
        load.requests_per_user,
        repetition,
        load.seed,
    )
    reads = StepBytes(**{field.name: getattr(facts, field.name) for field in fields(StepBytes)})
    backend = rigbench_backends.load("sim")
    session = backend.open(ModelFile(facts.name, None, "shape", reads), backend.Options(**options))
    session.prepare(users, workload.context_tokens)

    def run(purpose: str, prompt: int, output: int, requests: int) -> tuple[list[RequestRecord], str]:
        prompts = drive.token_prompts(VOCABULARY, prompt, f"{load.seed}/{part.name}/{repetition}/{purpose}")
        _, records, digest = drive.drive(session, drive.Load(users, requests, output, prompts))
        return _shaken(records, luck, noise), digest

    warmups: list[list[RequestRecord]] = []
    speeds: list[float] = []
    while len(warmups) < plan.warmup.max_rounds and not drive.is_steady(speeds, plan.warmup.tolerance):
        records, _ = run(f"warmup{len(warmups)}", plan.warmup.prompt_tokens, plan.warmup.output_tokens, 1)
        warmups.append(records)
        speeds.append(drive.round_tpot_us(records) or 0.0)
    records, digest = run("measure", part.prompt_tokens, part.output_tokens, load.requests_per_user)
    end = max(record.unit_us[-1] for record in records)
    warm, start = [], -10_000
    for one in reversed(warmups):
        length = max(record.unit_us[-1] for record in one) + 500
        start -= length
        warm = [_moved(record, start) for record in one] + warm
    phases = [PhaseMark("warmup", start - 200, -5_000), PhaseMark("measure", 0, end + 900)]
    first = start - 400
    if order == 0:
        phases = [
            PhaseMark("idle", first - round((IDLE_S + 2) * 1e6), first - 2_000_000),
            PhaseMark("load", first - 1_900_000, first),
            *phases,
        ]
        first -= round((IDLE_S + 2) * 1e6)
    readings = _readings(first, start, end + 1000, device, machine, engine, luck, at_s)
    peak = round(facts.dense_bytes * (1.2 if engine.device == "cpu" else 0.3) + 5e8)
    return CaseResult(
        case,
        order,
        at_s - start * 1e-6,
        0,
        digest,
        tuple(warm),
        len(warmups),
        drive.is_steady(speeds, plan.warmup.tolerance),
        tuple(records),
        tuple(phases),
        host_memory=HostMemory(peak, method="VmHWM, reset at the start of the case"),
        readings=readings,
        flags=reading_flags(readings, phases, machine.logical_cores or 1),
    )


def _shaken(records: list[RequestRecord], luck: random.Random, noise: float) -> list[RequestRecord]:
    """Every step a little longer or shorter, for all who were served in it alike."""
    stamps = sorted({at for record in records for at in (record.submit_us, *record.unit_us)})
    moved, now = {stamps[0]: stamps[0]}, float(stamps[0])
    for earlier, later in itertools.pairwise(stamps):
        now += (later - earlier) * luck.lognormvariate(noise, noise) + (1 if later > earlier else 0)
        moved[later] = round(now)
    return [
        replace(record, submit_us=moved[record.submit_us], unit_us=tuple(moved[at] for at in record.unit_us))
        for record in records
    ]


def _moved(record: RequestRecord, by_us: int) -> RequestRecord:
    return replace(record, submit_us=record.submit_us + by_us, unit_us=tuple(at + by_us for at in record.unit_us))


def _readings(
    first: int,
    start: int,
    end: int,
    device: hardware.Hardware,
    machine: Machine,
    engine: EngineInfo,
    luck: random.Random,
    at_s: float,
) -> tuple[Series, ...]:
    """Of the host, and of a board: its power rises when the case begins."""
    cores = machine.physical_cores if engine.device == "cpu" else 1
    assert cores is not None

    def series(name: str, unit: str, source: str, scope: str, method: str, period_us: int, value: Any) -> Series:
        times = tuple(at + luck.randrange(900) for at in range(first - period_us // 3, end + period_us, period_us))
        gpu = None if source == "host" else "gpu0"
        values = tuple(float(f"{value(at):.10g}") for at in times)
        return Series(name, unit, source, "made", scope, method, "ok", None, gpu, times, values)

    def busy(at: int) -> float:
        return 1000 + at_s * 0.5 * cores + max(0, at - first) * 1e-6 * cores * 0.97 + round(luck.random(), 2) * 0.02

    def ours(at: int) -> float:
        return 500 + at_s * 0.5 * cores + max(0, at - first) * 1e-6 * cores * 0.95

    power = device.power_w or 100.0
    all_requests = [
        series("cpu_busy", "s", "host", "host", "counter", 500_000, lambda at: round(busy(at), 2)),
        series("cpu_ours", "s", "host", "process", "counter", 500_000, lambda at: round(ours(at), 2)),
        series("swap_used", "B", "host", "host", "sampled", 500_000, lambda at: 0.0),
        series("rss", "B", "host", "process", "sampled", 500_000, lambda at: 4e8),
    ]
    if engine.device != "cpu":
        draws = luck.uniform(0.5, 0.9) * power
        all_requests += [
            series("power", "W", "nvml", "board", "sampled", 100_000,
                   lambda at: luck.gauss(draws if at > start else 0.1 * power, 0.02 * power)),
            series("clock", "Hz", "nvml", "board", "sampled", 500_000, lambda at: 1e6 * round(luck.gauss(2500, 10))),
            series("temperature", "degC", "nvml", "board", "sampled", 500_000, lambda at: round(luck.gauss(60, 1))),
        ]  # fmt: skip
    return tuple(all_requests)


def rederived(content: dict[str, Any]) -> dict[str, Any]:
    """The same with everything derived made again, as a careful forger would: predictions, summary, id."""
    document = store.parse(content, "made")
    document = replace(document, predictions=predictions(document))
    content["predictions"] = json.loads(json.dumps([asdict(each) for each in document.predictions]))
    content["summary"] = json.loads(json.dumps(summary(document)))
    content["id"] = store.content_id(content)
    return content
