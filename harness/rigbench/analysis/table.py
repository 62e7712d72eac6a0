"""A document's table: one row per case group (backend, model, workload, users), with a number per repetition of every metric.

Derived from raw records and from the stored predictions alone, so that anybody can recompute it; never read back. `show`,
`compare`, `regress`, the index and every export work on rows: nothing else of a document is needed for them.

    python -c "from rigbench.analysis.table import table; from rigbench.documents import store; import pathlib, sys; \
               print(*table(store.read(pathlib.Path(sys.argv[1]))), sep='\\n')" results/…/….json
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from rigbench.analysis import energy, flags, requests, stats
from rigbench.analysis.definitions import CEILINGS, METRICS, Metric, RowInput, case_values, metric, registry
from rigbench.analysis.requests import Repetition, Unknown
from rigbench.analysis.windows import points
from rigbench.records import CaseResult, Machine, Prediction, RunDocument, Series
from rigbench.telemetry.base import MEMORY_AVAILABLE, MEMORY_USED_PROCESS
from rigbench_backends.base import EngineInfo

PUBLISHED = "published"
"""The rule of the published tables: kept beside the prediction, to show where it fails."""
DETAIL = ("values", "phase_joules", "percentiles", "reasons")
"""Fields that are not columns of a table of many documents (`values` are, one by one)."""
Samples = dict[str, tuple[float, ...]]
"""Numbers by metric, one for each repetition that knows it."""
IDENTITY = ("group", "backend", "model", "workload", "concurrency", "repetitions")


@dataclass(frozen=True, slots=True)
class Row:
    """One case group of one document.

    `row["user_tps"]` is the number of that metric (None where it is unknown, with the reason in `reasons`), `samples[name]` has
    one number per repetition that knows it (a metric that none knows is not there), `interval(name)` says how sure the number is.
    `work`, `options` and `load` are canonical JSON: what a request is (but for its name and kind), the engine's options, and how it
    was loaded (requests per user, duration, warm-up, seed). `prompts_sha256` is of the first repetition's prompts, None where their
    order is not given by the load alone.
    `level` is how far the document holds (documents/validate; None: nobody looked), `measurement` the hash of all its raw times,
    the same for every copy of one run (None for the simulator, whose runs are all alike).
    `imported` names the tool whose figures these are, None for what rigbench measured itself. `evidence` has the sentence of each
    flag. A row that was read from an index has no percentiles and reasons.
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
    prompt_tokens: int | None
    output_tokens: int | None
    concurrency: int
    options: str
    load: str
    prompts_sha256: str | None
    repetitions: int
    flags: tuple[str, ...]
    error: str | None
    rigbench_version: str
    imported: str | None = None
    level: str | None = None
    measurement: str | None = None
    complete: bool = True
    cpu: str = ""
    memory_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    predictor: str | None = None
    power_scope: str | None = None
    memory_method: str | None = None
    memory_phase: str | None = None
    work: str = ""
    samples: Samples = field(default_factory=dict)
    values: dict[str, float | None] = field(default_factory=dict)
    phase_joules: dict[str, float | None] = field(default_factory=dict)
    percentiles: dict[str, dict[str, float | None]] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        """The number of a metric."""
        return self.values.get(name)

    def interval(self, name: str) -> stats.Estimate | None:
        """The median of a metric's samples with its interval; None without samples."""
        return stats.estimate(self.samples.get(name, ()))


COLUMNS = tuple(each for each in fields(Row) if each.name not in DETAIL)


def table(document: RunDocument, metrics: Sequence[Metric] | None = None) -> list[Row]:
    """The rows, in the order in which the groups first ran. `metrics`: all of the registry unless given.
    A group of which nothing was measured has no samples and an `error`."""
    metrics = registry() if metrics is None else metrics
    predictions: dict[str, dict[str, Prediction]] = {}
    for prediction in document.predictions:
        predictions.setdefault(prediction.group, {})[prediction.predictor] = prediction
    idle = {place: energy.idle_energies(document.cases, place) for place in range(len(document.engines))}
    available = {
        result.engine: max(left)
        for result in reversed(document.cases)
        for mark in result.phases
        if mark.name == "idle" and (left := _available(result, mark.end_us))
    }
    groups: dict[str, list[CaseResult]] = {}
    for result in document.cases:
        groups.setdefault(result.case.group, []).append(result)
    rows = [
        _row(document, results, predictions.get(group, {}), idle, available, metrics)
        for group, results in groups.items()
    ]
    measurement = fingerprint(document)
    return [replace(row, measurement=measurement) for row in rows]


