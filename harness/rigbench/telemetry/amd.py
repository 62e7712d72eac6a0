"""AMD graphics cards on Linux, through sysfs: no library, no root.

The kernel's driver gives power in microwatts (`power1_average`, on newer cards `power1_input`), temperature in
thousandths of a degree, clocks in hertz, and memory in bytes. (The `amdsmi` package is of no use without ROCm:
importing it raises KeyError.)

    cat /sys/class/drm/card*/device/hwmon/hwmon*/power1_average
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rigbench.telemetry import base
from rigbench.telemetry.base import Metric, Missing, Reading, Source, SourceOptions, read_text, whole

DRM = Path("/sys/class/drm")
VENDOR = "0x1002"


class AmdSource(Source):
    """Every AMD card's power, memory, temperature and clocks. `files`: where each metric is, and what makes it its unit."""

    name = "amd"
    platforms = ("linux",)

    def __init__(self, files: Mapping[Metric, tuple[Path, float]], devices: tuple[str, ...]) -> None:
        self._files = files
        self.devices = devices
        self.metrics = tuple(files)

    @classmethod
    def open(cls, options: SourceOptions, drm: Path = DRM) -> Source:
        folders = cards(drm)
        if not folders:
            return cls.absent("no AMD graphics card")
        devices = [_files(folder, f"gpu{index}") for index, folder in enumerate(folders)]
        files = {metric: file for each in devices for metric, file in each.items()}
        if not files:
            return cls.absent("the AMD card's driver gives no readings", "load amdgpu")
        return cls(files, tuple(map(_name, folders)))

    @classmethod
    def gpus(cls, drm: Path = DRM) -> tuple[dict[str, Any], ...]:
        """The cards' facts for the fingerprint. None where the driver does not tell."""

        def watts(folder: Path, name: str) -> float | None:
            microwatts = whole(read_text(_hwmon(folder, name)))
            return None if microwatts is None else microwatts * 1e-6

        return tuple(
            {
                "name": _name(folder),
                "vendor": "AMD",
                "memory_bytes": whole(read_text(folder / "mem_info_vram_total")),
                "power_limit_w": watts(folder, "power1_cap"),
                "power_limit_default_w": watts(folder, "power1_cap_default"),
                "pcie_speed": read_text(folder / "current_link_speed") or None,
                "pcie_width": whole(read_text(folder / "current_link_width")),
            }
            for folder in cards(drm)
        )

    @classmethod
    def drivers(cls, sysfs: Path = Path("/sys")) -> dict[str, str]:
        version = read_text(sysfs / "module" / "amdgpu" / "version")
        return {"amdgpu": version} if version else {}

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [_reading(*self._files[metric]) for metric in metrics]


def cards(drm: Path = DRM) -> list[Path]:
    """The `device` folders of the AMD cards, in the kernel's order."""
    folders = [path / "device" for path in drm.glob("card[0-9]*") if "-" not in path.name]
    folders.sort(key=lambda path: int(path.parent.name.removeprefix("card")))
    return [path for path in folders if read_text(path / "vendor") == VENDOR]


def _files(folder: Path, device: str) -> dict[Metric, tuple[Path, float]]:
    memory = folder / "mem_info_vram_used"
    readings = (
        (base.POWER, base.POWER_PERIOD_S, _hwmon(folder, "power1_average") or _hwmon(folder, "power1_input"), 1e-6),
        (base.TEMPERATURE, base.STATE_PERIOD_S, _hwmon(folder, "temp1_input"), 1e-3),
        (base.CLOCK, base.STATE_PERIOD_S, _hwmon(folder, "freq1_input"), 1.0),
        (base.MEMORY_USED, base.STATE_PERIOD_S, memory if memory.exists() else None, 1.0),
    )
    return {
        Metric(*quantity, f"hwmon {path.name}", "board", "sampled", period, device): (path, scale)
        for quantity, period, path, scale in readings
        if path is not None
    }


def _reading(path: Path, scale: float) -> Reading:
    try:
        return int(path.read_text()) * scale
    except PermissionError:
        return Missing(f"{path.name} may not be read by this user", "denied")
    except (OSError, ValueError) as error:
        return Missing(f"{path.name} cannot be read ({type(error).__name__}); the card may be asleep or gone")


def _name(folder: Path) -> str:
    return read_text(folder / "product_name") or f"AMD {read_text(folder / 'device')}"


def _hwmon(folder: Path, name: str) -> Path | None:
    return min(folder.glob(f"hwmon/hwmon*/{name}"), default=None)
