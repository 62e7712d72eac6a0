"""Is what a document claims possible? What its devices can do at most, what its models are, and how fast a step can be.

    step      no step is shorter than the bytes of the active weights / the read bandwidth
    prefill   no token is computed with fewer than 2 x active parameters operations
    ceiling   users x bandwidth / (weights + every user's cache)

What a document states can be edited like everything else, so the catalogue is a second witness of each device, and the class of the
device (its maker's fastest; for a processor its cores) where the catalogue does not have it: such a document is never `physical`.
Physics in place of fixed caps: an honest fast machine is never refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache

from rigbench.analysis.requests import Repetition
from rigbench.documents.bounds import Fault
from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts, kv_bytes, prompt_flops, weight_bytes
from rigbench.models.names import quantisation
from rigbench.models.shapes import Shape, find_shape, shapes
from rigbench.models.synthetic.gguf import facts_from_shape
from rigbench.predict import hardware
from rigbench.predict.hardware import Hardware
from rigbench.predict.steps import step_work
from rigbench.records import CaseResult, ModelFacts, RequestRecord, RunDocument
from rigbench.workloads import Generation, Image, Training
from rigbench_backends.base import EngineInfo

OVER_DATASHEET = 1.15
"""People overclock the memory of their cards by that much."""
OVER_DATASHEET_CPU = 2.2
"""A processor's figure is of one socket with the memory that its maker names; two sockets and faster modules are sold."""
OVER_CEILING = 1.05
"""Stamps are whole microseconds, and a step's mean context is not each token's."""
OVER_MEASURED = 1.10
"""A read benchmark does not quite reach what the memory can."""
CORE_BYTES_PER_S = {"x86_64": 64e9}
CORE_BYTES_PER_S_MOST = 130e9
"""What one core can read from memory at most: Apple's reach 100 GB/s."""
CORE_HZ = 6.2e9
CORE_OPERATIONS = 2048
"""Operations of a core in a cycle: Intel's AMX on 8 bits. Without it, AVX-512 on 8 bits has 256."""
CORE_OPERATIONS_AVX = 512
GPU_CORE_OPERATIONS = 4096
OVER_FP16 = 4
"""8-bit arithmetic has twice the rate of 16-bit, which the catalogue halves for GeForce."""
OVER_FP16_FP4 = 8
CPU_CACHE_BYTES, CORE_CACHE_BYTES, GPU_CACHE_BYTES = 64e6, 34e6, 260e6
"""The largest last-level caches sold: in all and per core; of a GPU. What fits there is not read from memory."""
CORE_CACHE_BYTES_PER_S, GPU_CACHE_GAIN = 160e9, 8
"""Of a cache: what a core reads of it (32 bytes a cycle), and how much faster a GPU's is than its memory."""
RUN_TOKENS = 8
"""A stamp may come late, so single gaps say nothing; so many in a row do."""
GPU_VENDORS = ("nvidia", "amd", "intel", "apple")
VENDORS = {"cuda": ("nvidia",), "metal": ("apple",), "rocm": ("amd",), "vulkan": GPU_VENDORS, "gpu": GPU_VENDORS}
NAMED_TOLERANCE = 0.15
IMAGE_FORMAT = "diffusers"
"""Of models that make images: they have no cache of tokens."""


@dataclass(frozen=True, slots=True)
class Device:
    """The most that what an engine ran on can do: bytes and operations per second, bytes of its cache and how fast they are read,
    watts of its boards (None: not known). `doubt` says why these are not the figures of the very device."""

    read_bytes_per_s: float
    operations_per_s: float
    cache_bytes: float
    cache_bytes_per_s: float
    power_w: float | None = None
    doubt: str | None = None


