"""Machines that people own: memory, bandwidth and power from `configs/hardware/*.toml`, each figure with its source.

A decode step reads every active weight once, so the bandwidth of the device bounds tokens per second; the other figures
(cores, clock, peak FP16) bound what is not streaming. An unknown name is answered with the nearest ones:

    rigbench predict --hardware rtx-4900 --model llama-3.1-8b     # did you mean rtx-4090, ...?
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rigbench.errors import InputError
from rigbench.paths import configs_dir
from rigbench.text import did_you_mean

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device of the catalogue. `memory_bytes` is the largest size sold (`match` sets the size that is really there),
    `memory_options_bytes` are all. `gpu_cores`: SMs (NVIDIA), CUs (AMD), Xe cores (Intel), GPU cores (Apple).
    `status`: `shipping` (sold, now or once) or `projected` (nobody can buy it). None = not published."""

    id: str
    name: str
    vendor: str
    family: str
    memory_bytes: int
    memory_options_bytes: tuple[int, ...]
    bandwidth_bytes_per_s: float
    fp16_flops: float | None
    power_w: float | None
    gpu_cores: int | None
    clock_hz: float | None
    memory_kind: str | None
    year: int | None
    status: str
    source: str
    aliases: tuple[str, ...]
    match_names: tuple[str, ...]

    @property
    def unified(self) -> bool:
        """Whether the device shares the host's memory."""
        return self.vendor == "apple" or self.family.endswith("-soc") or self.family == "cpu"


def parse_hardware(entry: dict[str, Any], vendor: str, where: str) -> Hardware:
    """One `[[hardware]]` table. Raises InputError naming the file and key for a missing or impossible value."""
    for key in ("id", "name", "family", "memory_gib", "bandwidth_gbs", "status", "source"):
        if key not in entry:
            raise InputError(f"{where}: hardware {entry.get('id', '?')!r} has no `{key}`")
    if not entry["memory_gib"] or not entry["bandwidth_gbs"] > 0:
        raise InputError(f"{where}: hardware {entry['id']!r} needs a memory size and a bandwidth above 0")
    sizes = tuple(round(gib * GIB) for gib in entry["memory_gib"])
    names = ("id", "name", "family", "power_w", "gpu_cores", "memory_kind", "year", "status", "source")
    unchanged: dict[str, Any] = {name: entry.get(name) for name in names}
    tflops, mhz = entry.get("fp16_tflops"), entry.get("clock_mhz")
    return Hardware(
        **unchanged,
        vendor=vendor,
        memory_bytes=max(sizes),
        memory_options_bytes=sizes,
        bandwidth_bytes_per_s=entry["bandwidth_gbs"] * 1e9,
        fp16_flops=None if tflops is None else tflops * 1e12,
        clock_hz=None if mhz is None else mhz * 1e6,
        aliases=tuple(entry.get("aliases", ())),
        match_names=(entry["name"], entry["id"], *entry.get("aliases", ()), *entry.get("match", ())),
    )


def load_hardware(folder: Path) -> tuple[Hardware, ...]:
    """Every device in `folder/*.toml`, in file order. Raises InputError for an id or alias that is there twice."""
    named: dict[str, Hardware] = {}
    for file in sorted(folder.glob("*.toml")):
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        for entry in content.get("hardware", ()):
            device = parse_hardware(entry, content["vendor"], file.name)
            for name in (device.id, *device.aliases):
                if name in named:
                    raise InputError(f"{file.name}: the hardware name {name!r} is there twice")
                named[name] = device
    return tuple(dict.fromkeys(named.values()))


@cache
def hardware() -> tuple[Hardware, ...]:
    """The catalogue that ships with rigbench."""
    return load_hardware(configs_dir() / "hardware")


def find(name: str) -> Hardware:
    """The device with this id or alias (any case). Raises InputError with the nearest names."""
    target = name.strip().lower()
    known = {each: device for device in hardware() for each in (device.id, *device.aliases)}
    if target in known:
        return known[target]
    close = did_you_mean(re.sub(r"[^a-z0-9]+", "-", target).strip("-"), known)
    hint = "; `rigbench predict --list-hardware` lists what is known" if close == "." else close.rstrip(".")
    raise InputError(f"no hardware named {name!r} in the catalogue{hint}")


_MAKERS = "nvidia|amd|intel|geforce|corporation|graphics|tesla|quadro|instinct|radeon|generation|edition|gpu"
_DRIVERS = r"RADV|ANV|NVK|LLVMPIPE|BMG|DG2|ACM|MTL|ARL|LNL|PTL|RPL|ADL|TGL"
"""What Mesa puts behind a name in parentheses: the driver, or the chip's code name."""
_NOISE = re.compile(rf"\((?:r|tm|c)\)|®|™|\((?:{_DRIVERS})\b[^)]*\)\s*$|\b(?:{_MAKERS})\b", re.IGNORECASE)


def normalize(name: str) -> str:
    """What is left of a device's name without the maker's words: 'NVIDIA GeForce RTX 4090' and 'RTX 4090' are one."""
    bare = _NOISE.sub(" ", name.replace("_", " "))
    bare = re.sub(r"(\d+)\s+gb\b", r"\1gb", bare.lower())
    bare = re.sub(r"\bmobile\b", "laptop", bare)
    return " ".join(re.sub(r"[^a-z0-9+]+", " ", bare).split())


def _unsized(name: str) -> str:
    return " ".join(re.sub(r"\b\d+gb\b", "", name).split())


@cache
def _by_name() -> tuple[dict[str, list[Hardware]], dict[str, list[Hardware]]]:
    """Devices by their normalized names, whole and without a memory size in them."""
    whole: dict[str, list[Hardware]] = {}
    unsized: dict[str, list[Hardware]] = {}
    for device in hardware():
        names = {normalize(name) for name in device.match_names}
        for table, keys in ((whole, names), (unsized, set(map(_unsized, names)))):
            for key in keys:
                table.setdefault(key, []).append(device)
    return whole, unsized


def match_first(names: Sequence[str], gpus: Sequence[dict[str, Any]]) -> Hardware | None:
    """`match` for the first of these names that it knows; memory and cores of the machine's first GPU tell variants apart."""
    facts = [(gpu.get("memory_bytes"), gpu.get("gpu_cores")) for gpu in gpus] or [(None, None)]
    return next(filter(None, (match(name, *facts[0]) for name in names)), None)


def match(device_name: str, memory_bytes: int | None = None, gpu_cores: int | None = None) -> Hardware | None:
    """The catalogue's device for what NVML, sysctl or a driver reports, or None where nothing fits for certain.
    Several entries can bear one reported name (Apple's core variants, cards sold with two sizes): `gpu_cores` decides, then
    the size nearest `memory_bytes`, then the fuller chip. The answer's `memory_bytes` is the size sold nearest to the reported."""
    target = normalize(device_name)
    whole, unsized = _by_name()
    named = whole.get(target) or unsized.get(_unsized(target))
    if not target or not named:
        return None
    if gpu_cores is not None:
        named = [d for d in named if d.gpu_cores == gpu_cores] or named

    def distance(device: Hardware) -> float:
        if memory_bytes is None:
            return 0.0
        return min(abs(option - memory_bytes) / option for option in device.memory_options_bytes)

    closest = min(map(distance, named))
    near = [d for d in named if distance(d) <= closest + 0.02]
    best = max(near, key=lambda d: (d.status == "shipping", d.gpu_cores or 0))
    if memory_bytes is None:
        return best
    return replace(best, memory_bytes=min(best.memory_options_bytes, key=lambda option: abs(option - memory_bytes)))
