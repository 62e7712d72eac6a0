"""Many predictions at once: a CSV of cases in, the same CSV with predictions out.

The columns are those of configs/reference/measured_train.csv. Each row comes back whole with `pred_tokens_per_s`,
`pred_low` and `pred_high` (in 80 % of cases a measurement lies between them), `predictor` and `reason`; a row that cannot be
predicted stays, blank, with the reason. A chip that the catalogue does not know is predicted from its bandwidth column and its
backend.

    rigbench predict --cases configs/reference/measured_train.csv -o predicted.csv
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts, to_size
from rigbench.models.names import quantisation
from rigbench.models.shapes import find_shape, relative, sizes_of
from rigbench.predict.fit import cached_users
from rigbench.predict.hardware import GIB, Hardware, hardware, match, normalize
from rigbench.predict.roofline import Constants, Setup, constants, interval, is_served, platform_of, step_seconds
from rigbench.records import ModelFacts

NEEDED = ("hardware", "backend", "model", "quant", "tokens_per_s_kind")
TARGETS = {"decode per-user": "user", "aggregate": "output", "prefill": "prefill"}
ADDED = ("pred_tokens_per_s", "pred_low", "pred_high", "predictor", "reason")
MORE = "\0"
"""Where a row keeps fields beyond the last column: a name that no column has."""
_UNSTATED = ("", "nan", "none", "null", "not stated", "unstated", "-")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BUILDS = (1500, 2800, 4000, 5000, 6000, 7000, 8000, 108_000)
_BUILD_YEARS = (2023.87, 2024.35, 2024.83, 2025.25, 2025.6, 2025.85, 2026.1, 2051.1)
"""llama.cpp's build numbers and when they were made; about 4,000 a year since."""


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One row as far as it can be read: what runs, on what, and what is asked for (`user`, `output` or `prefill`
    tokens per second)."""

    facts: ModelFacts
    setup: Setup
    target: str
    request_rate_per_s: float | None = None
    notes: tuple[str, ...] = ()


def read_rows(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a CSV. Raises InputError for what is no such table."""
    reader = csv.DictReader(
        io.StringIO(text.removeprefix("\ufeff").lstrip("\r\n"), newline=""), restkey=MORE, restval=""
    )
    try:
        columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"the cases are no readable CSV: {error}") from None
    if not columns:
        raise InputError("the cases file is empty: its first line must name the columns")
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise InputError(
            f"the cases file has no column {', '.join(missing)} (columns as in configs/reference/measured_train.csv)"
        )
    if len(set(columns)) < len(columns):
        raise InputError("the cases file names a column twice")
    for number, row in enumerate(rows, start=2):
        if extra := len(row.get(MORE, ())):
            fields = len(columns) + extra
            raise InputError(f"the cases file has {fields} fields in row {number}, but {len(columns)} columns")
    return columns, rows


def predict_cases(text: str, known: Constants | None = None) -> str:
    """The CSV with a prediction, or a reason, in every row. Raises InputError only for what is no such table at all."""
    columns, rows = read_rows(text)
    known = constants() if known is None else known
    out = io.StringIO(newline="")
    names = [*(name for name in columns if name not in ADDED), *ADDED]
    writer = csv.DictWriter(out, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**row, **_added(row, known)} for row in rows)
    return out.getvalue()


def _added(row: Mapping[str, str], known: Constants) -> dict[str, str]:
    """A row's prediction, or the reason why there is none: the values of ADDED."""
    try:
        case = parse_row(row, known)
        setup = settled(case, known)
        step_s = step_seconds(case.facts, setup, known)["step"]
    except InputError as error:
        return dict.fromkeys(ADDED, "") | {"reason": str(error)}
    rate = (setup.users if case.target == "output" else 1) / step_s
    factor = interval(case.facts, setup, known)
    low, high = ("", "") if factor is None else (f"{rate / factor:.4g}", f"{rate * factor:.4g}")
    return dict(zip(ADDED, (f"{rate:.4g}", low, high, "roofline", "; ".join(case.notes)), strict=True))


def settled(case: CaseRow, known: Constants) -> Setup:
    """The setup with the users that run at once: of an open loop those that Little's law gives, rate x tokens x time per token;
    of vLLM no more than its cache holds."""
    most, device = math.inf, case.setup.hardware
    if case.setup.platform == "vllm" and device is not None:
        slots = cached_users(case.facts, device, case.setup.context_tokens, case.setup.kv_bits, case.setup.devices)
        most = slots if slots >= 1 else math.inf  # an unknown quantisation of the weights, or a wrong size
    if case.request_rate_per_s is None:
        return replace(case.setup, users=min(case.setup.users, most))
    most = min(most, known["open_loop.most_users"])
    setup = replace(case.setup, users=1.0)
    tokens_per_s = case.request_rate_per_s * known["open_loop.output_tokens"]
    for _ in range(20):
        users = max(tokens_per_s * step_seconds(case.facts, setup, known)["step"], 1.0)
        setup = replace(setup, users=min(users, most))
    return setup


