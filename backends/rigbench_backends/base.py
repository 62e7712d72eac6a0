"""The contract between rigbench and an engine: what a backend is asked for, and what it gives. Standard library only.

A backend is one file with a `Backend` and a `Session`, named by an entry point of the group `rigbench.backends`.

    session = backend.open(model, options)
    session.prepare(users=4, context_tokens=640)   # room for 4 sequences; not measured
    session.submit(Request(id=0, prompt=(1, 2, 3), output_tokens=128))
    while (step := session.step()).events:         # blocks until some request moved; no events only when idle
        ...

`submit` and `step` fit llama.cpp's batch decode, mlx-lm's BatchGenerator, vLLM's engine step and an asyncio HTTP client
alike, so one single-threaded loop (harness/rigbench/worker/drive.py) measures them all.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CONTRACT_VERSION = 3


def option(
    default: Any,
    about: str,
    *flags: str,
    least: float | None = None,
    choices: Iterable[str] = (),
    private: bool = False,
) -> Any:
    """A field of a backend's `Options`: its default, what it does, and the engine's own words for it on a command line (`-ngl`).

    `least` is the smallest number, `choices` are the only texts that it takes. What is `private` (an address, a path) stays out
    of every document.
    """
    metadata = {"about": about, "flags": flags, "least": least, "choices": tuple(choices), "private": private}
    return field(default=default, metadata=metadata)


def bus_id(text: str | None) -> str | None:
    """A PCI address as every side of this program writes it, `0000:01:00.0`; None for what holds none. NVML's has a domain of eight
    digits, sysfs's path ends with it."""
    match = re.findall(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", (text or "").lower())
    return "{}:{}:{}.{}".format(*match[-1]) if match else None


class EngineError(Exception):
    """The engine cannot do what was asked. `kind` is one of `load`, `memory`, `context`, `decode`, `options`, `unavailable`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Diagnosis(NamedTuple):
    """Why an engine failed: `cause` is the engine's own line, `fix` what to try. None where the lines do not tell."""

    cause: str | None
    fix: str | None = None


TELLING = (r"\b\w*(?:Error|Exception): .+|out of memory", r"\berror\b|\bfail(?:ed|ure)?\b|unable|cannot")
_SIGNAL_ONLY = re.compile(r"Fatal Python error: (Segmentation fault|Aborted|Illegal|Bus error)|Current thread|  File ")
"""What Python's fault handler writes at a crash: where, not why."""


def telling_line(lines: Sequence[str], telling: Sequence[str] = TELLING) -> str | None:
    """The last of `lines` that tells most of a failure, by patterns in falling order of what they tell; None if none matches."""
    for pattern in telling:
        for line in reversed(lines):
            if re.search(pattern, line, re.IGNORECASE) and not _SIGNAL_ONLY.match(line):
                return line.strip()
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation: exactly `output_tokens` tokens, greedy, end-of-text ignored. `prompt` are token ids; `text` is the same as
    text for engines behind a wire, None where ids alone were drawn.

    Of other workloads `output_tokens` are the units: denoising steps of an image, whose `text` it is; trained tokens of a training,
    whose `prompt` is the batch, sequence after sequence."""

    id: int
    prompt: tuple[int, ...]
    output_tokens: int
    text: str | None = None


class Event(NamedTuple):
    """One or more units of one request: tokens of text, a denoising step, the trained tokens of a step. Of text `units` > 1 only
    where an engine hands over several at once, 0 for an end without one.

    A server may tell only at the end how long the prompt was to it (`prompt_tokens`), and how many units each event of the
    request had (`chunk_units`, for all its events with units, in order; 0 where it had none after all). `reported_units` is its
    own count of the output where that is another, and `units_reason` says why the events' units are not known (None: they are).
    The end of an image tells its parts as `marks` (name, start and end in ns of the session's clock), that of a training the `loss`
    of each step.
    """

    request_id: int
    units: int = 1
    finished: bool = False
    cached_tokens: int | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    chunk_units: tuple[int, ...] | None = None
    reported_units: int | None = None
    units_reason: str | None = None
    marks: tuple[tuple[str, int, int], ...] = ()
    loss: tuple[float, ...] | None = None


class Step(NamedTuple):
    """What one step of the engine moved: `events` of tokens that existed at `time_ns` (the session's clock).

    `ended` says whether any of them is finished, so that the loop need not look. An engine may hand out the same `events`
    object for as long as its batch does not change: a step of 8 users then costs Python as little as a step of one.
    `token_ids` are those of the events, in their order, where the engine gives them.
    """

    time_ns: int
    events: Sequence[Event]
    ended: bool = False
    token_ids: Sequence[int] = ()


IDLE = Step(0, ())


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself, once, after opening. Unknown is None.

    `device` is `cpu`, `cuda`, `metal`, `rocm`, `vulkan`, `sim` or `remote`: where the weights are read from, hence whose
    memory bandwidth bounds decode. `place`: the engine runs in the `worker`'s process tree, as another process of this
    `machine`, or `elsewhere`; what the machine's own meters say of it depends on that. `simulated_bandwidth_bytes_per_s` and
    `simulated_flops_per_s` are set by the simulator alone.
    """

    engine: str
    version: str
    device: str
    device_names: tuple[str, ...] = ()
    build: str | None = None
    weights_bytes: int | None = None
    parameters: int | None = None
    vocab_size: int | None = None
    context_limit: int | None = None
    max_users: int | None = None
    threads: int | None = None
    kv_bits: float = 16
    accepts_token_ids: bool = True
    fixed_length: bool = True
    place: str = "worker"
    simulated_bandwidth_bytes_per_s: float | None = None
    simulated_flops_per_s: float | None = None
    compute_type: str | None = None
    """In which type it multiplies matrices (f32, bf16, f16), where one is fixed."""
    bus_ids: tuple[str, ...] = ()
    """PCI addresses of the devices that hold the model (`bus_id`), so that these and no others are read; () where none is known."""
    resolved: dict[str, Any] = field(default_factory=dict)
    """What the engine made of its options and defaults, under its own names: threads, batch, flash attention, layers on the device,
    types of the cache. A default that changed is the commonest cause of a "regression"."""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def parallel_devices(self) -> int:
        """Devices that read their parts of each layer at once, so that bandwidths add up: 1 where layers are only dealt out."""
        rows = self.resolved.get("split_mode") in ("row", "tensor")
        return len(self.device_names) if rows else int(self.resolved.get("tensor_parallel_size") or 1)

    @property
    def device_share(self) -> float:
        """The part of the layers that the device holds; the others stay with the processor. 1 where the engine does not say."""
        layers = re.fullmatch(r"(\d+)/(\d+)", str(self.resolved.get("n_gpu_layers")))
        return int(layers[1]) / int(layers[2]) if layers and int(layers[2]) else 1.0


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """The engine's own account of its memory in bytes; None where it gives none, with the reason in `reason`.
    `device_peak_phase` is the part of the work in which the peak was reached, where the engine can tell."""

    weights_bytes: int | None = None
    kv_cache_bytes: int | None = None
    compute_bytes: int | None = None
    device_peak_bytes: int | None = None
    reason: str | None = None
    device_peak_phase: str | None = None


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one step of a workload does at least, as its engine counted it on the model that it loaded: `flops` operations in all
    its `forwards` through the model (of a whole batch), and `bytes` of weights to read. `trained_parameters` are those that a
    training changes. `source` says how it was counted."""

    flops: float
    bytes: int
    forwards: int = 1
    trained_parameters: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class StepBytes:
    """What a decode step reads, in bytes, for a backend that computes with them (`sim`): `dense_bytes` of weights whoever asks, of
    `expert_bytes` the share of `experts_used` of `experts` per token, and of the cache (16 bit) per user `kv_bytes_per_token` for
    every token of context, `kv_window_bytes_per_token` for the last `kv_window_tokens`. `context_limit` is the longest. All the
    `parameters` take `file_bytes`, and a token goes through those of the weights that its step reads."""

    dense_bytes: int
    expert_bytes: int = 0
    experts: int = 0
    experts_used: int = 0
    kv_bytes_per_token: int | None = None
    kv_window_bytes_per_token: int = 0
    kv_window_tokens: int = 0
    context_limit: int | None = None
    parameters: int = 0
    file_bytes: int = 0


TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""One of them is in a model's folder that can turn text into tokens."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as a backend needs it. `path` is a file or folder, None for a backend that needs no weights; `step_bytes` is None
    where the model's facts are unknown. `parts` are all files of a split model, in order, where their names do not tell."""

    name: str
    path: str | None
    format: str
    step_bytes: StepBytes | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a backend works in this interpreter, and on which `device` (as in EngineInfo) it would run by default; else why not,
    and the fix."""

    usable: bool
    version: str | None = None
    device: str | None = None
    devices: tuple[str, ...] = ()
    reason: str | None = None
    fix: str | None = None
    model_formats: tuple[str, ...] | None = None
    """Where the options decide which formats `open` takes; None: the backend's own."""
    gpus: tuple[str, ...] = ()
    """Names of the GPUs that this build of the engine can use, whether or not the options do."""
    used: dict[str, str] = field(default_factory=dict)
    """Names of the GPUs that it would use with these options, by PCI address (`bus_id`); empty where no address is known."""
    memory_bytes: int | None = None
    """What the engine says that its device can hold."""
    device_error: str | None = None
    """The engine's own line on a device that it could not initialise."""
    gpu_fix: str | None = None
    """How a build of this engine that uses this machine's GPU is had."""


class Session(ABC):
    """One loaded model. Used from one thread."""

    info: EngineInfo
    clock: Callable[[], int] = staticmethod(time.perf_counter_ns)
    """Nanoseconds of the clock that stamps the events; the simulator's is virtual."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of `text` that is as nearly `tokens` tokens long as the engine lets one know. Never in a window, and asked
        only of an engine that takes no token ids (`info.accepts_token_ids`). Raises EngineError("context") if it is too short."""
        raise EngineError("options", f"{self.info.engine} takes token ids")

    @abstractmethod
    def prepare(self, users: int, context_tokens: int) -> None:
        """Make room for `users` sequences of up to `context_tokens` each (within `info.context_limit`), with an empty cache. Never
        called in a window. Raises EngineError("context" or "memory") if that cannot be had."""

    def prepare_work(self, work: Any, users: int) -> None:
        """The same for the requests of a case: `work` has the fields of its kind in harness/rigbench/workloads.py. What is no text
        is made ready here: adapters, a scheduler, buffers."""
        self.prepare(users, work.context_tokens)

    def work(self) -> StepWork | None:
        """What a step of the case that was prepared last does; None where the model's facts tell it. Never in a window."""
        return None

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Queue a request. Never blocks."""

    @abstractmethod
    def step(self) -> Step:
        """Work until at least one request moved, and say which. Without events only when nothing is queued or running."""

    def flags(self) -> tuple[tuple[str, str], ...]:
        """(flag, evidence) of whatever speaks against the figures since this was last asked: `client_bound`."""
        return ()

    def memory(self) -> EngineMemory:
        """The engine's own account."""
        return EngineMemory(self.info.weights_bytes, reason=f"{self.info.engine} gives no account of its memory")

    @abstractmethod
    def close(self) -> None:
        """Free everything, including processes of the engine's own."""


class Backend(ABC):
    """An engine. `Options` is a frozen dataclass: exactly what a suite may set in `[engine.options]`."""

    name: str
    Options: type
    workloads: tuple[str, ...] = ("text", "tokens")
    """Kinds of workload that its sessions run."""
    model_formats: tuple[str, ...]
    """Formats that `open` takes: `gguf`, `mlx`, `safetensors`, `shape` (no file: the catalogued shape is enough), `remote`."""
    default_model: str | None = None
    """What runs where no model is named; None where only the user can know."""
    device_kinds: tuple[str, ...]
    """What `EngineInfo.device` may be."""

    @abstractmethod
    def open(self, model: ModelFile, options: Any) -> Session:
        """Load `model`. Raises EngineError("load", ...) with one clear sentence."""

    @abstractmethod
    def probe(self, options: Any = None) -> Probe:
        """Usable here, with these `Options` (None: the defaults)? Cheap, and never raises."""

    def platform(self, info: EngineInfo) -> str:
        """What the predictor knows such an engine by: `mlx`, `vllm`, or the kind of device that llama.cpp's kernels are for."""
        return info.device

    def diagnose(self, lines: Sequence[str], phase: str, signal: str | None, device: str | None) -> Diagnosis:
        """Why a worker failed, from what it printed. `phase`: load, prepare, first_step, warmup, measure. `signal`: the name of
        the one it died by, None where it lives or ended by itself. Asked in the parent, where the engine may not be installed."""
        return Diagnosis(telling_line(lines))
