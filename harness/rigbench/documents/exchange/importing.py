"""Figures of other tools as result documents that can be compared and no more.

There are no raw records behind them, so such a document holds its figures in `annotations.imported` (`from`, `metrics` by
case group, one number per repetition), its cases have no requests, and `validate`, `compare` and `show` say `imported`.

    llama-bench          JSON, JSONL, CSV, SQL, Markdown: pp -> prefill_tps, tg -> user_tps and output_tps (one user: the same)
    llama-batched-bench  JSONL: user_tps = tg / t_tg, output_tps = speed_tg, prefill_tps = speed_pp of one user alone
    vllm bench serve     tpot_s, ttft_s, latency_s: its medians over the requests; user_tps = 1 / tpot_s
                         output_tps: all tokens / whole duration, ramp-up and tail included (ours: steady window only)
    SGLang bench_serving the same fields

What differs in any setting is another case, which the group's name tells as a suite does (`MODEL+n_gpu_layers=99`);
another machine, build, version, device or day is another document.
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
from rigbench.documents.exchange import forms
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
LLAMA_BENCH, BATCHED, VLLM, SGLANG = "llama-bench", "llama-batched-bench", "vllm bench serve", "sglang bench_serving"
KNOWN = (
    "llama-bench (json, jsonl, csv, sql, md), llama-batched-bench (jsonl), vllm bench serve and SGLang's bench_serving"
)
_FIELDS = list(LLAMA_BENCH_FIELDS)
SETTINGS = (*_FIELDS[_FIELDS.index("n_batch") : _FIELDS.index("n_prompt")], "n_depth", "use_mmap")
"""Of an entry of llama-bench: what goes into the case's options, so that two runs that differ in it are seen to."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Documents made of one file (one per machine that it names), and what was left out with the reason."""

    documents: tuple[RunDocument, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Test:
    """One figure of the file: what ran, with which settings, and its metrics."""

    backend: str
    model: str
    workload: Generation
    users: int
    requests: int
    options: dict[str, Any]
    engine: EngineInfo
    metrics: dict[str, list[float]]
    seconds: float
    distinction: dict[str, Any] = field(default_factory=dict)
    """Beside the options: what makes it another case."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes it another case, but for what the workload's name tells."""
        return {name: value for name, value in (self.options | self.distinction).items() if name != "n_depth"}


@dataclass(slots=True)
class _Figures:
    """What becomes one document."""

    tool: str
    machine: Machine
    created_utc: str
    note: str | None = None
    tests: list[_Test] = field(default_factory=list)


def read(path: Path, machine: str | None = None) -> Imported:
    """The documents of `path`. `machine` names the machine where the file does not. InputError with the entry that is wrong."""
    try:
        data, fault = bounds.read_bytes(path)
    except OSError as error:
        raise InputError(f"no file to import at {path}: {error.strerror}") from error
    if fault is not None:
        raise InputError(f"{path}: {fault.message}")
    try:
        entries, cut = forms.entries(data.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no text; known are {KNOWN}") from error
    documents: dict[tuple[str, ...], _Figures] = {}
    left: list[str] = []
    for number, content in enumerate(entries):
        where = f"{path}: [{number}]"
        keys = content.keys() if isinstance(content, dict) else set()
        if {"model_filename", "n_prompt", "n_gen", "avg_ts"} <= keys:
            reason = _llama_bench(_Entry(content, where), documents, machine)
        elif {"is_pp_shared", "pp", "tg", "pl", "t_tg", "speed_tg"} <= keys:
            reason = _batched(_Entry(content, where), documents, machine)
        elif {"output_throughput", "completed"} <= keys and {"model_id", "random_input_len", "dataset_name"} & keys:
            reason = _serving(_Entry(content, where), documents, machine)
        elif {"avg_latency", "latencies"} <= keys:
            reason = "of vllm bench latency, which writes neither the model nor the lengths"
        elif {"tokens_per_second", "total_num_tokens"} <= keys:
            reason = "of vllm bench throughput, whose one rate is of prompts and answers together"
        else:
            raise InputError(f"{where} is of no tool that is known: {KNOWN}")
        if reason:
            left.append(f"[{number}]: {reason}")
    if not entries:
        raise InputError(f"{path} holds no results in a form that is known: {KNOWN}")
    if cut:
        left.append(f"what comes after {len(entries)} whole entries: it is cut off or damaged")
    differing = _differing([test for one in documents.values() for test in one.tests])
    digest = hashlib.sha256(data).hexdigest()
    return Imported(tuple(_document(one, differing, digest) for one in documents.values()), tuple(left))


def _differing(tests: Sequence[_Test]) -> dict[tuple[str, str], list[str]]:
    """Of each (backend, model): the settings in which the file's tests differ."""
    twins: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for test in tests:
        twins.setdefault((test.backend, test.model), []).append(test.settings)
    return {
        pair: [
            name
            for name in dict.fromkeys(name for each in settings for name in each)
            if len({json.dumps(each.get(name)) for each in settings}) > 1
        ]
        for pair, settings in twins.items()
    }


def _llama_bench(entry: _Entry, documents: dict[tuple[str, ...], _Figures], machine: str | None) -> str | None:
    prompt, generated, depth = entry.count("n_prompt"), entry.count("n_gen"), entry.count("n_depth")
    if bool(prompt) == bool(generated):
        return "prompt and generation in one figure tell neither rate" if prompt else "no tokens"
    mean = entry.number("avg_ts")
    rates = entry.positive("samples_ts") or ([mean] if mean and mean > 0 else [])
    if not rates:
        return "no figures"
    cpu, gpu = entry.text("cpu_info"), entry.text("gpu_info")
    place = machine or gpu or cpu or UNKNOWN
    names = {title: device for device, title in DEVICES.items()} | {"Metal": "metal"}
    devices = [names[word] for word in re.findall(r"\w+", entry.text("backends")) if word in names]
    # before 2024 it wrote a switch for each backend
    devices = devices or [device for device in DEVICES if entry.content.get(device) is True]
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
    model = (
        re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", last_part(entry.text("model_filename")), flags=re.IGNORECASE)
        or UNKNOWN
    )
    name = (f"pp{prompt}" if prompt else f"tg{generated}") + (f"-d{depth}" if depth else "")
    workload = Generation(name, "tokens", prompt or depth, generated)
    metrics = {"prefill_tps": rates} if prompt else {"user_tps": rates, "output_tps": rates}
    seconds = (entry.number("avg_ns") or 0) / 1e9 * len(rates)
    size = {"model_size": entry.count("model_size")} if entry.count("model_size") else {}
    created = _utc(entry.text("test_time"))[0]
    key = (place, engine.version, engine.device, created[:10])
    figures = documents.setdefault(key, _Figures(LLAMA_BENCH, _machine(place, cpu, gpu), created))
    options = entry.settings(SETTINGS)
    figures.tests.append(_Test("llama_cpp", model, workload, 1, 1, options, engine, metrics, seconds, size))
    return None


def _batched(entry: _Entry, documents: dict[tuple[str, ...], _Figures], machine: str | None) -> str | None:
    prompt, generated, users = entry.count("pp"), entry.count("tg"), entry.count("pl")
    seconds, rate = entry.number("t_tg") or 0, entry.number("speed_tg") or 0
    if not (users and generated and seconds > 0 and rate > 0):
        return "no figures of a generation"
    metrics = {"user_tps": [generated / seconds], "output_tps": [rate]}
    prefill = entry.number("speed_pp") or 0
    if users == 1 and prompt and prefill > 0:
        metrics["prefill_tps"] = [prefill]
    place = machine or UNKNOWN
    threads = entry.count("n_threads") or None
    names = ("n_kv_max", "n_batch", "n_ubatch", "flash_attn", "is_pp_shared", "n_gpu_layers", "n_threads")
    options = entry.settings((*names, "n_threads_batch"))
    note = "the file tells neither model nor build nor date"
    figures = documents.setdefault((place,), _Figures(BATCHED, _machine(place, "", ""), utc_now(), note))
    workload = Generation(f"pp{prompt}-tg{generated}", "tokens", prompt, generated)
    engine = EngineInfo("llama.cpp", "", UNKNOWN, threads=threads)
    total = entry.number("t") or seconds
    figures.tests.append(_Test("llama_cpp", UNKNOWN, workload, users, users, options, engine, metrics, total))
    return None


_RESULT = re.compile(
    r"(mean|median|std|p\d+|max)_|(duration|completed|failed|errors|concurrency|accept_length|rtfx|goodput)\b|.*(throughput|_goodput)$"
    r"|total_|(date|version|label|tag|model_id|request_rate|server_info)$|max_(output_tokens_per_s|concurrent_requests)$"
)
"""Keys of a serving benchmark that are results or names; the others are settings, `--metadata` of its user too."""


def _serving(entry: _Entry, documents: dict[tuple[str, ...], _Figures], machine: str | None) -> str | None:
    """vLLM's `bench serve`, and SGLang's bench_serving, which descends from it and names no model."""
    completed = entry.count("completed")
    if not completed:
        return "no request was completed"
    vllm = "model_id" in entry.content
    place = machine or UNKNOWN
    stated = entry.content.get("request_rate")
    rate = None if stated in ("inf", "trace", float("inf")) else entry.number("request_rate")
    names = ("max_concurrency", "max_concurrent_requests", "num_prompts")
    users = next((count for count in map(entry.count, names) if count), completed)
    prompt, output = (round(entry.count(f"total_{kind}_tokens") / completed) for kind in ("input", "output"))
    keys = [key for key in entry.content if key == "max_concurrency" or not _RESULT.match(key)]
    options = {
        name: last_part(value) if isinstance(value, str) else value
        for name, value in entry.settings([key[:TEXT_LETTERS] for key in keys if key != "max_concurrency"]).items()
    }
    if rate is not None:
        options["request_rate"] = rate
    name = f"serve-{prompt}-{output}" + (f"-{rate:g}-per-s" if rate is not None else "")
    workload = Generation(name, "tokens", prompt, output)
    metrics = {}
    for metric, sources in (
        ("ttft_s", ("median_ttft_ms",)),
        ("tpot_s", ("median_tpot_ms",)),
        ("latency_s", ("median_e2el_ms", "median_e2e_latency_ms")),
    ):
        value = next((value for value in map(entry.number, sources) if value), 0)
        if value > 0:
            metrics[metric] = [value / 1e3]
    if "tpot_s" in metrics:
        metrics["user_tps"] = [1 / metrics["tpot_s"][0]]
    throughput = entry.number("output_throughput")
    if throughput and throughput > 0:
        metrics["output_tps"] = [throughput]
    if not metrics:
        return "no figures"
    created, zoneless = _utc(entry.text("date"))
    note = "its date is the local time of the machine that ran it" if zoneless else None
    version = entry.text("version")
    tool = VLLM if vllm else SGLANG
    key = (tool, place, version, created[:10])
    figures = documents.setdefault(key, _Figures(tool, _machine(place, "", ""), created, note))
    model = last_part(entry.text("model_id")) or UNKNOWN
    engine = EngineInfo("vllm" if vllm else str(options.get("backend", "sglang")), version, UNKNOWN)
    backend = "vllm" if vllm else "openai_http"
    seconds = entry.number("duration") or 0
    figures.tests.append(_Test(backend, model, workload, users, completed, options, engine, metrics, seconds))
    return None


def _case(test: _Test, differing: Sequence[str]) -> Case:
    settings = test.settings
    label = "".join(f"+{name}={json.dumps(settings[name])}" for name in differing if name in settings)
    group = f"{test.backend}/{test.model}{label.replace('/', '_')}/{test.workload.name}/c{test.users}"
    return Case(
        id=f"{group}/r0",
        group=group,
        backend=test.backend,
        model=test.model,
        workload=test.workload,
        concurrency=test.users,
        requests_per_user=max(1, test.requests // test.users),
        repetition=0,
        seed=0,
        options=test.options,
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


def _document(figures: _Figures, differing: dict[tuple[str, str], list[str]], source_sha256: str) -> RunDocument:
    engines: list[EngineInfo] = []
    cases: dict[str, CaseResult] = {}
    metrics: dict[str, dict[str, list[float]]] = {}
    started_s = 0.0
    for test in figures.tests:
        if test.engine not in engines:
            engines.append(test.engine)
        case = _case(test, differing[test.backend, test.model])
        cases.setdefault(case.group, CaseResult(case, len(cases), started_s, engine=engines.index(test.engine)))
        # the same test again is another repetition
        values_by_name = metrics.setdefault(case.group, {})
        for name, values in test.metrics.items():
            values_by_name.setdefault(name, []).extend(values)
        started_s += test.seconds
    workloads = sorted({result.case.workload.name for result in cases.values()})
    content = {"imported_from": figures.tool, "workloads": workloads}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    imported: dict[str, Any] = {"from": figures.tool, "source_sha256": source_sha256, "metrics": metrics}
    if figures.tool in (VLLM, SGLANG):
        imported["definitions"] = {"output_tps": "all output tokens / whole duration, ramp-up and tail included"}
    if figures.note:
        imported["note"] = figures.note
    return store.with_id(
        RunDocument(
            schema_version=SCHEMA_VERSION,
            id="",
            rigbench_version=__version__,
            created_utc=figures.created_utc,
            duration_s=started_s,
            suite=SuiteRecord(slug(figures.tool), "imported", hashlib.sha256(canonical.encode()).hexdigest(), content),
            machine=figures.machine,
            engines=tuple(engines),
            models=(),
            bandwidth=(),
            cases=tuple(cases.values()),
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