def parse_row(row: Mapping[str, str], known: Constants) -> CaseRow:
    """What a row says. Raises InputError with the reason where it cannot be predicted."""
    kind = row["tokens_per_s_kind"].strip().lower()
    if kind not in TARGETS:
        raise InputError(f"tokens_per_s_kind {kind!r} is not one of {', '.join(map(repr, TARGETS))}")
    notes: list[str] = []
    device = find_device(row)
    bandwidth_gbs = number(row, "memory_bandwidth_gbs")
    if bandwidth_gbs is not None:
        bandwidth = bandwidth_gbs * 1e9
    elif device is not None:
        bandwidth = device.bandwidth_bytes_per_s
    else:
        raise InputError(f"{row['hardware']!r} is not in the catalogue, and its memory bandwidth is not stated")
    if device is None:
        notes.append("chip not in the catalogue: predicted from its bandwidth and backend")
    devices = number(row, "devices") or 1
    if devices != int(devices):
        raise InputError(f"devices = {devices:g} is no whole number")
    quant, size_gib = row["quant"].strip(), number(row, "model_size_gib")
    if quant.lower() in _UNSTATED and size_gib is None:
        raise InputError("neither the quantisation nor the size of the model is stated")
    billions, active = number(row, "params_b"), number(row, "active_params_b")
    facts, stood_in = named_facts(
        row["model"],
        quant,
        parameters=billions and billions * 1e9,
        active=active and active * 1e9,
        size_bytes=size_gib and size_gib * GIB,
    )
    if stood_in:
        notes.append(stood_in)
    users, rate = number(row, "concurrency"), None
    if users is None:
        rate = re.search(r"(\d+(?:\.\d+)?)\s*req/s", row.get("test", ""))
        notes.append("concurrency not stated: " + ("from the request rate" if rate else "taken as 1"))
    elif users < 1:
        raise InputError(f"{users:g} users is impossible")
    prompt = prompt_tokens(row, known) if kind == "prefill" else 0.0
    words = f"{row['backend']} {row.get('note', '')}".lower()
    setup = Setup(
        bandwidth_bytes_per_s=bandwidth,
        platform=platform_of(row["backend"], device),
        hardware=device,
        users=users or 1,
        context_tokens=(depth_of(row) or 0.0) if prompt else mean_context(row, known),
        devices=int(devices),
        tensor_parallel=devices > 1 and bool(re.search(r"tensor|vllm|sglang|\btp\b|tp=", words)),
        year=software_year(row),
        engine=row["backend"].strip().lower(),
        prompt_tokens=prompt,
        served=is_served(row["backend"]) or bool(re.search(r"llmfit|server|\bgen\d", row.get("test", "").lower())),
        batch_tokens=float(batch[1]) if (batch := re.search(r"-ub (\d{1,6})\b", row.get("note", ""))) else None,
    )
    return CaseRow(facts, setup, TARGETS[kind], float(rate[1]) if rate else None, tuple(notes))


def named_facts(
    name: str,
    quant: str,
    *,
    parameters: float | None = None,
    active: float | None = None,
    size_bytes: float | None = None,
) -> tuple[ModelFacts, str]:
    """Facts of a model that is only named: from its catalogued shape, scaled to the stated parameters and size; and, where
    another shape stood in for it, which one. Raises InputError for what is neither known nor stated."""
    for what, count in (("bytes of a model", size_bytes), ("parameters", parameters), ("parameters", active)):
        if count is not None and not (math.isfinite(count) and count > 0):
            raise InputError(f"{count:g} {what} are impossible")
    shape, exact = find_shape(name, parameters, active)
    if size_bytes is not None:
        try:
            mix = quantisation(quant).mix
        except InputError:
            mix = "Q4_0"
        facts = catalogued_facts(shape.id, mix)
    else:
        facts, mix = catalogued_facts(shape.id, quant), ""
    facts = replace(facts, name=name, quantization=quant)
    stood_in = ""
    if not exact:
        total, used = sizes_of(name, parameters, active)
        total, used = total or facts.parameters, used or facts.active_parameters
        facts = _resized(facts, total / facts.parameters, used / facts.active_parameters)
        if known := relative(name):
            facts = replace(facts, layers=known.layers or facts.layers)
        if known and known.state_bytes:
            facts = replace(facts, kv_window_bytes_per_token=known.state_bytes)
        stood_in = f"{name} is not in the catalogue: {shape.id}, resized to {total / 1e9:.3g} B parameters, stands in"
    return (facts if size_bytes is None else to_size(facts, size_bytes, mix)), stood_in