def physics_faults(document: RunDocument) -> Iterator[Fault]:
    """Bandwidths, models, then each engine's device and each case on it."""
    yield from _bandwidth_faults(document)
    yield from _model_faults(document)
    devices = [device_of(document, engine) for engine in document.engines]
    most = {engine.device: on.operations_per_s for engine, on in zip(document.engines, devices, strict=True) if on}
    for place, arithmetic in enumerate(document.arithmetic):
        for dtype, rate in arithmetic.flops_per_s.items():
            limit = most.get(arithmetic.device, math.inf)
            if not 0 < rate <= limit:
                why = f"{rate / 1e12:.3g} TFLOP/s; the device has at most {limit / 1e12:.3g}"
                yield Fault(f"$.arithmetic[{place}].flops_per_s.{dtype}", why)
    for place, (engine, device) in enumerate(zip(document.engines, devices, strict=True)):
        yield from _engine_faults(document, engine, device, f"$.engines[{place}]")
    models = {model.name: model for model in document.models}
    for place, result in enumerate(document.cases):
        if result.engine is None or not result.requests:
            continue
        on, engine, model = devices[result.engine], document.engines[result.engine], models.get(result.case.model)
        if model is None:
            why = f"of {result.case.model[:80]!r} nothing is known, so no bound can be derived"
            yield Fault("$.models", why, below="physical")
        elif on is not None and engine.device != "sim":
            path, work = f"$.cases[{place}]", result.case.workload
            if isinstance(work, Generation):
                yield from _case_faults(result, work, engine, model, on, path)
            else:
                yield from _step_faults(result, work, model, on, path)


def streamed(engine: EngineInfo) -> bool:
    """Whether a server's answers were stamped as they came over a wire: several tokens may come at once then."""
    return "endpoint" in engine.detail


def device_of(document: RunDocument, engine: EngineInfo) -> Device | None:
    """What the engine's device can do at most; None where it is on no machine of this document, or simulated."""
    if engine.device == "cpu":
        return _processor(document, engine)
    if engine.device not in VENDORS:
        return None
    known = [_catalogued(document, name) for name in engine.device_names]
    kinds = VENDORS[engine.device]
    others = [device for device in hardware.hardware() if device.vendor in kinds]
    devices = [device or max(others, key=lambda one: one.bandwidth_bytes_per_s) for device in known or [None]]
    powers = [device.power_w for device in devices]
    unknown = [name for name, device in zip(engine.device_names, known, strict=True) if device is None]
    doubt = f"{unknown[0][:80]!r} is not in the catalogue" if unknown else None if known else "names no device"
    foreign = [one.name for one in known if one is not None and one.vendor not in kinds]
    if engine.device == "gpu":
        doubt = "'gpu' is not a known kind of device"
    elif foreign:
        doubt = f"{foreign[0]} is not a device of {engine.device}"
    elif doubt is None and document.machine.gpus:
        doubt = _not_of_machine(document, engine)
    elif doubt is None:
        doubt = "the machine names no GPU"
    datasheet = sum(device.bandwidth_bytes_per_s for device in devices)
    measured = (_stated(document, engine) or 0.0) * OVER_MEASURED * len(devices)
    read = max(datasheet * OVER_CEILING, min(measured, datasheet * OVER_DATASHEET))
    return Device(
        read,
        sum(map(_gpu_operations, devices)),
        GPU_CACHE_BYTES * len(devices),
        GPU_CACHE_GAIN * read,
        None if None in powers or doubt else sum(power for power in powers if power),
        doubt,
    )


def _not_of_machine(document: RunDocument, engine: EngineInfo) -> str | None:
    """Which of the engine's devices is not among the machine's."""
    left = [hardware.normalize(str(gpu.get("name"))) for gpu in document.machine.gpus]
    for name in dict.fromkeys(engine.device_names) if len(set(engine.device_names)) > 1 else engine.device_names:
        target = hardware.normalize(name)
        mine = next((gpu for gpu in left if gpu and (gpu in target or target in gpu)), None)
        if mine is None:
            return f"the machine has no {name[:80]!r} left: its GPUs are {len(document.machine.gpus)}"
        left.remove(mine)
    return None


def _catalogued(document: RunDocument, name: str) -> Hardware | None:
    same = [
        gpu for gpu in document.machine.gpus if hardware.normalize(str(gpu.get("name"))) == hardware.normalize(name)
    ]
    memory = same[0].get("memory_bytes") if same else None
    return hardware.match(name, memory if isinstance(memory, int) else None)


def _gpu_operations(device: Hardware) -> float:
    estimate = (device.gpu_cores or 0) * (device.clock_hz or 0) * GPU_CORE_OPERATIONS
    return max((device.fp16_flops or 0) * OVER_FP16, 0 if device.fp16_flops else estimate) or 1e16


