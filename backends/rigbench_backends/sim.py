"""An engine that obeys the roofline exactly, so that every formula has a test with a known answer, on any machine.

    t(decode step of N users) = (weight bytes(N) + sum of each user's KV bytes) / bandwidth + step_overhead_s
    weight bytes(N)           = dense + experts x (1 - (1 - k/E)^N)    (k of E experts a token, users choose independently)
    t(prompt chunk)           = tokens / prefill_tps                   (prompts one after the other, before any decoding)

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

from rigbench_backends import base

VOCABULARY = 256


@dataclass(frozen=True, slots=True)
class SimOptions:
    """The machine to pretend to be. None takes the model's own figure. A `fault` is for tests of the run loop."""

    bandwidth_gb_per_s: float = base.option(100.0, "memory bandwidth", least=1e-3)
    prefill_tps: float = base.option(5000.0, "prompt tokens a second", least=1e-3)
    step_overhead_s: float = base.option(0.0, "time of a step besides reading", least=0)
    weight_bytes: int | None = base.option(None, "bytes of weights that a step reads", least=1)
    kv_bytes_per_token: int | None = base.option(None, "bytes of cache for a token", least=0)
    context_limit: int | None = base.option(None, "longest context", least=1)
    pace: str = base.option("virtual", "a clock of its own, or the wall's", choices=("virtual", "real"))
    tokens_per_chunk: int = base.option(1, "tokens handed over at once", least=1)
    fault: str | None = base.option(
        None, "fails on purpose", choices=("load", "memory", "options", "decode", "hang", "crash")
    )
    fault_users: int = base.option(1, "in the first case of so many users", least=1)
    fault_at: str = base.option("step", "where it crashes", choices=("load", "prepare", "step"))
    fault_step: int = base.option(1, "from this step on", least=0)
    fault_signal: str = base.option("SIGKILL", "the signal that ends the process")


@dataclass(slots=True, eq=False)
class _Running:
    """One request in flight: its context so far and the tokens it still owes."""

    id: int
    context: int
    owed: int


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
        self.clock: Callable[[], int] = lambda: self._now
        self.info = base.EngineInfo(
            engine="sim",
            version="1",
            device="sim",
            weights_bytes=reads.dense_bytes + reads.expert_bytes,
            vocab_size=VOCABULARY,
            context_limit=options.context_limit or reads.context_limit,
            simulated_bandwidth_bytes_per_s=self._bandwidth,
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

    def submit(self, request: base.Request) -> None:
        self._waiting.append(request)

    def step(self) -> base.Step:
        self._steps += 1
        if self._users >= self._options.fault_users and self._steps >= self._options.fault_step:
            self._fail_on_purpose("step")
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
    model_formats = ("shape", "gguf", "mlx", "safetensors")
    default_model = "synthetic:llama-1.5b:Q4_K_M"
    device_kinds = ("sim",)

    def open(self, model: base.ModelFile, options: SimOptions) -> SimSession:
        return SimSession(model, options)

    def probe(self, options: SimOptions | None = None) -> base.Probe:
        return base.Probe(True, "1", "sim", ("a simulated machine",))


BACKEND = SimBackend()
