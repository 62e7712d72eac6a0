"""Power of NVIDIA's Grace processors (GH200, GB200, Grace servers) on Linux.

ACPI power meters tell that of the module, of Grace with its memory, and of its cores. Of each socket one counts, so that nothing is
counted twice; the module's, which holds the GPU, stands in for the processor's only where that is not told.

    grep -H . /sys/class/hwmon/hwmon*/device/power1_oem_info
"""

from __future__ import annotations

import re
from pathlib import Path

from rigbench.telemetry import base
from rigbench.telemetry.base import File, FileSource, Metric, Source, SourceOptions, read_text, whole

HWMON = Path("/sys/class/hwmon")
NAMES = ("Grace Power", "CPU Power", "Module Power")
AVERAGED_S = 1.0
"""How long a meter averages where it does not say."""


class ModuleSource(FileSource):
    """Watts of each socket."""

    name = "module"
    scope = "package"
    platforms = ("linux",)

    @classmethod
    def open(cls, options: SourceOptions, root: Path = HWMON) -> Source | None:
        meters: dict[str, tuple[int, Path, str]] = {}
        for path in sorted(root.glob("hwmon*/device/power1_average")):
            label = re.fullmatch(r"(.+) Socket (\d+)", read_text(path.with_name("power1_oem_info")))
            if label is None or label[1] not in NAMES:
                continue
            rank, socket = NAMES.index(label[1]), f"package-{label[2]}"
            if socket not in meters or rank < meters[socket][0]:
                meters[socket] = (rank, path, label[1])
        files: dict[Metric, File] = {}
        for socket, (_, path, label_text) in meters.items():
            averaged_ms = whole(read_text(path.with_name("power1_average_interval")))
            averaged_s = AVERAGED_S if averaged_ms is None else averaged_ms * 1e-3
            period_s = max(base.POWER_PERIOD_S, averaged_s)
            files[
                Metric(
                    *base.POWER, f"ACPI {label_text}", "package", "sampled", period_s, socket, published_s=averaged_s
                )
            ] = (1e-6, [path])
        return cls(files, tuple(meters)) if files else None
