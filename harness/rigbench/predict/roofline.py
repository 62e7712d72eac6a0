"""The roofline: how long one decode step takes, from physics that carries over to machines nobody has measured yet.

    t(step) = ( stream^p + compute^p )^(1/p)  +  experts  +  layers  +  cache  +  users  +  hops

    stream    bytes of weights that the step reads / (bandwidth x efficiency); efficiency by kind of memory, not by chip
    compute   weights touched x cost / (cores x lanes x clock): unpacking and multiplying them, by quantisation and platform;
              it hides behind streaming (p-norm) unless a chip has few cores for its bandwidth
    experts   bytes of routed experts x cost / bandwidth: small scattered matrices stream worse than large ones
    layers    layers x time of starting and joining a layer's kernels, which falls with the clock and with the software's age
    cache     KV bytes of all users at their mean context / (bandwidth x efficiency), and the heads that read them
    users     every user after the first: its share of the arithmetic; past `KERNEL_SWITCH` users llama.cpp multiplies tiles of 32,
              one for each expert that is touched, however few tokens are in it
    host      vLLM's own work for every running sequence and step, whatever the GPU; what llama.cpp's servers need to sort each
              sequence's vocabulary
    hops      from device to device in a layer split

    user_tps = 1 / t, output_tps = users / t

Prefill is the same sum for one token of a prompt, which the engine reads in batches of `prefill.batch`:

    stream     the batch's bytes of weights (nearly every expert is touched) / batch
    compute    2 flops for each weight that the token uses / (2 x cores x lanes x clock), by platform, quantisation and family of
               chip: the datasheets' peaks of GeForce and professional cards differ where their kernels do not. Experts multiply
               whole tiles of `prefill.tile` tokens, and the clock falls where a chip has few watts for its cores
    attention  4 flops for each element of the queries' width (of the latents', where they stay folded) and token looked back
               at, in the mean of the prompt / peak
    layers     the layers' time / batch

and the time to the first token is prompt_tokens x that, plus a step.

The design's roofline, t = bytes / (eff x bandwidth) + layers x (a + m x is_moe), is this with the compute and expert terms left
out; they are what makes constants of one chip hold for the next. All constants are in configs/predictors/roofline.toml, fitted
by scripts/fit_predictor.py; a constant belongs to a platform, a family or a kind of memory and is a factor on the one above it.

    rigbench predict --hardware m4-max-40 --model qwen3-30b-a3b --quant Q4_K_M --users 8 --context 4096
"""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import rigbench_backends
from rigbench.errors import InputError
from rigbench.models.footprint import expert_share, kv_bytes, weight_bytes
from rigbench.models.names import unpacking
from rigbench.paths import configs_dir
from rigbench.predict.hardware import Hardware, hardware
from rigbench.records import ModelFacts
from rigbench_backends.base import EngineInfo

KERNEL_SWITCH = 8
"""llama.cpp's kernels of one product a user (mul_mv_ext, MMVQ) end at this many; beyond, matrices are tiled (mul_mm, MMQ)."""
BORROWED = 1.5
NORMAL_80 = 1.28
"""80 % of normal residuals lie within so many standard deviations."""
PLATFORMS = ("cuda", "metal", "rocm", "vulkan", "sycl", "cpu", "mlx", "vllm")
Constants = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Setup:
    """On what, and with what, a model runs. `platform` is one of PLATFORMS, `year` the age of the software (2026.5 = mid 2026).
    `devices` share the layers, or with `tensor_parallel` every layer. `engine` tells an engine apart from its platform's usual.
    `prompt_tokens`: with it, a token of this prompt is meant, not a decode step; `context_tokens` is what was in the cache before.
    `measured`: the bandwidth is what a read benchmark got on this machine, not the datasheet's. `cpu_cores`: physical cores,
    where the CPU does the work. `batch_tokens`: so many of a prompt are computed at once (None: `prefill.batch`).
    `served`: by a server, whose tokens are sampled on its host."""

    bandwidth_bytes_per_s: float
    platform: str
    hardware: Hardware | None = None
    users: float = 1
    context_tokens: float = 0
    kv_bits: float = 16
    devices: int = 1
    tensor_parallel: bool = False
    year: float | None = None
    engine: str = ""
    measured: bool = False
    cpu_cores: int | None = None
    prompt_tokens: float = 0
    batch_tokens: float | None = None
    served: bool = False


