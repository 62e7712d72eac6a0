"""From a suite to its cases, in the order in which they run: one job per (backend, model, options), repetition outermost.

What cannot fit is skipped before anything is loaded, with its reason. The estimates are rough on purpose (they say
whether to fetch a coffee or to let it run overnight) and are never stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import rigbench_backends
from rigbench.errors import InputError
from rigbench.models.footprint import kv_bytes, passes, training_bytes, weight_bytes
from rigbench.models.resolve import ResolvedModel
from rigbench.records import Case, ModelFacts
from rigbench.suites.prompts import prompt_name
from rigbench.suites.suite import Suite, WorkloadPart
from rigbench.workloads import Generation, Image, Training

ASSUMED_EFFICIENCY = 0.6
ASSUMED_PREFILL_GAIN = {"cpu": 6.0}
"""Prompt tokens per second over decode tokens per second of one user: small where arithmetic is the limit soon."""
ASSUMED_PREFILL_GAIN_GPU = 40.0
ASSUMED_COMPUTE_BYTES = 400e6
LOAD_BYTES_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Engine:
    """A backend as it will be started: interpreter, options as JSON types, the model and where its weights will lie."""

    backend: str
    model: ResolvedModel
    python: str
    options: dict[str, Any]
    device: str
    bandwidth_bytes_per_s: float | None
    memory_limit_bytes: int | None
    told_options: dict[str, Any] = field(default_factory=dict)
    """`options` as the document may hold them: without addresses and paths."""
    unusable: str | None = None
    """Why nothing can run on it here, where that is so."""
    used_gpus: dict[str, str] = field(default_factory=dict)
    """Names of the GPUs that it will use, by PCI address; empty where no address is known."""
    unused_gpu: str | None = None
    """The sentence for a GPU of this machine that the engine's build cannot use."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A case group that will not run, and why."""

    case: Case
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker does."""

    engine: Engine
    cases: tuple[Case, ...]

    @property
    def heading(self) -> str:
        """What to call it among the others of its suite."""
        return heading(self.cases[0].group, self.engine.backend, self.engine.model.name)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. `seconds` and `memory_bytes` are estimates, None where nothing is known."""

    jobs: tuple[Job, ...]
    skipped: tuple[Skipped, ...]
    seconds: float | None
    memory_bytes: int | None

    @property
    def cases(self) -> int:
        return sum(len(job.cases) for job in self.jobs)


def make_plan(suite: Suite, engines: Sequence[Engine]) -> Plan:
    """All cases of `suite` over `engines`. InputError if a prompt cannot be had or nothing at all would run."""
    for workload in suite.workload:
        if workload.kind == "text":
            prompt_name(workload.prompt_tokens, workload.prompt)
    _check_models([engine.model for engine in engines])
    jobs, skipped, seconds, memory = [], [], [], []
    for engine, label in zip(engines, _labels(engines), strict=True):
        facts = engine.model.facts
        cases = []
        for repetition in range(suite.load.repetitions):
            for workload in suite.workload:
                for users in workload.concurrency or suite.load.concurrency:
                    case = _case(suite, engine, label, workload, users, repetition)
                    needed = None if facts is None else memory_bytes(facts, case)
                    reason = _why_not(engine, case, needed)
                    if reason is None:
                        cases.append(case)
                        if needed is not None:
                            memory.append(needed)
                        seconds.append(_seconds(suite, engine, case))
                    elif repetition == 0:
                        skipped.append(Skipped(case, reason))
        if cases:
            jobs.append(Job(engine, tuple(cases)))
            seconds.append(None if facts is None else facts.file_bytes / LOAD_BYTES_PER_S + 2)
    if not jobs:
        raise InputError(f"nothing of suite {suite.name!r} can run here: {skipped[0].reason}")
    known = [value for value in seconds if value is not None]
    return Plan(
        tuple(jobs),
        tuple(skipped),
        sum(known) if len(known) == len(seconds) else None,
        round(max(memory)) if memory else None,
    )


def _check_models(models: Sequence[ResolvedModel]) -> None:
    """A document tells its models apart by their names."""
    known: dict[str, ModelFacts] = {}
    for model in models:
        if model.facts is None:
            continue
        first = known.setdefault(model.name, model.facts)
        if first.sha256 and model.facts.sha256 and first.sha256 != model.facts.sha256:
            raise InputError(
                f"two different models of this suite are both called {model.name} ({first.format}, {model.facts.format}): "
                "run them one after the other, or take another quantisation of one"
            )


