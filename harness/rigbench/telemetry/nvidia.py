"""NVIDIA GPUs through nvidia-ml-py (`import pynvml`).

Power is the instant one (field NVML_FI_DEV_POWER_INSTANT, milliwatts): `nvmlDeviceGetPowerUsage` is a mean over the
last second on most cards since Ampere, and stands in only where the field is not known, as low_confidence. The energy
counter (millijoules since the driver was loaded) is read at the edges of windows only: on consumer cards it is
reported to lose energy when polled. Throttling comes as the driver's own counters of time spent slowed down, a
sampled mask where a driver has none of those. GPUs are matched with CUDA_VISIBLE_DEVICES by index or UUID; the UUID
itself is never kept.

    nvidia-smi --query-gpu=power.draw.instant,enforced.power.limit --format=csv
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psutil

from rigbench.telemetry import base, host
from rigbench.telemetry.base import Metric, Missing, Reading, Source, SourceOptions

STATE_S = base.STATE_PERIOD_S
POWER = Metric(*base.POWER, "nvmlDeviceGetFieldValues POWER_INSTANT", "board", "sampled", base.POWER_PERIOD_S)
MEAN_POWER = replace(
    POWER, api="nvmlDeviceGetPowerUsage", status="low_confidence", reason="a mean over about the last second"
)
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
METRICS = (
    Metric(*base.ENERGY, "nvmlDeviceGetTotalEnergyConsumption", "board", "counter", None),
    Metric(*base.MEMORY_USED, "nvmlDeviceGetMemoryInfo v2", "board", "sampled", STATE_S),
    Metric(*base.CLOCK, "nvmlDeviceGetClockInfo SM", "board", "sampled", STATE_S),
    Metric(*base.MEMORY_CLOCK, "nvmlDeviceGetClockInfo MEM", "board", "sampled", STATE_S),
    Metric(*base.TEMPERATURE, "nvmlDeviceGetTemperatureV", "board", "sampled", STATE_S),
    Metric(*base.MEMORY_USED_PROCESS, PROCESSES, "board", "sampled", None),
    Metric(*base.MEMORY_USED_FOREIGN, PROCESSES, "board", "sampled", None),
)
"""Beside power and throttling, which not every driver tells in the same way. `api` is the function to call."""
THROTTLED = tuple(
    Metric(*quantity, f"nvmlDeviceGetFieldValues {field}", "board", "counter", STATE_S)
    for quantity, field in (
        (base.THROTTLED_POWER, 74),
        (base.THROTTLED_SW_THERMAL, 269),
        (base.THROTTLED_HW_THERMAL, 270),
        (base.THROTTLED_HW_BRAKE, 271),
    )
)
"""Nanoseconds that clocks were held down: by the power limit, by the driver or the chip for heat, by the supply."""
MASK = Metric(*base.CLOCKS_EVENT_REASONS, "nvmlDeviceGetCurrentClocksEventReasons", "board", "sampled", STATE_S)
FIELD_POWER_INSTANT = 186
FIXES = {
    "LibraryNotFound": "no NVIDIA driver",
    "DriverNotLoaded": "the NVIDIA driver is installed but not loaded; reboot, or: sudo modprobe nvidia",
    "LibRmVersionMismatch": "the NVIDIA driver was updated under the running kernel; reboot",
    "NoPermission": "the NVIDIA driver refuses this user; give the user access to /dev/nvidia*",
    "GpuIsLost": "the GPU is lost (it fell off the bus); look for Xid in dmesg, then reboot",
    "NotSupported": "this GPU or driver does not tell",
}
"""What an error of NVML means, by the end of its class's name (NVMLError_GpuIsLost), and what fixes it."""


