"""The text of another tool's file as its entries, whichever form it has: the form is told by the content, never by the name.

JSON       a list, one object, one object per line; log lines before, between and after it are passed over, and of a list
           that nobody closed the whole entries are parsed
CSV, SQL   what `llama-bench -o csv` and `-o sql` write (no single repetitions: the mean counts as one)
Markdown   its default form: the columns that it shows and the line `build: COMMIT (NUMBER)` below them

python -c "from rigbench.documents.exchange.forms import entries; print(entries(open('runs.md').read()))"
"""

from __future__ import annotations

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
        return (content if isinstance(content, list) else [content]), False
    except (ValueError, RecursionError):
        pass
    for form in (_sql, _csv, _markdown):
        if parsed := form(text):
            return parsed, False
    return _objects(text)


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
    for cells in csv.reader(text.splitlines()):
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
            cells = (
                [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []
            )
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
