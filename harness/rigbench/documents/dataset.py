"""The rows of all results for others to query: one Parquet file with its schema, its licence and a dataset card.

`rows.parquet` holds what `rigbench query` sees, less where the files lie and what was refused; a run that is there twice counts
once. pandas, DuckDB, Spark and the Hugging Face hub read it as it is:

    duckdb -c "SELECT machine_id, model, median(user_tps) FROM 'rows.parquet' WHERE concurrency = 1 GROUP BY ALL"
"""

from __future__ import annotations

import json
from pathlib import Path

from rigbench.analysis.definitions import registry
from rigbench.documents import index
from rigbench.text import inert, markdown_table

LICENCE = "CC-BY-4.0"
LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
ROWS, SCHEMA, CARD = "rows.parquet", "rows.schema.json", "README.md"

MEANING = {
    "document_id": "SHA-256 of the result document: the name of its page",
    "created_utc": "when the run began",
    "machine_id": "kind of machine: processor or GPU, cores, memory; nothing of whose it is",
    "os": "operating system",
    "kernel": "its kernel",
    "drivers": "driver versions by name",
    "power_limits_w": "power limit of each GPU in watts",
    "backend": "rigbench's name of the engine's adapter",
    "engine": "the engine",
    "engine_version": "its version, as it says",
    "engine_build": "how it was built, as it says",
    "device": "kind of device that computed: cpu, cuda, metal ...",
    "device_names": "names of the devices that computed",
    "model": "the model",
    "model_sha256": "hash of the model's file",
    "model_sha256_of": "what that hash is of: the file, or its edges",
    "quantization": "quantisation of its weights",
    "synthetic": "whether the weights are random: of the right shape, without a language",
    "suite": "the suite that was run",
    "suite_version": "its version",
    "suite_sha256": "hash of its content",
    "case_group": "backend/model/workload/users: what the repetitions have in common",
    "workload": "name of the workload",
    "workload_kind": "its kind: text, tokens, image, train",
    "work": "what a request is, as canonical JSON",
    "prompt_tokens": "tokens of each prompt; null where no text is generated",
    "output_tokens": "tokens asked for in each answer; null where no text is generated",
    "concurrency": "users at once",
    "options": "the engine's options as canonical JSON",
    "load": "requests per user, duration, warm-up and seed as canonical JSON",
    "prompts_sha256": "hash of the first repetition's prompts, where their order is given",
    "repetitions": "repetitions that were measured",
    "flags": "what made the case unfit: `rigbench metrics` explains each",
    "evidence": "why each flag was set",
    "error": "why nothing was measured",
    "rigbench_version": "the rigbench that measured",
    "imported": "the tool whose figures these are; null: measured by rigbench",
    "level": "how far the document holds: unchecked, sound, physical, complete, confirmed",
    "measurement": "hash of all raw times: the same for every copy of one run",
    "complete": "whether the run was ended by itself",
    "cpu": "the machine's processor",
    "memory_bytes": "the machine's memory",
    "gpus": "names of the machine's GPUs",
    "predictor": "what made predicted_tps",
    "power_scope": "what the power is of: board, package, soc, host, wall",
    "memory_method": "how memory_peak_bytes was read",
    "memory_phase": "the part of the work in which the engine's device memory had its peak",
    "metrics": "each metric's numbers, one for each repetition",
}
"""Of the columns that are no metric."""


def columns() -> list[dict[str, str]]:
    """Every column of `rows.parquet`: name, type as in DuckDB, unit (SI) and meaning."""
    metrics = {each.name: (each.unit, each.formula) for each in registry()}
    return [
        {"name": name, "type": kind, "unit": unit, "meaning": meaning}
        for name, kind in index.columns().items()
        if name not in index.FILE_COLUMNS
        for unit, meaning in [metrics.get(name, ("", MEANING.get(name, "")))]
    ]


def write(path: Path, folder: Path) -> list[Path]:
    """Put the data set of the index at `path` into `folder`: its files. InputError if there is no index."""
    known = columns()
    names = [each["name"] for each in known]
    files = [folder / name for name in (ROWS, SCHEMA, CARD)]
    with index.connect() as database:
        index.check(database, path)
        selected = f"SELECT {', '.join(names)} FROM ({index.distinct(path, refused=False)})"
        database.execute(
            f"COPY ({selected} ORDER BY document_id, case_group) TO {index.quoted(files[0])} "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
        counts = f"SELECT count(DISTINCT document_id), count(*) FROM ({selected})"
        [(results, rows)] = database.execute(counts).fetchall()
    files[1].write_text(json.dumps({"licence": LICENCE, "columns": known}, indent=1) + "\n", encoding="utf-8")
    lines = markdown_table(list(known[0]), [tuple(each.values()) for each in known])
    files[2].write_text(CARD_TEXT.format(results=results, rows=rows, columns="\n".join(lines)), encoding="utf-8")
    return files


CARD_TEXT = f"""---
license: {LICENCE.lower()}
pretty_name: rigbench results
tags: [llm, inference, benchmark, tokens-per-second]
configs:
- config_name: default
  data_files: {ROWS}
---
# Measurements of live LLM inference

{{rows}} rows of {{results}} results: one for each case (engine, model, workload, users) of each run of rigbench. Every number
is computed from the times of single tokens, which the result documents keep. Units are SI; what is unknown is null, never 0.

```sql
SELECT machine_id, model, median(user_tps), median(joules_per_token) FROM '{ROWS}' WHERE concurrency = 1 GROUP BY ALL
```

**Read before use.** `flags` says what made a case unfit, `level` how far its document could be checked: nobody is taken on
trust, but a level below `confirmed` rests on one machine. Who hands results in is not a sample of anything. Filter
`synthetic` and `imported` unless they are what you ask for. Machines are named by their kind; nothing says whose they are.

**Licence.** [{inert(LICENCE)}]({LICENCE_URL}): use it for anything, and name its source.

{{columns}}
"""
