"""The predictors and the ceiling, each with its formula and inputs beside its answer.

Decoding one token reads every active weight and the KV cache once, so t(step) >= bytes / bandwidth:

    ceiling        bandwidth / least bytes(users, context)            nothing can be faster: all users choose one user's experts
    published      bandwidth / file size x 0.65                       the rule of the published tables, for one user
    active-bytes   bandwidth / bytes(users, context) x 0.65           the same on what a step really reads
    roofline       1 / t(step), harness/rigbench/predict/roofline.py           the default; its constants come from measurements

    rigbench predict --hardware rtx-5090 --model llama-3.3-70b --quant Q4_K_M
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from functools import cache
from typing import Any, TypedDict, Unpack

from rigbench.errors import InputError
from rigbench.models.footprint import decode_bytes, weight_bytes
from rigbench.paths import configs_dir
from rigbench.predict.fit import cached_users
from rigbench.predict.hardware import Hardware
from rigbench.predict.roofline import (
    Constants,
    Setup,
    borrowed,
    constants,
    interval,
    is_served,
    platform_of,
    step_seconds,
)
from rigbench.records import ModelFacts, Prediction

ROOFLINE_FORMULA = (
    "t = (stream^p + compute^p)^(1/p) + experts + layers + cache + heads + users + hops; "
    "user_tps = 1/t, output_tps = users/t"
)
NO_BANDWIDTH = "the memory bandwidth of this device is not known: name it with --hardware or run `rigbench bandwidth`"
PROMPT_TOKENS = 512
"""The prompt whose prefill speed stands beside an answer where no other is asked for."""
GPU_ENGINES = ("mlx", "vllm")


@cache
def efficiency(predictor: str) -> float:
    """The constant of `published` or `active-bytes`, from configs/predictors/published.toml."""
    content = tomllib.loads((configs_dir() / "predictors" / "published.toml").read_text(encoding="utf-8"))
    return float(content[predictor]["efficiency"])


def check(
    facts: ModelFacts, bandwidth_bytes_per_s: float | None, users: int, context_tokens: float, devices: int = 1
) -> None:
    """Raises InputError for what no machine or model can be: 0 GB/s, 10 experts of 8, negative users, NaN."""
    if bandwidth_bytes_per_s is not None and not (math.isfinite(bandwidth_bytes_per_s) and bandwidth_bytes_per_s > 0):
        gb_per_s = bandwidth_bytes_per_s / 1e9
        raise InputError(f"a memory bandwidth of {gb_per_s:g} GB/s is impossible: give a number above 0")
    for count, what in ((users, "users"), (devices, "devices")):
        if count < 1:
            raise InputError(f"{count} {what} is impossible: give 1 or more")
    if not (math.isfinite(context_tokens) and context_tokens >= 0):
        raise InputError(f"a context of {context_tokens:g} tokens is impossible: give 0 or more")
    if facts.experts < 0 or not 0 <= facts.experts_used <= facts.experts:
        raise InputError(f"model {facts.name!r}: {facts.experts_used} experts used of {facts.experts} is impossible")
    dense, experts = facts.dense_bytes, facts.expert_bytes
    if min(dense, experts) < 0 or dense + experts == 0 or facts.file_bytes <= 0:
        raise InputError(f"model {facts.name!r}: no weight bytes; its size must be above 0")


def step_bytes(facts: ModelFacts, users: int = 1, context_tokens: float = 0, kv_bits: float = 16) -> int:
    """Bytes that one decode step of `users` sequences reads: weights once, each user's KV cache at its mean context."""
    return round(decode_bytes(facts, users, context_tokens, kv_bits))


class Request(TypedDict, total=False):
    """For what a prediction is: users at once, their mean context, bits a cached value, the group of cases that it is for, and the
    prompt of each user, whose prefill and time to the first token stand beside the answer."""

    users: int
    context_tokens: float
    kv_bits: float
    group: str
    prompt_tokens: int