def fingerprint(document: RunDocument) -> str | None:
    """The hash of all raw times: the same for every copy of one measurement, whatever else was changed in it. None for the
    simulator, whose times are the same in every run, and where nothing was measured."""
    real = {place for place, engine in enumerate(document.engines) if engine.device != "sim"}
    measured = [record for result in document.cases if result.engine in real for record in result.requests]
    digest = hashlib.sha256()
    for record in measured:
        digest.update(array("q", (record.submit_us, *record.unit_us)).tobytes())
    return digest.hexdigest() if measured else None


def summary(document: RunDocument) -> tuple[dict[str, Any], ...]:
    """The rows as the document stores them."""
    return contents(table(document, METRICS))


def contents(rows: Sequence[Row]) -> tuple[dict[str, Any], ...]:
    """Rows as a document stores them: without the metrics of third parties, so that they are the same everywhere."""
    others = {each.name for each in registry()} - {each.name for each in METRICS}
    own = [replace(row, reasons={name: why for name, why in row.reasons.items() if name not in others}) for row in rows]
    return tuple(content(row, METRICS) for row in own)


def content(row: Row, metrics: Sequence[Metric] | None = None) -> dict[str, Any]:
    """A row as `show --json` has it, in plain JSON types."""
    metrics = registry() if metrics is None else metrics
    intervals = {}
    for each in metrics:
        if each.join is statistics.median and (interval := row.interval(each.name)) is not None:
            intervals[each.name] = {
                "low": interval.low,
                "high": interval.high,
                "method": interval.method,
                "n": interval.n,
            }
    numbers = {each.name: row[each.name] for each in metrics if each.of(row.workload_kind)}
    rest = {
        name: getattr(row, name)
        for name in ("power_scope", "memory_method", "phase_joules", "predictor", "flags", "error")
    }
    if row.memory_phase:
        rest["memory_phase"] = row.memory_phase
    why = {"percentiles": row.percentiles, "evidence": row.evidence, "reasons": row.reasons}
    identity: dict[str, Any] = {name: getattr(row, name) for name in IDENTITY} | json.loads(row.work)
    return identity | numbers | rest | {"intervals": intervals} | why


def record(row: Row) -> dict[str, Any]:
    """A row as one line of a table of many documents, in plain JSON types: the columns of the index."""
    line = {column(each.name): getattr(row, each.name) for each in COLUMNS}
    return line | {each.name: row[each.name] for each in registry()}


def column(name: str) -> str:
    """What a field of Row is called in a table of many documents: `group` would have to be quoted in SQL."""
    return {"group": "case_group", "samples": "metrics"}.get(name, name)


def from_record(line: Mapping[str, Any]) -> Row:
    """A Row from such a line: every field by its name, lists as tuples, unknown columns left out."""
    known = {each.name: line[column(each.name)] for each in fields(Row) if column(each.name) in line}
    for name in ("power_limits_w", "device_names", "flags", "gpus"):
        known[name] = tuple(known.get(name) or ())
    samples = known.get("samples") or {}
    known["samples"] = {name: tuple(values) for name, values in samples.items() if values is not None and len(values)}
    for name in ("drivers", "evidence"):
        known[name] = {key: text for key, text in (known.get(name) or {}).items() if text is not None}
    return Row(**known, values={each.name: line.get(each.name) for each in registry()})