class NvmlSource(Source):
    """The GPUs of this machine."""

    name = "nvml"
    platforms = ("linux", "win32")

    def __init__(self, nvml: Any, handles: Sequence[Any]) -> None:
        self._nvml = nvml
        self._handles = {f"gpu{index}": handle for index, handle in enumerate(handles)}
        self.version = text(nvml.nvmlSystemGetDriverVersion())
        self.devices = tuple(text(nvml.nvmlDeviceGetName(handle)) for handle in handles)
        self.metrics = tuple(metric for device in self._handles for metric in self._known(device))

    @classmethod
    def open(cls, options: SourceOptions, nvml: Any = None, setting: str | None = None) -> Source:
        """`nvml` is the module, for tests; `setting` what CUDA_VISIBLE_DEVICES is taken to be."""
        try:
            nvml = nvml or load()
        except ImportError as error:
            return cls.absent(str(error))
        try:
            nvml.nvmlInit()
            if handles := opened(nvml, setting):
                return cls(nvml, handles)
        except nvml.NVMLError as error:
            missing = reason_of(error)
            return cls.absent(missing.reason, status=missing.status)
        limited = setting is not None or "CUDA_VISIBLE_DEVICES" in os.environ
        return cls.absent(f"no NVIDIA GPU{' that CUDA_VISIBLE_DEVICES lets be seen' if limited else ''}")

    @classmethod
    def gpus(cls, nvml: Any = None, setting: str | None = None) -> tuple[dict[str, Any], ...]:
        with _library(nvml) as library:
            return tuple(_facts(library, handle) for handle in opened(library, setting)) if library else ()
        return ()

    @classmethod
    def drivers(cls, nvml: Any = None) -> dict[str, str]:
        """The driver, and the newest CUDA that it knows: 13010 is 13.1."""
        with _library(nvml) as library:
            driver = library and ask(library, "nvmlSystemGetDriverVersion")
            cuda = library and ask(library, "nvmlSystemGetCudaDriverVersion")
        versions = {"nvidia": driver and text(driver), "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}"}
        return {name: version for name, version in versions.items() if version}

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        return [self._reading(metric) for metric in metrics]

    def close(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _known(self, device: str) -> Iterator[Metric]:
        """What this GPU can tell, found out by asking once. What it cannot is kept with the reason."""

        def asked(metric: Metric) -> Metric:
            metric = replace(metric, device=device)
            # of processes there may be none now
            return metric if metric.api == PROCESSES else metric.asked(self._reading(metric))

        power = asked(POWER)
        if not power.readable:
            power = asked(MEAN_POWER)
        throttled = [asked(metric) for metric in THROTTLED]
        if not any(metric.readable for metric in throttled):
            throttled = [asked(MASK)]
        yield from (power, *map(asked, METRICS), *throttled)

    def _reading(self, metric: Metric) -> Reading:
        nvml, handle = self._nvml, self._handles[str(metric.device)]
        function, _, what = metric.api.partition(" ")
        try:
            if function == "nvmlDeviceGetFieldValues":
                return self._field(handle, FIELD_POWER_INSTANT if what == "POWER_INSTANT" else int(what))
            if function == PROCESSES:
                return self._process_memory(handle, ours=metric.name == base.MEMORY_USED_PROCESS.name)
            if function == "nvmlDeviceGetMemoryInfo":
                return float(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2).used)
            if function == "nvmlDeviceGetClockInfo":
                return float(nvml.nvmlDeviceGetClockInfo(handle, getattr(nvml, f"NVML_CLOCK_{what}")) * 1e6)
            if function == "nvmlDeviceGetTemperatureV":
                return self._temperature(handle)
            scale = 1e-3 if metric.unit in (base.POWER.unit, base.ENERGY.unit) else 1  # both come in thousandths
            return float(getattr(nvml, function)(handle) * scale)
        except nvml.NVMLError as error:
            return reason_of(error)

    def _field(self, handle: Any, number: int) -> Reading:
        """A field's value in W or s. The call itself succeeds; each field has its own return code."""
        asked = (number, self._nvml.NVML_POWER_SCOPE_GPU) if number == FIELD_POWER_INSTANT else number
        (answer,) = self._nvml.nvmlDeviceGetFieldValues(handle, [asked])
        if answer.nvmlReturn:
            raise self._nvml.NVMLError(answer.nvmlReturn)
        return float(answer.value.uiVal * 1e-3 if number == FIELD_POWER_INSTANT else answer.value.ullVal * 1e-9)

    def _temperature(self, handle: Any) -> Reading:
        nvml = self._nvml
        try:
            return float(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))
        except (AttributeError, nvml.NVMLError):  # drivers before 570 know the old call alone
            return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))

    def _process_memory(self, handle: Any, ours: bool) -> Reading:
        """Memory that the worker's process tree, or everyone else, holds on the GPU."""
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
        if any(process.usedGpuMemory is None for process in running):
            return Missing("the driver does not tell memory by process (Windows' display driver model)")
        if running and not any(psutil.pid_exists(process.pid) for process in running):
            return Missing("the driver tells the process ids of the host, and this is a container")
        if ours and self.pid is None:
            return host.NO_WORKER
        tree = () if self.pid is None else host.tree_pids(self.pid)
        return float(sum(process.usedGpuMemory for process in running if (process.pid in tree) == ours))


