"""What the predictors say of each case group of a document: worked out for a run, and again by whoever checks its document.

For each group the roofline and the published rule, at the mean context of its decoding, on the bandwidth of the device that ran it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rigbench.errors import InputError
from rigbench.models.footprint import decode_flops, prompt_flops, weight_bytes
from rigbench.predict import hardware, predictors, steps
from rigbench.predict.calibrate import Probe, probe_of
from rigbench.predict.fit import offloaded
from rigbench.predict.roofline import constants, engine_platform
from rigbench.records import Bandwidth, Case, Machine, ModelFacts, Prediction, RunDocument
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo


def predictions(document: RunDocument) -> tuple[Prediction, ...]:
    """Of each group of a known model that an engine ran, in the order of its cases. InputError for facts that no model has."""
    facts = {model.name: model for model in document.models}
    bandwidths = {bandwidth.device: bandwidth for bandwidth in document.bandwidth}
    rates = {arithmetic.device: arithmetic for arithmetic in document.arithmetic}
    counted = {result.case.group: result.step_work for result in document.cases if result.step_work}
    by_case: dict[str, tuple[Prediction, ...]] = {}
    for result in document.cases:
        case = result.case
        if case.group in by_case or case.model not in facts or result.engine is None:
            continue
        info = document.engines[result.engine]
        bandwidth = _bandwidth(info, bandwidths)
        devices = 1 if info.device == "cpu" else max(1, len(info.device_names))
        rate = rates[info.device].rate(info.compute_type) if info.device in rates and info.device_share == 1 else None
        rate = rate and rate * devices
        if not isinstance(work := case.workload, Generation):
            rate = info.simulated_flops_per_s or rate
            step = steps.prediction(facts[case.model], case, work, counted.get(case.group), info, bandwidth, rate)
            by_case[case.group] = (step,)
            continue
        request = _request(case, work, info.kv_bits)
        published = predictors.published(facts[case.model], bandwidth, **request)
        try:
            probe = _probe(document, case.backend, info.device)
            roofline = _roofline(document.machine, bandwidths, facts[case.model], case, info, request, probe)
        except InputError as error:  # a device of no known kind: the measurement stands without a prediction
            without = predictors.ceiling(facts[case.model], bandwidth, **request)
            roofline = replace(without, predictor="roofline", user_tps=None, output_tps=None, reason=str(error))
        if rate:
            roofline = with_arithmetic(roofline, facts[case.model], case.concurrency, work.prompt_tokens, rate)
        by_case[case.group] = (roofline, published)
    return tuple(prediction for several in by_case.values() for prediction in several)


def with_arithmetic(
    prediction: Prediction, facts: ModelFacts, users: int, prompt_tokens: int, flops_per_s: float
) -> Prediction:
    """The prediction with the second ceiling: a step of N users has N tokens' operations, and a prompt its own beside its bytes."""
    flops = users * decode_flops(facts)
    prefill = {
        "prefill_flops_per_token": prompt_flops(facts),
        "prefill_bytes_per_token": weight_bytes(facts, 1) / prompt_tokens,
    }
    return replace(
        prediction,
        ceiling_user_tps=min(prediction.ceiling_user_tps, flops_per_s / flops) if prediction.ceiling_user_tps else None,
        inputs=prediction.inputs | prefill,
        flops_per_step=flops,
        flops_per_s=flops_per_s,
    )


def planned(
    case: Case,
    facts: ModelFacts,
    machine: Machine,
    bandwidths: Mapping[str, Bandwidth],
    device: str,
    device_names: Sequence[str],
    probe: Probe | None = None,
) -> Prediction | None:
    """The roofline of a case that has not run, as far as the plan knows its engine; None for what makes no text, and where the
    device is of no known kind."""
    if not isinstance(work := case.workload, Generation):
        return None
    threads = case.options.get("threads") if device == "cpu" else None
    cores = threads if isinstance(threads, int) and threads > 0 else machine.physical_cores
    info = EngineInfo(case.backend, "", device, tuple(device_names), threads=cores)
    try:
        return _roofline(machine, bandwidths, facts, case, info, _request(case, work, info.kv_bits), probe)
    except InputError:
        return None


def _probe(document: RunDocument, backend: str, device: str) -> Probe | None:
    """The probe that the machine had when the document was made."""
    listed = document.annotations.get("probes")
    probes = [probe_of(each) for each in listed] if isinstance(listed, list | tuple) else []
    return next((one for one in probes if one and (one.backend, one.device) == (backend, device)), None)


def _bandwidth(info: EngineInfo, bandwidths: Mapping[str, Bandwidth]) -> float | None:
    """The read bandwidth where the engine has its weights, bytes per second."""
    figure = bandwidths.get(info.device)
    return info.simulated_bandwidth_bytes_per_s or (figure.read_bytes_per_s if figure else None)


def _request(case: Case, work: Generation, kv_bits: float) -> predictors.Request:
    return predictors.Request(
        users=case.concurrency,
        context_tokens=work.mean_context_tokens,
        kv_bits=kv_bits,
        group=case.group,
        prompt_tokens=work.prompt_tokens,
    )


def _roofline(
    machine: Machine,
    bandwidths: Mapping[str, Bandwidth],
    facts: ModelFacts,
    case: Case,
    info: EngineInfo,
    request: predictors.Request,
    probe: Probe | None,
) -> Prediction:
    figure = bandwidths.get(info.device)
    names = info.device_names if info.device != "cpu" else ()
    device = hardware.match_first(names, machine.gpus)
    prediction = predictors.roofline(
        facts,
        _bandwidth(info, bandwidths),
        backend=case.backend,
        device_kind=info.device,
        platform=None if info.device in ("cpu", "sim") else engine_platform(case.backend, info, device),
        device=device,
        measured=figure is not None and figure.method == "measured",
        cpu_cores=info.threads,
        devices=max(1, len(info.device_names)) if info.device not in ("cpu", "sim") else 1,
        tensor_parallel=info.parallel_devices > 1,
        known=None if probe is None else probe.constants(constants()),
        **request,
    )
    if probe is not None:
        prediction = replace(prediction, inputs={**prediction.inputs, "calibrated_by": probe.sentence})
    if info.device in ("cpu", "sim") or info.device_share == 1:
        return prediction
    host = bandwidths.get("cpu")
    return offloaded(prediction, info.device_share, host.read_bytes_per_s if host else None)
