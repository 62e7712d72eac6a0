"""The text of another tool's file as its entries, whichever form it has: the form is told by the content, never by the name.

JSON       a list, one object, one object per line; log lines before, between and after it are passed over, and of a list
           that nobody closed the whole entries are parsed
CSV, SQL   what `llama-bench -o csv` and `-o sql` write (no single repetitions: the mean counts as one), llama-benchy's and
           aiperf's CSV
Markdown   llama-bench's default form: the columns that it shows and the line `build: COMMIT (NUMBER)` below them; llama-benchy's
YAML       guidellm's
lines      what `mlx_lm.benchmark` prints

The forms without field names of their own come back in the shape of the same tool's JSON. aiperf's records, one a request, are
one entry.

python -c "from rigbench.documents.exchange.forms import entries; print(entries(open('runs.md').read()))"
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from typing import Any

from rigbench.documents.exchange.export import LLAMA_BENCH

_OBJECT = re.compile(r"^[ \t]*[\[,]*[ \t]*(?=\{)", re.MULTILINE)
_NEXT = re.compile(r"\s*,?\s*(?=\{)")
_INSERT = re.compile(r"INSERT INTO llama_bench \(([^)]*)\) VALUES \(((?:'(?:[^']|'')*'|[^')])*)\)")
_VALUE = re.compile(r"'((?:[^']|'')*)'|([^',\s]+)")
_BUILD = re.compile(r"^build: (\S+) \((\d+)\)", re.MULTILINE)
_TEST = re.compile(r"(?:pp(\d+))?\+?(?:tg(\d+))?(?: @ d(\d+))?")
_BENCHY_TEST = re.compile(r"(ctx_)?(pp|tg)(\d*)(?: @ d(\d+))?(?: \(c(\d+)\))?")
_BENCHY_COLUMNS = {
    **{"t/s": "t_s", "t/s (total)": "t_s", "t_s_mean": "t_s", "t/s (req)": "t_s_req", "t_s_req_mean": "t_s_req"},
    **{"e2e_ttft (ms)": "e2e_ttft", "e2e_ttft_mean": "e2e_ttft", "test": "test", "test_name": "test", "model": "model"},
}
"""Columns of llama-benchy's Markdown and CSV."""
_MLX_RUN = re.compile(r"Timing with prompt_tokens=(\d+), generation_tokens=(\d+), batch_size=(\d+)\.")
_MLX_TRIAL = re.compile(r"Trial \d+: +((?:\w+=[\d.]+(?:, )?)+)")
_COLUMNS = {
    **{"model": "model_filename", "backend": "backends", "threads": "n_threads", "ngl": "n_gpu_layers"},
    **{"n_cpu_moe": "n_cpu_moe", "sm": "split_mode", "mg": "main_gpu", "nkvo": "no_kv_offload", "fa": "flash_attn"},
    **{"dev": "devices", "ts": "tensor_split", "ot": "tensor_buft_overrides", "mmap": "use_mmap", "embd": "embeddings"},
    **{"nopo": "no_op_offload", "noh": "no_host"},
}
"""Columns of llama-bench's Markdown that do not bear the field's name."""


def entries(text: str) -> tuple[list[Any], bool]:
    """(entries, whether the last one is cut off); no entries where the text has none of the forms."""
    text = text.removeprefix("\ufeff")
    try:
        content = json.loads(text)
        return _one_entry_of_records(content if isinstance(content, list) else [content]), False
    except (ValueError, RecursionError):
        pass
    for form in (_sql, _csv, _benchy, _markdown, _aiperf_csv, _mlx_benchmark, _yaml):
        if parsed := form(text):
            return parsed, False
    parsed, cut = _objects(text)
    return _one_entry_of_records(parsed), cut


def _one_entry_of_records(parsed: list[Any]) -> list[Any]:
    records = [one for one in parsed if isinstance(one, dict) and {"metadata", "metrics"} <= one.keys()]
    return [{"aiperf_records": records}] if records and len(records) == len(parsed) else parsed


