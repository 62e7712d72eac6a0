"""Memory of a graphics card by process, from what the kernel's drivers tell of each open file (Linux; amdgpu, i915, xe).

A process may hold a card open several times as one client, which counts once. What is resident counts: in the card's own memory,
and of a processor's graphics in the host's as well.

    grep -h drm- /proc/PID/fdinfo/*
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rigbench.telemetry import base
from rigbench.telemetry.base import Metric, Missing, Reading, read_text

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20}
LINE = re.compile(r"^drm-([\w-]+):\s*(\S+)(?: (\w+))?$", re.MULTILINE)


def process_metric(device: str) -> Metric:
    """What `process_memory` reads; costly, so at edges only."""
    return Metric(*base.MEMORY_USED_PROCESS, "/proc/PID/fdinfo", "board", "sampled", None, device)


def process_memory(pids: Iterable[int], bus_id: str, shared: bool, proc: Path = Path("/proc")) -> Reading:
    """Bytes that these processes hold on the card at `bus_id`; Missing where none is known to hold any, as under ROCm, whose memory
    older kernels do not show here. `shared`: it uses the host's memory, too."""
    clients: dict[str, float] = {}
    for pid in pids:
        for path in (proc / str(pid) / "fdinfo").glob("*"):
            lines = {name: (value, unit) for name, value, unit in LINE.findall(read_text(path))}
            if lines.get("pdev", ("",))[0] == bus_id:
                clients[lines.get("client-id", (f"{pid}/{path.name}",))[0]] = _resident(lines, shared)
    return float(sum(clients.values())) or Missing("no file of these processes tells of memory on this card")


def _resident(lines: dict[str, tuple[str, str]], shared: bool) -> float:
    """One client's bytes; older drivers call `memory` what newer ones call `resident`."""
    regions = r"vram\d*" + (r"|gtt|system\d*" if shared else "")
    for word in ("resident", "memory"):
        matches = [
            (value, unit) for name, (value, unit) in lines.items() if re.fullmatch(rf"{word}-(?:{regions})", name)
        ]
        if matches:
            return float(sum(int(value) * UNITS.get(unit, 1) for value, unit in matches))
    return 0.0
