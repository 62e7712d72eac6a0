"""AMD graphics on Linux, through sysfs: no library, no root.

The kernel's driver gives power in microwatts (`power1_average`, on newer cards `power1_input`; some have a file and do not know),
temperatures in thousandths of a degree, clocks in hertz, and memory in bytes. A binary table, `gpu_metrics`, tells what slows the
chip. (The `amdsmi` package is of no use without ROCm: importing it raises KeyError.)

A processor's own graphics share its memory, so what they use is VRAM (the part that the firmware set aside) and GTT together; their
power is that of the processor's whole socket, hence of scope `package`, never a board's. Of some the driver tells it a thousand
times too small, which the sampler refuses; the newest tables have it right.

    cat /sys/class/drm/card*/device/hwmon/hwmon*/power1_average
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rigbench.telemetry import base
from rigbench.telemetry.base import (
    File,
    FileSource,
    Metric,
    Missing,
    Reading,
    Source,
    SourceOptions,
    drm_cards,
    file_reading,
    first_readable,
    hwmon,
    labelled,
    read_text,
    whole,
)
from rigbench.telemetry.drm import process_memory, process_metric
from rigbench_backends.base import bus_id

DRM = Path("/sys/class/drm")
VENDOR = "0x1002"
IDS = Path("/usr/share/libdrm/amdgpu.ids")
POWER_BITS, HEAT_BITS = 0xFF00FF, 0xFFFF << 32
"""Of `indep_throttle_status` (amdgpu_smu.h): limits of power and of current; temperatures and PROCHOT."""
THROTTLE_AT = {1: (3, 112), 2: (2, 120)}
"""gpu_metrics' revision: from which content revision on, and where, it has `indep_throttle_status` (kgd_pp_interface.h)."""
RESIDENCY_POWER, RESIDENCY_HEAT = slice(1, 4), (0, 4, 5, 6)
"""Of revision 3's counters from byte 228 on: PROCHOT, SPL, FPPT, SPPT, and heat of the cores, the graphics and the SoC."""
TABLE, TABLE_3_BYTES = "gpu_metrics", 260
"""Its name, and the size of revision 3."""


class AmdSource(FileSource):
    """The power, memory, temperature and clocks of every AMD card, `amd0` the first."""

    name = "amd"
    platforms = ("linux",)

    def __init__(self, files: Mapping[Metric, File], devices: tuple[str, ...]) -> None:
        super().__init__(files, devices)
        self._cards: dict[str, Path] = {}
        self._residencies: dict[Path, tuple[int, ...]] = {}

    @classmethod
    def open(cls, options: SourceOptions, drm: Path = DRM) -> Source:
        folders = drm_cards(drm, VENDOR)
        if not folders:
            return cls.absent("no AMD graphics card")
        files = {metric: file for index, folder in enumerate(folders) for metric, file in _files(folder, f"amd{index}")}
        if not files:
            return cls.absent("the AMD card's driver gives no readings", "load amdgpu")
        source = cls(files, tuple(map(card_name, folders)))
        source._cards = {f"amd{index}": each for index, each in enumerate(folders) if bus_id(str(each.resolve()))}
        source.metrics = (*files, *map(process_metric, source._cards))
        return source

    @classmethod
    def gpus(cls, drm: Path = DRM) -> tuple[dict[str, Any], ...]:
        """The cards' facts for the fingerprint. None where the driver does not tell."""

        def watts(folder: Path, name: str) -> float | None:
            microwatts = whole(read_text(hwmon(folder, name)))
            return None if microwatts is None else microwatts * 1e-6

        return tuple(
            {
                "name": card_name(folder),
                "vendor": "AMD",
                "device": f"amd{index}",
                "bus_id": bus_id(str(folder.resolve())),
                "integrated": is_apu(folder),
                "memory_bytes": sum(whole(read_text(path)) or 0 for path in _memories(folder, "total")) or None,
                "power_limit_w": watts(folder, "power1_cap"),
                "power_limit_default_w": watts(folder, "power1_cap_default"),
                "pcie_speed": read_text(folder / "current_link_speed") or None,
                "pcie_width": whole(read_text(folder / "current_link_width")),
            }
            for index, folder in enumerate(drm_cards(drm, VENDOR))
        )

    @classmethod
    def drivers(cls, sysfs: Path = Path("/sys")) -> dict[str, str]:
        version = read_text(sysfs / "module" / "amdgpu" / "version")
        return {"amdgpu": version} if version else {}

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [
            self._process_memory(self._cards[str(metric.device)])
            if metric.name == base.MEMORY_USED_PROCESS.name
            else self._reading(metric, self._files[metric])
            for metric in metrics
        ]

    def _process_memory(self, folder: Path) -> Reading:
        from rigbench.telemetry import host  # it needs psutil, and the build looks for cards before that is installed

        if self.pid is None:
            return host.NO_WORKER
        return process_memory(host.tree_pids(self.pid), bus_id(str(folder.resolve())) or "", is_apu(folder))

    def _reading(self, metric: Metric, file: File) -> Reading:
        scale, (path, *_) = file
        if path.name != TABLE:
            return file_reading(file)
        table = _table(path)
        if metric.name == base.POWER.name:
            return _table_power_mw(table) * scale if table else Missing(f"{TABLE} cannot be read")
        return self._slowed(path, table)

    def _slowed(self, path: Path, table: bytes) -> Reading:
        """What slows the chip, in NVML's bits; of the newest tables, what has since the last reading."""
        if len(table) < TABLE_3_BYTES:
            status = _throttle_status(table)
            if status is None:
                return Missing(f"{TABLE} cannot be read")
            power, heat = bool(status & POWER_BITS), bool(status & HEAT_BITS)
        else:
            counts = struct.unpack_from("<7I", table, 228)
            gained = [now > then for now, then in zip(counts, self._residencies.get(path, counts), strict=True)]
            self._residencies[path] = counts
            power, heat = any(gained[RESIDENCY_POWER]), any(gained[index] for index in RESIDENCY_HEAT)
        return float(base.POWER_CAP_REASON * power | base.HEAT_REASON * heat)