def reason_of(error: BaseException) -> Missing:
    """What an exception of NVML says to people. No address of the device is in it."""
    kind = type(error).__name__.removeprefix("NVMLError_")
    return Missing(FIXES.get(kind, f"NVML says: {error}"), "denied" if kind == "NoPermission" else "unavailable")


def load() -> Any:
    """The module of nvidia-ml-py. ImportError with the fix where it is not there, or another package is in its place."""
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
    handles: list[Any] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdigit():
            named = [gpus[int(entry)][0]] if int(entry) < len(gpus) else []
        else:
            named = [handle for handle, uuid in gpus if entry.startswith(("GPU-", "MIG-")) and uuid.startswith(entry)]
        if len(named) != 1 or named[0] in handles:
            break
        handles += named
    return handles


def opened(nvml: Any, setting: str | None) -> list[Any]:
    """Handles of the GPUs that are ours to see; `setting` None: by the environment."""
    setting = setting if setting is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return visible([(handle, text(nvml.nvmlDeviceGetUUID(handle))) for handle in handles], setting)


def text(value: str | bytes) -> str:
    """Older versions of nvidia-ml-py answer in bytes."""
    return value.decode() if isinstance(value, bytes) else value


def ask(nvml: Any, name: str, *arguments: Any) -> Any:
    """What a function of NVML answers; None where the GPU or the driver has no answer."""
    try:
        return getattr(nvml, name)(*arguments)
    except (AttributeError, nvml.NVMLError):
        return None


@contextlib.contextmanager
def _library(nvml: Any) -> Iterator[Any]:
    """The module while the library is open; None where there is no NVIDIA driver to speak of. A GPU that is lost ends the block."""
    try:
        nvml = nvml or load()
        nvml.nvmlInit()
    except Exception:  # ImportError, or any NVMLError
        yield None
        return
    with contextlib.suppress(nvml.NVMLError):
        yield nvml
    ask(nvml, "nvmlShutdown")


def _facts(nvml: Any, handle: Any) -> dict[str, Any]:
    """What decides a GPU's speed; None where it is not known."""

    def fact(name: str, *arguments: Any, scale: float = 1) -> Any:
        value = ask(nvml, name, handle, *arguments)
        return None if value is None else value * scale

    memory = ask(nvml, "nvmlDeviceGetMemoryInfo", handle, nvml.nvmlMemory_v2)
    ecc = ask(nvml, "nvmlDeviceGetEccMode", handle)
    return {
        "name": text(nvml.nvmlDeviceGetName(handle)),
        "vendor": "NVIDIA",
        "memory_bytes": None if memory is None else int(memory.total),
        "memory_reserved_bytes": None if memory is None else int(memory.reserved),
        "power_limit_w": fact("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
        "power_limit_default_w": fact("nvmlDeviceGetPowerManagementDefaultLimit", scale=1e-3),
        "pcie_generation": fact("nvmlDeviceGetCurrPcieLinkGeneration"),
        "pcie_generation_max": fact("nvmlDeviceGetMaxPcieLinkGeneration"),
        "pcie_width": fact("nvmlDeviceGetCurrPcieLinkWidth"),
        "pcie_width_max": fact("nvmlDeviceGetMaxPcieLinkWidth"),
        "ecc": None if ecc is None else bool(ecc[0]),
        "memory_bus_bits": fact("nvmlDeviceGetMemoryBusWidth"),
        "memory_clock_max_hz": fact("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM, scale=1_000_000),
    }
