"""The contract of a sensor: what it can tell, how a reading is had, and what is to be known of it before it is trusted.

A source says once what it can tell (`metrics`: quantity, interface, scope, method and how often), and then answers `read`
for any of them. What it cannot tell is `Missing` with the reason, never 0: several well-known tools print 0 W when they
do not know. A new sensor is one class in one file: see `Source`, and the registry in `__init__` for how it is found.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rigbench_backends.base import Probe

POWER_PERIOD_S = 0.1
"""Sensors refresh about every 100 ms, so reading power faster repeats old values."""
STATE_PERIOD_S = 0.5
"""Clocks, temperatures and memory."""
SLOW_PERIOD_S = 1.0
"""Wall meters, and macOS' energy channels, which are published in batches."""


class Quantity(NamedTuple):
    """What is read, under the name and in the unit that documents hold."""

    name: str
    unit: str


POWER = Quantity("power", "W")
ENERGY = Quantity("energy", "J")
TEMPERATURE = Quantity("temperature", "degC")
CLOCK = Quantity("clock", "Hz")
MEMORY_CLOCK = Quantity("memory_clock", "Hz")
MEMORY_TEMPERATURE = Quantity("memory_temperature", "degC")
CPU_FREQUENCY = Quantity("cpu_frequency", "Hz")

MEMORY_USED = Quantity("memory_used", "B")
"""Of a device, by whomever."""
MEMORY_USED_PROCESS = Quantity("memory_used_process", "B")
"""By the worker's own process tree."""
MEMORY_USED_FOREIGN = Quantity("memory_used_foreign", "B")
"""By everybody else."""
RSS = Quantity("rss", "B")
"""Resident memory of the worker's process tree; its anonymous and file-backed parts follow."""
RSS_ANONYMOUS = Quantity("rss_anonymous", "B")
RSS_FILE_BACKED = Quantity("rss_file_backed", "B")
FOOTPRINT = Quantity("footprint", "B")
"""macOS' account of the worker's process tree: what the system would get back, GPU memory included."""
FOOTPRINT_MAX = Quantity("footprint_max", "B")
"""Its largest since the case began."""
WIRED = Quantity("wired", "B")
COMPRESSED = Quantity("compressed", "B")
"""Of macOS' memory: what may not be moved (a GPU's buffers at work), and what the system has compressed to save room."""
MEMORY_AVAILABLE = Quantity("memory_available", "B")
"""Of the host, without swapping: what it falls by is what a device without memory of its own took."""
SWAP_USED = Quantity("swap_used", "B")
SWAP_IN = Quantity("swap_in", "B")
SWAP_OUT = Quantity("swap_out", "B")

CPU_BUSY = Quantity("cpu_busy", "s")
"""Seconds of all cores together since boot, not counting idle, waiting and stolen ones."""
CPU_OURS = Quantity("cpu_ours", "s")
CPU_STEAL = Quantity("cpu_steal", "s")
QUOTA_PERIODS = Quantity("quota_periods", "1")
QUOTA_THROTTLED = Quantity("quota_throttled", "1")
"""Periods of the container's CPU quota, and those of them in which it stopped the processes."""
THROTTLED_CPU = Quantity("throttled_cpu", "s")
"""Seconds that clocks were lowered: here by the processor for heat; below, of a GPU, by what the name says."""
THROTTLED_POWER = Quantity("throttled_power", "s")
THROTTLED_SW_THERMAL = Quantity("throttled_sw_thermal", "s")
THROTTLED_HW_THERMAL = Quantity("throttled_hw_thermal", "s")
THROTTLED_HW_BRAKE = Quantity("throttled_hw_brake", "s")
CLOCKS_EVENT_REASONS = Quantity("clocks_event_reasons", "mask")
POWER_CAP_REASON, HEAT_REASON = 0x04, 0x20
"""What slows a GPU now, in NVML's bits; other drivers' own are put into these two: its power limit, and heat."""
THERMAL_PRESSURE = Quantity("thermal_pressure", "level")
"""macOS': 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""


NEVER_0 = frozenset(
    each.name
    for each in (
        *(TEMPERATURE, MEMORY_TEMPERATURE, CLOCK, MEMORY_CLOCK, CPU_FREQUENCY),
        *(RSS, FOOTPRINT, FOOTPRINT_MAX, WIRED, MEMORY_AVAILABLE),
    )
)
"""What is 0 of nothing that works: drivers answer it where they do not know, or of a part that is switched off."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A reading that could not be had, and why. `status`: unavailable or denied."""

    reason: str
    status: str = "unavailable"


