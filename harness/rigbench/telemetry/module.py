"""Power of NVIDIA's Grace processors (GH200, GB200, Grace servers) and of GB10 (DGX Spark) on Linux.

Of Grace, ACPI power meters tell that of the module, of Grace with its memory, and of its cores. Of each socket one counts, so that
nothing is counted twice; the module's, which holds the GPU, stands in for the processor's only where that is not told.

NVIDIA's driver tells of a GB10 its GPU alone; the open driver spark_hwmon reads the table of its firmware (SPBM):
power of the whole system and of the chip, and a counter of the chip's energy.

    grep -H . /sys/class/hwmon/hwmon*/device/power1_oem_info /sys/class/hwmon/hwmon*/power*_label
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rigbench.telemetry import base
from rigbench.telemetry.base import File, FileSource, Metric, Source, SourceOptions, labels, read_text, whole

HWMON = Path("/sys/class/hwmon")
NAMES = ("Grace Power", "CPU Power", "Module Power")
AVERAGED_S = 1.0
"""How long a meter averages where it does not say."""
SPBM_S = 0.1
"""GB10's firmware works in steps of 0.1 s; its counters move every 10 ms."""


class ModuleSource(FileSource):
    """Watts of each socket; of GB10 also of the whole system, and joules."""

    name = "module"
    scope = "package"
    wider_scopes = ("host",)
    platforms = ("linux",)

    @classmethod
    def open(cls, options: SourceOptions, root: Path = HWMON) -> Source | None:
        files = dict((*_grace(root), *_gb10(root)))
        return cls(files, tuple(metric.device or metric.scope for metric in files)) if files else None


def _grace(root: Path) -> Iterator[tuple[Metric, File]]:
    meters: dict[str, tuple[int, Path, str]] = {}
    for path in sorted(root.glob("hwmon*/device/power1_average")):
        label = re.fullmatch(r"(.+) Socket (\d+)", read_text(path.with_name("power1_oem_info")))
        if label is None or label[1] not in NAMES:
            continue
        rank, socket = NAMES.index(label[1]), f"package-{label[2]}"
        if socket not in meters or rank < meters[socket][0]:
            meters[socket] = (rank, path, label[1])
    for socket, (_, path, label_text) in meters.items():
        averaged_ms = whole(read_text(path.with_name("power1_average_interval")))
        averaged_s = AVERAGED_S if averaged_ms is None else averaged_ms * 1e-3
        period_s = max(base.POWER_PERIOD_S, averaged_s)
        api = f"ACPI {label_text}"
        yield (
            Metric(*base.POWER, api, "package", "sampled", period_s, socket, published_s=averaged_s),
            (1e-6, [path]),
        )


def _gb10(root: Path) -> Iterator[tuple[Metric, File]]:
    for folder in sorted(root.glob("hwmon*")):
        if "spbm" not in read_text(folder / "name"):
            continue
        watts, joules = labels(folder, "power"), labels(folder, "energy")
        for label, scope, device in (("sys_total", "host", None), ("soc_pkg", "package", "package-0")):
            if label in watts:
                power = Metric(*base.POWER, f"SPBM {label}", scope, "sampled", SPBM_S, device, published_s=SPBM_S)
                yield power, (1e-6, [watts[label]])
        if "pkg" in joules:
            yield Metric(*base.ENERGY, "SPBM pkg", "package", "counter", SPBM_S, "package-0"), (1e-6, [joules["pkg"]])