def _processor(document: RunDocument, engine: EngineInfo) -> Device:
    machine = document.machine
    cores = max(machine.physical_cores or 1, machine.logical_cores or 1)
    most, _ = _bandwidth_limit(document, engine)
    no_amx = "AVX" in (engine.build or "") and "AMX" not in (engine.build or "")
    operations = cores * CORE_HZ * (CORE_OPERATIONS_AVX if no_amx else CORE_OPERATIONS)
    for gpu in machine.gpus:  # a build with GPUs hands them large products although the weights stay in memory
        device = _catalogued(document, str(gpu.get("name")))
        operations += _gpu_operations(device) if device else 1e16
    return Device(
        min((_stated(document, engine) or math.inf) * OVER_MEASURED, most),
        operations,
        CPU_CACHE_BYTES + cores * CORE_CACHE_BYTES,
        min(cores, engine.threads or cores) * CORE_CACHE_BYTES_PER_S,
    )


def _stated(document: RunDocument, engine: EngineInfo) -> float | None:
    return next((b.read_bytes_per_s for b in document.bandwidth if b.device == engine.device), None)


def _bandwidth_faults(document: RunDocument) -> Iterator[Fault]:
    devices: set[str] = set()
    for place, bandwidth in enumerate(document.bandwidth):
        path, value = f"$.bandwidth[{place}].read_bytes_per_s", bandwidth.read_bytes_per_s
        if bandwidth.device in devices:
            yield Fault(f"$.bandwidth[{place}].device", f"{bandwidth.device[:40]!r} is there twice")
        devices.add(bandwidth.device)
        if value is None:
            continue
        if not value > 0:
            yield Fault(path, f"{value} bytes/s is impossible")
            continue
        by_threads = bandwidth.detail.get("read_best_bytes_per_s_by_threads")
        if isinstance(by_threads, dict) and value not in by_threads.values():
            yield Fault(path, f"is not among its own measurements {sorted(map(str, by_threads.values()))[:4]}")
        if bandwidth.method == "measured":
            when = bandwidth.detail.get("measured_utc")
            if isinstance(when, str) and when > document.created_utc:
                yield Fault(f"$.bandwidth[{place}].detail.measured_utc", f"{when[:20]} is after the run began")
        engine = next((each for each in document.engines if each.device == bandwidth.device), None)
        if engine is None and bandwidth.device == "cpu" and any(each.device_share < 1 for each in document.engines):
            continue
        if engine is None:
            yield Fault(f"$.bandwidth[{place}].device", f"no engine ran on {bandwidth.device[:40]!r}", below="physical")
            continue
        most, name = _bandwidth_limit(document, engine)
        if value > most:
            yield Fault(path, f"{value / 1e9:.0f} GB/s; {name} reaches {most / 1e9:.0f} GB/s")
    for place, engine in enumerate(document.engines):
        simulated = engine.simulated_bandwidth_bytes_per_s
        if engine.device in ("cpu", "cuda", "metal") and engine.device not in devices and not streamed(engine):
            yield Fault("$.bandwidth", f"has no entry for {engine.device}, which engine {place} ran on")
        if (simulated is not None) != (engine.device == "sim") or (engine.simulated_flops_per_s and not simulated):
            yield Fault(f"$.engines[{place}].device", "a simulated bandwidth belongs to the simulator, and to it alone")


def _bandwidth_limit(document: RunDocument, engine: EngineInfo) -> tuple[float, str]:
    """What one device of the engine's kind can be measured at, and whose figure that is."""
    machine, catalogue = document.machine, hardware.hardware()
    if engine.device == "cpu":
        if (device := _catalogued(document, machine.cpu)) is not None:
            return device.bandwidth_bytes_per_s * OVER_DATASHEET_CPU, device.name
        cores = max(machine.physical_cores or 1, machine.logical_cores or 1)
        fastest = max(each.bandwidth_bytes_per_s for each in catalogue if each.vendor == "cpu") * OVER_DATASHEET_CPU
        per_core = CORE_BYTES_PER_S.get(machine.arch, CORE_BYTES_PER_S_MOST)
        return min(fastest, per_core * cores), f"a processor of {cores} cores"
    named = [device for name in engine.device_names if (device := _catalogued(document, name))]
    of_kind = [each for each in catalogue if each.vendor in VENDORS.get(engine.device, GPU_VENDORS)]
    best = max(named or of_kind, key=lambda device: device.bandwidth_bytes_per_s)
    return best.bandwidth_bytes_per_s * OVER_DATASHEET, best.name


