"""NVIDIA's library as a whole: its module, its errors in words, the GPUs that are ours to see, their facts.

GPUs are matched with CUDA_VISIBLE_DEVICES by index or UUID; the UUID itself is never kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rigbench.telemetry.source import Missing

MENDS = {
    "LibraryNotFound": ("no NVIDIA driver", None),
    "DriverNotLoaded": ("the NVIDIA driver is installed but not loaded", "reboot, or: sudo modprobe nvidia"),
    "LibRmVersionMismatch": ("the NVIDIA driver was updated under the running kernel", "reboot"),
    "NoPermission": ("the NVIDIA driver refuses this user", "give the user access to /dev/nvidia*"),
    "GpuIsLost": ("the GPU is lost (it fell off the bus)", "look for Xid in dmesg, then reboot"),
    "NotSupported": ("this GPU or driver does not tell", None),
}
"""What an error of NVML means, by the end of its class's name (NVMLError_GpuIsLost), and what mends it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that is ours to see: NVML's handle, and the name it has in readings."""

    device: str
    handle: Any
    name: str


def reason_of(error: BaseException) -> Missing:
    """What an exception of NVML says to people. No address of the device is in it."""
    kind = type(error).__name__.removeprefix("NVMLError_")
    reason, mend = MENDS.get(kind, (f"NVML says: {error}", None))
    status = "denied" if kind == "NoPermission" else "unavailable"
    return Missing("; ".join(part for part in (reason, mend) if part), status)


def load() -> Any:
    """The module of nvidia-ml-py. ImportError with the mend where it is not there, or another package sits in its
    place."""
    try:
        import pynvml
    except ImportError:
        raise ImportError("nvidia-ml-py is not installed; pip install nvidia-ml-py") from None
    if not hasattr(pynvml, "nvmlDeviceGetFieldValues") or not hasattr(pynvml, "NVML_FI_DEV_POWER_INSTANT"):
        raise ImportError(
            "another package named pynvml hides nvidia-ml-py; "
            "pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py"
        )
    return pynvml


def visible(gpus: Sequence[tuple[Any, str]], setting: str | None) -> list[Any]:
    """Handles that CUDA_VISIBLE_DEVICES lets a program see: (handle, UUID) of all in, by index or start of the UUID.

    As CUDA does, the list ends at the first entry that names no GPU. None: all of them.
    """
    if setting is None:
        return [handle for handle, _ in gpus]
    found: list[Any] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdigit():
            named = [gpus[int(entry)][0]] if int(entry) < len(gpus) else []
        else:
            named = [handle for handle, uuid in gpus if entry.startswith(("GPU-", "MIG-")) and uuid.startswith(entry)]
        if len(named) != 1 or named[0] in found:
            break
        found += named
    return found


def opened(nvml: Any, setting: str | None) -> list[Gpu]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    seen = visible([(handle, text(nvml.nvmlDeviceGetUUID(handle))) for handle in handles], setting)
    return [Gpu(f"gpu{index}", handle, text(nvml.nvmlDeviceGetName(handle))) for index, handle in enumerate(seen)]


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def facts(nvml: Any = None, setting: str | None = None) -> tuple[tuple[dict[str, Any], ...], dict[str, str]]:
    """The GPUs' facts and the driver's versions for the fingerprint; empty where there are none. What is not told is
    None."""
    setting = setting if setting is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        nvml = nvml or load()
        nvml.nvmlInit()
        gpus = opened(nvml, setting)
    except Exception:  # ImportError, or any NVMLError: no NVIDIA GPU to speak of
        return (), {}

    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, name)(*arguments)
        except (AttributeError, nvml.NVMLError):
            return None

    def watts(name: str, handle: Any) -> float | None:
        milliwatts = ask(name, handle)
        return None if milliwatts is None else milliwatts * 1e-3

    found = []
    for gpu in gpus:
        memory = ask("nvmlDeviceGetMemoryInfo", gpu.handle, nvml.nvmlMemory_v2)
        ecc = ask("nvmlDeviceGetEccMode", gpu.handle)
        clock_mhz, bus_bits = (
            ask("nvmlDeviceGetMaxClockInfo", gpu.handle, nvml.NVML_CLOCK_MEM),
            ask("nvmlDeviceGetMemoryBusWidth", gpu.handle),
        )
        found.append(
            {
                "name": gpu.name,
                "vendor": "NVIDIA",
                "memory_bytes": None if memory is None else int(memory.total),
                "memory_reserved_bytes": None if memory is None else int(memory.reserved),
                "power_limit_w": watts("nvmlDeviceGetEnforcedPowerLimit", gpu.handle),
                "power_limit_default_w": watts("nvmlDeviceGetPowerManagementDefaultLimit", gpu.handle),
                "pcie_generation": ask("nvmlDeviceGetCurrPcieLinkGeneration", gpu.handle),
                "pcie_generation_max": ask("nvmlDeviceGetMaxPcieLinkGeneration", gpu.handle),
                "pcie_width": ask("nvmlDeviceGetCurrPcieLinkWidth", gpu.handle),
                "pcie_width_max": ask("nvmlDeviceGetMaxPcieLinkWidth", gpu.handle),
                "ecc": None if ecc is None else bool(ecc[0]),
                "memory_bus_bits": bus_bits,
                "memory_clock_max_hz": None if clock_mhz is None else clock_mhz * 1_000_000,
            }
        )
    drivers = {"nvidia": ask("nvmlSystemGetDriverVersion"), "cuda": _cuda(ask("nvmlSystemGetCudaDriverVersion"))}
    ask("nvmlShutdown")
    return tuple(found), {name: text(version) for name, version in drivers.items() if version}


def _cuda(version: int | None) -> str | None:
    """13010 -> '13.1'."""
    return None if not version else f"{version // 1000}.{version % 1000 // 10}"