def is_apu(folder: Path) -> bool:
    """Whether these are a processor's own graphics: only they have a voltage of the north bridge, or tables from revision 2 on."""
    return "vddnb" in labelled(folder, "in") or _table(folder / TABLE)[2:3] > b"\x01"


def _files(folder: Path, device: str) -> Iterator[tuple[Metric, File]]:
    """Each metric that this card has, and where."""
    table, content = folder / TABLE, _table(folder / TABLE)
    degrees, clocks, state = labelled(folder, "temp"), labelled(folder, "freq"), base.STATE_PERIOD_S
    watts = first_readable(hwmon(folder, "power1_average"), hwmon(folder, "power1_input"))
    power: File | None = (1e-6, [watts]) if watts else None
    if _table_power_mw(content):
        power = (1e-3, [table])
    slowed = len(content) >= TABLE_3_BYTES or _throttle_status(content) is not None
    readings: tuple[tuple[base.Quantity, float, float, Sequence[Path | None]], ...] = (
        (base.TEMPERATURE, state, 1e-3, [degrees.get("junction") or hwmon(folder, "temp1_input")]),
        (base.MEMORY_TEMPERATURE, state, 1e-3, [degrees.get("mem")]),
        (base.CLOCK, state, 1.0, [clocks.get("sclk") or hwmon(folder, "freq1_input")]),
        (base.MEMORY_CLOCK, state, 1.0, [clocks.get("mclk")]),
        (base.MEMORY_USED, state, 1.0, _memories(folder, "used")),
        (base.CLOCKS_EVENT_REASONS, state, 1.0, [table] if slowed else []),
    )
    if power:
        scope = "package" if is_apu(folder) else "board"
        yield Metric(*base.POWER, _interface(power[1][0]), scope, "sampled", base.POWER_PERIOD_S, device), power
    for quantity, period, scale, paths in readings:
        if present := [path for path in paths if path is not None and path.exists()]:
            yield Metric(*quantity, _interface(present[0]), "board", "sampled", period, device), (scale, present)


def _interface(path: Path) -> str:
    return f"hwmon {path.name}" if "hwmon" in path.parts else path.name


def _memories(folder: Path, what: str) -> list[Path]:
    """The files whose sum is a card's memory, `used` or `total`: its own, and where it has next to none, what it borrows."""
    names = ("vram", "gtt") if is_apu(folder) else ("vram",)
    return [path for name in names if (path := folder / f"mem_info_{name}_{what}").exists()]


def _table(path: Path) -> bytes:
    """gpu_metrics: its size, format and content revision, then values whose places these decide. b'' where there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _table_power_mw(table: bytes) -> int:
    """The socket's milliwatts, of revision 3 alone: older ones have them in units that differ by firmware. 0 where not known."""
    return int(struct.unpack_from("<I", table, 112)[0]) if len(table) >= TABLE_3_BYTES and table[2] == 3 else 0


def _throttle_status(table: bytes) -> int | None:
    """The bits of `indep_throttle_status`; None where the table has none, or sets all, for not known."""
    if len(table) < 4:
        return None
    least, place = THROTTLE_AT.get(table[2], (0, 0))
    if not place or not least <= table[3] <= (3 if table[2] == 1 else 255) or len(table) < place + 8:
        return None
    (status,) = struct.unpack_from("<Q", table, place)
    return None if status == 2**64 - 1 else int(status)


def card_name(folder: Path, ids: Path = IDS) -> str:
    """The card's own name, else the one that Mesa's list has for its chip and revision, which tells an XTX from an XT."""
    if product := read_text(folder / "product_name"):
        return product
    device, revision = (read_text(folder / file).removeprefix("0x") for file in ("device", "revision"))
    pattern = rf"^{device},\s*{revision or 'any'},\s*(.+)$"
    line = re.search(pattern, read_text(ids), re.MULTILINE | re.IGNORECASE)
    return line[1].strip() if line else f"AMD 0x{device}"
