"""Constants of the machine in front of you, from its own results.

Two factors are moved: the efficiency of streaming and the time per layer. Each has a prior around the shipped constants, so one
row moves them a little and ten rows decide them; what is left over is the machine's noise.

    rigbench predict --calibrate results/ --model qwen3-8b
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rigbench.analysis.table import table
from rigbench.errors import InputError
from rigbench.predict.hardware import Hardware, match
from rigbench.predict.roofline import Constants, Setup, engine_platform, step_seconds
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
    factors = {"stream.base": stream, "stream.measured": stream, "layer.base": layer}
    return {**known, **{name: known[name] * math.exp(factor) for name, factor in factors.items()}}


def calibrated(known: Constants, rows: Sequence[MeasuredRow]) -> dict[str, float]:
    """The constants that fit `rows` best. Raises InputError where there is no row, or none above 0."""
    import numpy as np

    from rigbench.predict.fitting import robust_fit  # scipy takes a while to load, and `device_of` needs none of it

    usable = [row for row in rows if math.isfinite(row.user_tps) and row.user_tps > 0]
    if not usable:
        raise InputError("there is no measured decode speed of this machine to calibrate with")

    def miss(x: Any) -> Any:
        at = scaled(known, *x)
        return np.array([math.log(step_seconds(row.facts, row.setup, at)["step"] * row.user_tps) for row in usable])

    none = np.zeros(2)
    spread = np.array([STREAM_SPREAD, LAYER_SPREAD])
    stream, layer = robust_fit(miss, None, none, none, spread, knee=2 * NOISE, noise=NOISE)
    return {**scaled(known, stream, layer), "calibrated.rows": float(len(usable))}


def device_of(machine: Machine, kind: str) -> Hardware | None:
    """The catalogued device that did the work; a CPU is not looked up."""
    gpus = machine.gpus if kind != "cpu" else ()
    matches = (
        match(str(gpu.get("name", "")), gpu.get("memory_bytes"), gpu.get("gpu_cores") or gpu.get("cores"))
        for gpu in gpus
    )
    return next(filter(None, matches), None)


def measured_rows(document: RunDocument) -> list[MeasuredRow]:
    """The decode speeds of a result that ran on a device whose bandwidth it knows. Flagged rows are left out."""
    facts = {model.name: model for model in document.models}
    bandwidths = {one.device: one for one in document.bandwidth}
    engine_of = {r.case.group: document.engines[r.engine] for r in document.cases if r.engine is not None}
    rows = []
    for row in table(document):
        info, user_tps = engine_of.get(row.group), row["user_tps"]
        bandwidth = bandwidths.get(info.device) if info else None
        if info is None or row.model not in facts or not user_tps or row.flags or row.prompt_tokens is None:
            continue
        if bandwidth is None or bandwidth.read_bytes_per_s is None or info.device_share < 1:
            continue
        device = device_of(document.machine, info.device)
        setup = Setup(
            bandwidth_bytes_per_s=bandwidth.read_bytes_per_s,
            platform="cpu" if info.device == "cpu" else engine_platform(row.backend, info, device),
            hardware=device,
            users=row.concurrency,
            devices=max(1, len(info.device_names)) if info.device not in ("cpu", "sim") else 1,
            tensor_parallel=info.parallel_devices > 1,
            context_tokens=row.prompt_tokens + (row.output_tokens or 0) / 2,
            kv_bits=info.kv_bits,
            measured=bandwidth.method == "measured",
            cpu_cores=document.machine.physical_cores,
        )
        rows.append(MeasuredRow(facts[row.model], setup, user_tps))
    return rows
