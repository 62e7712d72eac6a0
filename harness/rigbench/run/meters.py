"""What is read while a run goes on: the sampler over all sources cut into cases, idle power, peaks, the wait for a cool machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rigbench.analysis import flags
from rigbench.clock import now_ns
from rigbench.records import Flag, HostMemory, PhaseMark, Series
from rigbench.telemetry import host
from rigbench.telemetry.base import Source, idle_seconds
from rigbench.telemetry.sampler import Sampler
from rigbench.telemetry.settle import settle

RECENT_S = 1.5


@dataclass(frozen=True, slots=True)
class Metered:
    """What the meters say of one case."""

    memory: HostMemory
    readings: tuple[Series, ...] = ()
    flags: tuple[Flag, ...] = ()


def as_seen_from(place: str, metered: Metered) -> Metered:
    """What of it is the engine's, by EngineInfo.place: of a server that this run did not start, the memory is not known and
    its work would pass for a foreign load; of one on another machine this machine's meters say nothing at all."""
    if place == "worker":
        return metered
    memory = HostMemory(reason="the server is no process of this run")
    if place == "machine":
        return Metered(memory, metered.readings, tuple(f for f in metered.flags if f.name != "foreign_load"))
    return Metered(memory)


class Meters:
    """Reads from `__enter__` to `__exit__`. Without sources (telemetry off) only the memory of the worker is looked up."""

    def __init__(
        self, sources: Sequence[Source], settle_s: float, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._sampler = Sampler(sources)
        self._off = not sources
        self._idle_s = idle_seconds(sources)
        self._settle_s = settle_s
        self._wait = wait
        self._peak_was_reset = False
        self._case_start_ns = 0
        self._idle_ns: tuple[int, int] | None = None

    def __enter__(self) -> Meters:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.stop()

    def before_load(self, report: Callable[[str, dict[str, Any]], None]) -> None:
        """Idle power, before the model is loaded; nothing to wait for where nobody tells power."""
        if not self._idle_s:
            return
        report("idle", {"seconds": self._idle_s})
        self._sampler.edge()
        start = now_ns()
        self._wait(self._idle_s)
        self._sampler.edge()
        self._idle_ns = (start, now_ns())

    def before_case(self, pid: int) -> tuple[Flag, ...]:
        """Wait for a cool machine, and begin new peaks."""
        self._sampler.watch(pid)
        case_flags = settle(lambda: flags.hot(self._sampler.recent(RECENT_S)), self._settle_s, wait=self._wait)
        self._peak_was_reset = host.reset_peak(pid)
        self._sampler.begin_case()
        self._case_start_ns = now_ns()
        self.edge()
        return case_flags

    def edge(self) -> None:
        """An edge of a window: read what is read at edges only."""
        self._sampler.edge()

    def after_case(self, pid: int, t0_ns: int, phases: Sequence[PhaseMark]) -> tuple[Metered, tuple[PhaseMark, ...]]:
        """Everything read since `before_case`, times relative to `t0_ns`; the idle window too in the first case after it."""
        self.edge()
        end_ns = now_ns()
        start_ns = self._case_start_ns
        marks = list(phases)
        if self._idle_ns is not None:
            idle_start, idle_end = self._idle_ns
            marks.insert(0, PhaseMark("idle", (idle_start - t0_ns) // 1000, (idle_end - t0_ns) // 1000))
            start_ns, self._idle_ns = idle_start, None
        readings = self._sampler.window(t0_ns, start_ns, end_ns)
        memory = host.host_memory(readings, pid, self._peak_was_reset, (self._case_start_ns - t0_ns) // 1000)
        case_flags = flags.reading_flags(readings, marks, os.cpu_count() or 1)
        self._sampler.forget(end_ns)
        return Metered(memory, readings, case_flags), tuple(marks)

    def worker_gone(self) -> None:
        """The watched process has ended."""
        self._sampler.watch(None)

    def report(self) -> dict[str, Any]:
        """Sources and what reading them cost, as the document keeps it."""
        return {"sources": [], "reason": "telemetry was off"} if self._off else self._sampler.report()