def _engine_faults(document: RunDocument, engine: EngineInfo, device: Device | None, path: str) -> Iterator[Fault]:
    if not 1 <= engine.kv_bits <= 32:
        yield Fault(f"{path}.kv_bits", f"{engine.kv_bits:g} bits of a cached value are impossible")
    if engine.device == "sim":
        return
    if device is None:
        yield Fault(
            f"{path}.device", f"{engine.device[:40]!r} is not on this machine, or not a known kind", below="physical"
        )
    elif streamed(engine):
        yield Fault(f"{path}.device", "what a server runs on is its user's word", below="physical")
    elif device.doubt is not None:
        yield Fault(f"{path}.device_names", device.doubt, below="physical")


def _model_faults(document: RunDocument) -> Iterator[Fault]:
    used = {result.case.model for result in document.cases}
    weighed = {result.case.model for result in document.cases if result.engine is not None}
    engines = {
        result.case.model: document.engines[result.engine] for result in document.cases if result.engine is not None
    }
    hashes: dict[str, str] = {}
    for place, model in enumerate(document.models):
        path = f"$.models[{place}]"
        if model.name not in used:
            yield Fault(path, f"no case uses {model.name!r}: its cases were taken out")
        if model.sha256 and hashes.setdefault(model.sha256, model.name) != model.name:
            yield Fault(f"{path}.sha256", f"is also the one of {hashes[model.sha256]!r}")
        if model.format != "shape" and model.name in weighed and engines[model.name].device != "sim":
            if model.sha256 is None:
                yield Fault(f"{path}.sha256", "is missing: nobody can tell which weights these were", below="physical")
            elif len(model.sha256) != 64 or set(model.sha256) - set("0123456789abcdef"):
                yield Fault(f"{path}.sha256", "is not a SHA-256")
        yield from _fact_faults(model, path)
        if model.name in engines:
            yield from _same_model(model, engines[model.name], path)
    for name in sorted(weighed - {model.name for model in document.models}):
        yield Fault("$.models", f"has no {name[:80]!r}, which cases use", below="physical")
    for place in range(len(document.engines)):
        if all(result.engine != place for result in document.cases):
            yield Fault(f"$.engines[{place}]", "no case ran on it: its cases were taken out")


def _fact_faults(model: ModelFacts, path: str) -> Iterator[Fault]:
    """What can be true of no model, and what is not true of the one that it is called."""
    positive = ("file_bytes", "parameters", "active_parameters", "dense_bytes", "layers")
    counts = ("expert_bytes", "experts", "kv_bytes_per_token", "kv_window_bytes_per_token", "kv_window_tokens")
    wrong = [name for name in positive if getattr(model, name) <= 0] + [c for c in counts if getattr(model, c) < 0]
    bits = 8 * model.file_bytes / max(1, model.parameters)
    mixed = bool(model.experts)
    if wrong:
        yield Fault(f"{path}.{wrong[0]}", f"{getattr(model, wrong[0])} is impossible")
    elif not mixed <= model.experts_used <= model.experts or mixed != (model.expert_bytes > 0):
        yield Fault(f"{path}.experts_used", f"{model.experts_used} of {model.experts} is impossible")
    elif model.active_parameters > model.parameters:
        yield Fault(f"{path}.active_parameters", "are more than all")
    elif not model.kv_bytes_per_token and not model.kv_window_bytes_per_token and model.format != IMAGE_FORMAT:
        yield Fault(f"{path}.kv_bytes_per_token", "no model remembers nothing")
    elif model.dense_bytes + model.expert_bytes > model.file_bytes:
        yield Fault(f"{path}.dense_bytes", f"a step reads more than the file holds ({model.file_bytes} bytes)")
    elif not 1 <= bits <= 40:
        yield Fault(f"{path}.parameters", f"{bits:.2f} bits a parameter are impossible")
    else:
        yield from _synthetic_faults(model, path) if model.synthetic else _named_faults(model, path, bits)