class Term(NamedTuple):
    """`base` seconds (with every constant 1), the names of the constants that multiply it (`divide`: that divide it), and the
    software's `age` in years, over which it falls by `years.fall`."""

    base: float
    names: tuple[str, ...]
    divide: bool = False
    age: float = 0.0


@cache
def constants(path: Path | None = None) -> dict[str, float]:
    """The fitted constants, flattened to `table.key`."""
    content = tomllib.loads((path or configs_dir() / "predictors" / "roofline.toml").read_text(encoding="utf-8"))
    tables = {name: table for name, table in content.items() if name != "fit" and isinstance(table, dict)}
    return {f"{name}.{key}": float(value) for name, table in tables.items() for key, value in table.items()}


ENGINE_WORDS = {
    "vllm-mlx": "mlx", "vllm-metal": "mlx", "mlx": "mlx", "vllm": "vllm", "sglang": "vllm", "tensorrt": "vllm", "trt": "vllm",
    "exllama": "cuda", "cuda": "cuda", "metal": "metal", "rocm": "rocm", "hip": "rocm", "vulkan": "vulkan", "sycl": "sycl",
    "cpu": "cpu", "llama": "", "lmstudio": "", "lm studio": "", "koboldcpp": "", "openai": "", "sim": "",
}  # fmt: skip
"""What names a platform within the name of an engine; "" is an engine that runs on the device's usual one."""


SERVERS = ("ollama", "server", "openai", "lmstudio", "lm studio", "koboldcpp")
"""Within an engine's name: llama.cpp's kernels behind a server, which samples on its host."""


def is_engine(name: str) -> bool:
    """Whether `platform_of` knows an engine of this name; of any other it takes the device's usual platform."""
    return name in rigbench_backends.registry() or any(word in name.lower() for word in ENGINE_WORDS)


def is_served(name: str) -> bool:
    """Whether the engine of this name is one of SERVERS."""
    return any(word in name.lower() for word in SERVERS)


def platform_of(backend: str, device: Hardware | None = None) -> str:
    """The platform of a backend as people write it: 'llama.cpp-cuda', 'MLX', 'ollama' (then the device's usual one)."""
    text = backend.lower()
    for word, platform in ENGINE_WORDS.items():
        if platform and word in text:
            return platform
    if device is None:
        example = "llama.cpp-cuda, llama.cpp-metal, mlx or vllm"
        raise InputError(f"the backend {backend!r} names no platform: write for example {example}")
    return {"nvidia": "cuda", "apple": "metal", "amd": "vulkan", "intel": "vulkan"}.get(device.vendor, "cpu")


def engine_platform(backend: str, info: EngineInfo, device: Hardware | None = None) -> str:
    """The platform that the backend declares for an engine that ran; by its name where the backend is not installed here, or its
    server does not say what it runs on."""
    if backend in rigbench_backends.registry():
        platform = rigbench_backends.load(backend).platform(info)
        if platform in PLATFORMS:
            return platform
    return platform_of(f"{backend} {info.device}", device)


_VENDORS = {"cuda": "nvidia", "vllm": "nvidia", "metal": "apple", "mlx": "apple", "rocm": "amd", "sycl": "intel"}
_INLINE_ECC = frozenset({"a2", "a10", "a40", "l4", "l40", "l40s", "t4"})
"""GDDR cards for data centres: error correction is on as they come and lives in the same memory, so it costs bandwidth."""


def cycles_per_s(setup: Setup) -> float:
    """Core cycles per second: cores x clock of the device, or what catalogued devices of its vendor and bandwidth have."""
    device = _computes(setup)
    if device is not None and device.gpu_cores and device.clock_hz:
        return device.gpu_cores * device.clock_hz
    if setup.platform == "cpu" and setup.cpu_cores:
        return setup.cpu_cores * _clock_hz(setup)
    vendor = "cpu" if setup.platform == "cpu" else _VENDORS.get(setup.platform, "")
    constant, slope = _cycles_of_bandwidth(vendor)
    return math.exp(constant + slope * math.log(setup.bandwidth_bytes_per_s))


