"""A document as rows of a table: one per case group, with what compares it, the medians of its metrics and the prediction.

What is here decides what the index holds and what `query`, `export` and every table made of many documents can tell.

    python -c "from rigbench.documents import rows, store; import pathlib, sys; \
               print(*rows.document_rows(store.read(pathlib.Path(sys.argv[1]))), sep='\\n')" results/…/….json
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rigbench.analysis import stats
from rigbench.analysis.samples import METRICS, samples
from rigbench.analysis.summary import PUBLISHED
from rigbench.records import RunDocument

FILE_COLUMNS = {"file": "VARCHAR", "file_bytes": "BIGINT", "file_mtime_ns": "BIGINT", "fault": "VARCHAR"}
SAMPLE_COLUMNS = {
    "document_id": "VARCHAR",
    "created_utc": "VARCHAR",
    "machine_id": "VARCHAR",
    "os": "VARCHAR",
    "kernel": "VARCHAR",
    "drivers": "MAP(VARCHAR, VARCHAR)",
    "power_limits_w": "DOUBLE[]",
    "backend": "VARCHAR",
    "engine": "VARCHAR",
    "engine_version": "VARCHAR",
    "engine_build": "VARCHAR",
    "device": "VARCHAR",
    "device_names": "VARCHAR[]",
    "model": "VARCHAR",
    "model_sha256": "VARCHAR",
    "model_sha256_of": "VARCHAR",
    "quantization": "VARCHAR",
    "synthetic": "BOOLEAN",
    "suite": "VARCHAR",
    "suite_version": "VARCHAR",
    "suite_sha256": "VARCHAR",
    "case_group": "VARCHAR",  # `group` in a Sample, but SQL would want that one quoted
    "workload": "VARCHAR",
    "workload_kind": "VARCHAR",
    "prompt_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "concurrency": "BIGINT",
    "options": "VARCHAR",
    "load": "VARCHAR",
    "prompts_sha256": "VARCHAR",
    "repetitions": "BIGINT",
    "flags": "VARCHAR[]",
    "error": "VARCHAR",
    "rigbench_version": "VARCHAR",
    "imported": "VARCHAR",
    "metrics": "MAP(VARCHAR, DOUBLE[])",
}
MORE_COLUMNS = {
    "complete": "BOOLEAN",
    "cpu": "VARCHAR",
    "memory_bytes": "BIGINT",
    "gpus": "VARCHAR[]",
    "ceiling_tps": "DOUBLE",
    "predicted_tps": "DOUBLE",
    "predictor": "VARCHAR",
    "published_tps": "DOUBLE",
    "measured_over_predicted": "DOUBLE",
    "mbu": "DOUBLE",
}
COLUMNS = FILE_COLUMNS | SAMPLE_COLUMNS | dict.fromkeys(METRICS, "DOUBLE") | MORE_COLUMNS
"""Every column with its DuckDB type. `metrics` has a number per repetition, the column of a metric's name their median."""


def document_rows(document: RunDocument) -> list[dict[str, Any]]:
    """A document's rows as plain JSON types, without the columns of its file."""
    predictions = {one.group: one for one in document.predictions if one.predictor != PUBLISHED}
    published = {one.group: one for one in document.predictions if one.predictor == PUBLISHED}
    rows = []
    for sample in samples(document):
        row = asdict(sample)
        group = row["case_group"] = row.pop("group")
        row |= {name: stats.median(sample.metrics.get(name, ())) for name in METRICS}
        user_tps, prediction = row["user_tps"], predictions.get(group)
        ceiling = prediction.ceiling_user_tps if prediction else None
        predicted = prediction.user_tps if prediction else None
        mbu = None
        if prediction and user_tps and prediction.bytes_per_step and prediction.bandwidth_bytes_per_s:
            mbu = prediction.bytes_per_step * user_tps / prediction.bandwidth_bytes_per_s
        row |= {
            "complete": document.complete,
            "cpu": document.machine.cpu,
            "memory_bytes": document.machine.memory_bytes,
            "gpus": [str(gpu.get("name")) for gpu in document.machine.gpus],
            "ceiling_tps": ceiling,
            "predicted_tps": predicted,
            "predictor": prediction.predictor if prediction else None,
            "published_tps": published[group].user_tps if group in published else None,
            "measured_over_predicted": user_tps / predicted if user_tps and predicted else None,
            "mbu": mbu,
        }
        rows.append(row)
    return rows
