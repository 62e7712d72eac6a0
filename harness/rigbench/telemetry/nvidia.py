"""NVIDIA GPUs through nvidia-ml-py (`import pynvml`).

Power is the instant one (field NVML_FI_DEV_POWER_INSTANT, milliwatts): `nvmlDeviceGetPowerUsage` is a mean over the
last second on most cards since Ampere, and stands in only where the field is not known or 0, as low_confidence. The energy
counter (millijoules since the driver was loaded) is read at the edges of windows only: on consumer cards it is
reported to lose energy when polled. Throttling comes as the driver's own counters of time spent slowed down, beside them a
sampled mask where a driver lacks one of those of heat (before 575 it has that of power alone).

Every card of the machine is read, each under its number here (`gpu0` ...) and its PCI address, whatever CUDA_VISIBLE_DEVICES says:
CUDA counts otherwise, and Vulkan knows no such variable. Which of them an engine uses, its own address tells. No UUID is ever kept.

    nvidia-smi --query-gpu=power.draw.instant,enforced.power.limit --format=csv
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psutil

from rigbench.telemetry import base, host
from rigbench.telemetry.base import Metric, Missing, Reading, Source, SourceOptions
from rigbench_backends.base import bus_id

STATE_S = base.STATE_PERIOD_S
FIELDS = "nvmlDeviceGetFieldValues"
INSTANT = Metric(*base.POWER, f"{FIELDS} POWER_INSTANT", "board", "sampled", base.POWER_PERIOD_S, published_s=0.1)
POWER = (
    INSTANT,
    replace(INSTANT, api=f"{FIELDS} POWER_INSTANT MODULE", scope="package"),
    replace(
        INSTANT, api="nvmlDeviceGetPowerUsage", status="low_confidence", reason="a mean over about the last second"
    ),
)
"""The first that tells. Of Grace Hopper only the module's power may be known, which holds the processor as well."""
PROCESSES, DRAWING = "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"
"""The second has those that use Vulkan, and a desktop's. One that does both is in both, with all that it holds."""
MEMORY = (
    Metric(*base.MEMORY_USED, "nvmlDeviceGetMemoryInfo v2", "board", "sampled", STATE_S),
    Metric(
        *(*base.MEMORY_USED, "nvmlDeviceGetMemoryInfo v1", "board", "sampled", STATE_S, None, "low_confidence"),
        reason="what the driver keeps for itself is included",
    ),
)
"""Drivers before 510 know the second alone."""
METRICS = (
    Metric(*base.ENERGY, "nvmlDeviceGetTotalEnergyConsumption", "board", "counter", None),
    Metric(*base.CLOCK, "nvmlDeviceGetClockInfo SM", "board", "sampled", STATE_S),
    Metric(*base.MEMORY_CLOCK, "nvmlDeviceGetClockInfo MEM", "board", "sampled", STATE_S),
    Metric(*base.TEMPERATURE, "nvmlDeviceGetTemperatureV", "board", "sampled", STATE_S),
    Metric(*base.MEMORY_USED_PROCESS, PROCESSES, "board", "sampled", None),
    Metric(*base.MEMORY_USED_FOREIGN, PROCESSES, "board", "sampled", None),
)
"""What every driver tells in the same way. `api` is the function to call."""
THROTTLED = tuple(
    Metric(*quantity, f"{FIELDS} {field}", "board", "counter", STATE_S)
    for quantity, field in (
        (base.THROTTLED_POWER, 74),
        (base.THROTTLED_SW_THERMAL, 269),
        (base.THROTTLED_HW_THERMAL, 270),
        (base.THROTTLED_HW_BRAKE, 271),
    )
)
"""Nanoseconds that clocks were held down: by the power limit, by the driver or the chip for heat, by the supply."""
MASK = tuple(
    Metric(*base.CLOCKS_EVENT_REASONS, f"nvmlDeviceGetCurrentClocks{word}Reasons", "board", "sampled", STATE_S)
    for word in ("Event", "Throttle")
)
"""Drivers before 535 have the second name."""
FIELD_POWER_INSTANT = 186
MIG = "of the whole card, of which the engine has a slice (MIG)"
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

    def __init__(self, nvml: Any, handles: Mapping[str, Any]) -> None:
        self._nvml = nvml
        self.handles = handles
        self.version = text(nvml.nvmlSystemGetDriverVersion())
        self.devices = tuple(text(nvml.nvmlDeviceGetName(handle)) for handle in handles.values())
        self.metrics = tuple(metric for device in handles for metric in self._known(device))

    @classmethod
    def open(cls, options: SourceOptions, nvml: Any = None) -> Source:
        """`nvml` is the module, for tests."""
        try:
            nvml = nvml or load()
        except ImportError as error:
            return cls.absent(str(error))
        try:
            nvml.nvmlInit()
            handles, lost = opened(nvml)
            if handles:
                return cls(nvml, handles)
        except nvml.NVMLError as error:
            lost = reason_of(error)
        ask(nvml, "nvmlShutdown")
        return cls.absent(lost.reason, status=lost.status) if lost else cls.absent("no NVIDIA GPU")

    @classmethod
    def gpus(cls, nvml: Any = None) -> tuple[dict[str, Any], ...]:
        with _library(nvml) as library:
            handles = opened(library)[0] if library else {}
            return tuple(_facts(library, handle) | {"device": device} for device, handle in handles.items())
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

        def checked(metric: Metric) -> Metric:
            metric = replace(metric, device=device)
            # of processes there may be none now
            return metric if metric.api == PROCESSES else metric.of_reading(self._reading(metric))

        def first(candidates: Sequence[Metric]) -> Metric:
            each = [checked(metric) for metric in candidates]
            return next((metric for metric in each if metric.readable), each[0])

        sliced = (ask(self._nvml, "nvmlDeviceGetMigMode", self.handles[device]) or (0,))[0] == 1
        for metric in (first(POWER), first(MEMORY), *map(checked, METRICS)):
            yield replace(metric, status="low_confidence", reason=MIG) if sliced and metric.readable else metric
        throttled = [checked(metric) for metric in THROTTLED]
        yield from throttled
        if not all(metric.readable for metric in throttled):
            yield first(MASK)

    def _reading(self, metric: Metric) -> Reading:
        nvml, handle = self._nvml, self.handles[str(metric.device)]
        function, _, what = metric.api.partition(" ")
        try:
            if function == FIELDS:
                return self._power(handle, what) if metric.unit == base.POWER.unit else self._field_s(handle, int(what))
            if function == PROCESSES:
                return self._process_memory(handle, ours=metric.name == base.MEMORY_USED_PROCESS.name)
            if function == "nvmlDeviceGetMemoryInfo":
                return float(nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2 if what == "v2" else None).used)
            if function == "nvmlDeviceGetClockInfo":
                return float(nvml.nvmlDeviceGetClockInfo(handle, getattr(nvml, f"NVML_CLOCK_{what}")) * 1e6)
            if function == "nvmlDeviceGetTemperatureV":
                return self._temperature(handle)
            scale = 1e-3 if metric.unit in (base.POWER.unit, base.ENERGY.unit) else 1  # both come in thousandths
            return float(getattr(nvml, function)(handle) * scale)
        except nvml.NVMLError as error:
            return reason_of(error)

    def _field(self, handle: Any, field_id: Any) -> Any:
        """A field's value. The call itself succeeds; each field has its own return code."""
        (answer,) = self._nvml.nvmlDeviceGetFieldValues(handle, [field_id])
        if answer.nvmlReturn:
            raise self._nvml.NVMLError(answer.nvmlReturn)
        return answer.value

    def _power(self, handle: Any, what: str) -> Reading:
        """Watts; some drivers answer 0 where they do not know."""
        scope = self._nvml.NVML_POWER_SCOPE_MODULE if what.endswith("MODULE") else self._nvml.NVML_POWER_SCOPE_GPU
        watts = self._field(handle, (FIELD_POWER_INSTANT, scope)).uiVal * 1e-3
        return watts or Missing("the driver answers 0 W: it does not know")

    def _field_s(self, handle: Any, number: int) -> Reading:
        return float(self._field(handle, number).ullVal * 1e-9)

    def _temperature(self, handle: Any) -> Reading:
        nvml = self._nvml
        try:
            return float(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))
        except (AttributeError, nvml.NVMLError):  # drivers before 570 know the old call alone
            return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))

    def _process_memory(self, handle: Any, ours: bool) -> Reading:
        """Memory that the worker's process tree, or everyone else, holds on the GPU. Others that draw (a desktop) are passed
        over: every workstation has some."""
        running = {process.pid: process.usedGpuMemory for process in getattr(self._nvml, PROCESSES)(handle)}
        drawing = ask(self._nvml, DRAWING, handle) or ()
        tree = () if self.pid is None else host.tree_pids(self.pid)
        running |= {process.pid: process.usedGpuMemory for process in drawing if process.pid in tree}
        if None in running.values():
            return Missing("the driver does not tell memory by process (Windows' display driver model)")
        if running and not any(map(psutil.pid_exists, running)):
            return Missing("the driver tells the process ids of the host, and this is a container")
        if ours and self.pid is None:
            return host.NO_WORKER
        if ours and not any(pid in tree for pid in running):
            return Missing("the driver lists none of the engine's processes on this card")
        return float(sum(used for pid, used in running.items() if (pid in tree) == ours))


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


def opened(nvml: Any) -> tuple[dict[str, Any], Missing | None]:
    """Handles by `gpu0`, `gpu1` ... in the order of the bus, and why one of them cannot be opened, if so: it does not take the
    others with it."""
    handles, lost = {}, None
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            nvml.nvmlDeviceGetName(handle)
            handles[f"gpu{index}"] = handle
        except nvml.NVMLError as error:
            lost = reason_of(error)
    return handles, lost


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
    older = memory or ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    pci = ask(nvml, "nvmlDeviceGetPciInfo", handle)
    ecc = ask(nvml, "nvmlDeviceGetEccMode", handle)
    return {
        "name": text(nvml.nvmlDeviceGetName(handle)),
        "vendor": "NVIDIA",
        "bus_id": None if pci is None else bus_id(text(pci.busId)),
        # It is the host's that NVML cannot tell, of GB10 and Jetson.
        "integrated": older is None,
        "memory_bytes": None if older is None else int(older.total),
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