def _resized(facts: ModelFacts, total: float, active: float) -> ModelFacts:
    """Another number of parameters: what a token reads grows by `active`, the rest with the file, and of `active` depth and
    width take a third each, as they do in the families that exist."""
    side = active ** (1 / 3)
    used = facts.expert_bytes * facts.experts_used / facts.experts if facts.experts else 0.0
    dense = facts.dense_bytes * active
    rest = facts.file_bytes - facts.dense_bytes - facts.expert_bytes
    expert = max(facts.file_bytes * total - dense - rest, 0.0) if facts.experts else 0.0
    share = min(1.0, used * active / expert) if expert else 0.0
    return replace(
        facts,
        file_bytes=round(facts.file_bytes * total),
        parameters=round(facts.parameters * total),
        active_parameters=round(facts.active_parameters * active),
        dense_bytes=round(dense),
        expert_bytes=round(expert),
        experts_used=max(1, round(facts.experts * share)) if expert else facts.experts_used,
        layers=max(1, round(facts.layers * side)),
        embedding_length=facts.embedding_length and round(facts.embedding_length * side),
        attention_length=facts.attention_length and round(facts.attention_length * side),
        kv_bytes_per_token=round(facts.kv_bytes_per_token * side),
        kv_window_bytes_per_token=round(facts.kv_window_bytes_per_token * side),
    )


def find_device(row: Mapping[str, str]) -> Hardware | None:
    """The catalogue's device for the columns `hardware` and `gpu_cores_or_variant`.
    A longer name than the catalogue's ('DGX Spark (GB10) Founders') counts where the stated bandwidth agrees too."""
    name, variant = row["hardware"].strip(), row.get("gpu_cores_or_variant", "")
    cores = re.search(r"(\d+)[- ]core GPU", f"{name} {variant}", re.IGNORECASE)
    memory = re.search(r"(\d+) ?GB", f"{name} {variant}")
    size, count = int(memory[1]) * GIB if memory else None, int(cores[1]) if cores else None
    outside = re.sub(r"\([^)]*\)", " ", name)
    for spelling in (f"{name} {variant}", name, outside, *re.findall(r"\(([^)]*)\)", name)):
        candidate = match(spelling, size, count)
        if candidate is not None:
            return candidate
    bandwidth = number(row, "memory_bandwidth_gbs") or math.inf

    def words(text: str) -> set[str]:
        return set(normalize(text).split())

    near = [device for device in hardware() if abs(device.bandwidth_bytes_per_s / (bandwidth * 1e9) - 1) < 0.05]
    inside = [device for device in near if words(device.id) <= words(name)]
    return max(inside, key=lambda device: len(words(device.id)), default=None)


def number(row: Mapping[str, str], column: str) -> float | None:
    """A number above 0, or None where none is stated. Raises InputError naming the column for anything else."""
    text = row.get(column, "").strip()
    if text.lower() in _UNSTATED:
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{column} = {text[:40]!r} is no number") from None
    if not (math.isfinite(value) and 0 < value < 1e9):
        raise InputError(f"{column} = {text[:40]!r} is impossible")
    return value


def depth_of(row: Mapping[str, str]) -> float | None:
    """Tokens in the cache before, or None where it is not stated."""
    depth_text = row.get("context_depth", "").strip()
    return 0.0 if re.fullmatch(r"-?0+(\.0*)?", depth_text) else number(row, "context_depth")


def prompt_tokens(row: Mapping[str, str], known: Constants) -> float:
    """How long the prompt is of which the prefill speed is asked: as the test says ('pp512'), else what is assumed."""
    stated = re.search(r"(?:\bpp|prefill)\s?(\d{1,7})", row.get("test", ""), re.IGNORECASE)
    return float(stated[1]) if stated and int(stated[1]) else known["open_loop.context_tokens"]


def mean_context(row: Mapping[str, str], known: Constants) -> float:
    """Tokens in the cache in the mean of the generation: the depth that is stated plus half of what is generated."""
    depth = depth_of(row)
    generated = re.search(r"\b(?:tg|gen)\s?(\d{1,6})\b|\b(\d{1,6})-token outputs", row.get("test", ""), re.IGNORECASE)
    if depth is None:
        depth = known["open_loop.context_tokens"]
    return depth + (int(generated[1] or generated[2]) / 2 if generated else known["open_loop.output_tokens"] / 2)


def software_year(row: Mapping[str, str]) -> float | None:
    """How old the engine is, as a year: from its version where that tells, else from the row's date (a range: its middle)."""
    version, date = row.get("backend_version", ""), row.get("date", "")
    build = re.fullmatch(r"\s*b(\d{4,6})\b.*", version)
    if build:
        return float(np.interp(int(build[1]), _BUILDS, _BUILD_YEARS))
    years = _years(version) or _years(date)
    return sum(years) / len(years) if years else None


def _years(text: str) -> list[float]:
    years = [int(y) + ((int(m) - 0.5) / 12 if m else 0.5) for y, m in re.findall(r"\b(20[12]\d)(?:-(\d\d)\b)?", text)]
    named = re.search(rf"\b({'|'.join(_MONTHS)})[a-z]* (20[12]\d)", text.lower())
    if named:
        return [int(named[2]) + (_MONTHS.index(named[1]) + 0.5) / 12]
    return years
