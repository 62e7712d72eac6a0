"""Documents in the forms that other tools take: CSV, Markdown, and what `llama-bench -o json` and `-o sql` write.

llama-bench knows two tests for one user, and one of our cases is both of them:
    pp P         prompt tokens / time            = prefill_tps per repetition
    tg N @ d P   generated tokens / time, behind a context of P tokens = user_tps per repetition
So cases of several users have no place in its form; `llama_bench` says which it leaves out.

    rigbench export results/*/*.json --format llama-bench-json -o runs.json
    compare-llama-bench.py --tool llama-bench -i runs.json
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from rigbench.analysis.definitions import registry
from rigbench.analysis.table import Row, record, table
from rigbench.records import ModelFacts, RunDocument
from rigbench.text import inert, markdown_table, printable
from rigbench_backends.base import EngineInfo

FORMATS = ("csv", "markdown", "llama-bench-json", "llama-bench-sql")
NO_LEVELS: Mapping[str, str] = MappingProxyType({})
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is a formula to a spreadsheet."""

# fmt: off
LLAMA_BENCH: dict[str, Any] = {
    "build_commit": "", "build_number": 0, "cpu_info": "", "gpu_info": "", "backends": "",
    "model_filename": "", "model_type": "", "model_size": 0, "model_n_params": 0,
    "n_batch": 2048, "n_ubatch": 512, "n_threads": 0, "cpu_mask": "0x0", "cpu_strict": False, "poll": 50,
    "type_k": "f16", "type_v": "f16", "n_gpu_layers": -1, "n_cpu_moe": 0, "split_mode": "layer", "main_gpu": 0,
    "no_kv_offload": False, "flash_attn": -1, "devices": "auto", "tensor_split": "0.00", "tensor_buft_overrides": "none",
    "load_mode": "auto", "lazy_mode": "auto", "embeddings": False, "no_op_offload": 0, "no_host": False, "repack": True,
    "fit_target": 0, "fit_min_ctx": 0, "n_prompt": 0, "n_gen": 0, "n_depth": 0, "test_time": "",
    "avg_ns": 0, "stddev_ns": 0, "avg_ts": 0.0, "stddev_ts": 0.0,
}
# fmt: on
"""llama-bench's fields in its order, with its defaults, which are those of our llama.cpp backend too. Tools join two runs where
all settings are equal, so a setting that another engine has not stays at its default rather than null."""
SETTINGS = ("n_batch", "n_ubatch", "type_k", "type_v", "n_gpu_layers", "split_mode", "main_gpu", "repack")
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
DEVICES = {"cpu": "CPU", "cuda": "CUDA", "metal": "MTL", "rocm": "ROCm", "vulkan": "Vulkan"}


def csv_text(documents: Sequence[RunDocument], levels: Mapping[str, str] = NO_LEVELS) -> str:
    """A line per case group: the columns of the index, SI units, lists and maps as JSON; empty where there is no figure.
    `levels` by the documents' ids."""
    import pandas as pd

    lines = [
        record(replace(row, level=levels.get(row.document_id))) for document in documents for row in table(document)
    ]
    return pd.DataFrame(lines, dtype=object).map(csv_cell).to_csv(index=False, lineterminator="\n")


def csv_cell(value: Any) -> str:
    """A value as a cell that a spreadsheet shows and does not run."""
    if value is None:
        return ""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    text = printable(value, " ")
    return f"'{text}" if value.startswith(FORMULA) else text


def markdown(documents: Sequence[RunDocument], levels: Mapping[str, str] = NO_LEVELS) -> str:
    """A table per document: one line per case group, medians over the repetitions and their number. `levels` as in csv_text."""
    metrics = [metric for metric in registry() if metric.priority is not None]
    numbers = ("users", "runs", *(metric.label for metric in metrics))
    lines = []
    for document in documents:
        title = f"{document.machine.id}, {document.suite.name} {document.suite.version}, {document.created_utc}"
        if document.id in levels:
            title += f", {levels[document.id]}"
        rows = []
        for row in table(document):
            what = (
                row.model,
                row.engine_version or row.engine,
                row.workload,
                str(row.concurrency),
                str(row.repetitions),
            )
            columns = (metric.text(row[metric.name]) for metric in metrics)
            rows.append((*what, *columns, ", ".join(row.flags) or row.error or ""))
        table_lines = markdown_table(("model", "engine", "workload", *numbers, "flags"), rows, right=numbers)
        lines += [f"### {inert(title)}\n", *table_lines, ""]
    return "\n".join(lines)


