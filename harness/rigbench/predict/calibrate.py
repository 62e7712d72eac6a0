"""Constants of the machine in front of you, from its own results: those at hand, or a probe of one minute.

Factors are moved, not single constants: the efficiency of streaming, the time per layer, the arithmetic of one user, of the others
and of a prompt, attention, and what experts add. Each has a prior around the shipped constants, so one row moves them a little and
ten rows decide them; what is left over is the machine's noise, and the interval of the answer.

    rigbench predict --calibrate results/ --model qwen3-8b
    rigbench predict --probe && rigbench predict --model qwen3-8b
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from rigbench.analysis.table import Row, table
from rigbench.errors import InputError
from rigbench.predict.hardware import Hardware, match
from rigbench.predict.roofline import Constants, Setup, engine_platform, is_served, step_seconds
from rigbench.records import Machine, ModelFacts, RunDocument
from rigbench.workloads import Generation

NOISE = 0.05
LEAST_SPREAD = 0.06
"""Of a machine's own constants: models differ by as much where nothing is noisy."""
KEPT_FOR = timedelta(days=90)
LARGEST = 20.0
"""A factor beyond this, or below its inverse, is no machine's: such a probe is not used."""
MOST_SPREAD = 0.5
"""What fits so badly says nothing."""


class Factor(NamedTuple):
    """The constants that it multiplies (with a * all of their table), and how far a machine may be from its kind: a logarithm."""

    names: tuple[str, ...]
    spread: float


FACTORS = {
    "stream": Factor(("stream.base", "stream.measured"), 0.10),
    "layer": Factor(("layer.base",), 0.40),
    "compute": Factor(("compute.base",), 0.50),
    "users": Factor(("users.base", "users.vllm", "matmul.base"), 0.50),
    "heads": Factor(("heads.*", "latent.heads"), 0.70),
    "experts": Factor(("layer.experts",), 0.30),
    "prefill": Factor(("prefill.base",), 0.70),
    "q8": Factor(("compute.q8", "prefill.q8"), 0.20),
}


