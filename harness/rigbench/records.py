"""Every type that is written to disk: frozen dataclasses of the standard library, so that a worker needs nothing else.

Raw records are the truth: times in whole microseconds from the case's own start (`t0`), token by token; every statistic
is recomputed from them (harness/rigbench/analysis/requests.py). Missing is None with a reason beside it, never 0.
SI units, named in the field: `_s`, `_us`, `_ns`, `_bytes`, `_w`, `_j`, `_bytes_per_s`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rigbench.workloads import Workload
from rigbench_backends.base import EngineInfo, EngineMemory, StepWork

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something has no measurement. `kind`: load, memory, context, options, unavailable, decode, crash, killed,
    time_limit, protocol, interrupted, skipped, not_run. `log` holds the engine's last lines, free of private paths.

    `phase` is what the worker was doing: load, prepare, first_step, warmup, measure; `fix` what to try."""

    kind: str
    message: str
    log: tuple[str, ...] = ()
    phase: str | None = None
    fix: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Flag:
    """A measured case can still be unfit; the flag says why and stays with it. Names: see measurement flags in README."""

    name: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked for: one backend, model, workload and concurrency level, in one repetition.

    `group` (the id without its repetition) is what a table shows as one row.
    """

    id: str
    group: str
    backend: str
    model: str
    workload: Workload
    concurrency: int
    requests_per_user: int
    repetition: int
    seed: int
    duration_s: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as it happened. `unit_us[i]` is when the i-th chunk of output existed; `chunk_units` is None where every
    chunk is one unit of the workload (of tokens the gaps are then `itl`), else the units in each. `end_us` is when the request was
    over, where that is later than its last unit. Times count from the case's t0.

    `reported_units` is the server's own count of the output where it is not that of the chunks: tokens thought and not streamed.
    `units_reason`: why the units of the chunks are not known, so that no rate follows from them; None where they are.
    `prompt_tokens` is 0 where no token ids were sent. `marks` are the parts of an image (`encode`, `denoise`, `decode`), `loss` is
    the loss of each step of a training."""

    user: int
    index: int
    prompt_tokens: int
    submit_us: int
    unit_us: tuple[int, ...]
    chunk_units: tuple[int, ...] | None = None
    end_us: int | None = None
    cached_tokens: int | None = None
    error: str | None = None
    reported_units: int | None = None
    units_reason: str | None = None
    marks: tuple[PhaseMark, ...] = ()
    loss: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class PhaseMark:
    """A named stretch of a case (`load`, `idle`, `settle`, `warmup`, `measure`), microseconds from the case's t0."""

    name: str
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Series:
    """Raw readings of one quantity during a case. `values[i]` was read at `time_us[i]` from the case's t0; None = read failed.

    `scope`: board, soc, package, process, host, wall. `method`: counter, sampled, integrated, theoretical.
    `status`: ok, low_confidence, degraded, unavailable, denied; `reason` whenever it is not ok.
    """

    name: str
    unit: str
    source: str
    api: str
    scope: str
    method: str
    status: str
    reason: str | None = None
    device: str | None = None
    time_us: tuple[int, ...] = ()
    values: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Peak memory of the engine's whole process tree during a case. `file_backed` (mmapped weights) is part of `rss_peak`."""

    rss_peak_bytes: int | None = None
    anonymous_peak_bytes: int | None = None
    file_backed_peak_bytes: int | None = None
    swap_growth_bytes: int | None = None
    method: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case as it ran: `order` is its place in the run, `started_s` the seconds from the run's start to its t0. `step_work` is
    what a step does where the model's facts alone do not tell: of an image."""

    case: Case
    order: int
    started_s: float
    engine: int | None = None
    prompts_sha256: str | None = None
    warmup: tuple[RequestRecord, ...] = ()
    warmup_rounds: int = 0
    warmup_steady: bool | None = None
    requests: tuple[RequestRecord, ...] = ()
    phases: tuple[PhaseMark, ...] = ()
    engine_memory: EngineMemory | None = None
    host_memory: HostMemory | None = None
    readings: tuple[Series, ...] = ()
    flags: tuple[Flag, ...] = ()
    error: Failure | None = None
    step_work: StepWork | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model is and what a decode step reads of it, from the file's own tensor table or from its catalogued shape.

    `dense_bytes`: weights that every step reads whoever asks (all but routed experts and the input embedding, which is read
    only where it doubles as the output matrix). `expert_bytes`: all routed experts of all layers together, of which a token
    reads `experts_used` of `experts`. KV figures are for a 16-bit cache, per token of context and sequence, all layers:
    `kv_bytes_per_token` in full layers, `kv_window_bytes_per_token` in layers that look back `kv_window_tokens` at most.
    `attention_length`: query heads x their size, which look back at each token of context.
    `sha256_of`: `file`, or `edges` (first and last 8 MiB and the tensor table) for files too large to read for it.
    """

    name: str
    format: str
    architecture: str
    quantization: str
    file_bytes: int
    parameters: int
    active_parameters: int
    dense_bytes: int
    expert_bytes: int
    experts: int
    experts_used: int
    layers: int
    kv_bytes_per_token: int
    kv_window_bytes_per_token: int = 0
    kv_window_tokens: int = 0
    context_limit: int | None = None
    vocab_size: int | None = None
    embedding_length: int | None = None
    attention_length: int | None = None
    synthetic: bool = False
    sha256: str | None = None
    sha256_of: str | None = None


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Memory bandwidth of one device (bytes per second). `method`: `measured` or `datasheet`; `source` says by or from what."""

    device: str
    read_bytes_per_s: float | None
    copy_bytes_per_s: float | None = None
    method: str = "measured"
    source: str = ""
    threads: int | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return self.read_bytes_per_s is not None


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How fast one device multiplies matrices, in operations per second by type (f32, bf16, f16, int8), as the libraries in the
    engine's interpreter do it. `source` names the library of each type. Empty with the reason where nothing could be measured."""

    device: str
    flops_per_s: dict[str, float]
    source: str = ""
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return bool(self.flops_per_s)

    def rate(self, dtype: str | None) -> float | None:
        """Of the type that an engine computes in, else the fastest: no product of any type is faster."""
        return self.flops_per_s.get(dtype or "", max(self.flops_per_s.values(), default=None))


