"""Figures of other tools as result documents that can be compared and no more: `llama-bench -o json|jsonl`, and what
`vllm bench serve --save-result` writes.

There are no raw records behind them, so such a document holds its figures in `annotations.imported` (`from`, `metrics` by
case group, one number per repetition), its cases have no requests, and `validate`, `compare` and `show` say `imported`.

    llama-bench        pp -> prefill_tps, tg -> user_tps and output_tps (one user: the same); a number per repetition
    vllm bench serve   tpot_s, ttft_s, latency_s: its medians over the requests; user_tps = 1 / tpot_s
                       output_tps: all tokens / whole duration, ramp-up and tail included (ours: steady window only)

Names in it are kept as names: a path is cut down to its last part, for it is nobody's business.

    rigbench import runs.json && rigbench compare before.json after.json
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rigbench import __version__
from rigbench.clock import utc_now
from rigbench.documents import bounds, store
from rigbench.documents.exchange.export import DEVICES
from rigbench.documents.exchange.export import LLAMA_BENCH as LLAMA_BENCH_FIELDS
from rigbench.errors import InputError
from rigbench.paths import slug
from rigbench.records import SCHEMA_VERSION, Case, CaseResult, Machine, RunDocument, SuiteRecord
from rigbench.text import last_part, printable
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo

TEXT_LETTERS = 200
LARGEST = 1e24
UNKNOWN = "unknown"
LLAMA_BENCH, VLLM = "llama-bench", "vllm bench serve"
_FIELDS = list(LLAMA_BENCH_FIELDS)
SETTINGS = (*_FIELDS[_FIELDS.index("n_batch") : _FIELDS.index("n_prompt")], "n_depth", "use_mmap")
"""Of a llama-bench entry: what goes into the case's options, so that two runs that differ in it are seen to."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Documents made of one file (one per machine that it names), and what was left out with the reason."""

    documents: tuple[RunDocument, ...]
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Figures:
    """What becomes one document."""

    tool: str
    machine: Machine
    created_utc: str
    note: str | None = None
    duration_s: float = 0.0
    engines: list[EngineInfo] = field(default_factory=list)
    cases: dict[str, CaseResult] = field(default_factory=dict)
    metrics: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, case: Case, engine: EngineInfo, metrics: dict[str, list[float]]) -> None:
        """One more test; one of the same group is another repetition of it."""
        if engine not in self.engines:
            self.engines.append(engine)
        result = CaseResult(case, len(self.cases), self.duration_s, engine=self.engines.index(engine))
        self.cases.setdefault(case.group, result)
        figures = self.metrics.setdefault(case.group, {})
        for name, values in metrics.items():
            figures.setdefault(name, []).extend(values)


def read(path: Path, machine: str | None = None) -> Imported:
    """The documents of `path`. `machine` names the machine where the file does not. InputError with the entry that is wrong."""
    try:
        data, fault = bounds.read_bytes(path)
    except OSError as error:
        raise InputError(f"no file to import at {path}: {error.strerror}") from error
    if fault is not None:
        raise InputError(f"{path}: {fault.message}")
    entries = _entries(data, path)
    if not entries:
        raise InputError(f"{path} holds no results")
    documents: dict[str, _Figures] = {}
    left: list[str] = []
    for number, entry in enumerate(entries):
        where = f"{path}: [{number}]"
        if isinstance(entry, dict) and {"model_filename", "n_prompt", "n_gen", "avg_ts"} <= entry.keys():
            reason = _llama_bench(_Entry(entry, where), documents, machine)
        elif isinstance(entry, dict) and {"model_id", "output_throughput", "completed"} <= entry.keys():
            reason = _vllm(_Entry(entry, where), documents, machine)
        else:
            raise InputError(f"{where} is neither of llama-bench (-o json) nor of vllm bench serve (--save-result)")
        if reason:
            left.append(f"[{number}]: {reason}")
    digest = hashlib.sha256(data).hexdigest()
    return Imported(tuple(_document(one, digest) for one in documents.values() if one.cases), tuple(left))


