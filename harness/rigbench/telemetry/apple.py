"""Apple silicon without root: energy of the chip's parts, watts of the whole Mac, thermal pressure, memory footprint.

IOReport's group "Energy Model" counts joules of CPU, GPU, ANE and DRAM in units that each channel names itself (mJ,
uJ or nJ). Two traps: an Ultra is two dies, whose channels must be added; and newer macOS publishes CPU, DRAM and ANE
in batches of 1-2 s, so that short windows see nothing or too much (see `limits`). The SMC's key PSTR
is the power of the whole system, the best number short of a wall meter. On-chip figures rank runs of one machine;
they are not comparable with a board's or a plug's.

    python -m rigbench.telemetry.apple      # every channel with what it gained in one second
"""

from __future__ import annotations

import contextlib
import json
import plistlib
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rigbench.clock import Clock, now_ns
from rigbench.telemetry import base, host
from rigbench.telemetry.base import Limits, Metric, Missing, Reading, Source, SourceOptions, output, whole
from rigbench.telemetry.darwin import Channel, Darwin, State
from rigbench_backends.base import Probe

JOULES = {"mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "nJ": 1e-9, "J": 1.0}
PARTS = {
    "cpu": re.compile(r"(DIE_\d+_)?CPU Energy"),
    "gpu": re.compile(r"(DIE_\d+_)?GPU Energy"),
    "ane": re.compile(r"()ANE\d*(_\d+)?"),
    "dram": re.compile(r"()DRAM\d*(_\d+)?"),
}
"""Names match whole: `GPU SRAM Energy` or `PCPU0 Energy` are parts of these, not more of them."""
BATCH_S = 2.3
"""Newer macOS publishes CPU, DRAM and ANE every 2.0 to 2.3 s."""
ENERGY = Metric(*base.ENERGY, "IOReport Energy Model", "soc", "counter", BATCH_S, published_s=BATCH_S)
HOST_METRICS = (
    # how often the SMC has a new one is not documented
    Metric(*base.POWER, "SMC PSTR", "host", "sampled", base.SLOW_PERIOD_S, published_s=base.SLOW_PERIOD_S),
    Metric(*base.THERMAL_PRESSURE, "com.apple.system.thermalpressurelevel", "host", "sampled", base.STATE_PERIOD_S),
)
FOOTPRINTS = (
    Metric(*base.FOOTPRINT, "proc_pid_rusage", "process", "sampled", base.STATE_PERIOD_S),
    Metric(*base.FOOTPRINT_MAX, "proc_pid_rusage", "process", "sampled", base.STATE_PERIOD_S),
)
MEMORY = tuple(
    Metric(*quantity, "host_statistics64", "host", method, base.STATE_PERIOD_S)
    for quantity, method in (
        (base.WIRED, "sampled"),
        (base.COMPRESSED, "sampled"),
        (base.SWAP_IN, "counter"),
        (base.SWAP_OUT, "counter"),
    )
)
CLOCK = Metric(*base.CLOCK, "IOReport GPU Performance States", "soc", "sampled", base.SLOW_PERIOD_S, "gpu")
"""The mean while the GPU worked, over the time since it was last read."""
RESTING = ("OFF", "IDLE", "DOWN")
REGISTRY = ("ioreg", "-a", "-r", "-n", "pmgr", "-d", "1", "-w", "0")
FREQUENCIES = "voltage-states9"
"""Of the chip's power manager in the registry: pairs of 32-bit numbers, the frequency of each state of the GPU and its voltage."""
ENERGY_GOOD_S = 30.0
STANDS_STILL_S = 5.0
BUSY_CORE_S = 1.0


def part_joules(channels: Sequence[Channel]) -> dict[str, float]:
    """Joules that each part gained, its dies added up. A part without a channel is not in the answer.

    Where a total stands beside the dies' own channels, the total alone counts.
    """
    joules = {}
    for part, pattern in PARTS.items():
        own = [(match, channel) for channel in channels if (match := pattern.fullmatch(channel.name))]
        totals = [channel for match, channel in own if not match.group(1)]
        parts = totals or [channel for _, channel in own]
        if parts and all(channel.unit in JOULES for channel in parts):
            joules[part] = sum(channel.gained * JOULES[channel.unit] for channel in parts)
    return joules


def gpu_frequencies_hz(registry: str) -> tuple[float, ...]:
    """Of each state of the GPU that computes, from the answer of REGISTRY; () where it has none."""
    try:
        entries = plistlib.loads(registry.encode())
        table = next(entry[FREQUENCIES] for entry in entries if FREQUENCIES in entry)
        values = [frequency for frequency, _ in struct.iter_unpack("<II", table)]
    except Exception:  # whatever a damaged property list raises
        return ()
    scale = 1.0 if max(values, default=0) > 10_000_000 else 1e3  # newer chips list their processors' in kHz
    return tuple(value * scale for value in values if value)


def mean_clock_hz(states: Sequence[State], frequencies_hz: Sequence[float]) -> Reading:
    """The mean frequency of a GPU while it worked."""
    working = [state.residency for state in states if state.name not in RESTING]
    if not sum(working):
        return Missing("the GPU rested")
    if any(working[len(frequencies_hz) :]):
        return Missing("the GPU was in a state whose frequency the registry does not have")
    return sum(hz * residency for hz, residency in zip(frequencies_hz, working, strict=False)) / sum(working)


class AppleSource(Source):
    """This Mac. `busy_s`: core-seconds that its CPUs were busy since boot, to tell a counter at rest from one that is
    stuck."""

    name = "apple"
    scope = "soc"
    wider_scopes = ("host",)
    platforms = ("darwin",)

    def __init__(self, native: Darwin, clock: Clock, busy_s: Callable[[], float], registry: str = "") -> None:
        self._native, self._clock, self._busy_s = native, clock, busy_s
        self._frequencies_hz = gpu_frequencies_hz(registry)
        self._tree = host.Tree(None)
        self._peak_reason: Missing | None = None
        """Why the largest footprint is not that of this case alone, if so."""
        self._total_j: dict[str, float] = {}
        self._moved: dict[str, tuple[int, float]] = {}
        energy, memory = ENERGY.of_reading(self._count_energy()), self._memory()
        self.metrics = (
            *(replace(energy, device=part) for part in self._total_j or ["cpu"]),
            *(metric.of_reading(self._one(metric.name)) for metric in HOST_METRICS),
            *(metric.of_reading(memory[metric.name]) for metric in MEMORY),
            *FOOTPRINTS,
            CLOCK.of_reading(self._begin_clock()),
        )
        if not any(metric.readable and metric.name == base.POWER.name for metric in self.metrics):
            self.idle_s = ENERGY_GOOD_S + 0.5  # type: ignore[misc]  # of this Mac
        self.devices = tuple(metric.device or metric.name for metric in self.metrics if metric.readable)

    @classmethod
    def open(
        cls,
        options: SourceOptions,
        make: Callable[[], Darwin] = Darwin,
        clock: Clock = now_ns,
        busy_s: Callable[[], float] = host.busy_s,
        registry: Callable[[], str] = lambda: output(*REGISTRY),
    ) -> Source:
        """With whatever this Mac grants, or Absent where even the libraries are not there."""
        try:
            native = make()
        except (OSError, AttributeError) as error:
            return cls.absent(f"macOS' own interfaces cannot be loaded ({type(error).__name__})")
        return cls(native, clock, busy_s, registry())

    def _count_energy(self) -> Reading:
        """Begins the count of every part that there is; Missing with the reason where there is none."""
        try:
            self._native.energy()  # the first begins the count, the second has every channel's name
            parts = part_joules(self._native.energy())
        except OSError as error:
            return refusal(error)
        self._total_j = dict.fromkeys(parts, 0.0)
        self._moved = dict.fromkeys(parts, (self._clock(), self._busy_s()))
        return 0.0 if parts else Missing('IOReport\'s group "Energy Model" has none of the known channels')

    def _begin_clock(self) -> Reading:
        if not self._frequencies_hz:
            return Missing(f"the registry has no {FREQUENCIES}")
        try:
            self._native.gpu_states()
        except OSError as error:
            return refusal(error)
        return 0.0

    @classmethod
    def limits(cls, device: str | None) -> Limits:
        """Newer macOS publishes CPU, DRAM and ANE in batches of 2.0 to 2.3 s, so that 10 s of them are up to 15 % off, and switches
        the ANE off."""
        if device in ("cpu", "dram", "ane"):
            return Limits(10.0, ENERGY_GOOD_S, may_rest=device == "ane")
        return Limits(5.0)

    @classmethod
    def gpus(cls, profile: str | None = None) -> tuple[dict[str, Any], ...]:
        """The Mac's GPU for the fingerprint: name, cores, the memory it shares and how much of it Metal may hold.

        `profile` is the answer of `system_profiler SPDisplaysDataType -json`, asked for where it is not given.
        """
        if profile is None:
            profile = output("system_profiler", "SPDisplaysDataType", "-json")
        try:
            displays = json.loads(profile)["SPDisplaysDataType"]
        except (ValueError, KeyError, TypeError):
            return ()
        limit_mb = whole(host.sysctl("iogpu.wired_limit_mb"))
        return tuple(
            {
                "name": display.get("sppci_model") or display.get("_name"),
                "vendor": "Apple",
                "device": None,
                "integrated": True,
                "gpu_cores": whole(str(display.get("sppci_cores", ""))),
                "memory_bytes": whole(host.sysctl("hw.memsize")),
                "wired_limit_bytes": limit_mb * 2**20 if limit_mb else None,
                "metal": display.get("spdisplays_mtlgpufamilysupport"),
            }
            for display in displays
            if "sppci_model" in display or "_name" in display
        )

    @classmethod
    def drivers(cls) -> dict[str, str]:
        build = host.sysctl("kern.osversion")
        return {"macos_build": build} if build else {}

    @classmethod
    def modes(cls, pmset: str | None = None) -> dict[str, str]:
        """The lines of `pmset -g` that name a mode: {'lowpowermode': '0', 'powermode': '2'}."""
        words = [line.split() for line in (output("pmset", "-g") if pmset is None else pmset).splitlines()]
        return {line[0]: line[1] for line in words if len(line) >= 2 and line[0] in ("lowpowermode", "powermode")}

    def probe(self) -> Probe:
        return Probe(
            bool(self.devices),
            devices=self.devices,
            reason=None if self.devices else "macOS tells nothing to this user",
        )

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        names = {metric.name for metric in metrics}
        energy = self._energy() if base.ENERGY.name in names else {}
        footprints = self._footprints() if names & {metric.name for metric in FOOTPRINTS} else {}
        known = {**footprints, **(self._memory() if names & {metric.name for metric in MEMORY} else {})}
        return [
            energy.get(str(m.device), Missing("IOReport has no such channel"))
            if m.name == base.ENERGY.name
            else known[m.name]
            if m.name in known
            else self._one(m.name)
            for m in metrics
        ]

    def watch(self, pid: int | None) -> None:
        self._tree = host.Tree(pid)

    def begin_case(self) -> None:
        self._peak_reason = None
        for process in self._tree.processes():
            try:
                self._native.reset_footprint(process.pid)
            except OSError as error:
                # a process that has ended has no footprint either
                with contextlib.suppress(OSError):
                    self._native.footprint(process.pid)
                    self._peak_reason = refusal(error)

    def close(self) -> None:
        self._native.close()

    def _one(self, name: str) -> Reading:
        try:
            if name == base.POWER.name:
                return self._native.smc_float("PSTR")
            if name == base.CLOCK.name:
                return mean_clock_hz(self._native.gpu_states(), self._frequencies_hz)
            return float(self._native.thermal_pressure())
        except OSError as error:
            return refusal(error)

    def _footprints(self) -> dict[str, Reading]:
        """The tree's, by name of the metric: each process is asked once."""
        names = [metric.name for metric in FOOTPRINTS]
        tree, reason = [], host.NO_WORKER
        for process in self._tree.processes():
            try:
                tree.append(self._native.footprint(process.pid))
            except OSError as error:  # one may end between the listing and now
                reason = refusal(error)
        if not tree:
            return dict.fromkeys(names, reason)
        now, most = (float(sum(column)) for column in zip(*tree, strict=True))
        return {base.FOOTPRINT.name: now, base.FOOTPRINT_MAX.name: self._peak_reason or most}

    def _memory(self) -> dict[str, Reading]:
        names = [metric.name for metric in MEMORY]
        try:
            return dict(zip(names, map(float, self._native.memory()), strict=True))
        except OSError as error:
            return dict.fromkeys(names, refusal(error))

    def _energy(self) -> dict[str, Reading]:
        """Joules of each part since opening. A CPU that works while its counter stands still for 5 s is no reading."""
        try:
            gained = part_joules(self._native.energy())
        except OSError as error:
            return dict.fromkeys(self._total_j, refusal(error))
        now, busy_s = self._clock(), self._busy_s()
        readings: dict[str, Reading] = dict(self._total_j)
        for part, total_j in self._total_j.items():
            joules = gained.get(part, 0.0)
            readings[part] = self._total_j[part] = total_j + joules
            if joules > 0:
                self._moved[part] = (now, busy_s)
            since_ns, busy_then_s = self._moved[part]
            stuck = now - since_ns >= STANDS_STILL_S * 1e9 and busy_s - busy_then_s >= BUSY_CORE_S
            if stuck and part in ("cpu", "dram"):
                readings[part] = Missing(f"the {part.upper()} counter stands still while the CPU works")
        return readings


def refusal(error: OSError) -> Missing:
    """What macOS refused, as a reading."""
    return Missing(str(error), "denied" if isinstance(error, PermissionError) else "unavailable")


if __name__ == "__main__":
    import time

    darwin = Darwin()
    darwin.energy()
    time.sleep(1.0)
    print(*darwin.energy(), f"PSTR {darwin.smc_float('PSTR'):.1f} W, pressure {darwin.thermal_pressure()}", sep="\n")
