"""AMD graphics on Linux, through sysfs: no library, no root.

The kernel's driver gives power in microwatts (`power1_average`, on newer cards `power1_input`; some have a file and do not know),
temperatures in thousandths of a degree, clocks in hertz, and memory in bytes. A binary table (amd_table.py) tells what slows the
chip, and what else the files do not tell. (The `amdsmi` package is of no use without ROCm: importing it raises KeyError.)

A processor's own graphics share its memory, so what they use is VRAM (the part that the firmware set aside) and GTT together; their
power is that of the processor's whole socket, hence of scope `package`, never a board's. Of some the driver tells it a thousand
times too small, which the sampler refuses; the newest tables have it right.

    cat /sys/class/drm/card*/device/hwmon/hwmon*/power1_average
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rigbench.telemetry import amd_table, base
from rigbench.telemetry.base import (
    File,
    FileSource,
    Metric,
    Missing,
    Quantity,
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


class AmdSource(FileSource):
    """The power, memory, temperature and clocks of every AMD card, `amd0` the first."""

    name = "amd"
    platforms = ("linux",)

    def __init__(self, files: Mapping[Metric, File], devices: tuple[str, ...]) -> None:
        super().__init__(files, devices)
        self._cards: dict[str, Path] = {}
        self._counters: dict[Path, tuple[int, ...] | None] = {}

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
        tables: dict[Path, bytes] = {}  # each is one question to the card's firmware
        return [
            self._process_memory(self._cards[str(metric.device)])
            if metric.name == base.MEMORY_USED_PROCESS.name
            else self._reading(metric, self._files[metric], tables)
            for metric in metrics
        ]

    def _process_memory(self, folder: Path) -> Reading:
        from rigbench.telemetry import host  # it needs psutil, and the build looks for cards before that is installed

        if self.pid is None:
            return host.NO_WORKER
        return process_memory(host.tree_pids(self.pid), bus_id(str(folder.resolve())) or "", is_apu(folder))

    def _reading(self, metric: Metric, file: File, tables: dict[Path, bytes]) -> Reading:
        path = file[1][0]
        if path.name != amd_table.NAME:
            return file_reading(file)
        if path not in tables:
            tables[path] = amd_table.content(path)
        table = tables[path]
        if metric.name != base.CLOCKS_EVENT_REASONS.name:
            return amd_table.value(table, Quantity(metric.name, metric.unit))
        before, self._counters[path] = self._counters.get(path), amd_table.counters(table)
        return amd_table.slowed(table, before)


def is_apu(folder: Path) -> bool:
    """Whether these are a processor's own graphics: only they have a voltage of the north bridge, or tables from revision 2 on."""
    return "vddnb" in labelled(folder, "in") or amd_table.of_apu(amd_table.content(folder / amd_table.NAME))


def _files(folder: Path, device: str) -> Iterator[tuple[Metric, File]]:
    """Each metric that this card has, and where: a file of its own, else the table; a processor's power first from the table."""
    place = folder / amd_table.NAME
    table, apu = amd_table.content(place), is_apu(folder)
    degrees, clocks, state = labelled(folder, "temp"), labelled(folder, "freq"), base.STATE_PERIOD_S
    watts = first_readable(hwmon(folder, "power1_average"), hwmon(folder, "power1_input"))
    if apu and not isinstance(amd_table.value(table, base.POWER), Missing):
        watts = None
    readings: tuple[tuple[Quantity, float, float, Sequence[Path | None]], ...] = (
        (base.POWER, base.POWER_PERIOD_S, 1e-6, [watts]),
        (base.ENERGY, base.POWER_PERIOD_S, 1.0, []),
        (base.TEMPERATURE, state, 1e-3, [degrees.get("junction") or hwmon(folder, "temp1_input")]),
        (base.MEMORY_TEMPERATURE, state, 1e-3, [degrees.get("mem")]),
        (base.CLOCK, state, 1.0, [clocks.get("sclk") or hwmon(folder, "freq1_input")]),
        (base.MEMORY_CLOCK, state, 1.0, [clocks.get("mclk")]),
        (base.MEMORY_USED, state, 1.0, _memories(folder, "used")),
    )
    for quantity, period_s, scale, paths in readings:
        present = [path for path in paths if path is not None and path.exists()]
        if not present and isinstance(amd_table.value(table, quantity), Missing):
            continue
        scope = "package" if apu and quantity is base.POWER else "board"
        method = "counter" if quantity is base.ENERGY else "sampled"
        where = present or [place]
        yield Metric(*quantity, _interface(where[0]), scope, method, period_s, device), (scale, where)
    if not isinstance(amd_table.slowed(table, None), Missing):
        yield Metric(*base.CLOCKS_EVENT_REASONS, amd_table.NAME, "board", "sampled", state, device), (1.0, [place])


def _interface(path: Path) -> str:
    return f"hwmon {path.name}" if "hwmon" in path.parts else path.name


def _memories(folder: Path, what: str) -> list[Path]:
    """The files whose sum is a card's memory, `used` or `total`: its own, and where it has next to none, what it borrows."""
    names = ("vram", "gtt") if is_apu(folder) else ("vram",)
    return [path for name in names if (path := folder / f"mem_info_{name}_{what}").exists()]


def card_name(folder: Path, ids: Path = IDS) -> str:
    """The card's own name, else the one that Mesa's list has for its chip and revision, which tells an XTX from an XT."""
    if product := read_text(folder / "product_name"):
        return product
    device, revision = (read_text(folder / file).removeprefix("0x") for file in ("device", "revision"))
    pattern = rf"^{device},\s*{revision or 'any'},\s*(.+)$"
    line = re.search(pattern, read_text(ids), re.MULTILINE | re.IGNORECASE)
    return line[1].strip() if line else f"AMD 0x{device}"