def _labels(engines: Sequence[Engine]) -> list[str]:
    """`backend/model` for case ids, with the options that differ where the same pair occurs twice."""
    pairs = [(engine.backend, engine.model.name) for engine in engines]
    labels = []
    for engine, pair in zip(engines, pairs, strict=True):
        label = "/".join(pair)
        if pairs.count(pair) > 1:
            twins = [other.told_options for other, twin in zip(engines, pairs, strict=True) if twin == pair]
            names = sorted(set().union(*twins))
            differing = [n for n in names if len({json.dumps(o.get(n), sort_keys=True) for o in twins}) > 1]
            label += (
                "".join(f"+{n}={json.dumps(engine.told_options[n])}" for n in differing if n in engine.told_options)
                or "+default"
            )
        labels.append(label)
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(
                f"two engines of the suite are the same ({label}): give them different options or remove one"
            )
    return labels


def heading(group: str, backend: str, model: str) -> str:
    """Of a case's group: `MODEL on BACKEND`, and in brackets the options that tell it from its twins in the suite."""
    options = group.rsplit("/", 2)[0].removeprefix(f"{backend}/{model}").removeprefix("+").replace("+", ", ")
    return f"{model} on {backend}" + (f" ({options})" if options else "")


def _case(suite: Suite, engine: Engine, label: str, workload: WorkloadPart, users: int, repetition: int) -> Case:
    group = f"{label}/{workload.name}/c{users}"
    return Case(
        id=f"{group}/r{repetition}",
        group=group,
        backend=engine.backend,
        model=engine.model.name,
        workload=workload.work(),
        concurrency=users,
        requests_per_user=suite.load.requests_per_user,
        repetition=repetition,
        seed=suite.load.seed,
        duration_s=suite.load.duration_s,
        options=engine.told_options,
    )


def _why_not(engine: Engine, case: Case, needed_bytes: float | None) -> str | None:
    if engine.unusable is not None:
        return engine.unusable
    if case.workload.kind not in (able := rigbench_backends.load(engine.backend).workloads):
        return f"{engine.backend} runs workloads of kind {' and '.join(able)}, not {case.workload.kind}"
    if case.workload.kind == "text" and engine.model.tokenizer is False:
        return f"{engine.model.name} holds no tokenizer: use a workload of kind `tokens`"
    facts = engine.model.facts
    context = case.workload.context_tokens
    if facts is not None and facts.context_limit and context > facts.context_limit:
        return f"{case.workload.words} are more than the context of {facts.context_limit} tokens that {facts.name} has"
    limit = engine.memory_limit_bytes
    if limit is not None and needed_bytes is not None and needed_bytes > limit:
        who = "1 user needs" if case.concurrency == 1 else f"{case.concurrency} users need"
        return f"{who} about {needed_bytes / 1e9:.1f} GB; there are {limit / 1e9:.1f} GB"
    return None


def memory_bytes(facts: ModelFacts, case: Case) -> float:
    """Bytes that a case needs, about: the weights, the cache of all users or what a training keeps, and buffers."""
    work = case.workload
    if isinstance(work, Training):
        return facts.file_bytes + training_bytes(facts, work) + ASSUMED_COMPUTE_BYTES
    return facts.file_bytes + case.concurrency * kv_bytes(facts, work.context_tokens) + ASSUMED_COMPUTE_BYTES


def _seconds(suite: Suite, engine: Engine, case: Case) -> float | None:
    """Warm-up (about four rounds) and the measured requests, prompts and decoding one after the other."""
    if engine.device == "sim":
        return 0.05
    facts, users = engine.model.facts, case.concurrency
    work = case.workload
    if engine.bandwidth_bytes_per_s is None or facts is None or isinstance(work, Image):
        return None
    rate = engine.bandwidth_bytes_per_s * ASSUMED_EFFICIENCY
    alone = weight_bytes(facts, 1) / rate
    prefill_tps = ASSUMED_PREFILL_GAIN.get(engine.device, ASSUMED_PREFILL_GAIN_GPU) / alone

    def one_round(prompt_tokens: int, output_tokens: int) -> float:
        context = prompt_tokens + output_tokens // 2
        step = (weight_bytes(facts, users) + users * kv_bytes(facts, context)) / rate
        return users * prompt_tokens / prefill_tps + output_tokens * max(step, users / prefill_tps)

    warm = suite.warmup
    short = work.shortened(warm.prompt_tokens, warm.output_tokens)

    def seconds(work: Generation | Training) -> float:
        if isinstance(work, Training):  # its forward and backward pass are so many of a prompt's
            return users * work.units * passes(work) / prefill_tps
        return one_round(work.prompt_tokens, work.output_tokens)

    warmup = min(4, warm.max_rounds) * seconds(short)
    if case.duration_s is not None:
        return warmup + case.duration_s
    return warmup + case.requests_per_user * seconds(work)
