"""Power of NVIDIA's Jetson modules (Linux), from the INA3221 meters on their supply rails.

The smaller modules have a rail for all that the module takes (`VDD_IN`). AGX Orin has three that add up to it: its memory is
on the 5 V rail, so `VDDQ_VDD2_1V8AO` would count it twice. What stands on the carrier board (a disk, a fan) is in neither. Today's
driver tells millivolts and milliamperes; that of JetPack 4 tells milliwatts.

    grep -H . /sys/class/hwmon/hwmon*/in*_label /sys/bus/iio/devices/iio:device*/rail_name_*
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rigbench.telemetry import base
from rigbench.telemetry.base import (
    Metric,
    Missing,
    Reading,
    Source,
    SourceOptions,
    file_reading,
    labels,
    read_text,
    whole,
)

SYSFS = Path("/sys")
WHOLE = ("vdd_in", "pom_5v_in")
PARTS = ("vdd_gpu_soc", "vdd_cpu_cv", "vin_sys_5v0")
Rail = tuple[float, Sequence[Path]]
"""What makes the product of the numbers in some files watts, and these files."""


class JetsonSource(Source):
    """Watts of the module."""

    name = "jetson"
    scope = "soc"
    platforms = ("linux",)

    def __init__(self, rails: Mapping[str, Rail], published_s: float) -> None:
        self._rails = rails
        self.devices = tuple(name.upper() for name in rails)
        period_s = max(base.POWER_PERIOD_S, published_s)
        api = f"INA3221 {'+'.join(self.devices)}"
        self.metrics = (Metric(*base.POWER, api, "soc", "sampled", period_s, "module", published_s=published_s),)

    @classmethod
    def open(cls, options: SourceOptions, root: Path = SYSFS) -> Source | None:
        rails = dict((*_hwmon(root), *_iio(root)))
        names = next(([name] for name in WHOLE if name in rails), PARTS)
        if not all(name in rails for name in names):
            return None
        meters = {path.parent for name in names for path in rails[name][1]}
        published_ms = max((whole(read_text(folder / "update_interval")) or 0 for folder in meters), default=0)
        return cls({name: rails[name] for name in names}, published_ms * 1e-3 or base.POWER_PERIOD_S)

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._watts()] * len(metrics)

    def _watts(self) -> Reading:
        total = 0.0
        for scale, paths in self._rails.values():
            parts = [file_reading((1.0, [path])) for path in paths]
            if missing := [part for part in parts if isinstance(part, Missing)]:
                return missing[0]
            total += scale * math.prod(float(part) for part in parts if not isinstance(part, Missing))
        return total


def _hwmon(root: Path) -> Iterator[tuple[str, Rail]]:
    for folder in sorted(root.glob("class/hwmon/hwmon*")):
        if read_text(folder / "name") == "ina3221":
            for name, path in labels(folder, "in").items():
                yield name, (1e-6, [path, path.with_name(path.name.replace("in", "curr", 1))])


def _iio(root: Path) -> Iterator[tuple[str, Rail]]:
    for path in sorted(root.glob("bus/iio/devices/iio:device*/rail_name_*")):
        number = path.name.removeprefix("rail_name_")
        yield read_text(path).lower(), (1e-3, [path.with_name(f"in_power{number}_input")])
