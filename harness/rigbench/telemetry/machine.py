"""The fingerprint of this machine: what decides its speed, and nothing that says whose it is.

No host name, user name, serial number, UUID, path, address or environment enters.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from rigbench import telemetry
from rigbench.paths import slug
from rigbench.records import Machine
from rigbench.telemetry import host
from rigbench.telemetry.base import read_text, whole


def this_machine() -> Machine:
    """The fingerprint of this machine, with all that the telemetry sources know of it."""
    return fingerprint(*telemetry.facts())


def fingerprint(
    gpus: tuple[dict[str, Any], ...] = (),
    drivers: dict[str, str] | None = None,
    modes: dict[str, str] | None = None,
    used: Mapping[str, str] = MappingProxyType({}),
) -> Machine:
    """The machine that this runs on; `gpus`, `drivers` and power `modes` as the telemetry sources report them.

    It has those of its GPUs that engines use, where these tell (`used`: their names by PCI address); else its cards, for nobody
    buys one to compute on the graphics in the processor beside it. `detail` names the others.
    """
    memory = psutil.virtual_memory().total
    cpu = host.cpu_name()
    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count()
    mine = [gpu for gpu in gpus if gpu.get("bus_id") in used] or [gpu for gpu in gpus if not gpu.get("integrated")]
    others = [str(gpu.get("name")) for gpu in gpus if mine and gpu not in mine]
    # A driver may know no name of its card but a number.
    gpus = tuple(
        {**gpu, "name": used.get(str(gpu.get("bus_id")), gpu["name"])} if "0x" in str(gpu["name"]) else gpu
        for gpu in mine or gpus
    )
    return Machine(
        id=machine_id(cpu, physical or logical, memory, gpus),
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
        detail={**(modes or {}), **({"other_gpus": others} if others else {})},
        drivers=drivers or {},
    )


def machine_id(cpu: str, cores: int | None, memory_bytes: int, gpus: Sequence[dict[str, Any]]) -> str:
    """What machines of one kind share: the GPUs, or else the processor and its cores, and the memory."""
    counts = Counter(str(gpu["name"]) for gpu in gpus if gpu.get("name"))
    cards = [f"{count}x-{name}" if count > 1 else name for name, count in counts.items()]
    return slug(f"{'+'.join(cards) or f'{cpu}-{cores}c'}-{round(memory_bytes / 2**30)}gb")


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
    cpuinfo = read_text(host.PROC / "cpuinfo")
    if cpuinfo and platform.machine() in ("x86_64", "i686"):
        return "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) else "no"
    if sys.platform == "darwin":
        return {None: None, "1": "yes"}.get(host.sysctl("kern.hv_vmm_present"), "no")
    return None


def usable_cores(cpu_sysfs: Path = host.CPU_SYSFS, cgroup: Path = host.CGROUP) -> int:
    """Physical cores that this process may use: of those there are, what affinity and a container's quota leave."""
    if sys.platform == "linux":
        siblings = {cpu: cpu_sysfs / f"cpu{cpu}/topology/thread_siblings_list" for cpu in os.sched_getaffinity(0)}
        cores = len({read_text(path) or str(cpu) for cpu, path in siblings.items()})
    else:
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    quota, _, period = read_text(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def engine_threads() -> int:
    """Threads that an engine should compute with: two that share a core slow it down, and so do a Mac's slow cores."""
    return whole(host.sysctl("hw.perflevel0.physicalcpu")) or usable_cores()
