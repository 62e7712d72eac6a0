"""Is what a document claims possible? The bandwidth of its devices, the bytes of its models, and no decode above the ceiling.

    ceiling   bandwidth / bytes that a token of one user reads at the least (all active weights, and the cache of its prompt)

The bandwidth that a document states can be edited like everything else, so the catalogue's datasheet figure is a second
witness wherever the device is in it; the bytes of a synthetic model are worked out again from its shape.
Physics in place of fixed caps: an honest fast machine is never refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from functools import cache

from rigbench.analysis.requests import request_metrics
from rigbench.analysis.stats import median
from rigbench.documents.bounds import Fault
from rigbench.errors import InputError
from rigbench.models.footprint import kv_bytes, weight_bytes
from rigbench.models.shapes import Shape, shapes
from rigbench.models.synthetic.gguf import facts_from_shape
from rigbench.predict import hardware, predictors
from rigbench.records import ModelFacts, Prediction, RunDocument
from rigbench_backends.base import EngineInfo

OVER_DATASHEET = 1.15
"""People overclock the memory of their cards by that much."""
OVER_DATASHEET_CPU = 2.2
"""A processor's figure is of one socket with the memory that its maker names; two sockets and faster modules are sold."""
OVER_CEILING = 1.05
"""Stamps are whole microseconds, and a step's mean context is not each token's."""
OVER_MEASURED = 1.10
"""A read benchmark does not quite reach what the memory can."""
PARALLEL_MOST = 64


def physics_faults(document: RunDocument) -> Iterator[Fault]:
    """Bandwidths, models, predictions, then the ceiling."""
    yield from _bandwidth_faults(document)
    yield from _model_faults(document)
    yield from _prediction_faults(document)
    yield from _ceiling_faults(document)


def datasheet(document: RunDocument, device: str) -> tuple[str, float] | None:
    """(name, bytes per second) of the catalogue's device of this kind in the document's machine; None if it is not known."""
    names = [name for engine in document.engines if engine.device == device for name in engine.device_names]
    if device == "cpu":
        names.append(document.machine.cpu)
    elif document.machine.gpus:
        names += [str(gpu.get("name") or "") for gpu in document.machine.gpus]
    memory = next((gpu.get("memory_bytes") for gpu in document.machine.gpus), None)
    found = [known for name in names if (known := hardware.match(name, memory if isinstance(memory, int) else None))]
    if not found:
        return None
    fastest = max(found, key=lambda known: known.bandwidth_bytes_per_s)
    return fastest.name, fastest.bandwidth_bytes_per_s


def fastest_known() -> float:
    """Nothing in the catalogue reads faster."""
    return max(device.bandwidth_bytes_per_s for device in hardware.hardware())


def _bandwidth_faults(document: RunDocument) -> Iterator[Fault]:
    for place, bandwidth in enumerate(document.bandwidth):
        path, value = f"$.bandwidth[{place}].read_bytes_per_s", bandwidth.read_bytes_per_s
        if value is None:
            continue
        if not value > 0:
            yield Fault(path, f"{value} bytes/s is impossible")
            continue
        known = datasheet(document, bandwidth.device)
        name, most = known or ("the fastest device of the catalogue", fastest_known())
        if value > most * (OVER_DATASHEET_CPU if bandwidth.device == "cpu" else OVER_DATASHEET):
            yield Fault(path, f"{value / 1e9:.0f} GB/s; {name} has {most / 1e9:.0f} GB/s by its datasheet")
    told = {bandwidth.device for bandwidth in document.bandwidth}
    for place, engine in enumerate(document.engines):
        simulated = engine.simulated_bandwidth_bytes_per_s
        if engine.device in ("cpu", "cuda", "metal") and engine.device not in told:
            yield Fault("$.bandwidth", f"has no entry for {engine.device}, which engine {place} ran on")
        if (simulated is not None) != (engine.device == "sim"):
            yield Fault(f"$.engines[{place}].device", "a simulated bandwidth belongs to the simulator, and to it alone")


def _model_faults(document: RunDocument) -> Iterator[Fault]:
    used = {result.case.model for result in document.cases}
    weighed = {
        r.case.model for r in document.cases if r.engine is not None and document.engines[r.engine].weights_bytes
    }
    for place, model in enumerate(document.models):
        path = f"$.models[{place}]"
        if model.name not in used:
            yield Fault(path, f"no case uses {model.name!r}: its cases were taken out")
        counts = ("file_bytes", "parameters", "dense_bytes", "layers")
        wrong = next((name for name in counts if getattr(model, name) <= 0), None)
        if wrong is not None or not 0 <= model.experts_used <= model.experts or model.expert_bytes < 0:
            yield Fault(f"{path}.{wrong or 'experts_used'}", "is impossible")
        elif model.dense_bytes + model.expert_bytes > model.file_bytes:
            yield Fault(f"{path}.dense_bytes", f"a step reads more than the file holds ({model.file_bytes} bytes)")
        elif not 1 <= 8 * model.file_bytes / model.parameters <= 40:
            bits = 8 * model.file_bytes / model.parameters
            yield Fault(f"{path}.parameters", f"{bits:.2f} bits a parameter are impossible")
        else:
            yield from _synthetic_faults(model, path)
    names = {model.name for model in document.models}
    for name in sorted(weighed - names):
        yield Fault("$.models", f"has no {name!r}, which cases use")
    for place in range(len(document.engines)):
        if all(result.engine != place for result in document.cases):
            yield Fault(f"$.engines[{place}]", "no case ran on it: its cases were taken out")