@dataclass(frozen=True, slots=True)
class Machine:
    """The fingerprint. No host name, user name, serial, UUID, path or address is ever in it."""

    id: str
    cpu: str
    physical_cores: int | None
    logical_cores: int | None
    memory_bytes: int | None
    gpus: tuple[dict[str, Any], ...]
    os: str
    kernel: str
    arch: str
    python: str
    virtualized: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    drivers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the machine should do in one case group. Per user and in all, with formula and inputs, or None with the reason.

    `user_tps` counts the units of the workload: tokens, denoising steps, trained tokens. A step reads `bytes_per_step` and has
    `flops_per_step` operations, where the device reads `bandwidth_bytes_per_s` and does `flops_per_s`; the ceiling is the slower of
    both, and None of either where it is not known."""

    group: str
    predictor: str
    user_tps: float | None
    output_tps: float | None
    ceiling_user_tps: float | None
    bytes_per_step: int | None
    bandwidth_bytes_per_s: float | None
    formula: str
    inputs: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    flops_per_step: float | None = None
    flops_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class SuiteRecord:
    """The suite that ran: its full content, so that the document needs no other file."""

    name: str
    version: str
    sha256: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunDocument:
    """One run, self-contained. `summary` is derived, for people, and never read back. `id` is the SHA-256 of the rest.

    `complete` is False when the run was ended early: what is there is sound, but cases are missing.
    """

    schema_version: int
    id: str
    rigbench_version: str
    created_utc: str
    duration_s: float
    suite: SuiteRecord
    machine: Machine
    engines: tuple[EngineInfo, ...]
    models: tuple[ModelFacts, ...]
    bandwidth: tuple[Bandwidth, ...]
    cases: tuple[CaseResult, ...]
    predictions: tuple[Prediction, ...] = ()
    complete: bool = True
    telemetry: dict[str, Any] = field(default_factory=dict)
    summary: tuple[dict[str, Any], ...] = ()
    annotations: dict[str, Any] = field(default_factory=dict)
    arithmetic: tuple[Arithmetic, ...] = ()