def _objects(text: str) -> tuple[list[Any], bool]:
    """Each whole object that begins a line, or follows another one."""
    decoder, parsed, at, cut = json.JSONDecoder(), list[Any](), 0, False
    while (start := _OBJECT.search(text, at)) is not None:
        try:
            content, at = decoder.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            at, cut = start.end() + 1, True
            continue
        parsed.append(content)
        while (more := _NEXT.match(text, at)) is not None:
            try:
                content, at = decoder.raw_decode(text, more.end())
            except (ValueError, RecursionError):
                cut = True
                break
            parsed.append(content)
    closed = text.count("[\n") + text.startswith("[") == 0 or re.search(r"\]\s*(?:\n|$)", text[at:]) is not None
    return parsed, cut or not closed


def _sql(text: str) -> list[Any]:
    parsed = []
    for names, values in _INSERT.findall(text):
        texts = [quoted.replace("''", "'") if quoted else bare for quoted, bare in _VALUE.findall(values + ",")]
        fields = [name.strip() for name in names.split(",")]
        if len(texts) == len(fields):
            parsed.append(_typed(dict(zip(fields, texts, strict=True))))
    return parsed


def _csv(text: str) -> list[Any]:
    parsed = list[Any]()
    header: list[str] = []
    for cells in _rows(text):
        if {"build_commit", "n_prompt", "n_gen", "avg_ts"} <= set(cells):
            header = cells
        elif header and len(cells) == len(header):
            parsed.append(_typed(dict(zip(header, cells, strict=True))))
    return parsed


def _markdown(text: str) -> list[Any]:
    """A build's line stands below its table, so each table takes the next one."""
    parsed = []
    for table in _tables(text):
        commit, number = next(iter(_BUILD.findall(table)), ("", "0"))
        header: list[str] = []
        for line in table.splitlines():
            cells = _cells(line)
            if {"model", "test", "t/s"} <= set(cells):
                header = cells
            elif header and len(cells) == len(header) and "---" not in cells[0]:
                row = dict(zip(header, cells, strict=True))
                test, rate = _TEST.fullmatch(row.pop("test")), re.match(r"[\d.]+", row.pop("t/s"))
                if test and rate:
                    named = {_COLUMNS.get(name, name): value for name, value in row.items()}
                    named.pop("size", None), named.pop("params", None)
                    prompt, generated, depth = test.groups("0")
                    named |= {"n_prompt": prompt, "n_gen": generated, "n_depth": depth, "avg_ts": rate[0]}
                    parsed.append(_typed(named | {"build_commit": commit, "build_number": number}))
    return parsed


def _rows(text: str) -> Iterator[list[str]]:
    """The rows of a CSV, up to what cannot be one."""
    with contextlib.suppress(csv.Error):
        yield from csv.reader(text.splitlines())


def _cells(line: str) -> list[str]:
    """Of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []


def _benchy(text: str) -> list[Any]:
    """llama-benchy's tables: a row of the prompt and the row of its answer below are one run there."""
    lines = [_cells(line) for line in text.splitlines()]
    if not any("e2e_ttft (ms)" in cells for cells in lines):
        lines = list(_rows(text))
    version, latency = (
        re.search(r"^llama-benchy \((\S+)\)", text, re.MULTILINE),
        re.search(r"latency mode: (\w+)", text),
    )
    date = re.search(r"^[Dd]ate: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", text, re.MULTILINE)
    matches = {"version": version, "latency_mode": latency, "timestamp": date}
    common = {name: match[1] if match else None for name, match in matches.items()}
    header: list[str] = []
    runs: dict[tuple[str, ...], dict[str, Any]] = {}
    parsed: list[dict[str, Any]] = []
    for cells in lines:
        if {"e2e_ttft (ms)", "e2e_ttft_mean"} & set(cells):
            header = [_BENCHY_COLUMNS.get(cell, cell) for cell in cells]
        elif header and len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            if (test := _BENCHY_TEST.fullmatch(row["test"])) is None:
                continue
            context, phase, size, depth, users = test.groups("")
            key = (row["model"], context, depth, users)
            if phase == "pp" or key not in runs:
                runs[key] = {"concurrency": int(users or 1), "context_size": int(depth or 0), "prompt_size": 0}
                runs[key] |= {"response_size": 0, "is_context_prefill_phase": bool(context)}
                parsed.append({**common, "model": row["model"], "benchmarks": [runs[key]]})
            runs[key]["prompt_size" if phase == "pp" else "response_size"] = int(size or 0)
            for column, name in (
                ("t_s", f"{phase}_throughput"),
                ("t_s_req", f"{phase}_req_throughput"),
                ("e2e_ttft", "e2e_ttft"),
            ):
                if rate := re.match(r"[\d.]+", row.get(column, "")):
                    runs[key][name] = {"mean": float(rate[0])}
            if int(users or 1) == 1:
                runs[key].setdefault(f"{phase}_req_throughput", runs[key].get(f"{phase}_throughput"))
    return parsed