class MeasuredRow(NamedTuple):
    """One measured figure: tokens per second of one user, or with `setup.prompt_tokens` of a prompt."""

    facts: ModelFacts
    setup: Setup
    user_tps: float


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found, as documents and the cache keep it: factors by name (of FACTORS), and the spread of what they leave."""

    utc: str
    backend: str
    device: str
    engine: str
    rows: int
    spread: float
    factors: dict[str, float]

    @property
    def sentence(self) -> str:
        """What stands beside each answer that it moved."""
        return f"calibrated by a probe of {self.utc[:10]} with {self.engine} on {self.device}"

    def constants(self, known: Constants) -> dict[str, float]:
        """The shipped constants as this machine has them."""
        return _moved(known, {name: math.log(factor) for name, factor in self.factors.items()}, self.spread, self.rows)


def probe_of(content: Any) -> Probe | None:
    """A Probe from JSON types; None for what is none, or is of no machine."""
    try:
        texts = {name: str(content[name]) for name in ("utc", "backend", "device", "engine")}
        factors = {name: float(content["factors"][name]) for name in FACTORS if name in content["factors"]}
        rows, spread = int(content["rows"]), float(content["spread"])
        datetime.fromisoformat(texts["utc"])
    except (KeyError, TypeError, ValueError):
        return None
    if (
        not all(1 / LARGEST <= factor <= LARGEST for factor in factors.values())
        or not 0 < spread < MOST_SPREAD
        or rows < 1
    ):
        return None
    return Probe(rows=rows, spread=spread, factors=factors, **texts)


def scaled(known: Constants, factors: Mapping[str, float]) -> dict[str, float]:
    """The constants with these factors applied, given as logarithms."""
    moved = dict(known)
    for factor, log in factors.items():
        for name in FACTORS[factor].names:
            group = name.removesuffix("*")
            for each in [one for one in known if one == name or (group != name and one.startswith(group))]:
                moved[each] = known[each] * math.exp(log)
    return moved


def _moved(known: Constants, factors: Mapping[str, float], spread: float, rows: int) -> dict[str, float]:
    """The constants of a machine, with what its answers say of them."""
    return scaled(known, factors) | {"calibrated.rows": float(rows), "calibrated.spread": spread}


def calibrated(known: Constants, rows: Sequence[MeasuredRow]) -> dict[str, float]:
    """The constants that fit `rows` best. Raises InputError where there is no row, or none above 0."""
    return _moved(known, *fitted(known, rows))


def fitted(known: Constants, rows: Sequence[MeasuredRow]) -> tuple[dict[str, float], float, int]:
    """(logarithms of the factors, spread of what they leave, rows that were used). Raises InputError where there is no row."""
    import numpy as np

    from rigbench.predict.fitting import robust_fit  # scipy takes a while to load, and `device_of` needs none of it

    usable = [row for row in rows if math.isfinite(row.user_tps) and row.user_tps > 0]
    if not usable:
        raise InputError("there is no measured decode speed of this machine to calibrate with")

    def miss(x: Any) -> Any:
        at = scaled(known, dict(zip(FACTORS, x, strict=True)))
        return np.array([math.log(step_seconds(row.facts, row.setup, at)["step"] * row.user_tps) for row in usable])

    none = np.zeros(len(FACTORS))
    spread = np.array([factor.spread for factor in FACTORS.values()])
    x = robust_fit(miss, None, none, none, spread, knee=2 * NOISE, noise=NOISE)
    left = float(np.sqrt(np.mean(miss(x) ** 2)))
    return dict(zip(FACTORS, map(float, x), strict=True)), max(left, LEAST_SPREAD), len(usable)


def device_of(machine: Machine, kind: str) -> Hardware | None:
    """The catalogued device that did the work; a CPU is not looked up."""
    gpus = machine.gpus if kind != "cpu" else ()
    matches = (
        match(str(gpu.get("name", "")), gpu.get("memory_bytes"), gpu.get("gpu_cores") or gpu.get("cores"))
        for gpu in gpus
    )
    return next(filter(None, matches), None)


def measured_rows(document: RunDocument, *, flagged: bool = False) -> list[MeasuredRow]:
    """The decode and prompt speeds of a result that ran on a device whose bandwidth it knows. Flagged rows are left out, unless
    asked for (of a probe, whose machine is what it is)."""
    facts = {model.name: model for model in document.models}
    bandwidths = {one.device: one for one in document.bandwidth}
    ran = {r.case.group: (r.case, document.engines[r.engine]) for r in document.cases if r.engine is not None}
    rows = []
    for row in table(document):
        case, info = ran.get(row.group, (None, None))
        bandwidth = bandwidths.get(info.device) if info else None
        if case is None or info is None or row.model not in facts or (row.flags and not flagged):
            continue
        if bandwidth is None or bandwidth.read_bytes_per_s is None or info.device_share < 1:
            continue
        if not isinstance(work := case.workload, Generation):
            continue
        device = device_of(document.machine, info.device)
        setup = Setup(
            bandwidth_bytes_per_s=bandwidth.read_bytes_per_s,
            platform="cpu" if info.device == "cpu" else engine_platform(row.backend, info, device),
            hardware=device,
            users=row.concurrency,
            devices=max(1, len(info.device_names)) if info.device not in ("cpu", "sim") else 1,
            tensor_parallel=info.parallel_devices > 1,
            context_tokens=work.mean_context_tokens,
            kv_bits=info.kv_bits,
            measured=bandwidth.method == "measured",
            cpu_cores=info.threads,
            served=is_served(row.backend),
        )
        rows += _figures(facts[row.model], setup, row, work.prompt_tokens)
    return rows


def _figures(facts: ModelFacts, setup: Setup, row: Row, prompt_tokens: int) -> list[MeasuredRow]:
    figures = []
    if user_tps := row["user_tps"]:
        figures.append(MeasuredRow(facts, setup, user_tps))
    if prefill_tps := row["prefill_tps"]:
        prompt = replace(setup, users=1, context_tokens=0, prompt_tokens=prompt_tokens)
        figures.append(MeasuredRow(facts, prompt, prefill_tps))
    return figures