def _synthetic_faults(model: ModelFacts, path: str) -> Iterator[Fault]:
    """A synthetic model is its shape and quantisation: every figure follows from its name."""
    shape = max(
        (s for s in shapes().values() if model.name.startswith(f"{s.id}-")), key=lambda s: len(s.id), default=None
    )
    try:
        known = _synthetic_facts(shape, model.name.removeprefix(f"{shape.id}-")) if shape else None
    except InputError:
        known = None  # of a folder's quantisation
    if shape is None or known is None or model.format not in ("gguf", "shape"):
        if shape is None:
            yield Fault(f"{path}.name", "is no shape of the catalogue, and it is called synthetic", below="physical")
        else:
            yield from _named_faults(model, path, 8 * model.file_bytes / model.parameters)
        return
    for field in fields(ModelFacts):
        stated, right = getattr(model, field.name), getattr(known, field.name)
        sizes = isinstance(right, int) and isinstance(stated, int) and right > 0
        if (
            right is None
            or field.name == "format"
            or (field.name == "attention_length" and stated is None)  # documents of before have none
            or (math.isclose(stated, right, rel_tol=0.01) if sizes else stated == right)
        ):
            continue  # another release may write the header a little longer
        yield Fault(f"{path}.{field.name}", f"is {stated}; the shape {shape.id} has {right}")


@cache
def _synthetic_facts(shape: Shape, quant: str) -> ModelFacts:
    return facts_from_shape(shape, quant)


def _named_faults(model: ModelFacts, path: str, bits: float) -> Iterator[Fault]:
    """A model that bears a catalogued one's name has its size and its layers, and the bits of its quantisation."""
    try:
        quant = quantisation(model.quantization)
    except InputError:
        yield Fault(f"{path}.quantization", f"{model.quantization[:40]!r} is not known", below="physical")
        return
    if (model.parameters > 1e9 and not quant.bits / 1.5 <= bits <= max(16.5, quant.bits)) or bits > 1.6 * max(
        quant.bits, 6
    ):
        yield Fault(f"{path}.file_bytes", f"are {bits:.1f} bits a parameter; {model.quantization} has {quant.bits:g}")
    elif model.parameters > 1e9 and bits > 1.35 * quant.bits:
        yield Fault(
            f"{path}.quantization",
            f"{model.quantization} has {quant.bits:g} bits, and this file {bits:.1f}",
            below="physical",
        )
    try:
        shape, is_it = find_shape(model.name)
    except InputError:
        return
    if not is_it:
        return
    right = catalogued_facts(shape.id, quant.name)
    for name in ("parameters", "active_parameters", "layers", "kv_bytes_per_token", "experts", "experts_used"):
        stated, known = getattr(model, name), getattr(right, name)
        if not math.isclose(stated, known, rel_tol=NAMED_TOLERANCE):
            yield Fault(f"{path}.{name}", f"is {stated}; {shape.name} has {known}", below="physical")
            return


def _same_model(model: ModelFacts, engine: EngineInfo, path: str) -> Iterator[Fault]:
    """What the engine says of the weights that it loaded against what the file says."""
    if engine.device == "sim":
        return
    spare = (model.vocab_size or 0) * (model.embedding_length or 0)
    if engine.parameters is not None and abs(engine.parameters - model.parameters) > 0.05 * model.parameters + spare:
        yield Fault(f"{path}.parameters", f"are {model.parameters}; the engine loaded {engine.parameters}")
    if engine.weights_bytes is not None and not 0.5 <= engine.weights_bytes / model.file_bytes <= 2.1:
        yield Fault(f"{path}.file_bytes", f"are {model.file_bytes}; the engine loaded {engine.weights_bytes} bytes")


def _step_faults(
    result: CaseResult, work: Image | Training, model: ModelFacts, on: Device, path: str
) -> Iterator[Fault]:
    """Steps of images and trainings against the arithmetic and the bytes of each."""
    step = step_work(model, work, result.step_work)
    if step is None or step.flops <= 0:
        yield Fault(
            f"{path}.step_work", "is missing: what a step does is not known, so nothing bounds it", below="physical"
        )
        return
    bytes_s = max((step.bytes - on.cache_bytes) / on.read_bytes_per_s, step.bytes / on.cache_bytes_per_s)
    least_s = max(step.flops / on.operations_per_s, bytes_s)
    for number, record in enumerate(result.requests):
        if not record.unit_us:
            continue
        steps, took_s = len(record.unit_us), (record.unit_us[-1] - record.submit_us) * 1e-6
        fastest = _fastest(replace(record, chunk_units=None)) or (steps, took_s)
        for count, seconds in ((steps, took_s), fastest):
            if count * least_s > seconds * OVER_CEILING:
                why = (
                    f"{count} steps in {seconds:.3g} s; their arithmetic and their weights take {count * least_s:.3g} s"
                )
                yield Fault(f"{path}.requests[{number}].unit_us", why)
                break