def _aiperf_csv(text: str) -> list[Any]:
    """aiperf's three tables: metrics with their percentiles, metrics with one value, and the GPUs'."""
    metrics: dict[str, Any] = {}
    gpus: dict[str, Any] = {}
    header: list[str] = []
    for cells in _rows(text):
        if cells[:1] == ["Metric"] or "GPU_Name" in cells:
            header = cells
        elif header and len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            if "GPU_Name" in row:
                gpus[f"{row.get('Endpoint')} {row.get('GPU_Index')}"] = {"gpu_name": row["GPU_Name"]}
                continue
            name, unit = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", row.pop("Metric")).groups("")  # type: ignore[union-attr]
            numbers = {column: float(cell) for column, cell in row.items() if re.fullmatch(r"-?\d+(\.\d+)?", cell)}
            if "Value" in numbers:
                numbers["avg"] = numbers.pop("Value")
            metrics[name.lower().replace(" ", "_")] = {"unit": unit, **numbers}
    if not {"request_latency", "request_throughput"} <= metrics.keys():
        return []
    return [metrics | ({"telemetry_data": {"endpoints": {"": {"gpus": gpus}}}} if gpus else {})]


def _mlx_benchmark(text: str) -> list[Any]:
    """A block from each `Timing with`: its trials, and whether the averages, which are its end, are there."""
    runs = list(_MLX_RUN.finditer(text))
    parsed = []
    for run, end in zip(runs, [*(run.start() for run in runs[1:]), len(text)], strict=False):
        block = text[run.end() : end]
        trials = [
            {name: float(number) for name, number in re.findall(r"(\w+)=(\d+(?:\.\d+)?)", trial)}
            for trial in _MLX_TRIAL.findall(block)
        ]
        named = dict(zip(("prompt_tokens", "generation_tokens", "batch_size"), map(int, run.groups()), strict=True))
        parsed.append(named | {"trials": trials, "whole": "Averages: " in block})
    return parsed


def _yaml(text: str) -> list[Any]:
    if not re.search(r"^benchmarks:", text, re.MULTILINE):
        return []
    import yaml

    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    return [content] if isinstance(content, dict) else []


def _tables(text: str) -> Iterator[str]:
    start = 0
    for build in _BUILD.finditer(text):
        yield text[start : build.end()]
        start = build.end()
    yield text[start:]


def _typed(texts: dict[str, str]) -> dict[str, Any]:
    """Texts as the values that llama-bench's JSON has for these fields; what is no number stays a text."""
    values: dict[str, Any] = {}
    for name, text in texts.items():
        default = LLAMA_BENCH.get(name, True if name == "use_mmap" else "")
        try:
            if isinstance(default, bool):
                values[name] = {"0": False, "1": True, "false": False, "true": True}[text.lower()]
            else:
                values[name] = text if isinstance(default, str) else type(default)(text)
        except (ValueError, KeyError):
            values[name] = text
    return values