Reading = float | Missing


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of one source: `Metric(*POWER, "hwmon power1_average", "board", "sampled", POWER_PERIOD_S, "gpu0")`.

    `period_s` None: costly, read only at the edges of a window. Scope, method and status as in records.Series; a status
    other than ok comes with a reason, and `unavailable` or `denied` metrics are never read.
    """

    name: str
    unit: str
    api: str
    scope: str
    method: str
    period_s: float | None
    device: str | None = None
    status: str = "ok"
    reason: str | None = None
    published_s: float = 0.0
    """How often the source has a new value, at most: reading it sooner would repeat the old one. 0 where it is as of the asking."""

    @property
    def readable(self) -> bool:
        """Whether there is any use in reading it."""
        return self.status not in ("unavailable", "denied")

    def of_reading(self, answer: Reading) -> Metric:
        """This metric once it was asked for: unavailable or denied where the answer is missing."""
        return replace(self, status=answer.status, reason=answer.reason) if isinstance(answer, Missing) else self


@dataclass(frozen=True, slots=True)
class Limits:
    """What a window needs so that a source's energy of it means something: shorter than `min_s` is None, shorter than
    `good_s` low_confidence; with more than `max_gap_share` of it in gaps (2.5 periods and longer) it is None too.

    `may_rest`: whether a counter that stands still means a part that was switched off, not a counter that is broken.
    """

    min_s: float = 2.0
    good_s: float = 10.0
    max_gap_share: float = 0.1
    may_rest: bool = False


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the user may set. `wall_url` is the meter's address, used and never stored; `wall_path` a path in its JSON."""

    telemetry: bool = True
    wall_url: str | None = None
    wall_preset: str = "shelly"
    wall_path: str | None = None
    wall_unit: str = "W"
    wall_scale: float = 1.0
    replay: str | None = None


File = tuple[float, Sequence[Path]]
"""What makes the sum of the numbers in some files the unit of a metric, and these files."""


class Source:
    """One kind of sensor, and as an instance where its readings come from. Used by one thread at a time.

    What a sensor must define: `name`, `open`, `read`, and `metrics` in its instances.
    """

    name: ClassVar[str]
    scope: ClassVar[str] = "board"
    """Of its power: board, soc, package, host, wall."""
    wider_scopes: ClassVar[tuple[str, ...]] = ()
    """Those of other readings of power that it has beside."""
    platforms: ClassVar[tuple[str, ...]] = ("linux", "darwin", "win32")
    """Values of sys.platform on which it is looked for."""
    idle_s: ClassVar[float] = 10.5
    """How long idle power is measured before a model is loaded."""
    metrics: tuple[Metric, ...] = ()
    """What can be read, and what cannot with the reason. Fixed once the source is open."""
    devices: tuple[str, ...] = ()
    """What its readings are of, by names for people."""
    version: str | None = None
    """Of the driver behind it."""
    pid: int | None = None
    """The worker whose process tree the readings `process` are about; None between workers."""

    @classmethod
    def open(cls, options: SourceOptions) -> Source | None:
        """The source, usable or Absent with its reason; None where nobody asked for it. Nothing is started yet.

        InputError where the options themselves are wrong.
        """
        raise NotImplementedError

    @classmethod
    def limits(cls, device: str | None) -> Limits:
        """What a window needs for the energy of one of its devices."""
        return Limits()

    @classmethod
    def gpus(cls) -> tuple[dict[str, Any], ...]:
        """GPUs that it knows, for the fingerprint: name, vendor, memory_bytes, power limits ...; None where nothing tells.
        Nothing that says whose they are."""
        return ()

    @classmethod
    def drivers(cls) -> dict[str, str]:
        """Versions of what lies between an engine and a device: {'nvidia': '580.126.09', 'cuda': '13.0'}."""
        return {}

    @classmethod
    def modes(cls) -> dict[str, str]:
        """Power modes that change speed: {'cpu_governor': 'performance'}."""
        return {}

    @classmethod
    def here(cls) -> bool:
        """Whether this system can have it at all."""
        return sys.platform in cls.platforms

    @classmethod
    def absent(cls, reason: str, fix: str | None = None, status: str = "unavailable") -> Source:
        """What `open` answers where the sensor is not usable."""
        return Absent(cls.name, cls.scope, Probe(False, reason=reason, fix=fix), status)

    def probe(self) -> Probe:
        """Usable here? If not: why, and what would fix it. Cheap, and never raises."""
        return Probe(True, self.version, devices=self.devices)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        """One reading for each of `metrics`, in their order. Never raises for what can go wrong with a device."""
        raise NotImplementedError

    def watch(self, pid: int | None) -> None:
        """Another worker, or none, from now on."""
        self.pid = pid

    def begin_case(self) -> None:
        """Peaks count from now on."""

    def close(self) -> None:
        """Let go of the device. The source is not read any more."""