@cache
def _cycles_of_bandwidth(vendor: str) -> tuple[float, float]:
    """(constant, slope) of log cycles over log bandwidth through the vendor's catalogued devices ('': all that are no CPU).
    A straight line with a slope of 0 to 1, so that more bandwidth never predicts less speed."""
    points = [
        (math.log(device.bandwidth_bytes_per_s), math.log(device.gpu_cores * device.clock_hz))
        for device in hardware()
        if device.gpu_cores and device.clock_hz and (device.vendor == vendor or (not vendor and device.vendor != "cpu"))
    ]
    x, y = zip(*points, strict=True)
    slope = min(1.0, max(0.0, statistics.linear_regression(x, y).slope))
    return statistics.fmean(y) - slope * statistics.fmean(x), slope


def _computes(setup: Setup) -> Hardware | None:
    """The device whose cores do the work: none that is known where the CPU beside a catalogued GPU does it."""
    device = setup.hardware
    return None if device is None or (setup.platform == "cpu") != (device.vendor == "cpu") else device


def _clock_hz(setup: Setup) -> float:
    device = _computes(setup)
    if device is not None and device.clock_hz:
        return device.clock_hz
    return {"metal": 1.5e9, "mlx": 1.5e9, "cpu": 3e9}.get(setup.platform, 2.2e9)


def _stream_names(setup: Setup) -> tuple[str, ...]:
    if setup.measured:
        return ("stream.measured",)
    base = ("stream.base", f"stream.{setup.platform}")
    device = setup.hardware
    if device is None:
        return base
    if setup.platform == "cpu":
        return (*base, "stream.cpu_beside_gpu") if device.vendor != "cpu" else base
    more = {
        "stream.two_dies": "ultra" in device.id,
        "stream.m1": device.id.startswith("m1-") and device.bandwidth_bytes_per_s < 100e9,
        "stream.hbm": (device.memory_kind or "").startswith("hbm"),
        "stream.inline_ecc": device.id in _INLINE_ECC,
        "stream.shared": device.family.endswith("-soc") and device.vendor != "apple",
        "stream.amd_card": device.vendor == "amd"
        and not device.unified
        and not (device.memory_kind or "").startswith("hbm"),
    }
    return (*base, *(name for name, applies in more.items() if applies))


def _layer_names(facts: ModelFacts, setup: Setup) -> tuple[str, ...]:
    platform, experts = setup.platform, facts.experts > 0
    applying = {
        "layer.base": True,
        f"layer.{platform}": True,
        "layer.experts": experts,
        f"layer.experts_{platform}": experts,
        "layer.bf16_experts_on_vulkan": experts and platform == "vulkan" and unpacking(facts.quantization) == "f16",
        "layer.recurrent": facts.kv_window_tokens == 1,
        "layer.latent": is_latent(facts),
        "layer.gemma": facts.architecture.startswith("gemma"),
        "layer.ds4": setup.engine.startswith("ds4"),
    }
    return tuple(name for name, applies in applying.items() if applies)


def _host_terms(facts: ModelFacts, setup: Setup) -> dict[str, Term]:
    """Seconds of the host's own for each step: vLLM's for every sequence after the first, and what llama.cpp's servers need to sort
    each sequence's vocabulary. llama-bench, and our engine in this process, take the best token without."""
    if setup.platform == "vllm":
        return {"host": Term((setup.users - 1) * 1e-6, ("host.vllm",))}
    if setup.served and setup.platform != "mlx" and facts.vocab_size:
        return {"host": Term(setup.users * facts.vocab_size * 1e-9, ("host.sampling",))}
    return {}


