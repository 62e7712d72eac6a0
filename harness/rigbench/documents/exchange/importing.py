"""Figures of other tools as result documents that can be compared and no more.

There are no raw records behind them, so such a document holds its figures in `annotations.imported` (`from`, `metrics` by
case group, one number per repetition), its cases have no requests, and `validate`, `compare` and `show` say `imported`.
Which figure of a tool is which of ours is in the docstrings of `engines` and `servers`.

What differs in any setting is another case, which the group's name tells as a suite does (`MODEL+n_gpu_layers=99`);
another machine, build, version, device or day is another document. What a file does not tell is unknown.
Names in it are kept as names: a path is cut down to its last part, for it is nobody's business.

    rigbench import runs.json && rigbench compare before.json after.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench import __version__
from rigbench.clock import utc_now
from rigbench.documents import bounds, store
from rigbench.documents.exchange import engines, forms, servers
from rigbench.documents.exchange.entry import UNKNOWN, Entry, Figure
from rigbench.errors import InputError
from rigbench.paths import slug
from rigbench.records import SCHEMA_VERSION, Case, CaseResult, Machine, RunDocument, SuiteRecord
from rigbench_backends.base import EngineInfo

MAX_BYTES = 256 * 2**20
"""guidellm and `vllm bench serve --save-detailed` write every request into the file."""
KNOWN = (
    "llama-bench (json, jsonl, csv, sql, md), llama-batched-bench (jsonl), mlx_lm.benchmark (what it prints), vllm bench serve, "
    "SGLang's bench_serving, guidellm (json, yaml), aiperf (json, csv, jsonl) and llama-benchy (json, csv, md)"
)
Reader = Callable[[Entry], Iterator[Figure | str]]


@dataclass(frozen=True, slots=True)
class Imported:
    """Documents made of one file (one per machine that it names), and what was left out with the reason."""

    documents: tuple[RunDocument, ...]
    left_out: tuple[str, ...]


def read(path: Path, machine: str | None = None) -> Imported:
    """The documents of `path`. `machine` names the machine where the file does not. InputError with the entry that is wrong."""
    try:
        data, fault = bounds.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise InputError(f"no file to import at {path}: {error.strerror}") from error
    if fault is not None:
        raise InputError(f"{path}: {fault.message}")
    try:
        text = data.decode("utf-8")
    except ValueError as error:
        raise InputError(f"{path} is no text; known are {KNOWN}") from error
    entries, cut = forms.entries(text)
    documents: dict[tuple[str, ...], list[Figure]] = {}
    left: list[str] = []
    for number, content in enumerate(entries):
        where = f"{path}: [{number}]"
        reader = _reader(content if isinstance(content, dict) else {})
        if reader is None:
            raise InputError(f"{where} is of no tool that is known: {KNOWN}")
        for one in reader(Entry(content, where)):
            if isinstance(one, str):
                left.append(f"[{number}]: {one}")
                continue
            place = machine or one.machine or UNKNOWN
            key = (one.tool, one.tool_version, place, one.engine.version, one.engine.device, one.created_utc[:10])
            documents.setdefault(key, []).append(one)
    if not entries:
        damaged = ", and is cut off or damaged" if cut else ""
        raise InputError(f"{path} holds no results in a form that is known{damaged}: {KNOWN}")
    if cut:
        left.append(f"what comes after {len(entries)} whole entries: it is cut off or damaged")
    differing = _differing([figure for figures in documents.values() for figure in figures])
    digest = hashlib.sha256(data).hexdigest()
    whole = (_document(figures, key[2], differing, digest) for key, figures in documents.items())
    return Imported(tuple(whole), tuple(left))


def _reader(content: dict[str, Any]) -> Reader | None:
    """Who can read an object, by the fields that it has."""
    keys = content.keys()
    for fields, reader in (
        ({"model_filename", "n_prompt", "n_gen", "avg_ts"}, engines.llama_bench),
        ({"is_pp_shared", "pp", "tg", "pl", "t_tg", "speed_tg"}, engines.batched),
        ({"prompt_tokens", "generation_tokens", "batch_size", "trials"}, engines.mlx_benchmark),
        ({"output_throughput", "completed", "model_id"}, servers.vllm_serve),
        ({"output_throughput", "completed", "random_input_len"}, servers.vllm_serve),
        ({"output_throughput", "completed", "dataset_name"}, servers.vllm_serve),
        ({"avg_latency", "latencies"}, servers.vllm_latency),
        ({"tokens_per_second", "total_num_tokens"}, servers.vllm_throughput),
        ({"benchmarks", "latency_mode"}, servers.llama_benchy),
        ({"benchmarks", "prefix_caching_enabled"}, servers.llama_benchy),
        ({"concurrency", "context_size", "prompt_size", "response_size"}, servers.llama_benchy),
        ({"benchmarks"}, servers.guidellm),
        ({"request_latency", "request_throughput"}, servers.aiperf),
        ({"aiperf_records"}, servers.aiperf_records),
    ):
        if fields <= keys:
            return reader
    return None


def _differing(figures: Sequence[Figure]) -> dict[tuple[str, str], list[str]]:
    """Of each (backend, model): the settings in which the file's tests differ."""
    twins: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for figure in figures:
        twins.setdefault((figure.backend, figure.model), []).append(figure.settings)
    return {
        pair: [
            name
            for name in dict.fromkeys(name for each in settings for name in each)
            if len({json.dumps(each.get(name)) for each in settings}) > 1
        ]
        for pair, settings in twins.items()
    }