def llama_bench(documents: Sequence[RunDocument]) -> tuple[list[dict[str, Any]], list[str]]:
    """(entries as `llama-bench -o json` has them, groups that have no place there with the reason)."""
    entries: list[dict[str, Any]] = []
    left: list[str] = []
    for document in documents:
        for row in table(document):
            prefill, decode = row.samples.get("prefill_tps", ()), row.samples.get("user_tps", ())
            if row.concurrency != 1:
                left.append(f"{row.group}: llama-bench has no case of {row.concurrency} users")
                continue
            if not prefill and not decode:
                left.append(f"{row.group}: {row.error or 'no figures'}")
            if row.prompt_tokens is None or row.output_tokens is None:
                left.append(f"{row.group}: llama-bench has no case of kind {row.workload_kind}")
                continue
            options = json.loads(row.options)
            settings = _settings(document, row, options)
            depth = options.get("n_depth", 0) if row.imported else None
            if prefill:
                test = {"n_prompt": row.prompt_tokens, "n_depth": depth or 0}
                entries.append(settings | test | _figures(row.prompt_tokens, prefill))
            if decode:
                test = {"n_gen": row.output_tokens, "n_depth": row.prompt_tokens if depth is None else depth}
                entries.append(settings | test | _figures(row.output_tokens, decode))
    return entries, left


def llama_bench_json(entries: Sequence[dict[str, Any]]) -> str:
    """As `llama-bench -o json`."""
    return json.dumps(list(entries), indent=2) + "\n"


def llama_bench_sql(entries: Sequence[dict[str, Any]]) -> str:
    """As `llama-bench -o sql`: the table, and an INSERT for each entry. Samples have no place there."""
    kinds = {int: "INTEGER", bool: "INTEGER", float: "REAL", str: "TEXT"}
    lines = [f"  {name} {kinds[type(default)]}" for name, default in LLAMA_BENCH.items()]
    parts = ["CREATE TABLE IF NOT EXISTS llama_bench (\n" + ",\n".join(lines) + "\n);\n"]
    for entry in entries:
        values = ", ".join(_sql(entry[name]) for name in LLAMA_BENCH)
        parts.append(f"INSERT INTO llama_bench ({', '.join(LLAMA_BENCH)}) VALUES ({values});")
    return "\n".join(parts) + "\n"


def _sql(value: Any) -> str:
    text = str(int(value)) if isinstance(value, bool) else str(value)
    return "'" + text.replace("\0", "").replace("'", "''") + "'"


def _settings(document: RunDocument, row: Row, options: dict[str, Any]) -> dict[str, Any]:
    facts = next((one for one in document.models if one.name == row.model), None)
    engine = next((one for one in document.engines if one.version == row.engine_version), None)
    number = re.search(r"\bb(\d{3,})\b", f"{row.engine_version} {row.engine_build or ''}")
    release = None if row.imported else re.search(r"\d+(\.\d+)+", row.engine_version)
    machine = document.machine
    settings = LLAMA_BENCH | {
        # Tools cut a commit to the length of the shortest: the bare number of a release outlives that, a sentence does not.
        "build_commit": release[0] if release else row.engine_version or row.engine,
        "build_number": int(number[1]) if number else 0,
        "cpu_info": machine.cpu,
        "gpu_info": ", ".join(str(gpu.get("name")) for gpu in machine.gpus),
        "backends": DEVICES.get(row.device, row.device),
        "model_filename": row.model,
        "model_type": _model_type(row, facts, engine),
        "model_size": (engine.weights_bytes if engine else None) or (facts.file_bytes if facts else 0),
        "model_n_params": (engine.parameters if engine else None) or (facts.parameters if facts else 0),
        "n_threads": (engine.threads if engine else None) or 0,
        "test_time": row.created_utc,
    }
    for name in SETTINGS:
        if isinstance(options.get(name), type(LLAMA_BENCH[name])):
            settings[name] = options[name]
    if options.get("flash_attn") in FLASH_ATTENTION:
        settings["flash_attn"] = FLASH_ATTENTION[options["flash_attn"]]
    if "offload_kqv" in options:
        settings["no_kv_offload"] = not options["offload_kqv"]
    return settings


def _model_type(row: Row, facts: ModelFacts | None, engine: EngineInfo | None) -> str:
    if row.imported and engine and isinstance(engine.detail.get("model_type"), str):
        return str(engine.detail["model_type"])
    if facts is None:
        return row.model
    return f"{facts.architecture} {facts.parameters / 1e9:.3g}B {facts.quantization}"


def _figures(tokens: int, rates: Sequence[float]) -> dict[str, Any]:
    """llama-bench's account of one test: the sample standard deviation, 0 of one repetition as there."""
    times_ns = [round(tokens / rate * 1e9) for rate in rates]
    several = len(rates) > 1
    return {
        "avg_ns": round(statistics.fmean(times_ns)),
        "stddev_ns": round(statistics.stdev(times_ns)) if several else 0,
        "avg_ts": statistics.fmean(rates),
        "stddev_ts": statistics.stdev(rates) if several else 0.0,
        "samples_ns": times_ns,
        "samples_ts": list(rates),
    }
