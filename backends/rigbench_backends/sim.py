"""An engine that obeys the roofline exactly, so that every formula has a test with a known answer, on any machine.

    t(decode step of N users) = (weight bytes(N) + sum of each user's KV bytes) / bandwidth + step_overhead_s
    weight bytes(N)           = dense + experts x (1 - (1 - k/E)^N)    (k of E experts a token, users choose independently)
    t(prompt chunk)           = tokens / prefill_tps                   (prompts one after the other, before any decoding)
    t(image or training step) = max(operations / tflops, bytes / bandwidth) + step_overhead_s    (requests one after the other)

A training step has 4 operations a weight and token with adapters, 6 without; of an image each 16 x 16 pixels are a token that goes
through all weights, twice with guidance, and text encoder and decoding are a step each.

Its clock is virtual: a suite of hours runs in milliseconds, and its events are stamped with the instants that the formula
gives. With `pace = "real"` it waits for each instant instead, for trying out live views, time limits and faults.

    rigbench run smoke --backend sim --model synthetic:llama-3.3-70b:Q4_K_M
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rigbench_backends import base

VOCABULARY = 256
FORMULA = "the simulator's formula"


@dataclass(frozen=True, slots=True)
class SimOptions:
    """The machine to pretend to be. None takes the model's own figure. A `fault` is for tests of the run loop."""

    bandwidth_gb_per_s: float = base.option(100.0, "memory bandwidth", least=1e-3)
    prefill_tps: float = base.option(5000.0, "prompt tokens a second", least=1e-3)
    step_overhead_s: float = base.option(0.0, "time of a step besides reading", least=0)
    tflops: float = base.option(1.0, "arithmetic rate, for images and training", least=1e-6)
    weight_bytes: int | None = base.option(None, "bytes of weights that a step reads", least=1)
    kv_bytes_per_token: int | None = base.option(None, "bytes of cache for a token", least=0)
    context_limit: int | None = base.option(None, "longest context", least=1)
    pace: str = base.option("virtual", "a clock of its own, or the wall's", choices=("virtual", "real"))
    tokens_per_chunk: int = base.option(1, "tokens handed over at once", least=1)
    fault: str | None = base.option(
        None, "fails on purpose", choices=("load", "memory", "options", "decode", "hang", "crash", "loss")
    )
    fault_users: int = base.option(1, "in the first case of so many users", least=1)
    fault_at: str = base.option("step", "where it crashes", choices=("load", "prepare", "step"))
    fault_step: int = base.option(1, "from this step on", least=0)
    fault_signal: str = base.option("SIGKILL", "the signal that ends the process")


@dataclass(slots=True, eq=False)
class _Running:
    """One request in flight: its context so far, the units it still owes, and when it was begun."""

    id: int
    context: int
    owed: int
    begun_ns: int = 0
    marks: tuple[tuple[str, int, int], ...] = ()