def _row(
    document: RunDocument,
    results: Sequence[CaseResult],
    predictions: Mapping[str, Prediction],
    idle: Mapping[int, tuple[energy.Energy, ...]],
    available: Mapping[int | None, float],
    metrics: Sequence[Metric],
) -> Row:
    case, machine = results[0].case, document.machine
    metrics = [each for each in metrics if each.of(case.workload.kind)]
    measured = []
    for result in results:
        place = result.engine
        if result.requests and place is not None:
            where = place_of(document.machine, document.engines[place], result.readings)
            share = document.engines[place].device_share
            measured.append(Repetition(result, where, share, idle[place], available.get(place)))
        elif result.requests:
            measured.append(Repetition(result))
    samples, reasons = _samples(measured, metrics)
    imported = document.annotations.get("imported")
    if isinstance(imported, dict):
        samples = imported_figures(imported, case.group)
    published = predictions.get(PUBLISHED)
    prediction = next((each for name, each in predictions.items() if name != PUBLISHED), published)
    others: dict[str, float | None] = dict.fromkeys((each.name for each in registry()), None)
    values = others | _values(samples, RowInput({}, prediction, published), metrics, reasons)
    own = [(*one.result.flags, *flags.request_flags(one)) for one in measured]
    evidence = {flag.name: flag.evidence for each in reversed(own) for flag in each}
    for rate, ceiling in {"prefill_tps": "prefill_ceiling_tps", **CEILINGS}.items():
        of_row = flags.row_flags(samples.get(rate, ()), values.get(ceiling), rate, metric(rate).unit)
        evidence |= {flag.name: flag.evidence for flag in of_row}
    model = next((facts for facts in document.models if facts.name == case.model), None)
    ran_on = [document.engines[result.engine] for result in results if result.engine is not None]
    engine = ran_on[0] if ran_on else EngineInfo(case.backend, "", "")
    failures = [result.error for result in results if result.error is not None]
    powers = [one.power for one in measured]
    memories = [one.memory for one in measured if one.memory is not None]
    load = {name: getattr(case, name) for name in ("requests_per_user", "duration_s", "seed")}
    work = {name: value for name, value in asdict(case.workload).items() if name not in ("name", "kind")}
    same_name = (
        (document, ("created_utc", "rigbench_version", "complete")),
        (machine, ("os", "kernel", "drivers", "cpu", "memory_bytes")),
        (case, ("backend", "model", "group", "concurrency")),
        (engine, ("engine", "device", "device_names")),
    )
    return Row(
        **{name: getattr(source, name) for source, names in same_name for name in names},
        document_id=document.id,
        machine_id=machine.id,
        power_limits_w=tuple(gpu.get("power_limit_w") for gpu in machine.gpus),
        engine_version=engine.version,
        engine_build=engine.build,
        model_sha256=model.sha256 if model else None,
        model_sha256_of=model.sha256_of if model else None,
        quantization=model.quantization if model else None,
        synthetic=bool(model and model.synthetic),
        suite=document.suite.name,
        suite_version=document.suite.version,
        suite_sha256=document.suite.sha256,
        workload=case.workload.name,
        workload_kind=case.workload.kind,
        work=_canonical(work),
        prompt_tokens=work.get("prompt_tokens"),
        output_tokens=work.get("output_tokens"),
        options=_canonical(case.options),
        load=_canonical(load | {"warmup": document.suite.content.get("warmup")}),
        prompts_sha256=_prompts(measured),
        repetitions=len(measured) or max(map(len, samples.values()), default=0),
        flags=tuple(evidence),
        error=str(failures[0]) if failures else None,
        imported=str(imported.get("from", "unknown")) if isinstance(imported, dict) else None,
        gpus=tuple(str(gpu.get("name")) for gpu in machine.gpus),
        predictor=prediction.predictor if prediction else None,
        power_scope=next((power.scope for power in reversed(powers) if power.scope), None),
        memory_method=max(memories, key=lambda each: each.size).method if memories else None,
        memory_phase=_memory_phase(measured),
        samples=samples,
        values=values,
        phase_joules=energy.phase_joules(powers),
        percentiles=requests.percentiles(measured),
        evidence=evidence,
        reasons=reasons,
    )


