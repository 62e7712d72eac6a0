"""The fingerprint of this machine: what decides its speed, and nothing that says whose it is.

No host name, user name, serial number, UUID, path, address or environment enters.
"""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

import psutil

from rigbench import telemetry
from rigbench.paths import slug
from rigbench.records import Machine
from rigbench.telemetry import host


def this_machine() -> Machine:
    """The fingerprint of this machine, with all that the telemetry sources know of it."""
    return fingerprint(telemetry.gpus(), telemetry.drivers(), telemetry.modes())


def fingerprint(
    gpus: tuple[dict[str, Any], ...] = (), drivers: dict[str, str] | None = None, modes: dict[str, str] | None = None
) -> Machine:
    """The machine that this runs on; `gpus`, `drivers` and power `modes` as the telemetry sources report them."""
    memory = psutil.virtual_memory().total
    cpu = host.cpu_name()
    physical = psutil.cpu_count(logical=False)
    logical = psutil.cpu_count()
    names = [str(gpu.get("name")) for gpu in gpus if gpu.get("name")]
    unit = f"{round(memory / 2**30)}gb"
    main = f"{len(names)}x-{names[0]}" if len(names) > 1 else names[0] if names else f"{cpu}-{physical or logical}c"
    return Machine(
        id=slug(f"{main}-{unit}"),
        cpu=cpu,
        physical_cores=physical,
        logical_cores=logical,
        memory_bytes=memory,
        gpus=gpus,
        os=_os_name(),
        kernel=platform.release(),
        arch=platform.machine(),
        python=platform.python_version(),
        virtualized=_virtualized(),
        detail=modes or {},
        drivers=drivers or {},
    )


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return "Linux"
    return f"{platform.system()} {platform.version()}"


def _virtualized() -> str | None:
    """`yes` where the processor says so, `no` where it would; None where nobody can tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and platform.machine() in ("x86_64", "i686"):
        return "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo.read_text(), re.M) else "no"
    if sys.platform == "darwin":
        flag = host.sysctl("kern.hv_vmm_present")
        return None if flag is None else "yes" if flag == "1" else "no"
    return None
