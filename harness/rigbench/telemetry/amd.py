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

from rigbench.telemetry import base, host
from rigbench.telemetry.base import Metric, Missing, Reading, Source, SourceOptions
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


class AmdSource(Source):
    """Every AMD card's power, memory, temperature and clocks."""

    name = "amd"
    platforms = ("linux",)

    def __init__(self, files: Sequence[File], devices: tuple[str, ...]) -> None:
        self._files = {(file.metric.device, file.metric.name): file for file in files}
        self._devices = devices
        self.metrics = tuple(file.metric for file in files)

    @classmethod
    def open(cls, options: SourceOptions, drm: Path = DRM) -> Source:
        files = []
        names = []
        for index, folder in enumerate(cards(drm)):
            files += _files(folder, f"gpu{index}")
            names.append(_name(folder))
        if not names:
            return cls.absent("no AMD graphics card")
        if not files:
            return cls.absent("the AMD card's driver gives no readings", "load amdgpu")
        return cls(files, tuple(names))

    @classmethod
    def gpus(cls, drm: Path = DRM) -> tuple[dict[str, Any], ...]:
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

    @classmethod
    def drivers(cls, sysfs: Path = host.SYSFS) -> dict[str, str]:
        version = host.read_text(sysfs / "module" / "amdgpu" / "version").strip()
        return {"amdgpu": version} if version else {}

    def probe(self) -> Probe:
        return Probe(True, devices=self._devices)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._files[metric.device, metric.name].read() for metric in metrics]


def cards(drm: Path = DRM) -> list[Path]:
    """The `device` folders of the AMD cards, in the kernel's order."""
    folders = [path / "device" for path in drm.glob("card[0-9]*") if "-" not in path.name]
    folders.sort(key=lambda path: int(path.parent.name.removeprefix("card")))
    return [path for path in folders if host.read_text(path / "vendor").strip() == VENDOR]


def _files(folder: Path, device: str) -> list[File]:
    power = _first(folder, "power1_average") or _first(folder, "power1_input")
    readings = [
        (base.POWER, base.POWER_PERIOD_S, power, 1e-6),
        (base.TEMPERATURE, base.STATE_PERIOD_S, _first(folder, "temp1_input"), 1e-3),
        (base.CLOCK, base.STATE_PERIOD_S, _first(folder, "freq1_input"), 1.0),
        (base.MEMORY_USED, base.STATE_PERIOD_S, next(folder.glob("mem_info_vram_used"), None), 1.0),
    ]
    return [
        File(Metric(*quantity, f"hwmon {path.name}", "board", "sampled", period, device), path, scale)
        for quantity, period, path, scale in readings
        if path is not None
    ]


def _name(folder: Path) -> str:
    return host.read_text(folder / "product_name").strip() or f"AMD {host.read_text(folder / 'device').strip()}"


def _first(folder: Path, name: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"hwmon/hwmon*/{name}"))), None)


def _number(path: Path | None) -> int | None:
    text = host.read_text(path).strip() if path else ""
    return int(text) if text.isdigit() else None


def _scaled(value: int | None, scale: float) -> float | None:
    return None if value is None else value * scale