def _case_faults(
    result: CaseResult, work: Generation, engine: EngineInfo, model: ModelFacts, on: Device, path: str
) -> Iterator[Fault]:
    """A case against the shortest step, the arithmetic of its tokens, and what all users can have together."""
    case, records = result.case, result.requests
    weights = weight_bytes(model, 1)
    weights_s = max((weights - on.cache_bytes) / on.read_bytes_per_s, weights / on.cache_bytes_per_s)
    context_s = kv_bytes(model, work.prompt_tokens, engine.kv_bits) / max(on.read_bytes_per_s, on.cache_bytes_per_s)
    step_s = weights_s + context_s
    limit = f"{on.read_bytes_per_s / 1e9:.1f} GB/s allow {1 / step_s:.4g} tokens/s of this model"
    fp4 = OVER_FP16_FP4 / OVER_FP16 if engine.device != "cpu" and "FP4" in model.quantization.upper() else 1.0
    token_s = prompt_flops(model) / (on.operations_per_s * fp4)
    span_us = max((record.unit_us[-1] for record in records if record.unit_us), default=0)
    computed = 0
    for number, record in enumerate(records):
        here = f"{path}.requests[{number}].unit_us"
        if not record.unit_us:
            continue
        prompt = max(1, record.prompt_tokens - (record.cached_tokens or 0))
        tokens = sum(record.chunk_units) if record.chunk_units else len(record.unit_us)
        computed += prompt + tokens
        first_s = (record.unit_us[0] - record.submit_us) * 1e-6
        least_s = max(step_s, prompt * token_s)
        if first_s * OVER_CEILING < least_s:
            why = f"the first token came after {first_s:.3g} s; a step over {prompt} tokens takes {least_s:.3g} s"
            yield Fault(f"{here}[0]", why)
        if streamed(engine):
            took_s = (record.unit_us[-1] - record.submit_us) * 1e-6
            fastest = None if took_s <= 0 else (tokens, took_s)
        else:
            fastest = _fastest(record)
        if fastest is not None and fastest[0] * step_s > fastest[1] * OVER_CEILING:
            rate = fastest[0] / max(fastest[1], 1e-6)
            why = f"{rate:.4g} tokens/s decoded; {limit}: the byte count, the bandwidth or the times are wrong"
            yield Fault(here, why)
    if computed * token_s > span_us * 1e-6 * OVER_CEILING:
        why = f"{computed} tokens in {span_us * 1e-6:.3g} s; their arithmetic takes {computed * token_s:.3g} s"
        yield Fault(f"{path}.requests", why)
    window = Repetition(result).window
    if window is not None and not streamed(engine) and window.tokens >= 2 * case.concurrency + RUN_TOKENS:
        together_s = weights_s / case.concurrency + context_s
        # A window's edges may cut one step of every user.
        if (window.tokens - case.concurrency) * together_s > window.length_s * OVER_CEILING:
            why = f"{window.tokens / window.length_s:.4g} tokens/s of all users; {1 / together_s:.4g} are possible"
            yield Fault(f"{path}.requests", why)


def _fastest(record: RequestRecord) -> tuple[int, float] | None:
    """(units, seconds) of the fastest stretch of RUN_TOKENS chunks or a quarter of the request; None if it is of two."""
    times, counts = record.unit_us, record.chunk_units
    if len(times) < 3:
        return None
    length = min(max(RUN_TOKENS, len(times) // 4), len(times) - 1)

    def stretch(at: int) -> tuple[int, float]:
        units = length if counts is None else sum(counts[at + 1 : at + length + 1])
        return units, (times[at + length] - times[at]) * 1e-6

    return max(map(stretch, range(len(times) - length)), key=lambda one: one[0] / max(one[1], 1e-9))