def _synthetic_faults(model: ModelFacts, path: str) -> Iterator[Fault]:
    """A synthetic model is its shape and quantisation: every figure follows from its name."""
    if not model.synthetic or model.format != "gguf":
        return
    for shape in shapes().values():
        if model.name.startswith(f"{shape.id}-"):
            try:
                known = _synthetic_facts(shape, model.name.removeprefix(f"{shape.id}-"))
            except InputError:
                continue
            for field in fields(ModelFacts):
                stated, right = getattr(model, field.name), getattr(known, field.name)
                sizes = isinstance(right, int) and isinstance(stated, int) and right > 0
                if right is None or (math.isclose(stated, right, rel_tol=0.01) if sizes else stated == right):
                    continue  # another release may write the header a little longer
                yield Fault(f"{path}.{field.name}", f"is {stated}; the shape {shape.id} has {right}")
            return


@cache
def _synthetic_facts(shape: Shape, quant: str) -> ModelFacts:
    return facts_from_shape(shape, quant)


def _prediction_faults(document: RunDocument) -> Iterator[Fault]:
    models = {model.name: model for model in document.models}
    cases = {result.case.group: result for result in document.cases if result.engine is not None}
    stated = [b.read_bytes_per_s for b in document.bandwidth] + [
        e.simulated_bandwidth_bytes_per_s for e in document.engines
    ]
    for place, prediction in enumerate(document.predictions):
        path, result = f"$.predictions[{place}]", cases.get(prediction.group)
        if result is None or result.case.model not in models or result.engine is None:
            yield Fault(f"{path}.group", f"no case is called {prediction.group[:80]!r}")
            continue
        case, engine = result.case, document.engines[result.engine]
        context = case.workload.mean_context_tokens
        moved = predictors.step_bytes(models[case.model], case.concurrency, context, engine.kv_bits)
        if prediction.bytes_per_step is not None and not math.isclose(prediction.bytes_per_step, moved, rel_tol=1e-6):
            yield Fault(f"{path}.bytes_per_step", f"is {prediction.bytes_per_step}; a step of this model reads {moved}")
        yield from _ceiling_of(prediction, path, [value for value in stated if value])


def _ceiling_of(prediction: Prediction, path: str, stated: list[float]) -> Iterator[Fault]:
    bandwidth, moved = prediction.bandwidth_bytes_per_s, prediction.bytes_per_step
    if bandwidth is None or not moved:
        return
    devices = [bandwidth / value for value in stated]
    if not any(abs(n - round(n)) < 1e-6 and 1 <= round(n) <= PARALLEL_MOST for n in devices):
        yield Fault(f"{path}.bandwidth_bytes_per_s", f"{bandwidth / 1e9:.1f} GB/s is not what the document states")
    ceiling = prediction.ceiling_user_tps
    if ceiling is not None and not math.isclose(ceiling, bandwidth / moved, rel_tol=1e-6):
        yield Fault(f"{path}.ceiling_user_tps", f"is {ceiling:.4g}; bandwidth / bytes is {bandwidth / moved:.4g}")


def _ceiling_faults(document: RunDocument) -> Iterator[Fault]:
    models = {model.name: model for model in document.models}
    for place, result in enumerate(document.cases):
        model = models.get(result.case.model)
        if model is None or not result.requests or result.engine is None:
            continue
        engine = document.engines[result.engine]
        rates = [request_metrics(record).decode_tps for record in result.requests]
        reached = median([rate for rate in rates if rate is not None])
        limit = _most(document, engine)
        if reached is None or limit is None:
            continue
        least = weight_bytes(model, 1) + kv_bytes(model, result.case.workload.prompt_tokens, engine.kv_bits)
        devices = max(1, len(document.machine.gpus)) if engine.device not in ("cpu", "sim") else 1
        ceiling = devices * limit / least
        if reached > ceiling:
            yield Fault(
                f"$.cases[{place}].requests",
                f"{reached:.4g} tokens/s decoded; {devices * limit / 1e9:.1f} GB/s allow {ceiling:.4g} of this model: "
                "the byte count, the bandwidth or the times are wrong, or the weights stay in the processor's cache",
            )


def _most(document: RunDocument, engine: EngineInfo) -> float | None:
    """The most that the engine's device can read, from the witness that allows more; None where nobody knows (a remote server)."""
    if engine.device == "sim":
        simulated = engine.simulated_bandwidth_bytes_per_s
        return None if simulated is None else simulated * OVER_CEILING
    known = datasheet(document, engine.device)
    told = next((b for b in document.bandwidth if b.device == engine.device and b.read_bytes_per_s), None)
    witnesses = [known[1] * OVER_CEILING] if known is not None else []
    if told is not None and told.read_bytes_per_s is not None:
        witnesses.append(told.read_bytes_per_s * (OVER_MEASURED if told.method == "measured" else OVER_CEILING))
    return max(witnesses, default=None)
