"""The simulator's cases, simulated again: its clock is virtual, so every stamp follows from the options and the model's bytes.

Repetitions, and documents of one suite, ask for the same simulation: what one gave is kept for the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import lru_cache
from itertools import zip_longest

import rigbench_backends
from rigbench.documents.bounds import Fault
from rigbench.records import Case, CaseResult, ModelFacts, RequestRecord, RunDocument
from rigbench.worker.drive import Load, drive
from rigbench.workloads import Workload
from rigbench_backends.base import EngineError, EngineInfo, ModelFile, StepBytes

MOST_TOKENS = 300_000
"""More of them are not simulated again: a document may hold millions."""
NAME = "sim"
LoadKey = tuple[int, int, Workload, float | None]
"""Users, requests of each, what a request is, seconds."""
CACHED_RUNS = 32
"""Simulations kept. One holds at most MOST_TOKENS stamps."""


def simulated_faults(document: RunDocument) -> Iterator[Fault]:
    """Each case of the simulator that differs from what it gives."""
    models = {model.name: model for model in document.models}
    tokens = 0
    for place, result in enumerate(document.cases):
        engine = document.engines[result.engine] if result.engine is not None else None
        if engine is None or engine.device != NAME:
            continue
        if (
            result.case.backend != NAME and result.case.backend in rigbench_backends.BUILT_IN
        ):  # a plugin may be made of it
            yield Fault(f"$.cases[{place}].case.backend", f"the simulator is not {result.case.backend[:40]}")
        tokens += sum(len(record.unit_us) for record in result.requests)
        if result.requests and tokens <= MOST_TOKENS:
            yield from _again(result, engine, models.get(result.case.model), f"$.cases[{place}]")


def _again(result: CaseResult, engine: EngineInfo, model: ModelFacts | None, path: str) -> Iterator[Fault]:
    case = result.case
    facts = StepBytes(**{field.name: getattr(model, field.name) for field in fields(StepBytes)}) if model else None
    try:
        bandwidth, records = _simulation(json.dumps(case.options, sort_keys=True), case.model, facts, _load(case))
    except (EngineError, TypeError, ValueError, ArithmeticError) as error:
        yield Fault(f"{path}.case.options", f"cannot be simulated: {str(error)[:200]}")
        return
    if bandwidth != engine.simulated_bandwidth_bytes_per_s:
        yield Fault(f"{path}.engine", "simulates another bandwidth than the options say")
    for number, (stated, right) in enumerate(zip_longest(result.requests, records)):
        if stated is None or right is None or not _same(stated, right):
            yield Fault(
                f"{path}.requests[{number}]", "is not what the simulator gives for these options and this model"
            )
            return


def _load(case: Case) -> LoadKey:
    return case.concurrency, case.requests_per_user, case.workload, case.duration_s


@lru_cache(CACHED_RUNS)
def _simulation(
    options: str, model: str, facts: StepBytes | None, load: LoadKey
) -> tuple[float | None, tuple[RequestRecord, ...]]:
    """(the bandwidth that the simulator of these options has, its records under this load)."""
    users, requests, work, duration_s = load
    backend = rigbench_backends.load(NAME)
    known = {field.name for field in fields(backend.Options)}
    values = backend.Options(**{name: value for name, value in json.loads(options).items() if name in known})
    session = backend.open(ModelFile(model, None, "shape", facts), replace(values, fault=None, pace="virtual"))
    session.prepare_work(work, users)
    prompt, duration_ns = (0,) * work.prompt_length, None if duration_s is None else round(duration_s * 1e9)
    _, records, _ = drive(session, Load(users, requests, work.units, lambda *_: prompt, duration_ns))
    return session.info.simulated_bandwidth_bytes_per_s, tuple(records)


def _same(stated: RequestRecord, right: RequestRecord) -> bool:
    """The clock starts within a microsecond, so each stamp may be rounded to the next one."""
    times = zip((stated.submit_us, *stated.unit_us), (right.submit_us, *right.unit_us), strict=False)
    return (
        (stated.user, stated.index, stated.chunk_units, stated.prompt_tokens, len(stated.unit_us))
        == (right.user, right.index, right.chunk_units, right.prompt_tokens, len(right.unit_us))
        and stated.loss == right.loss
        and stated.error is None
        and all(abs(one - other) <= 1 for one, other in times)
    )