def _case(figure: Figure, differing: Sequence[str]) -> Case:
    settings = figure.settings
    label = "".join(f"+{name}={json.dumps(settings[name])}" for name in differing if name in settings)
    group = f"{figure.backend}/{figure.model}{label.replace('/', '_')}/{figure.workload.name}/c{figure.users}"
    return Case(
        id=f"{group}/r0",
        group=group,
        backend=figure.backend,
        model=figure.model,
        workload=figure.workload,
        concurrency=figure.users,
        requests_per_user=max(1, figure.requests // figure.users),
        repetition=0,
        seed=0,
        duration_s=figure.duration_s,
        options=figure.options,
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


def _document(
    figures: Sequence[Figure], place: str, differing: dict[tuple[str, str], list[str]], source_sha256: str
) -> RunDocument:
    first = figures[0]
    engines: list[EngineInfo] = []
    cases: dict[str, CaseResult] = {}
    metrics: dict[str, dict[str, list[float]]] = {}
    started_s = 0.0
    for figure in figures:
        if figure.engine not in engines:
            engines.append(figure.engine)
        case = _case(figure, differing[figure.backend, figure.model])
        cases.setdefault(case.group, CaseResult(case, len(cases), started_s, engine=engines.index(figure.engine)))
        # the same test again is another repetition
        values_by_name = metrics.setdefault(case.group, {})
        for name, values in figure.metrics.items():
            values_by_name.setdefault(name, []).extend(values)
        started_s += figure.seconds
    workloads = sorted({result.case.workload.name for result in cases.values()})
    content = {"imported_from": first.tool, "workloads": workloads}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    imported: dict[str, Any] = {"from": first.tool, "source_sha256": source_sha256, "metrics": metrics}
    if definitions := {name: text for figure in figures for name, text in figure.definitions.items()}:
        imported["definitions"] = definitions
    if first.tool_version:
        imported["version"] = first.tool_version
    notes = [figure.note for figure in figures] + [
        None if first.created_utc else "the file tells no date: it is that of the import"
    ]
    if remarks := list(dict.fromkeys(filter(None, notes))):
        imported["note"] = "; ".join(remarks)
    return store.with_id(
        RunDocument(
            schema_version=SCHEMA_VERSION,
            id="",
            rigbench_version=__version__,
            created_utc=first.created_utc or utc_now(),
            duration_s=started_s,
            suite=SuiteRecord(slug(first.tool), "imported", hashlib.sha256(canonical.encode()).hexdigest(), content),
            machine=_machine(place, first.cpu, first.gpu),
            engines=tuple(engines),
            models=(),
            bandwidth=(),
            cases=tuple(cases.values()),
            annotations={"imported": imported},
        )
    )