def ceiling(facts: ModelFacts, bandwidth_bytes_per_s: float | None, **request: Unpack[Request]) -> Prediction:
    """bandwidth / least bytes of the step: a measured decode above it means a wrong byte count, catalogue or result. Of a mixture
    one user's experts count, since the users' tokens may all choose the same; `bytes_per_step` is what is typical."""
    prediction = _prediction("ceiling", facts, bandwidth_bytes_per_s, request)
    bound = prediction.ceiling_user_tps
    return replace(
        prediction,
        user_tps=bound,
        output_tps=bound and request.get("users", 1) * bound,
        formula="user_tps = bandwidth / bytes(users, context) with one user's experts; output_tps = users x user_tps",
    )


def active_bytes(facts: ModelFacts, bandwidth_bytes_per_s: float | None, **request: Unpack[Request]) -> Prediction:
    """The published efficiency on the bytes that one step really reads: only the routed experts of a mixture."""
    return _prediction("active-bytes", facts, bandwidth_bytes_per_s, request, efficiency("active-bytes"))


def published(facts: ModelFacts, bandwidth_bytes_per_s: float | None, **request: Unpack[Request]) -> Prediction:
    """The rule of the published tables: bandwidth / file size x 0.65. It knows one user, no context and no experts."""
    share = efficiency("published")
    prediction = _prediction("published", facts, bandwidth_bytes_per_s, request, share)
    speed = None
    if bandwidth_bytes_per_s is not None and request.get("users", 1) == 1:
        speed = bandwidth_bytes_per_s * share / facts.file_bytes
    return replace(
        prediction,
        user_tps=speed,
        output_tps=speed,
        formula=f"user_tps = bandwidth / file size x {share:g}",
        inputs={"bandwidth_bytes_per_s": bandwidth_bytes_per_s, "file_bytes": facts.file_bytes, "efficiency": share},
        reason=prediction.reason or (None if speed else "the published rule speaks of one user only"),
    )


def _prediction(
    predictor: str, facts: ModelFacts, bandwidth_bytes_per_s: float | None, request: Request, share: float = 1.0
) -> Prediction:
    """What reading the step's bytes at this share of the bandwidth gives; None with the reason without a bandwidth."""
    users, context_tokens, kv_bits = (
        request.get("users", 1),
        request.get("context_tokens", 0),
        request.get("kv_bits", 16),
    )
    check(facts, bandwidth_bytes_per_s, users, context_tokens)
    moved, weights = step_bytes(facts, users, context_tokens, kv_bits), round(weight_bytes(facts, users))
    least = weight_bytes(facts, 1) + moved - weights
    ceiling_tps = None if bandwidth_bytes_per_s is None else bandwidth_bytes_per_s / least
    user_tps = None if bandwidth_bytes_per_s is None else bandwidth_bytes_per_s / moved * share
    factor = "" if share == 1 else f" x {share:g}"
    inputs = {
        "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
        "users": users,
        "context_tokens": context_tokens,
        "weight_bytes": weights,
        "kv_bytes": moved - weights,
        "kv_bits": kv_bits,
    }
    return Prediction(
        group=request.get("group", ""),
        predictor=predictor,
        user_tps=user_tps,
        output_tps=None if user_tps is None else users * user_tps,
        ceiling_user_tps=ceiling_tps,
        bytes_per_step=moved,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        formula=f"user_tps = bandwidth / bytes(users, context){factor}; output_tps = users x user_tps",
        inputs=inputs | ({"efficiency": share} if factor else {}),
        reason=NO_BANDWIDTH if bandwidth_bytes_per_s is None else None,
    )


