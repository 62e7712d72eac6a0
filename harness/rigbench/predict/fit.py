"""Does it fit: weights + KV cache (context x users) + compute buffers against the memory that a model can use.

Usable: NVIDIA and AMD cards the total less what driver and engine keep; Apple Metal's working-set limit, about 75 % of memory;
other shared memory what the operating system leaves. Four answers: `fits`, `tight` (less than 10 % left), `offload` (part of the
layers stay in the host's memory, read there by its CPU), `does not fit`. Figures: configs/predictors/memory.toml.

    rigbench predict --hardware rtx-4090 --model llama-3.3-70b --quant Q4_K_M
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from functools import cache

from rigbench.errors import InputError
from rigbench.models.footprint import kv_bytes
from rigbench.paths import configs_dir
from rigbench.predict.hardware import GIB, Hardware
from rigbench.records import ModelFacts, Prediction

MADE_WITHOUT_OFFLOAD = ("user_tps_80_percent", "prompt_tokens", "prefill_tps", "prefill_tps_80_percent", "ttft_s")
"""What a prediction says of a model that is whole on its device."""


@dataclass(frozen=True, slots=True)
class Fit:
    """`share_on_device`: part of the weights that the device holds (1 unless `answer` is `offload`). Bytes."""

    answer: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    usable_bytes: int
    share_on_device: float
    reason: str

    @property
    def needed_bytes(self) -> int:
        """Everything that has to be in memory."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


@cache
def rules() -> dict[str, dict[str, float]]:
    """configs/predictors/memory.toml."""
    return tomllib.loads((configs_dir() / "predictors" / "memory.toml").read_text(encoding="utf-8"))


def usable_bytes(device: Hardware, reserved_bytes: int | None = None) -> int:
    """What of the device's memory a model can use. `reserved_bytes` is what the driver or system itself keeps, where it says so."""
    rule, total = rules(), device.memory_bytes
    if reserved_bytes is not None:
        return max(0, total - reserved_bytes)
    if device.vendor == "apple":
        return round(total * rule["share"]["apple" if total > 36 * GIB else "apple_small"])
    if device.unified:
        return round(total * rule["share"]["cpu" if device.vendor == "cpu" else "soc"])
    reserved = rule["reserved"].get(f"{device.vendor}_gib", 0.6) * GIB
    return max(0, round(total - reserved))


def cached_users(
    facts: ModelFacts, device: Hardware, context_tokens: float, kv_bits: float = 16, devices: int = 1
) -> float:
    """How many sequences of this length a server keeps in its cache; vLLM lets the rest wait. 0: not even the weights fit."""
    room = device.memory_bytes * devices * rules()["share"]["vllm"] - facts.file_bytes - compute_bytes(facts)
    each = kv_bytes(facts, context_tokens, kv_bits)
    return max(room, 0.0) / each if each else math.inf


def compute_bytes(facts: ModelFacts) -> int:
    """Scratch of one batch: logits of every token, and rows of activations, in 32 bits."""
    rule = rules()["compute"]
    width = (facts.vocab_size or 0) + rule["activation_rows"] * (facts.embedding_length or 0)
    return round(rule["batch_tokens"] * width * 4)


def fit(
    facts: ModelFacts,
    device: Hardware,
    *,
    users: int = 1,
    context_tokens: int = 4096,
    kv_bits: float = 16,
    devices: int = 1,
    reserved_bytes: int | None = None,
    host_memory_bytes: int | None = None,
) -> Fit:
    """Whether `users` sequences of `context_tokens` each fit. Raises InputError for the impossible."""
    if users < 1 or devices < 1 or context_tokens < 0:
        raise InputError(
            f"{users} users, {devices} devices and a context of {context_tokens} tokens cannot be; give at least 1, 1 and 0"
        )
    cached = round(users * kv_bytes(facts, context_tokens, kv_bits))
    scratch = compute_bytes(facts) * devices
    usable = usable_bytes(device, reserved_bytes) * devices
    needed = facts.file_bytes + cached + scratch
    result = Fit(
        "fits", facts.file_bytes, cached, scratch, usable, 1.0, f"{_gb(needed)} needed of {_gb(usable)} usable"
    )
    if needed <= usable * (1 - rules()["tight"]["left"]):
        return result
    if needed <= usable:
        return replace(result, answer="tight")
    host = host_memory_bytes if host_memory_bytes is not None else round(rules()["offload"]["host_gib"] * GIB)
    short = needed - usable
    room = usable - cached - scratch
    if not device.unified and room > 0 and short <= host * rules()["share"]["cpu"]:
        share = room / facts.file_bytes
        reason = f"{result.reason}; {1 - share:.0%} of the layers stay in host memory"
        return replace(result, answer="offload", share_on_device=share, reason=reason)
    return replace(result, answer="does not fit", share_on_device=0.0, reason=f"{result.reason}: {_gb(short)} too much")


def with_fit(prediction: Prediction, answer: Fit, host_bandwidth_bytes_per_s: float | None = None) -> Prediction:
    """The prediction as the memory allows it: slower where layers are offloaded, None with the reason where it does not fit."""
    memory = {"fit": answer.answer, "needed_bytes": answer.needed_bytes, "usable_bytes": answer.usable_bytes}
    inputs = prediction.inputs | memory
    if "users_running" in inputs:  # the server keeps what fits, and lets the others wait
        return replace(prediction, inputs=inputs)
    if answer.answer == "does not fit":
        reason = f"does not fit: {answer.reason}"
        inputs = {name: value for name, value in inputs.items() if name not in MADE_WITHOUT_OFFLOAD}
        return replace(prediction, user_tps=None, output_tps=None, inputs=inputs, reason=reason)
    if answer.answer != "offload" or prediction.user_tps is None or prediction.output_tps is None:
        return replace(prediction, inputs=inputs)
    prediction_with_fit = offloaded(
        replace(prediction, inputs=inputs), answer.share_on_device, host_bandwidth_bytes_per_s
    )
    return replace(prediction_with_fit, reason=answer.reason)


def offloaded(prediction: Prediction, share: float, host_bandwidth_bytes_per_s: float | None = None) -> Prediction:
    """The prediction for a model of which the device holds `share`, and the processor reads the rest in the host's memory."""
    rule = rules()["offload"]
    bandwidth = host_bandwidth_bytes_per_s or rule["host_bandwidth_gbs"] * 1e9
    on_host = (1 - share) * (prediction.bytes_per_step or 0)
    read_s, least_s = on_host / bandwidth, on_host / (host_bandwidth_bytes_per_s or rule["host_peak_gbs"] * 1e9)
    ceiling, alone = prediction.ceiling_user_tps, prediction.user_tps
    step_s = None if alone is None else share / alone + read_s + rule["link_ms"] * 1e-3
    users = prediction.output_tps / alone if alone and prediction.output_tps else None
    whole = {name: value for name, value in prediction.inputs.items() if name not in MADE_WITHOUT_OFFLOAD}
    return replace(
        prediction,
        user_tps=None if step_s is None else 1 / step_s,
        output_tps=None if step_s is None or users is None else users / step_s,
        ceiling_user_tps=1 / (share / ceiling + least_s) if ceiling else None,
        formula=f"{prediction.formula}; with offload t = share x t + (1 - share) x bytes / host bandwidth + link",
        inputs={**whole, "share_on_device": share, "host_bandwidth_bytes_per_s": bandwidth},
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
