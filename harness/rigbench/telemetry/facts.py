"""What the sources know of this machine for its fingerprint: GPUs, driver versions, power modes. Nothing that says
whose it is.

    python -c "from rigbench.telemetry import facts; print(facts.gpus(), facts.drivers(), facts.modes())"
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigbench.telemetry import amd, apple, host, nvml_library
from rigbench.telemetry.source import Source

SYSFS = Path("/sys")


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source as `doctor` shows it: usable, or why not and what mends it."""

    name: str
    usable: bool
    devices: tuple[str, ...]
    metrics: tuple[str, ...]
    reason: str | None = None
    mend: str | None = None


def source_states(sources: Sequence[Source]) -> tuple[SourceState, ...]:
    """Every source with what it can read. Usable sources may still lack single metrics: those are not in `metrics`."""
    found = []
    for source in sources:
        probe = source.probe()
        readable = tuple(dict.fromkeys(metric.name for metric in source.metrics if metric.readable))
        found.append(SourceState(source.name, probe.usable, probe.devices, readable, probe.reason, probe.mend))
    return tuple(found)


def gpus() -> tuple[dict[str, Any], ...]:
    """The GPUs of this machine: name, vendor, memory_bytes, power limits, PCIe link, ECC, cores; None where nobody
    tells.

    PCIe generation and width are as of now; they drop at idle, so take them under load.
    """
    if sys.platform == "darwin":
        return apple.gpus()
    return (*nvml_library.facts()[0], *(amd.gpus() if sys.platform.startswith("linux") else ()))


def drivers(sysfs: Path = SYSFS) -> dict[str, str]:
    """Versions of what sits between the engine and the device: {'nvidia': '580.126.09', 'cuda': '13.0'} or
    {'macos_build': '25E246'}."""
    if sys.platform == "darwin":
        build = host.sysctl("kern.osversion")
        return {"macos_build": build} if build else {}
    found = dict(nvml_library.facts()[1])
    amdgpu = host.read_text(sysfs / "module" / "amdgpu" / "version").strip()
    return {**found, "amdgpu": amdgpu} if amdgpu else found


def modes(sysfs: Path = SYSFS) -> dict[str, str]:
    """Power modes that change speed: cpufreq's governor and the firmware's profile on Linux, low-power mode on
    macOS."""
    if sys.platform == "darwin":
        return mac_modes(_output("pmset", "-g"))
    names = {
        "cpu_governor": sysfs / "devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "platform_profile": sysfs / "firmware/acpi/platform_profile",
    }
    return {name: text for name, path in names.items() if (text := host.read_text(path).strip())}


def mac_modes(pmset: str) -> dict[str, str]:
    """The lines of `pmset -g` that hold a mode: {'lowpowermode': '0', 'powermode': '2'}."""
    words = [line.split() for line in pmset.splitlines()]
    return {line[0]: line[1] for line in words if len(line) >= 2 and line[0] in ("lowpowermode", "powermode")}


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
