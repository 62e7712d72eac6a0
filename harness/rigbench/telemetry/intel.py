"""Intel graphics on Linux (drivers xe and i915), through sysfs: no library, no root.

A card counts energy in microjoules, of the whole card or of its package alone where it does not know that. Integrated graphics
count nothing of their own: their energy is in RAPL's package. Clocks are in megahertz; each reason that slows the chip is a file.

    cat /sys/class/drm/card*/device/hwmon/hwmon*/energy*_input
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rigbench.telemetry import adapters, base, drm, host
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
from rigbench_backends.base import bus_id

DRM = Path("/sys/class/drm")
VENDOR = "0x8086"
HEAT, LIMITS = r"therm|prochot|ratl", r"pl\d|tdc|icc_?max"
"""In the names of the reasons' files: temperatures; limits of power and current. Newer kernels tell of each which one."""


class IntelSource(FileSource):
    """The energy, clocks and temperature of every Intel card, `intel0` the first; memory by process."""

    name = "intel"
    platforms = ("linux",)
    cards: dict[str, Path]

    @classmethod
    def open(cls, options: SourceOptions, folder: Path = DRM) -> Source:
        cards = drm_cards(folder, VENDOR)
        if not cards:
            return cls.absent("no Intel graphics")
        files = {metric: file for index, card in enumerate(cards) for metric, file in _files(card, f"intel{index}")}
        source = cls(files, tuple(adapters.pci_name(card, "intel") for card in cards))
        source.cards = {f"intel{index}": card for index, card in enumerate(cards)}
        source.metrics = (*files, *(drm.process_metric(device) for device in source.cards))
        return source

    @classmethod
    def gpus(cls, folder: Path = DRM) -> tuple[dict[str, Any], ...]:
        """The cards' facts for the fingerprint; how much memory they have their drivers do not tell."""
        return tuple(
            {
                "name": adapters.pci_name(card, "intel"),
                "vendor": "Intel",
                "device": f"intel{index}",
                "bus_id": bus_id(str(card.resolve())),
                "integrated": adapters.is_integrated(card.resolve(), "intel"),
                "memory_bytes": None,
                "power_limit_w": None
                if (limit := whole(read_text(hwmon(card, "power1_max")))) is None
                else limit * 1e-6,
            }
            for index, card in enumerate(drm_cards(folder, VENDOR))
        )

    @classmethod
    def limits(cls, device: str | None) -> base.Limits:
        """It counts every few milliseconds."""
        return base.Limits(2.0, 2.0)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._reading(metric) for metric in metrics]

    def _reading(self, metric: Metric) -> Reading:
        card = self.cards[str(metric.device)]
        if metric.name == base.MEMORY_USED_PROCESS.name:
            where = bus_id(str(card.resolve())) or ""
            shared = bool(adapters.is_integrated(card.resolve(), "intel"))
            return host.NO_WORKER if self.pid is None else drm.process_memory(host.tree_pids(self.pid), where, shared)
        if metric.name != base.CLOCKS_EVENT_REASONS.name:
            return file_reading(self._files[metric])
        reasons = [path.name.rpartition("reason_")[2] for path in self._files[metric][1] if read_text(path) == "1"]
        power, heat = (any(re.search(words, reason) for reason in reasons) for words in (LIMITS, HEAT))
        return float(base.POWER_CAP_REASON * power | base.HEAT_REASON * heat)


def _files(card: Path, device: str) -> Iterator[tuple[Metric, File]]:
    """Each metric that this card has, and where."""
    energies, degrees = labelled(card, "energy"), labelled(card, "temp")
    gt = next((folder for folder in (card / "tile0/gt0/freq0", card.parent / "gt/gt0") if folder.is_dir()), card)
    counted = first_readable(energies.get("card"), energies.get("pkg"), hwmon(card, "energy1_input"))
    state = base.STATE_PERIOD_S
    clock = [path for name in ("act_freq", "rps_act_freq_mhz") if (path := gt / name).exists()]
    reasons = sorted((*gt.glob("throttle/reason_*"), *gt.glob("throttle_reason_*")))
    hottest = degrees.get("pkg") or hwmon(card, "temp2_input") or hwmon(card, "temp1_input")
    if counted is not None:
        counter = Metric(*base.ENERGY, f"hwmon {counted.name}", "board", "counter", base.POWER_PERIOD_S, device)
        if counted == energies.get("pkg"):
            counter = replace(counter, status="low_confidence", reason="of the chip alone, without the card's memory")
        yield counter, (1e-6, [counted])
    if clock:
        yield Metric(*base.CLOCK, clock[0].name, "board", "sampled", state, device), (1e6, clock[:1])
    if reasons:
        yield Metric(*base.CLOCKS_EVENT_REASONS, "throttle reasons", "board", "sampled", state, device), (1.0, reasons)
    for quantity, place in ((base.TEMPERATURE, hottest), (base.MEMORY_TEMPERATURE, degrees.get("vram"))):
        if place is not None and not isinstance(file_reading((1e-3, [place])), Missing):
            yield Metric(*quantity, f"hwmon {place.name}", "board", "sampled", state, device), (1e-3, [place])