def place_of(machine: Machine, engine: EngineInfo, readings: Sequence[Series]) -> energy.Place:
    """Where an engine computes. Its devices have the PCI addresses that it gives; else they are those on which its processes hold
    memory; else those that bear its names."""
    gpus = [gpu for gpu in machine.gpus if gpu.get("device")]
    by_bus = {gpu["device"] for gpu in gpus if gpu.get("bus_id") in engine.bus_ids}
    series = (each for each in readings if each.name == MEMORY_USED_PROCESS.name)
    by_process = {each.device for each in series if any(value for _, value in points(each))}
    names = [name.lower() for name in engine.device_names]
    by_name = {gpu["device"] for gpu in gpus if any(str(gpu.get("name")).lower() in name for name in names)}
    mine = frozenset(by_bus or by_process or by_name) or None
    used = [gpu for gpu in gpus if mine is None or gpu["device"] in mine]
    integrated = engine.device != "cpu" and bool(used) and all(gpu.get("integrated") for gpu in used)
    return energy.Place(engine.device, mine, integrated)


def _available(result: CaseResult, until_us: int) -> list[float]:
    """Readings of the memory that the host had to give, up to that moment."""
    series = [each for each in result.readings if each.name == MEMORY_AVAILABLE.name]
    return [value for each in series for at, value in points(each) if at <= until_us]


def _memory_phase(measured: Sequence[Repetition]) -> str | None:
    """In which part of its work the engine had its peak of device memory, in the repetition of the highest."""
    accounts = [one.result.engine_memory for one in measured if one.result.engine_memory]
    highest = max(accounts, key=lambda each: each.device_peak_bytes or 0, default=None)
    return highest.device_peak_phase if highest else None


def _samples(measured: Sequence[Repetition], metrics: Sequence[Metric]) -> tuple[Samples, dict[str, str]]:
    """(numbers of each metric, one per repetition that knows it, reasons of the others)."""
    samples: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    for one in measured:
        numbers, why = case_values(one, metrics)
        for name, value in numbers.items():
            samples.setdefault(name, []).append(value)
        reasons |= why
        if one.result.error is not None:
            reasons["case"] = f"{one.result.error.kind}: {one.result.error.message}"
    unknown = {name: reason for name, reason in reasons.items() if name not in samples}
    return {name: tuple(numbers) for name, numbers in samples.items()}, unknown


def _values(
    samples: Samples, row: RowInput, metrics: Sequence[Metric], reasons: dict[str, str]
) -> dict[str, float | None]:
    """The row's number of each metric; a reason is added for each that is unknown."""
    values: dict[str, float | None] = {
        each.name: each.join(samples[each.name]) if each.name in samples else None for each in metrics
    }
    row = replace(row, values=values)
    for each in metrics:
        value = values[each.name] if each.of_row is None else each.of_row(row)
        values[each.name] = None if isinstance(value, Unknown) else value
        if isinstance(value, Unknown):
            reasons[each.name] = value.reason
        elif value is None and each.of_case is not None:
            reasons.setdefault(each.name, "not read")
    return values


def imported_figures(imported: Mapping[str, Any], group: str) -> Samples:
    """Another tool's figures of a group, one per repetition (documents/exchange/importing.py)."""
    metrics = imported.get("metrics")
    figures = metrics.get(group) if isinstance(metrics, dict) else None
    if not isinstance(figures, dict):
        return {}
    known = {each.name for each in METRICS}
    good = {}
    for name, values in figures.items():
        if name in known and isinstance(values, list):
            good[name] = tuple(each for each in values if isinstance(each, int | float) and 0 < each < math.inf)
    return {name: values for name, values in good.items() if values}


def _prompts(measured: Sequence[Repetition]) -> str | None:
    """Above one user, who is the first to send a second request is not given, so neither is the order of the prompts."""
    if not measured or measured[0].result.case.repetition != 0:
        return None
    case = measured[0].result.case
    fixed = case.duration_s is None and (case.concurrency == 1 or case.requests_per_user == 1)
    return measured[0].result.prompts_sha256 if fixed else None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
