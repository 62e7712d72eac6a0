"""From what a suite or the command line names to engines that can be planned: interpreter, options, model, bandwidth, limits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter

import rigbench_backends
from rigbench import ceilings
from rigbench.ceilings import engine
from rigbench.errors import UnavailableError
from rigbench.models import resolve as models
from rigbench.predict import hardware
from rigbench.records import Arithmetic, Bandwidth
from rigbench.run.processes import NoInterpreter, WorkerGone, WorkerLate, WorkerProcess, find_python
from rigbench.run.selection import backend_named, check_options
from rigbench.suites.plan import Engine
from rigbench.suites.suite import EnginePart
from rigbench.telemetry import host
from rigbench.telemetry.adapters import Adapter, adapters
from rigbench_backends import cuda
from rigbench_backends.base import Backend, ModelFile, Probe

PROBE_LIMIT_S = 120
NOT_MEASURABLE = ("remote", "rpc")
"""Devices whose memory is another machine's."""
Say = Callable[[str], None]


def probe(backend: str, python: str, options: dict[str, Any] | None = None) -> Probe:
    """Ask `backend` in the interpreter `python`, in a process of its own: importing an engine may take seconds, or crash."""
    worker = WorkerProcess(python)
    try:
        worker.send({"do": "probe", "backend": backend, "options": options or {}})
        answer = worker.receive(time.monotonic() + PROBE_LIMIT_S)
    except WorkerGone as error:
        why = rigbench_backends.load(backend).diagnose(worker.log_lines(), "load", error.signal, None)
        cause = f": {why.cause}" if why.cause else ""
        return Probe(False, reason=f"{error}{cause}", fix=why.fix or "install its engine into that interpreter again")
    except WorkerLate:
        return Probe(False, reason=f"no answer within {PROBE_LIMIT_S} s", fix="install its engine anew")
    finally:
        worker.kill()
    if answer["event"] == "error":
        return Probe(False, reason=answer["message"])
    return TypeAdapter(Probe).validate_python({field.name: answer[field.name] for field in fields(Probe)})


def unused_gpu(probe: Probe, cards: Sequence[Adapter]) -> str | None:
    """The sentence for GPUs of this machine (`shown`) that the engine's build cannot use; None where it can, or there is none."""
    names = [adapter.name for adapter in cards if adapter.worth_using]
    if probe.device != "cpu" or probe.gpus or probe.gpu_fix is None or not names:
        return None
    what = f"{names[0]} is here" if len(names) == 1 else f"{len(names)} GPUs are here ({', '.join(names)})"
    why = f" ({probe.device_error})" if probe.device_error else ""
    return f"{what}, but this build of the engine computes on the processor{why}: {probe.gpu_fix}"


def public_options(backend: Backend, options: dict[str, Any]) -> dict[str, Any]:
    """What a document may hold of them."""
    private = {field.name for field in fields(backend.Options) if field.metadata.get("private")}
    return {name: "<private>" if name in private else value for name, value in options.items()}


def device_bandwidth(
    device: str,
    device_names: Sequence[str],
    gpus: Sequence[dict[str, Any]],
    say: Say = lambda _: None,
    python: str = sys.executable,
    used: Mapping[str, str] = MappingProxyType({}),
) -> Bandwidth | None:
    """The read bandwidth where the weights lie: as measured, else a catalogued GPU's datasheet figure; None for `sim`.
    `python` is the engine's interpreter, through which devices are measured that only its engine knows. Of several cards that are
    `used` (names by PCI address) the fastest counts: nothing is faster than that while layers are dealt out."""
    if device == "sim":
        return None
    reason = f"rigbench cannot measure the bandwidth of {device}"
    if device not in NOT_MEASURABLE:
        each = [ceilings.cached(name, python, say=say) for name in _numbered(device, used, python)]
        figure = replace(max(each, key=lambda one: one.read_bytes_per_s or 0.0), device=device)
        if figure.read_bytes_per_s is not None or device == "cpu":
            return figure
        reason = figure.reason or reason
    if (known := hardware.match_first(device_names, gpus)) is not None:
        return Bandwidth(device, known.bandwidth_bytes_per_s, method="datasheet", source=f"catalogue: {known.id}")
    names = ", ".join(device_names) or device
    return Bandwidth(device, None, method="datasheet", reason=f"{reason}, and {names} is not in the catalogue")


