"""AMD graphics cards on Linux, through sysfs: no library, no root.

The kernel's driver gives power in microwatts (`power1_average`, on newer cards `power1_input`), temperature in
thousandths of a degree, clocks in hertz, and memory in bytes. (The `amdsmi` package is of no use without ROCm:
importing it raises KeyError.)

    cat /sys/class/drm/card*/device/hwmon/hwmon*/power1_average
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench.telemetry import host
from rigbench.telemetry.source import POWER_PERIOD_S, STATE_PERIOD_S, Absent, Metric, Missing, Reading, Source
from rigbench_backends.base import Probe

DRM = Path("/sys/class/drm")
VENDOR = "0x1002"


@dataclass(frozen=True, slots=True)
class File:
    """One sysfs file: what it tells, and what its number is multiplied by to be in `metric.unit`."""

    metric: Metric
    path: Path
    scale: float

    def read(self) -> Reading:
        try:
            return int(self.path.read_text()) * self.scale
        except PermissionError:
            return Missing(f"{self.path.name} may not be read by this user", "denied")
        except (OSError, ValueError) as error:
            return Missing(f"{self.path.name} cannot be read ({type(error).__name__}); the card may be asleep or gone")


class AmdSource:
    """Every AMD card's power, memory, temperature and clocks."""

    name = "amd"

    def __init__(self, files: Sequence[File], devices: tuple[str, ...]) -> None:
        self._files = {(file.metric.device, file.metric.name): file for file in files}
        self._devices = devices
        self.metrics = tuple(file.metric for file in files)

    def probe(self) -> Probe:
        return Probe(True, devices=self._devices)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._files[metric.device, metric.name].read() for metric in metrics]

    def watch(self, pid: int | None) -> None: ...

    def close(self) -> None: ...


def cards(drm: Path = DRM) -> list[Path]:
    """The `device` folders of the AMD cards, in the kernel's order."""
    folders = [path / "device" for path in drm.glob("card[0-9]*") if "-" not in path.name]
    folders.sort(key=lambda path: int(path.parent.name.removeprefix("card")))
    return [path for path in folders if host.read_text(path / "vendor").strip() == VENDOR]


def open_source(drm: Path = DRM) -> Source:
    """The source, or Absent where there is no AMD card or its driver tells nothing."""
    files = []
    names = []
    for index, folder in enumerate(cards(drm)):
        files += _files(folder, f"gpu{index}")
        names.append(_name(folder))
    if not names:
        return Absent("amd", "board", Probe(False, reason="no AMD graphics card"))
    if not files:
        return Absent(
            "amd", "board", Probe(False, reason="the AMD card's driver gives no readings", mend="load amdgpu")
        )
    return AmdSource(files, tuple(names))


def gpus(drm: Path = DRM) -> tuple[dict[str, Any], ...]:
    """The cards' facts for the fingerprint: name, memory, power limit, PCIe link. None where the driver does not
    tell."""
    return tuple(
        {
            "name": _name(folder),
            "vendor": "AMD",
            "memory_bytes": _number(folder / "mem_info_vram_total"),
            "power_limit_w": _scaled(_number(_first(folder, "power1_cap")), 1e-6),
            "power_limit_default_w": _scaled(_number(_first(folder, "power1_cap_default")), 1e-6),
            "pcie_speed": host.read_text(folder / "current_link_speed").strip() or None,
            "pcie_width": _number(folder / "current_link_width"),
        }
        for folder in cards(drm)
    )


def _files(folder: Path, device: str) -> list[File]:
    hwmon = "hwmon {}"
    power = _first(folder, "power1_average") or _first(folder, "power1_input")
    found = [
        ("power", "W", "sampled", POWER_PERIOD_S, power, 1e-6),
        ("temperature", "degC", "sampled", STATE_PERIOD_S, _first(folder, "temp1_input"), 1e-3),
        ("clock", "Hz", "sampled", STATE_PERIOD_S, _first(folder, "freq1_input"), 1.0),
        ("memory_used", "B", "sampled", STATE_PERIOD_S, _existing(folder / "mem_info_vram_used"), 1.0),
    ]
    return [
        File(Metric(name, unit, hwmon.format(path.name), "board", method, period, device), path, scale)
        for name, unit, method, period, path, scale in found
        if path is not None
    ]


def _name(folder: Path) -> str:
    return host.read_text(folder / "product_name").strip() or f"AMD {host.read_text(folder / 'device').strip()}"


def _first(folder: Path, name: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"hwmon/hwmon*/{name}"))), None)


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _number(path: Path | None) -> int | None:
    text = host.read_text(path).strip() if path else ""
    return int(text) if text.isdigit() else None


def _scaled(value: int | None, scale: float) -> float | None:
    return None if value is None else value * scale