class SimSession(base.Session):
    """Prompts first come, first served; then all running requests decode together, a token each a step."""

    def __init__(self, model: base.ModelFile, options: SimOptions) -> None:
        self._options = options
        self._fail_on_purpose("load")
        reads = model.step_bytes
        if options.weight_bytes is not None:
            reads = replace(reads or base.StepBytes(0), dense_bytes=options.weight_bytes, expert_bytes=0)
        if reads is None:
            raise base.EngineError("options", f"the bytes of {model.name} are not known: set options.weight_bytes")
        if options.kv_bytes_per_token is not None:
            reads = replace(reads, kv_bytes_per_token=options.kv_bytes_per_token, kv_window_bytes_per_token=0)
        if options.bandwidth_gb_per_s <= 0 or options.prefill_tps <= 0:
            raise base.EngineError("options", "bandwidth_gb_per_s and prefill_tps must be positive")
        if options.pace not in ("virtual", "real"):
            raise base.EngineError("options", f"pace = {options.pace!r}: choose virtual or real")
        self._reads = reads
        self._bandwidth = options.bandwidth_gb_per_s * 1e9
        self._now = time.perf_counter_ns()
        self._waiting: deque[base.Request] = deque()
        self._running: list[_Running] = []
        self._users = self._steps = self._context_tokens = 0
        self._work: Any = None
        self._losses: list[float] = []
        self.clock: Callable[[], int] = lambda: self._now
        self.info = base.EngineInfo(
            engine="sim",
            version="1",
            device="sim",
            weights_bytes=reads.dense_bytes + reads.expert_bytes,
            vocab_size=VOCABULARY,
            context_limit=options.context_limit or reads.context_limit,
            simulated_bandwidth_bytes_per_s=self._bandwidth,
            simulated_flops_per_s=options.tflops * 1e12,
            resolved={"weight_bytes": reads.dense_bytes, "kv_bytes_per_token": reads.kv_bytes_per_token},
        )

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def prepare(self, users: int, context_tokens: int) -> None:
        if users >= self._options.fault_users:
            self._fail_on_purpose("prepare")
        self._waiting.clear()
        self._running.clear()
        self._users, self._context_tokens = users, context_tokens

    def prepare_work(self, work: Any, users: int) -> None:
        self.prepare(users, work.context_tokens)
        self._work = work if work.kind in ("image", "train") else None

    def work(self) -> base.StepWork | None:
        work, reads = self._work, self._reads
        if work is None:
            return None
        weights = self._weight_bytes(1) * reads.parameters / max(1, reads.file_bytes)
        if work.kind == "train":
            read, passes = self._weight_bytes(1), 3 if work.method == "full" else 2
            read = min(read, weights * 0.5) if work.method == "qlora" else read
            return base.StepWork(passes * 2 * weights * work.step_units, round(2 * read), source=FORMULA)
        forwards = 2 if work.guidance > 1 else 1
        tokens = work.width * work.height / 256 * work.batch
        return base.StepWork(2 * weights * tokens * forwards, round(self._weight_bytes(1)), forwards, source=FORMULA)

    def submit(self, request: base.Request) -> None:
        self._waiting.append(request)

    def step(self) -> base.Step:
        self._steps += 1
        if self._users >= self._options.fault_users and self._steps >= self._options.fault_step:
            self._fail_on_purpose("step")
        if (work := self.work()) is not None:
            return self._work_step(work)
        if self._waiting:
            request = self._waiting.popleft()
            self._advance(len(request.prompt) / self._options.prefill_tps)
            self._running.append(_Running(request.id, len(request.prompt), request.output_tokens))
            return self._emit(self._running[-1:], 1)
        if not self._running:
            return base.IDLE
        chunk = self._options.tokens_per_chunk
        step_bytes = self._weight_bytes(len(self._running)) + sum(self._kv_bytes(one.context) for one in self._running)
        self._advance(chunk * (step_bytes / self._bandwidth + self._options.step_overhead_s))
        return self._emit(self._running, chunk)

    def _work_step(self, work: base.StepWork) -> base.Step:
        """The next step of the one request that runs: of an image, or of a training on its batch."""
        step_s = (
            max(work.flops / self._options.tflops / 1e12, work.bytes / self._bandwidth) + self._options.step_overhead_s
        )
        if not self._running:
            if not self._waiting:
                return base.IDLE
            request = self._waiting.popleft()
            self._running.append(_Running(request.id, 0, request.output_tokens, self._now))
            self._losses.clear()
            if self._work.kind == "image":
                self._advance(step_s)
                self._running[0].marks = (("encode", self._running[0].begun_ns, self._now),)
        [one] = self._running
        if one.owed == 0:  # its pixels
            denoised = self._now
            self._advance(step_s)
            marks = (*one.marks, ("denoise", one.marks[0][2], denoised), ("decode", denoised, self._now))
            self._running.clear()
            return base.Step(self._now, [base.Event(one.id, 0, True, marks=marks)], True)
        self._advance(step_s)
        units = min(one.owed, self._work.step_units)
        one.owed -= units
        if self._work.kind == "image":
            return base.Step(self._now, [base.Event(one.id, units)])
        self._losses.append(5.0 if self._options.fault == "loss" else 5.0 / (1 + len(self._losses)))
        ended = one.owed == 0
        if ended:
            self._running.clear()
        event = base.Event(one.id, units, ended, loss=tuple(self._losses) if ended else None)
        return base.Step(self._now, [event], ended)

    def _emit(self, requests: list[_Running], chunk: int) -> base.Step:
        events = []
        ids = []
        for one in requests:
            count = min(chunk, one.owed)
            one.owed -= count
            one.context += count
            ids.append(hashlib.blake2b(f"{one.id}/{one.owed}".encode(), digest_size=1).digest()[0])
            events.append(base.Event(one.id, count, one.owed == 0))
        self._running = [one for one in self._running if one.owed]
        return base.Step(self._now, events, any(event.finished for event in events), ids)

    def _weight_bytes(self, users: int) -> float:
        reads = self._reads
        idle = (1 - reads.experts_used / reads.experts) ** users if reads.experts else 0.0
        return reads.dense_bytes + reads.expert_bytes * (1 - idle)

    def _kv_bytes(self, context: int) -> int:
        reads = self._reads
        windowed = reads.kv_window_bytes_per_token * min(context, reads.kv_window_tokens)
        return (reads.kv_bytes_per_token or 0) * context + windowed

    def _advance(self, seconds: float) -> None:
        self._now += round(seconds * 1e9)
        if self._options.pace == "real":
            time.sleep(max(0.0, (self._now - time.perf_counter_ns()) / 1e9))

    def _fail_on_purpose(self, at: str) -> None:
        fault = self._options.fault
        if fault is not None and (fault, at) in (("load", "load"), ("memory", "prepare"), ("decode", "step")):
            raise base.EngineError(fault, f"the simulator was told to fail ({fault})")
        if fault == "crash" and at == self._options.fault_at:  # SIGTERM where the system has no such signal
            os.kill(os.getpid(), getattr(signal, self._options.fault_signal, signal.SIGTERM))
        while fault == "hang" and at == "step":
            time.sleep(3600)

    def memory(self) -> base.EngineMemory:
        kv_bytes = self._kv_bytes(self._context_tokens) * self._users
        return base.EngineMemory(self.info.weights_bytes, kv_bytes, compute_bytes=0)

    def close(self) -> None:
        self._running.clear()
        self._waiting.clear()


class SimBackend(base.Backend):
    """The simulator as a backend. It takes any model whose bytes are known, and needs no file."""

    name = "sim"
    Options = SimOptions
    workloads = ("text", "tokens", "image", "train")
    model_formats = ("shape", "gguf", "mlx", "safetensors")
    default_model = "synthetic:llama-1.5b:Q4_K_M"
    device_kinds = ("sim",)

    def open(self, model: base.ModelFile, options: SimOptions) -> SimSession:
        return SimSession(model, options)

    def probe(self, options: SimOptions | None = None) -> base.Probe:
        return base.Probe(True, "1", "sim", ("a simulated machine",))


BACKEND = SimBackend()