def _users_terms(facts: ModelFacts, setup: Setup, cycles_per_s: float) -> dict[str, Term]:
    """Seconds for the users after the first; on llama.cpp past KERNEL_SWITCH those of all users' tiles. Metal's experts keep one
    product a user, where the others' cost a tile for each expert that is touched."""
    more, platform = setup.users - 1, setup.platform
    s_per_byte = facts.parameters / facts.file_bytes / cycles_per_s
    once = weight_bytes(facts, 1) * s_per_byte
    if platform == "vllm":
        share = setup.devices if setup.tensor_parallel else 1
        peak = setup.hardware.fp16_flops * share if setup.hardware and setup.hardware.fp16_flops else 1e3 * cycles_per_s
        return {"users": Term(more * 2 * once * cycles_per_s / peak, ("users.vllm",))}
    each = ("users.base", f"users.{platform}")
    metal, dense = platform == "metal", facts.dense_bytes * s_per_byte
    if platform == "mlx" or setup.users <= KERNEL_SWITCH:
        return {"users": Term(more * once, each)}
    tiled = facts.dense_bytes if metal else weight_bytes(facts, setup.users)
    return {
        "users": Term(more * (once - dense if metal else 0.0), each),
        "matmul": Term(math.ceil(setup.users / 32) * tiled * s_per_byte, ("matmul.base", f"matmul.{platform}")),
    }


def _watts(device: Hardware) -> float | None:
    """Watts for a core and GHz; None where the catalogue lacks one of the three."""
    if not (device.power_w and device.gpu_cores and device.clock_hz):
        return None
    return device.power_w / (device.gpu_cores * device.clock_hz * 1e-9)


@cache
def _usual_watts(family: str) -> float | None:
    """`_watts` of the middle of a family: what its process and its cores need under full arithmetic. A chip that shares its watts
    with a processor has the cores of a family of cards (rdna3.5-soc those of rdna3)."""
    cores = family.removesuffix("-soc").split(".")[0]
    families = {cores, family}
    watts = [each for device in hardware() if device.family in families and (each := _watts(device)) is not None]
    return statistics.median(watts) if watts else None


def _sustained(device: Hardware | None, known: Constants) -> float:
    """The clock under full arithmetic against the catalogue's: matrices draw the most power, and a chip with fewer watts for its
    cores than is usual in its family slows down. Apple's chips keep theirs."""
    if device is None or device.vendor in ("apple", "cpu"):
        return 1.0
    watts, usual = _watts(device), _usual_watts(device.family)
    return 1.0 if watts is None or usual is None else float(min(1.0, watts / usual) ** known["prefill.power"])


def _padding(facts: ModelFacts, batch: float, tile: float) -> float:
    """By how much the tiles of a batch's experts exceed their tokens: each expert that is touched multiplies whole tiles, and half
    a tile of it is empty in the mean."""
    tokens = batch * facts.experts_used / facts.experts
    return 1 + expert_share(facts.experts, facts.experts_used, batch) * tile / 2 / tokens


def _prefill_terms(facts: ModelFacts, setup: Setup, known: Constants) -> dict[str, Term]:
    """`terms` of one token of a prompt."""
    share = setup.devices if setup.tensor_parallel else 1
    device, platform = _computes(setup), setup.platform
    family = device.family if device is not None else "cpu" if platform == "cpu" else "unknown"
    lanes = known.get(f"lanes.{family}", known["lanes.base"])
    peak = 2 * cycles_per_s(setup) * lanes * share * _sustained(device, known)
    batch = min(setup.prompt_tokens, setup.batch_tokens or known["prefill.batch"])
    s_per_byte = 2 * facts.parameters / facts.file_bytes / peak
    once = weight_bytes(facts, 1) * s_per_byte
    if facts.experts:
        dense, tile = facts.dense_bytes * s_per_byte, known.get(f"prefill.tile_{platform}", known["prefill.tile"])
        once = dense + (once - dense) * _padding(facts, batch, tile)
    back = looking_back(facts, setup.context_tokens + setup.prompt_tokens / 2, known)
    tensor_cores = platform == "vulkan" and device is not None and device.vendor == "nvidia"
    applying = {
        "prefill.base": True,
        f"prefill.{platform}{'_nvidia' if tensor_cores else ''}": True,
        f"prefill.{unpacking(facts.quantization)}": True,
        f"prefill.{family}": True,
        "prefill.experts": facts.experts > 0,
        "prefill.plain_experts": facts.experts > 0 and unpacking(facts.quantization) == "f16",
        f"prefill.experts_{platform}": facts.experts > 0,
        "prefill.recurrent": facts.kv_window_tokens == 1,
        "prefill.old": setup.year is not None and setup.year < known["years.flash_attention"],
        "prefill.ds4": setup.engine.startswith("ds4"),
    }
    looked_at = facts.layers * _heads_width(facts) * back
    return {
        "stream": Term(
            weight_bytes(facts, batch) / (setup.bandwidth_bytes_per_s * share) / batch,
            _stream_names(setup),
            divide=True,
        ),
        "compute": Term(once, tuple(name for name, applies in applying.items() if applies)),
        "attention": Term(4 * looked_at / peak, ("attention.base", f"attention.{platform}")),
        "layers": Term(facts.layers * 2e9 / _clock_hz(setup) * 1e-3 / batch, _layer_names(facts, setup)),
    }


