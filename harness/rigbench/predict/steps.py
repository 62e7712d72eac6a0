"""The ceiling of a step that is no decode step: of an image, of a training. These are bound by arithmetic long before memory.

    t(step)  >=  max(operations / arithmetic rate, bytes of weights / read bandwidth)

    image     operations and bytes as the engine counted them on the model that it loaded (`CaseResult.step_work`)
    training  4 operations per active weight and trained token with adapters, 6 where all weights are trained; the weights are read
              forwards and backwards. Both follow from the model's facts.

No constant was fitted on measured steps, so nothing below the ceiling is foretold; the simulator keeps to it exactly.
"""

from __future__ import annotations

from rigbench.models.footprint import decode_flops, training_flops, weight_bytes
from rigbench.records import Case, ModelFacts, Prediction
from rigbench.workloads import Image, Training
from rigbench_backends.base import EngineInfo, StepWork

PREDICTOR = "step"
FORMULA = "units of a step / max(operations / arithmetic rate, bytes / bandwidth)"
NO_CONSTANT = "no constant was fitted on measured steps: the ceiling alone is known"
NOT_COUNTED = "the engine did not count what a step does"
QLORA_BYTES = 0.5
"""Of a weight in 4 bits, without its scales."""


def step_work(facts: ModelFacts, work: Image | Training, counted: StepWork | None) -> StepWork | None:
    """What a step does at least; None of an image that was not counted."""
    if isinstance(work, Image):
        return counted
    weights = decode_flops(facts) / 2
    read = min(weight_bytes(facts, 1), weights * QLORA_BYTES if work.method == "qlora" else float("inf"))
    return StepWork(training_flops(facts, work), round(2 * read), source="4 or 6 operations a weight and token")


def prediction(
    facts: ModelFacts,
    case: Case,
    work: Image | Training,
    counted: StepWork | None,
    info: EngineInfo,
    bandwidth_bytes_per_s: float | None,
    flops_per_s: float | None,
) -> Prediction:
    """The ceiling of a case in its workload's units per second, and None with the reason for what is not known."""
    step = step_work(facts, work, counted)
    limits = []
    if step is not None and flops_per_s:
        limits.append(step.flops / flops_per_s)
    if step is not None and bandwidth_bytes_per_s:
        limits.append(step.bytes / bandwidth_bytes_per_s)
    ceiling = work.step_units / max(limits) if limits and max(limits) > 0 else None
    user_tps = ceiling if info.device == "sim" else None
    return Prediction(
        group=case.group,
        predictor=PREDICTOR,
        user_tps=user_tps,
        output_tps=user_tps,
        ceiling_user_tps=ceiling,
        bytes_per_step=None if step is None else step.bytes,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        formula=FORMULA,
        inputs={"step_units": work.step_units, "forwards": None if step is None else step.forwards},
        reason=NOT_COUNTED if step is None else None if user_tps else NO_CONSTANT,
        flops_per_step=None if step is None else step.flops,
        flops_per_s=flops_per_s,
    )
