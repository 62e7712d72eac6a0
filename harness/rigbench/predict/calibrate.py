"""Constants of the machine in front of you, from its own results.

Two factors are moved: the efficiency of streaming and the time per layer. Each has a prior around the shipped constants, so one
row moves them a little and ten rows decide them; what is left over is the machine's noise.

    rigbench predict --calibrate results/ --model qwen3-8b
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rigbench.analysis.table import table
from rigbench.errors import InputError
from rigbench.predict.catalog import Hardware, match
from rigbench.predict.roofline import Constants, Setup, platform_of, step_seconds
from rigbench.records import Machine, ModelFacts, RunDocument

STREAM_SPREAD, LAYER_SPREAD, NOISE = 0.10, 0.40, 0.05
"""Logarithms: how far a machine may be from the constants of its kind, and the noise of a row."""


class MeasuredRow(NamedTuple):
    """One measured figure: tokens per second of one user."""

    facts: ModelFacts
    setup: Setup
    user_tps: float


def scaled(known: Constants, stream: float, layer: float) -> dict[str, float]:
    """The constants with both factors applied, given as logarithms."""
    moved = dict(known)
    for name in ("stream.base", "stream.measured"):
        moved[name] = known[name] * math.exp(stream)
    moved["layer.base"] = known["layer.base"] * math.exp(layer)
    return moved


def calibrated(known: Constants, rows: Sequence[MeasuredRow]) -> dict[str, float]:
    """The constants that fit `rows` best. Raises InputError where there is no row, or none above 0.

    Newton's method on two unknowns with numeric slopes of each row's predicted time.
    """
    usable = [row for row in rows if math.isfinite(row.user_tps) and row.user_tps > 0]
    if not usable:
        raise InputError("there is no measured decode speed of this machine to calibrate with")
    target = [-math.log(row.user_tps) for row in usable]

    def predicted(stream: float, layer: float) -> list[float]:
        at = scaled(known, stream, layer)
        return [math.log(step_seconds(row.facts, row.setup, at)["step"]) for row in usable]

    stream = layer = 0.0
    step = 1e-4
    for _ in range(12):
        now = predicted(stream, layer)
        by_stream = [(b - a) / step for a, b in zip(now, predicted(stream + step, layer), strict=True)]
        by_layer = [(b - a) / step for a, b in zip(now, predicted(stream, layer + step), strict=True)]
        miss = [a - b for a, b in zip(now, target, strict=True)]
        pull = [1 / math.sqrt(1 + (m / (2 * NOISE)) ** 2) / NOISE**2 for m in miss]
        ss = sum(w * a * a for w, a in zip(pull, by_stream, strict=True)) + STREAM_SPREAD**-2
        ll = sum(w * b * b for w, b in zip(pull, by_layer, strict=True)) + LAYER_SPREAD**-2
        sl = sum(w * a * b for w, a, b in zip(pull, by_stream, by_layer, strict=True))
        gs = sum(w * m * a for w, m, a in zip(pull, miss, by_stream, strict=True)) + stream * STREAM_SPREAD**-2
        gl = sum(w * m * b for w, m, b in zip(pull, miss, by_layer, strict=True)) + layer * LAYER_SPREAD**-2
        det = ss * ll - sl * sl
        stream -= max(-0.5, min(0.5, (gs * ll - gl * sl) / det))
        layer -= max(-0.5, min(0.5, (gl * ss - gs * sl) / det))
    return {**scaled(known, stream, layer), "calibrated.rows": float(len(usable))}


def device_of(machine: Machine, kind: str) -> Hardware | None:
    """The catalogued device that did the work; a CPU is not looked up."""
    for gpu in machine.gpus if kind != "cpu" else ():
        found = match(str(gpu.get("name", "")), gpu.get("memory_bytes"), gpu.get("gpu_cores"))
        if found is not None:
            return found
    return None


def measured_rows(document: RunDocument) -> list[MeasuredRow]:
    """The decode speeds of a result that ran on a device whose bandwidth it knows. Flagged rows are left out."""
    facts = {model.name: model for model in document.models}
    bandwidths = {one.device: one for one in document.bandwidth}
    engine_of = {r.case.group: document.engines[r.engine] for r in document.cases if r.engine is not None}
    found = []
    for row in table(document):
        info = engine_of.get(row.group)
        if info is None or row.model not in facts or not row["user_tps"] or row.flags or info.device not in bandwidths:
            continue
        bandwidth = bandwidths[info.device]
        if bandwidth.read_bytes_per_s is None:
            continue
        device = device_of(document.machine, info.device)
        setup = Setup(
            bandwidth_bytes_per_s=bandwidth.read_bytes_per_s,
            platform="cpu" if info.device == "cpu" else platform_of(f"{row.backend} {info.device}", device),
            hardware=device,
            users=row.concurrency,
            context_tokens=row.prompt_tokens + row.output_tokens / 2,
            kv_bits=info.kv_bits,
            measured=bandwidth.method == "measured",
            cpu_cores=document.machine.physical_cores,
        )
        found.append(MeasuredRow(facts[row.model], setup, row["user_tps"]))
    return found