class FileSource(Source):
    """A sensor whose readings are numbers in small files. `files`: what makes each metric its unit, and which add up to it."""

    def __init__(self, files: Mapping[Metric, File], devices: tuple[str, ...]) -> None:
        self._files = files
        self.devices = devices
        self.metrics = tuple(files)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [file_reading(self._files[metric]) for metric in metrics]


class Absent(Source):
    """A source that is not usable here: it has one metric, power, that is not there, and the reason."""

    def __init__(self, name: str, scope: str, probe: Probe, status: str = "unavailable") -> None:
        self.name = name  # type: ignore[misc]  # it stands for any class of sensor
        self._probe = probe
        self._missing = Missing("; ".join(part for part in (probe.reason, probe.fix) if part))
        self.metrics = (Metric(*POWER, name, scope, "sampled", None, None, status, self._missing.reason),)

    def probe(self) -> Probe:
        return self._probe

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._missing] * len(metrics)


def idle_seconds(sources: Sequence[Source]) -> float:
    """How long to measure idle power before a model is loaded: what the slowest source of power needs, 0 without one."""

    def tells_power(source: Source) -> bool:
        return any(metric.readable and metric.unit in (POWER.unit, ENERGY.unit) for metric in source.metrics)

    return max((source.idle_s for source in sources if tells_power(source)), default=0.0)


def state(source: Source) -> dict[str, Any]:
    """A source as `doctor` shows it: what it can read, or why nothing and what would fix it. Single metrics may lack in a
    usable one."""
    probe = source.probe()
    readable = dict.fromkeys(metric.name for metric in source.metrics if metric.readable)
    return {
        "name": source.name,
        "usable": probe.usable,
        "devices": probe.devices,
        "metrics": tuple(readable),
        "reason": probe.reason,
        "fix": probe.fix,
    }


def read_text(path: Path | None) -> str:
    """The text of a small file, stripped; '' without one, or where it may not be read: a process can end between two reads."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() if path else ""
    except OSError:
        return ""


def file_reading(file: File) -> Reading:
    """The scale times the numbers in these files of the kernel's, added up; Missing with the reason."""
    scale, paths = file
    total = 0
    for path in paths:
        try:
            total += int(path.read_text())
        except PermissionError:
            return Missing(f"{path.name} may not be read by this user", "denied")
        except (OSError, ValueError) as error:
            return Missing(f"{path.name} cannot be read ({type(error).__name__}); the device may be asleep or gone")
    return total * scale


def first_readable(*paths: Path | None) -> Path | None:
    """The first of these files that holds a number above 0: a driver may have a file and not know. Else the first that is there."""
    present = [path for path in paths if path is not None and path.exists()]
    known = [path for path in present if (whole(read_text(path)) or 0) > 0]
    return next(iter(known or present), None)


def hwmon(device: Path, name: str) -> Path | None:
    """The file of that name among those that a device's driver shows under hwmon."""
    return min(device.glob(f"hwmon/hwmon*/{name}"), default=None)


def labelled(device: Path, kind: str) -> dict[str, Path]:
    """A device's hwmon inputs of a kind (`temp`, `freq`, `power`) by their labels in lower case: {'junction': .../temp2_input}."""
    return {
        label: path for folder in sorted(device.glob("hwmon/hwmon*")) for label, path in labels(folder, kind).items()
    }


def labels(folder: Path, kind: str) -> dict[str, Path]:
    """As `labelled`, of one folder of /sys/class/hwmon."""
    named = sorted(folder.glob(f"{kind}[0-9]*_label"))
    return {read_text(path).lower(): path.with_name(path.name.replace("_label", "_input")) for path in named}


def drm_cards(drm: Path, vendor: str) -> list[Path]:
    """The `device` folders of the graphics cards of a PCI vendor (`0x1002`), in the kernel's order."""
    folders = [path / "device" for path in drm.glob("card[0-9]*") if "-" not in path.name]
    folders.sort(key=lambda path: int(path.parent.name.removeprefix("card")))
    return [path for path in folders if read_text(path / "vendor") == vendor]


def whole(text: str | None) -> int | None:
    """The whole number that a text is; None where it is not one."""
    return int(text) if text and text.isdigit() else None


def output(*command: str) -> str:
    """What a command of the system prints; '' where there is none or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
