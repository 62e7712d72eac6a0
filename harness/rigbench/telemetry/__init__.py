"""The sensors around a case: the registry of those that there are, and what they know of this machine.

    sources = open_sources(SourceOptions(wall_url=...))          # usable, or Absent with the reason
    sampler = Sampler(sources).start()                           # reads until stop()
    sampler.watch(worker.pid)                                    # the engine's process tree, from now on
    sampler.edge()                                               # the costly readings, where a case or phase begins and ends
    readings = sampler.window(t0_ns, first_phase_ns, end_ns)     # CaseResult.readings
    sampler.stop(); sampler.report()                             # RunDocument.telemetry

A third party's sensor is a class like those here (see base.Source), registered by the entry-point group
`rigbench.sensors` (name = "module:Class", the name that its readings bear as their source).
"""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from rigbench.telemetry.base import Absent, Limits, Source, SourceOptions
from rigbench_backends.base import Probe

BUILT_IN = {
    "host": "rigbench.telemetry.host:HostSource",
    "apple": "rigbench.telemetry.apple:AppleSource",
    "nvml": "rigbench.telemetry.nvidia:NvmlSource",
    "rapl": "rigbench.telemetry.rapl:RaplSource",
    "module": "rigbench.telemetry.module:ModuleSource",
    "jetson": "rigbench.telemetry.jetson:JetsonSource",
    "amd": "rigbench.telemetry.amd:AmdSource",
    "intel": "rigbench.telemetry.intel:IntelSource",
    "battery": "rigbench.telemetry.battery:BatterySource",
    "wall": "rigbench.telemetry.wall:WallSource",
}


def registry() -> dict[str, str]:
    """Sensor name -> "module:Class", the built-in ones first. Reads metadata only."""
    known = dict(BUILT_IN)
    for entry in entry_points(group="rigbench.sensors"):
        known.setdefault(entry.name, entry.value)
    return known


def load(name: str) -> type[Source]:
    """The class of the sensor called `name`. Raises what a third party's module raises."""
    module, _, attribute = registry()[name].partition(":")
    sensor: type[Source] = getattr(import_module(module), attribute)
    return sensor


def open_sources(options: SourceOptions) -> list[Source]:
    """Every source that this system can have, usable or `Absent` with its reason. Nothing is started yet.

    Raises InputError where the options themselves are wrong (a meter's address that cannot be one, a replay file that is
    not there).
    """
    if not options.telemetry:
        return []
    if options.replay:
        from rigbench.telemetry.replay import ReplaySource

        return [ReplaySource.load(options.replay)]
    sources: list[Source] = []
    for name in registry():
        try:
            sensor = load(name)
            source = sensor.open(options) if sensor.here() else None
        except Exception as error:
            if name in BUILT_IN:
                raise
            source = Absent(name, "board", Probe(False, reason=f"its package fails ({type(error).__name__}: {error})"))
        if source is not None:
            sources.append(source)
    return sources


@functools.cache
def limits(source: str, device: str | None = None) -> Limits:
    """What a window needs so that the energy of a Series of this source and device means something, also where the sensor
    itself is another machine's; the usual limits for a source that nobody knows."""
    try:
        return load(source).limits(device)
    except Exception:  # no such sensor here: KeyError, or whatever a third party's module raises
        return Limits()


def facts() -> tuple[tuple[dict[str, Any], ...], dict[str, str], dict[str, str]]:
    """(GPUs, drivers, power modes) of this machine for its fingerprint, by the methods of base.Source that are called so.

    PCIe generation and width are as of now; they drop at idle, so take them under load. A third party's sensor that fails
    is passed over: open_sources says why.
    """
    gpus: list[dict[str, Any]] = []
    drivers: dict[str, str] = {}
    modes: dict[str, str] = {}
    for name in registry():
        try:
            sensor = load(name)
            if sensor.here():
                gpus += sensor.gpus()
                drivers |= sensor.drivers()
                modes |= sensor.modes()
        except Exception:
            if name in BUILT_IN:
                raise
    return tuple(gpus), drivers, modes
