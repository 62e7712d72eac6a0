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


def usable_cores(
    cpu_sysfs: Path = host.CPU_SYSFS, cgroup: Path = host.CGROUP, proc: Path = host.PROC, *, fast: bool = False
) -> int:
    """Physical cores that this process may use: of those there are, what affinity and a container's quota leave. `fast`: of a
    processor with fast and slow cores, the fast ones alone."""
    if sys.platform == "linux":
        ours = os.sched_getaffinity(0)
        if fast:
            ours = ours & _fast_cpus(cpu_sysfs, ours) or ours
        siblings = {cpu: cpu_sysfs / f"cpu{cpu}/topology/thread_siblings_list" for cpu in ours}
        cores = len({read_text(path) or str(cpu) for cpu, path in siblings.items()})
    elif fast and (quick := _fast_mac_cores()):
        cores = quick
    else:
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    quota = host.quota_cores(cgroup, proc)
    return max(1, cores if quota is None else min(cores, int(quota)))


def _fast_cpus(cpu_sysfs: Path, cpus: set[int]) -> set[int]:
    """Intel's hybrids list their fast CPUs; ARM's tell the capacity of each."""
    listed = read_text(cpu_sysfs.parent.parent / "cpu_core/cpus")
    if listed:
        ranges = [part.partition("-") for part in listed.split(",")]
        return {cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)}
    capacity = {cpu: whole(read_text(cpu_sysfs / f"cpu{cpu}/cpu_capacity")) or 0 for cpu in cpus}
    # Cores of one make differ by a few percent where their clocks do.
    return {cpu for cpu, each in capacity.items() if each >= 0.9 * max(capacity.values())}


def _fast_mac_cores() -> int:
    """Cores of every level but the efficient ones: an M5 Pro has super and performance cores, and needs both."""
    levels = range(whole(host.sysctl("hw.nperflevels")) or 1)
    names = {level: host.sysctl(f"hw.perflevel{level}.name") or "" for level in levels}
    counts = {level: whole(host.sysctl(f"hw.perflevel{level}.physicalcpu")) or 0 for level in levels}
    quick = sum(counts[level] for level in levels if "efficien" not in names[level].lower())
    return counts[0] if len(counts) > 1 and not any(names.values()) else quick


def engine_threads() -> int:
    """Threads that an engine should compute with: two that share a core slow it down, and so do slow cores beside fast ones."""
    return usable_cores(fast=True)