def terms(facts: ModelFacts, setup: Setup, known: Constants) -> dict[str, Term]:
    """What the step's time is made of, before constants, by the names of the module's formula.
    The prediction and the fit both read this list."""
    if setup.prompt_tokens:
        return _prefill_terms(facts, setup, known)
    platform, users, context = setup.platform, setup.users, setup.context_tokens
    share = setup.devices if setup.tensor_parallel else 1
    bandwidth = setup.bandwidth_bytes_per_s * share
    device = _computes(setup)
    family = device.family if device is not None else "cpu" if platform == "cpu" else "unknown"
    lanes = known.get(f"lanes.{family}", known["lanes.base"])
    read = weight_bytes(facts, users)
    if platform == "metal" and facts.experts:  # mul_mv_id reads each user's for it alone below 32 (ne21_mm_id_min)
        each = weight_bytes(facts, 1) - facts.dense_bytes
        read = facts.dense_bytes + min(users * each, facts.expert_bytes)
    cycles = cycles_per_s(setup) * share * lanes
    once = weight_bytes(facts, 1) * facts.parameters / facts.file_bytes / cycles
    year = setup.year if setup.year is not None else known["years.today"]
    age = min(max(year, known["years.first"]), known["years.last"]) - known["years.middle"]
    llama_cpp = platform not in ("mlx", "vllm")
    old = "old_" if llama_cpp and year < known["years.flash_attention"] else ""
    kind = old + ("apple" if platform in ("metal", "mlx") else "vllm" if platform == "vllm" else "gpu")
    looked_at = users * facts.layers * _heads_width(facts) * looking_back(facts, context, known)
    cached = users * kv_bytes(facts, context, setup.kv_bits)
    if facts.kv_window_tokens == 1:
        cached += users * facts.kv_window_bytes_per_token  # a state is written as well
    computing: tuple[str, ...] = ("base", platform, unpacking(facts.quantization), family)
    if platform == "metal" and family in ("apple-m1", "apple-m2") and computing[2] == "k":
        computing = (*computing, "k_on_old_apple")
    by_name = {
        "stream": Term(read / bandwidth, _stream_names(setup), divide=True),
        "compute": Term(once, tuple(f"compute.{name}" for name in computing)),
        "experts": Term((read - facts.dense_bytes) / bandwidth, ("experts.base",)),
        "layers": Term(facts.layers * 2e9 / _clock_hz(setup) * 1e-3, _layer_names(facts, setup), age=age),
        "cache": Term(cached / bandwidth, (f"cache.{kind}",), divide=True),
        "heads": Term(4 * looked_at / bandwidth, (f"heads.{kind}",), divide=True),
        **_users_terms(facts, setup, cycles),
        **_host_terms(facts, setup),
        "hops": Term(math.log2(setup.devices) * 1e-3, ("hops.tensor" if setup.tensor_parallel else "hops.layer",)),
    }
    if is_latent(facts):  # every head looks at the whole latent: little to read, much to compute
        by_name["heads"] = Term(looked_at / cycles, ("latent.heads",))
    return by_name


