"""What the predictors say of each case group of a document: worked out for a run, and again by whoever checks its document.

For each group the roofline and the published rule, at the mean context of its decoding, on the bandwidth of the device that ran it.
"""

from __future__ import annotations

from dataclasses import replace

from rigbench.errors import InputError
from rigbench.models.footprint import decode_flops, prompt_flops, weight_bytes
from rigbench.predict import hardware, predictors, steps
from rigbench.predict.fit import offloaded
from rigbench.predict.roofline import engine_platform
from rigbench.records import Bandwidth, Case, ModelFacts, Prediction, RunDocument
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
        figure = bandwidths.get(info.device)
        bandwidth = info.simulated_bandwidth_bytes_per_s or (figure.read_bytes_per_s if figure else None)
        devices = 1 if info.device == "cpu" else max(1, len(info.device_names))
        rate = rates[info.device].rate(info.compute_type) if info.device in rates and info.device_share == 1 else None
        rate = rate and rate * devices
        if not isinstance(work := case.workload, Generation):
            rate = info.simulated_flops_per_s or rate
            step = steps.prediction(facts[case.model], case, work, counted.get(case.group), info, bandwidth, rate)
            by_case[case.group] = (step,)
            continue
        users, context = case.concurrency, work.mean_context_tokens
        request = predictors.Request(users=users, context_tokens=context, kv_bits=info.kv_bits, group=case.group)
        published = predictors.published(facts[case.model], bandwidth, **request)
        try:
            roofline = _roofline(document, facts[case.model], bandwidth, figure, case, info, request)
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


def _roofline(
    document: RunDocument,
    facts: ModelFacts,
    bandwidth: float | None,
    figure: Bandwidth | None,
    case: Case,
    info: EngineInfo,
    request: predictors.Request,
) -> Prediction:
    names = info.device_names if info.device != "cpu" else ()
    device = hardware.match_first(names, document.machine.gpus)
    prediction = predictors.roofline(
        facts,
        bandwidth,
        backend=case.backend,
        device_kind=info.device,
        platform=None if info.device in ("cpu", "sim") else engine_platform(case.backend, info, device),
        device=device,
        measured=figure is not None and figure.method == "measured",
        cpu_cores=info.threads,
        devices=max(1, len(info.device_names)) if info.device not in ("cpu", "sim") else 1,
        tensor_parallel=info.parallel_devices > 1,
        **request,
    )
    if info.device in ("cpu", "sim") or info.device_share == 1:
        return prediction
    host = next((each.read_bytes_per_s for each in document.bandwidth if each.device == "cpu"), None)
    return offloaded(prediction, info.device_share, host)