def _numbered(device: str, used: Mapping[str, str], python: str) -> tuple[str, ...]:
    """The cards that are used, one of each kind, by their numbers where these are measured: `cuda:1` is CUDA's second, `vulkan:1`
    ggml's. The first where nothing tells which they are."""
    if device in ("cpu", "metal") or not used:
        return (device,)
    if device == "cuda":
        order, mine = list(cuda.bus_ids()), list({name: address for address, name in used.items()}.values())
    else:
        order = [each["description"] for each in engine.ggml_devices(python) if each["kind"] == device]
        mine = list(dict.fromkeys(used.values()))
    numbers = [order.index(each) for each in mine if each in order]
    return tuple(f"{device}:{number}" if number else device for number in sorted(numbers)) or (device,)


def resolve(
    parts: Sequence[EnginePart],
    *,
    gpus: Sequence[dict[str, Any]] = (),
    say: Say = lambda _: None,
    progress: Callable[[str, int, int], None] | None = None,
    fetch: bool = True,
) -> tuple[list[Engine], dict[str, Bandwidth], dict[str, Arithmetic]]:
    """Engines ready to plan, and bandwidth and arithmetic rate by device. InputError for what is written wrong.
    One that cannot be used here raises UnavailableError with the fix; of several, those are skipped with that reason, if
    any is left."""
    engines: list[Engine] = []
    bandwidths: dict[str, Bandwidth] = {}
    rates: dict[str, Arithmetic] = {}
    probes: dict[str, Probe] = {}
    unusable: list[UnavailableError | NoInterpreter] = []
    for index, part in enumerate(parts):
        where = f"engine[{index}]"
        backend_named(part.backend)
        backend = rigbench_backends.load(part.backend)
        check_options(backend, part.options, where)
        try:
            engines.append(_engine(part, backend, probes, bandwidths, rates, gpus, say, progress, fetch))
        except (UnavailableError, NoInterpreter) as error:
            unusable.append(error)
            nothing = models.ResolvedModel(None, ModelFile(part.model, None, "unknown"))
            options = public_options(backend, part.options)
            engines.append(Engine(part.backend, nothing, "", part.options, "cpu", None, None, options, str(error)))
    if len(unusable) == len(engines):
        raise unusable[0]
    return engines, bandwidths, rates


def _engine(
    part: EnginePart,
    backend: Backend,
    probes: dict[str, Probe],
    bandwidths: dict[str, Bandwidth],
    rates: dict[str, Arithmetic],
    gpus: Sequence[dict[str, Any]],
    say: Say,
    progress: Callable[[str, int, int], None] | None,
    fetch: bool,
) -> Engine:
    """One engine, ready to plan; `probes`, `bandwidths` and `rates` keep what was asked for the next one."""
    python = find_python(part.python)
    key = json.dumps([part.backend, python, part.options], sort_keys=True)
    answer = probes.get(key) or probe(part.backend, python, part.options)
    probes[key] = answer
    if not answer.usable:
        fix = f"; fix: {answer.fix}" if answer.fix else ""
        raise UnavailableError(f"{part.backend} cannot run here: {answer.reason}{fix}")
    device = answer.device or "cpu"
    # The processor's name may hold that of its graphics: on a GPU only GPUs say whose memory is read.
    on_gpu = device != "cpu" and answer.gpus
    names = (
        list(answer.used.values()) or answer.gpus
        if on_gpu
        else [text.partition(": ")[2] or text for text in answer.devices]
    )
    gpus = [gpu for gpu in gpus if gpu.get("bus_id") in answer.used] or gpus
    if (
        device not in bandwidths
        and (bandwidth := device_bandwidth(device, names, gpus, say, python, answer.used)) is not None
    ):
        bandwidths[device] = bandwidth
    if device not in rates and device not in ("sim", *NOT_MEASURABLE):
        rates[device] = ceilings.arithmetic(device, python, say=say)
    if on_gpu and "cpu" not in bandwidths and part.options.get("n_gpu_layers", -1) != -1:
        bandwidths["cpu"] = ceilings.cached("cpu", say=say)  # some layers stay there
    # Without fetching, the facts are enough: a plan needs no weights.
    formats = (*(answer.model_formats or backend.model_formats), *(() if fetch else ("shape",)))
    model = models.resolve(part.model, formats=formats, progress=progress, fetch=fetch)
    limit = None
    if device == "metal" and answer.memory_bytes:
        limit = answer.memory_bytes
    elif device not in ("sim", "remote"):
        limit = host.memory_bytes() + sum(gpu.get("memory_bytes") or 0 for gpu in gpus if device != "metal")
    known = bandwidths.get(device)
    read = known.read_bytes_per_s if known else None
    options, idle = public_options(backend, part.options), unused_gpu(answer, adapters())
    return Engine(
        part.backend, model, python, part.options, device, read, limit, options, used_gpus=answer.used, unused_gpu=idle
    )