def value(term: Term, known: Constants) -> float:
    """Seconds of one term. A constant that is not known is 1."""
    factor = math.prod(known.get(name, 1.0) for name in term.names)
    trend = math.pow(known["years.fall"], -term.age) if term.age else 1.0
    return term.base * trend * (1 / factor if term.divide else factor)


def step_seconds(facts: ModelFacts, setup: Setup, known: Constants) -> dict[str, float]:
    """Seconds of each part of one decode step; `step` is their sum. Never faster than streaming at the full bandwidth."""
    by_name = terms(facts, setup, known)
    part = {name: value(term, known) for name, term in by_name.items()}
    power = known["overlap.power"]
    largest = max(part["stream"], part["compute"])
    together = largest * sum((part[name] / largest) ** power for name in ("stream", "compute")) ** (1 / power)
    part["compute"] = together - part["stream"]
    floor = by_name["stream"].base + (by_name["cache"].base if "cache" in by_name else 0.0)
    part["step"] = max(sum(part.values()), floor)
    return part


def interval(facts: ModelFacts, setup: Setup, known: Constants) -> float | None:
    """By what factor a measurement may be off this prediction in 80 % of cases, from the left-out chips' residuals of its kind of
    question: those of its platform and kind of model where there are enough, else between its platform's and its kind of model's;
    None where nothing of the kind was measured. Constants of this machine have what they left of its own rows; a platform without
    any row has BORROWED times the logarithm, and borrowed constants are as far off as the worst of the kind."""
    if (own := known.get("calibrated.spread")) is not None:
        return math.exp(NORMAL_80 * own)
    kind, platform = kind_of(setup), setup.platform
    if borrowed(setup) is not None:
        return max((width for name, width in known.items() if name.startswith(f"interval.{kind}")), default=None)
    model = "experts" if facts.experts else "dense"
    general = known.get(f"interval.{kind}_{model}", known.get(f"interval.{kind}"))
    here = known.get(f"interval.{kind}_{platform}")
    if here is None:
        return general and math.pow(general, BORROWED)
    return known.get(f"interval.{kind}_{platform}_{model}", math.sqrt(here * (general or here)))


def borrowed(setup: Setup) -> str | None:
    """Whose constants stand in where an engine's own kernels were hardly measured on such a device; None where they were."""
    vendor = "" if setup.hardware is None else setup.hardware.vendor
    if setup.platform == "mlx" and vendor not in ("", "apple"):
        return "no measurement of MLX on CUDA is known: the constants of MLX on Apple's chips are borrowed"
    if setup.platform == "sycl":
        return "two measurements of SYCL are known: what they do not tell is the mean of all platforms"
    if setup.platform == "vulkan" and vendor == "intel":
        return "few measurements of Vulkan on Intel are known: constants of AMD's and NVIDIA's cards are borrowed"
    return None


def kind_of(setup: Setup) -> str:
    """What is asked: `prefill`, `users` (many), `depth` (one user over 2K tokens) or `one`."""
    if setup.prompt_tokens:
        return "prefill"
    return "users" if setup.users > 1 else "depth" if setup.context_tokens > 2600 else "one"


def is_latent(facts: ModelFacts) -> bool:
    """Whether its attention is multi-head latent."""
    return facts.architecture.startswith("deepseek2")


def _heads_width(facts: ModelFacts) -> int:
    """Elements of all query heads of a layer; documents of before have the hidden width alone."""
    return facts.attention_length or facts.embedding_length or 0


def looking_back(facts: ModelFacts, context_tokens: float, known: Constants) -> float:
    """Tokens that a layer looks back over, in the mean of all layers."""
    full, window = facts.kv_bytes_per_token, facts.kv_window_bytes_per_token
    if facts.kv_window_tokens == 1:
        return context_tokens * known["recurrent.full_share"]
    if not window:
        return context_tokens
    return (full * context_tokens + window * min(context_tokens, facts.kv_window_tokens)) / (full + window)