def roofline(
    facts: ModelFacts,
    bandwidth_bytes_per_s: float | None,
    *,
    backend: str = "",
    device_kind: str = "",
    platform: str | None = None,
    device: Hardware | None = None,
    devices: int = 1,
    tensor_parallel: bool = False,
    measured: bool = False,
    cpu_cores: int | None = None,
    year: float | None = None,
    known: Constants | None = None,
    **request: Unpack[Request],
) -> Prediction:
    """The default predictor. `backend` and `device_kind` (as EngineInfo.device) tell the `platform` where it is not given, `device`
    its cores and kind of memory; without a device its bandwidth stands for it. `measured`: the bandwidth is a read benchmark's on
    this machine. `known` are constants other than the shipped ones, as `calibrated` gives them. Raises InputError for the
    impossible."""
    users, context_tokens = request.get("users", 1), request.get("context_tokens", 0)
    check(facts, bandwidth_bytes_per_s, users, context_tokens, devices)
    prediction = _prediction("roofline", facts, bandwidth_bytes_per_s, request)
    if device_kind == "sim":
        return replace(prediction, formula="t = bytes(users, context) / bandwidth: the simulator knows no other cost")
    prediction = replace(prediction, formula=ROOFLINE_FORMULA)
    if bandwidth_bytes_per_s is None:
        return prediction
    if tensor_parallel:
        whole = bandwidth_bytes_per_s * devices
        prediction = replace(
            prediction, bandwidth_bytes_per_s=whole, ceiling_user_tps=(prediction.ceiling_user_tps or 0) * devices
        )
    if device_kind == "cpu" and (engine := platform or backend.lower().partition("_")[0]) in GPU_ENGINES:
        reason = f"no measurement of {engine} on a CPU is among those that the roofline was fitted on"
        return replace(prediction, user_tps=None, output_tps=None, reason=reason)
    known = constants() if known is None else known
    setup = Setup(
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        platform="cpu" if device_kind == "cpu" else platform or platform_of(f"{backend} {device_kind}", device),
        hardware=device,
        users=users,
        context_tokens=context_tokens,
        kv_bits=request.get("kv_bits", 16),
        devices=devices,
        tensor_parallel=tensor_parallel,
        year=year,
        engine=backend.lower(),
        measured=measured,
        cpu_cores=cpu_cores,
        served=is_served(backend),
    )
    running: float = users
    if setup.platform == "vllm" and device is not None:
        slots = cached_users(facts, device, context_tokens, setup.kv_bits, devices)
        if 1 <= slots < users:
            running = math.floor(slots)
            setup = replace(setup, users=running)
            prediction = replace(
                prediction,
                reason=f"the cache holds {running} of {users} users at once: the others wait in vLLM's queue",
            )
    if (sentence := borrowed(setup)) is not None and prediction.reason is None:
        prediction = replace(prediction, reason=sentence)
    parts = step_seconds(facts, setup, known)
    step_s = parts.pop("step")
    inputs = {
        **prediction.inputs,
        "platform": setup.platform,
        "layers": facts.layers,
        "devices": devices,
        "milliseconds": {name: round(part * 1e3, 4) for name, part in parts.items()},
    }
    share = running / users / step_s
    if (factor := interval(facts, setup, known)) is not None:
        inputs["user_tps_80_percent"] = _around(share, factor)
    inputs |= _prompt(facts, replace(setup, users=1, context_tokens=0), known, request, running, step_s)
    if known.get("calibrated.rows"):
        inputs["calibrated_with_rows"] = round(known["calibrated.rows"])
    if running < users:
        inputs["users_running"] = running
    return replace(prediction, user_tps=share, output_tps=running / step_s, inputs=inputs)


def _prompt(
    facts: ModelFacts, setup: Setup, known: Constants, request: Request, users: float, step_s: float
) -> dict[str, Any]:
    """Prefill speed of one user's prompt, and the time to the first token where all users' prompts come at once."""
    tokens = request.get("prompt_tokens") or PROMPT_TOKENS
    prompt = replace(setup, prompt_tokens=tokens)
    token_s = step_seconds(facts, prompt, known)["step"]
    inputs: dict[str, Any] = {
        "prompt_tokens": tokens,
        "prefill_tps": float(f"{1 / token_s:.3g}"),
        "ttft_s": float(f"{users * tokens * token_s + step_s:.3g}"),
    }
    if (factor := interval(facts, prompt, known)) is not None:
        inputs["prefill_tps_80_percent"] = _around(1 / token_s, factor)
    return inputs


def _around(tps: float, factor: float) -> list[float]:
    return [float(f"{bound:.3g}") for bound in (tps / factor, tps * factor)]
