"""The contract of a source of readings, and the list of those that rigbench has.

A source says once what it can tell (`metrics`: name, unit, interface, scope, method and how often), and then answers
`read` for any of them. What it cannot tell is `Missing` with the reason, never 0: several well-known tools print 0 W
when they do not know.

    python -c "from rigbench.telemetry.source import *; print([s.probe() for s in open_sources(SourceOptions())])"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rigbench_backends.base import Probe

POWER_PERIOD_S = 0.1
"""Sensors refresh about every 100 ms, so reading power faster repeats old values."""
STATE_PERIOD_S = 0.5
"""Clocks, temperatures and memory."""
SLOW_PERIOD_S = 1.0
"""Wall meters, and macOS' energy channels, which are published in batches."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of one source. `period_s` None: costly, read only at the edges of a window. Scope, method and
    status as in records.Series; a status other than ok comes with a reason, and `unavailable` or `denied` metrics are
    never read."""

    name: str
    unit: str
    api: str
    scope: str
    method: str
    period_s: float | None
    device: str | None = None
    status: str = "ok"
    reason: str | None = None

    @property
    def readable(self) -> bool:
        return self.status not in ("unavailable", "denied")


@dataclass(frozen=True, slots=True)
class Missing:
    """A reading that could not be had, and why. `status`: unavailable or denied."""

    reason: str
    status: str = "unavailable"


Reading = float | Missing


class Source(Protocol):
    """Where readings come from. Used by one thread at a time."""

    @property
    def name(self) -> str: ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What can be read, and what cannot with the reason. Fixed once the source is made."""
        ...

    def probe(self) -> Probe:
        """Usable here? If not: why, and what mends it. Cheap, and never raises."""
        ...

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        """One reading for each of `metrics`, in their order. Never raises for what can go wrong with a device."""
        ...

    def watch(self, pid: int | None) -> None:
        """The worker whose process tree the readings `process` are about; None between workers."""
        ...

    def close(self) -> None:
        """Let go of the device. The source is not read any more."""
        ...


@dataclass(frozen=True, slots=True)
class Absent:
    """A source that is not usable here: it has one metric, power, that is not there, and the reason."""

    name: str
    scope: str
    found: Probe
    status: str = "unavailable"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        reason = "; ".join(part for part in (self.found.reason, self.found.mend) if part)
        return (Metric("power", "W", self.name, self.scope, "sampled", None, None, self.status, reason),)

    def probe(self) -> Probe:
        return self.found

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [Missing(metric.reason or "not usable here") for metric in metrics]

    def watch(self, pid: int | None) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the user may set. `wall` is a preset's name or a JSON path, `wall_url` the meter's address: it is used and
    never stored."""

    telemetry: bool = True
    wall_url: str | None = None
    wall_preset: str = "shelly"
    wall_path: str | None = None
    wall_unit: str = "W"
    wall_scale: float = 1.0
    replay: str | None = None


def idle_seconds(sources: Sequence[Source]) -> float:
    """How long to measure idle power before a model is loaded: what the slowest source of power needs, 0 where there
    is none."""
    powered = [
        source for source in sources if any(metric.readable and metric.unit in ("W", "J") for metric in source.metrics)
    ]
    return 0.0 if not powered else 62.0 if any(source.name == "wall" for source in powered) else 10.5


def open_sources(options: SourceOptions) -> list[Source]:
    """Every source that this system can have, usable or `Absent` with its reason. Nothing is started yet.

    Raises InputError where the options themselves are wrong (a meter's address that is none, a replay file that is
    not there).
    """
    from rigbench.telemetry import amd, apple, host_source, nvml, rapl, replay, wall

    if not options.telemetry:
        return []
    if options.replay:
        return [replay.open_source(options.replay)]
    sources: list[Source] = [host_source.HostSource()]
    if sys.platform == "darwin":
        sources.append(apple.open_source())
    else:
        sources.append(nvml.open_source())
    if sys.platform.startswith("linux"):
        sources += [rapl.open_source(), amd.open_source()]
    if options.wall_url:
        sources.append(
            wall.open_source(
                options.wall_url, options.wall_preset, options.wall_path, options.wall_unit, options.wall_scale
            )
        )
    return sources