def _llama_bench(entry: _Entry, documents: dict[str, _Figures], machine: str | None) -> str | None:
    prompt, generated, depth = entry.count("n_prompt"), entry.count("n_gen"), entry.count("n_depth")
    if bool(prompt) == bool(generated):
        return "prompt and generation in one figure tell neither rate" if prompt else "no tokens"
    mean = entry.number("avg_ts")
    rates = entry.positive("samples_ts") or ([mean] if mean and mean > 0 else [])
    if not rates:
        return "no figures"
    cpu, gpu = entry.text("cpu_info"), entry.text("gpu_info")
    place = machine or gpu or cpu or UNKNOWN
    if place not in documents:
        documents[place] = _Figures(LLAMA_BENCH, _machine(place, cpu, gpu), _utc(entry.text("test_time"))[0])
    figures = documents[place]
    figures.duration_s += (entry.number("avg_ns") or 0) / 1e9 * len(rates)
    names = {title: device for device, title in DEVICES.items()} | {"Metal": "metal"}
    devices = [names[word] for word in re.findall(r"\w+", entry.text("backends")) if word in names]
    build = f"b{entry.count('build_number')}" if entry.count("build_number") else ""
    commit = entry.text("build_commit")
    engine = EngineInfo(
        "llama.cpp",
        f"{build} ({commit})" if build and commit else build or commit,
        next((device for device in devices if device != "cpu"), "cpu" if devices else UNKNOWN),
        device_names=(gpu or cpu,) if gpu or cpu else (),
        weights_bytes=entry.count("model_size") or None,
        parameters=entry.count("model_n_params") or None,
        threads=entry.count("n_threads") or None,
        detail={"model_type": entry.text("model_type")},
    )
    model = re.sub(r"\.gguf$", "", last_part(entry.text("model_filename")), flags=re.IGNORECASE) or UNKNOWN
    name = (f"pp{prompt}" if prompt else f"tg{generated}") + (f"-d{depth}" if depth else "")
    workload = Generation(name, "tokens", prompt or depth, generated)
    case = _case("llama_cpp", model, workload, 1, 1, entry.settings(SETTINGS))
    figures.add(case, engine, {"prefill_tps": rates} if prompt else {"user_tps": rates, "output_tps": rates})
    return None


def _vllm(entry: _Entry, documents: dict[str, _Figures], machine: str | None) -> str | None:
    completed = entry.count("completed")
    if not completed:
        return "no request was completed"
    place = machine or UNKNOWN
    created, zoneless = _utc(entry.text("date"))
    note = "its date is the local time of the machine that ran it" if zoneless else None
    figures = documents.setdefault(place, _Figures(VLLM, _machine(place, "", ""), created, note))
    figures.duration_s += entry.number("duration") or 0
    rate = None if entry.content.get("request_rate") == "inf" else entry.number("request_rate")
    names = ("max_concurrency", "max_concurrent_requests", "num_prompts")
    users = next((count for count in map(entry.count, names) if count), completed)
    prompt, output = (round(entry.count(f"total_{kind}_tokens") / completed) for kind in ("input", "output"))
    options = entry.settings(("backend", "endpoint_type", "burstiness", "num_prompts"))
    if rate is not None:
        options["request_rate"] = rate
    name = f"serve-{prompt}-{output}" + (f"-{rate:g}-per-s" if rate is not None else "")
    model, workload = last_part(entry.text("model_id")) or UNKNOWN, Generation(name, "tokens", prompt, output)
    case = _case("vllm", model, workload, users, completed, options)
    metrics = {}
    for name, source in (("ttft_s", "median_ttft_ms"), ("tpot_s", "median_tpot_ms"), ("latency_s", "median_e2el_ms")):
        value = entry.number(source)
        if value and value > 0:
            metrics[name] = [value / 1e3]
    if "tpot_s" in metrics:
        metrics["user_tps"] = [1 / metrics["tpot_s"][0]]
    throughput = entry.number("output_throughput")
    if throughput and throughput > 0:
        metrics["output_tps"] = [throughput]
    if not metrics:
        return "no figures"
    figures.add(case, EngineInfo("vllm", entry.text("version"), UNKNOWN), metrics)
    return None


def _case(backend: str, model: str, workload: Generation, users: int, requests: int, options: dict[str, Any]) -> Case:
    group = f"{backend}/{model}/{workload.name}/c{users}"
    return Case(
        id=f"{group}/r0",
        group=group,
        backend=backend,
        model=model,
        workload=workload,
        concurrency=users,
        requests_per_user=max(1, requests // users),
        repetition=0,
        seed=0,
        options=options,
    )


def _machine(name: str, cpu: str, gpu: str) -> Machine:
    unknown: dict[str, Any] = dict.fromkeys(("physical_cores", "logical_cores", "memory_bytes"))
    unknown |= dict.fromkeys(("os", "kernel", "arch", "python"), UNKNOWN)
    return Machine(
        id=slug(name),
        cpu=cpu or UNKNOWN,
        gpus=tuple({"name": part.strip()} for part in gpu.split(",") if part.strip()),
        **unknown,
    )


def _document(figures: _Figures, source_sha256: str) -> RunDocument:
    workloads = sorted({result.case.workload.name for result in figures.cases.values()})
    content = {"imported_from": figures.tool, "workloads": workloads}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    imported: dict[str, Any] = {"from": figures.tool, "source_sha256": source_sha256, "metrics": figures.metrics}
    if figures.tool == VLLM:
        imported["definitions"] = {"output_tps": "all output tokens / whole duration, ramp-up and tail included"}
    if figures.note:
        imported["note"] = figures.note
    return store.with_id(
        RunDocument(
            schema_version=SCHEMA_VERSION,
            id="",
            rigbench_version=__version__,
            created_utc=figures.created_utc,
            duration_s=figures.duration_s,
            suite=SuiteRecord(slug(figures.tool), "imported", hashlib.sha256(canonical.encode()).hexdigest(), content),
            machine=figures.machine,
            engines=tuple(figures.engines),
            models=(),
            bandwidth=(),
            cases=tuple(figures.cases.values()),
            annotations={"imported": imported},
        )
    )


def _utc(text: str) -> tuple[str, bool]:
    """(`2026-01-31T12:00:00Z`, whether the text told no zone); the present where it tells no time at all."""
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y%m%d-%H%M%S"):
        try:
            return f"{datetime.strptime(text, form).isoformat(timespec='seconds')}Z", not form.endswith("Z")
        except ValueError:
            continue
    return utc_now(), False


def _entries(data: bytes, path: Path) -> list[Any]:
    """A JSON list, one object, or one object per line."""
    try:
        text = data.decode("utf-8")
        try:
            content = json.loads(text)
        except ValueError:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {str(error)[:200]}") from error
    return content if isinstance(content, list) else [content]


class _Entry:
    """One object of the file, read with its types checked and its texts made harmless."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content, self.where = content, where

    def text(self, name: str) -> str:
        """A short printable text; '' if it is missing."""
        value = self.content.get(name) or ""
        if not isinstance(value, str):
            raise InputError(f"{self.where}.{name}: not a text")
        return _plain(value)

    def number(self, name: str) -> float | None:
        """A finite number; None if it is missing."""
        value = self.content.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
            raise InputError(f"{self.where}.{name}: not a finite number")
        return value

    def count(self, name: str) -> int:
        """A whole number from 0 to 2**53; 0 if it is missing."""
        value = self.number(name) or 0
        if value != int(value) or not 0 <= value <= 2**53:
            raise InputError(f"{self.where}.{name}: not a count")
        return int(value)

    def positive(self, name: str) -> list[float]:
        """The numbers above 0 of a list; [] if it is missing."""
        values = self.content.get(name)
        if values is None:
            return []
        if not isinstance(values, list):
            raise InputError(f"{self.where}.{name}: not a list")
        numbers = [_Entry({name: value}, self.where).number(name) for value in values]
        return [value for value in numbers if value is not None and value > 0]

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain values by name, where they are there."""
        settings: dict[str, Any] = {}
        for name in names:
            value = self.content.get(name)
            if isinstance(value, str):
                settings[name] = _plain(value)
            elif isinstance(value, int | float) and -LARGEST < value < LARGEST:
                settings[name] = value
        return settings


def _plain(text: str) -> str:
    """Short, printable, on one line."""
    return printable(text[:TEXT_LETTERS], " ").strip()
