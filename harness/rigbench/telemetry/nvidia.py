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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

from rigbench.telemetry import base, host
from rigbench.telemetry.base import Metric, Missing, Reading, Source, SourceOptions
from rigbench_backends.base import Probe

FIELD_POWER_INSTANT = 186
THROTTLE_FIELDS = {
    base.THROTTLED_POWER: 74,
    base.THROTTLED_SW_THERMAL: 269,
    base.THROTTLED_HW_THERMAL: 270,
    base.THROTTLED_HW_BRAKE: 271,
}
"""Nanoseconds that clocks were held down: by the power limit, by the driver for heat, by the chip for heat, by the
supply."""
SUCCESS = 0


FIXES = {
    "LibraryNotFound": ("no NVIDIA driver", None),
    "DriverNotLoaded": ("the NVIDIA driver is installed but not loaded", "reboot, or: sudo modprobe nvidia"),
    "LibRmVersionMismatch": ("the NVIDIA driver was updated under the running kernel", "reboot"),
    "NoPermission": ("the NVIDIA driver refuses this user", "give the user access to /dev/nvidia*"),
    "GpuIsLost": ("the GPU is lost (it fell off the bus)", "look for Xid in dmesg, then reboot"),
    "NotSupported": ("this GPU or driver does not tell", None),
}
"""What an error of NVML means, by the end of its class's name (NVMLError_GpuIsLost), and what fixes it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that is ours to see: NVML's handle, and the name it has in readings."""

    device: str
    handle: Any
    name: str


class NvmlSource(Source):
    """The GPUs of this machine."""

    name = "nvml"
    platforms = ("linux", "win32")

    def __init__(self, nvml: Any, gpus: Sequence[Gpu], driver: str | None) -> None:
        self._nvml = nvml
        self._gpus = {gpu.device: gpu for gpu in gpus}
        self._driver = driver
        self._pid: int | None = None
        self._readers: dict[str, Callable[[Gpu], Reading]] = {
            base.ENERGY.name: lambda gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle) * 1e-3,
            base.MEMORY_USED.name: lambda gpu: (
                nvml.nvmlDeviceGetMemoryInfo(gpu.handle, version=nvml.nvmlMemory_v2).used
            ),
            base.CLOCK.name: lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu.handle, nvml.NVML_CLOCK_SM) * 1e6,
            base.MEMORY_CLOCK.name: lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu.handle, nvml.NVML_CLOCK_MEM) * 1e6,
            base.TEMPERATURE.name: self._temperature,
            base.CLOCKS_EVENT_REASONS.name: lambda gpu: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu.handle),
            base.MEMORY_USED_PROCESS.name: lambda gpu: self._process_memory(gpu, ours=True),
            base.MEMORY_USED_FOREIGN.name: lambda gpu: self._process_memory(gpu, ours=False),
        }
        self.metrics = tuple(metric for gpu in gpus for metric in self._metrics(gpu))

    @classmethod
    def open(cls, options: SourceOptions, nvml: Any = None, setting: str | None = None) -> Source:
        """`nvml` is the module, for tests; `setting` what CUDA_VISIBLE_DEVICES is taken to be."""
        try:
            nvml = nvml or load()
        except ImportError as error:
            return cls.absent(str(error))
        try:
            nvml.nvmlInit()
            gpus = opened(nvml, setting)
            driver = text(nvml.nvmlSystemGetDriverVersion())
        except nvml.NVMLError as error:
            found = reason_of(error)
            return cls.absent(found.reason, status=found.status)
        if not gpus:
            limited = setting is not None or "CUDA_VISIBLE_DEVICES" in os.environ
            return cls.absent(f"no NVIDIA GPU{' that CUDA_VISIBLE_DEVICES lets be seen' if limited else ''}")
        return cls(nvml, gpus, driver)

    @classmethod
    def gpus(cls, nvml: Any = None, setting: str | None = None) -> tuple[dict[str, Any], ...]:
        with _asking(nvml) as ask:
            return tuple(_facts(ask, gpu) for gpu in ask.gpus(setting)) if ask else ()

    @classmethod
    def drivers(cls, nvml: Any = None) -> dict[str, str]:
        """The driver, and the newest CUDA that it knows: 13010 is 13.1."""
        with _asking(nvml) as ask:
            if not ask:
                return {}
            driver, cuda = ask("nvmlSystemGetDriverVersion"), ask("nvmlSystemGetCudaDriverVersion")
        versions = {"nvidia": driver and text(driver), "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}"}
        return {name: version for name, version in versions.items() if version}

    def probe(self) -> Probe:
        return Probe(True, self._driver, devices=tuple(gpu.name for gpu in self._gpus.values()))

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        fields: dict[str, dict[int, Reading]] = {}
        for device in {metric.device or "" for metric in metrics}:
            wanted = [_field(metric) for metric in metrics if metric.device == device]
            fields[device] = self._fields(self._gpus[device], [each for each in wanted if each is not None])
        found = []
        for metric in metrics:
            field = _field(metric)
            gpu = self._gpus[metric.device or ""]
            found.append(fields[gpu.device][field] if field is not None else self._one(metric, gpu))
        return found

    def watch(self, pid: int | None) -> None:
        self._pid = pid

    def close(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _metrics(self, gpu: Gpu) -> list[Metric]:
        """What this GPU can tell, found out by asking once. What it cannot is kept with the reason."""

        def metric(quantity: base.Quantity, api: str, method: str, period_s: float | None) -> Metric:
            return Metric(*quantity, api, "board", method, period_s, gpu.device)

        power = metric(base.POWER, "nvmlDeviceGetFieldValues POWER_INSTANT", "sampled", base.POWER_PERIOD_S)
        if isinstance(self._try(power, gpu), Missing):
            power = replace(
                power,
                api="nvmlDeviceGetPowerUsage",
                status="low_confidence",
                reason="a mean over about the last second",
            )
        throttle = [
            metric(quantity, f"nvmlDeviceGetFieldValues {field}", "counter", base.STATE_PERIOD_S)
            for quantity, field in THROTTLE_FIELDS.items()
        ]
        if all(isinstance(self._try(each, gpu), Missing) for each in throttle):
            api = "nvmlDeviceGetCurrentClocksEventReasons"
            throttle = [metric(base.CLOCKS_EVENT_REASONS, api, "sampled", base.STATE_PERIOD_S)]
        candidates = [
            power,
            metric(base.ENERGY, "nvmlDeviceGetTotalEnergyConsumption", "counter", None),
            metric(base.MEMORY_USED, "nvmlDeviceGetMemoryInfo v2", "sampled", base.STATE_PERIOD_S),
            metric(base.CLOCK, "nvmlDeviceGetClockInfo SM", "sampled", base.STATE_PERIOD_S),
            metric(base.MEMORY_CLOCK, "nvmlDeviceGetClockInfo MEM", "sampled", base.STATE_PERIOD_S),
            metric(base.TEMPERATURE, "nvmlDeviceGetTemperatureV", "sampled", base.STATE_PERIOD_S),
            *throttle,
            metric(base.MEMORY_USED_PROCESS, "nvmlDeviceGetComputeRunningProcesses_v3", "sampled", None),
            metric(base.MEMORY_USED_FOREIGN, "nvmlDeviceGetComputeRunningProcesses_v3", "sampled", None),
        ]
        metrics = []
        for each in candidates:
            answer = self._try(each, gpu)
            of_processes = each.name in (
                base.MEMORY_USED_PROCESS.name,
                base.MEMORY_USED_FOREIGN.name,
            )  # there may be none now
            if isinstance(answer, Missing) and not of_processes:
                each = replace(each, status=answer.status, reason=answer.reason)
            metrics.append(each)
        return metrics

    def _try(self, metric: Metric, gpu: Gpu) -> Reading:
        field = _field(metric)
        return self._one(metric, gpu) if field is None else self._fields(gpu, [field])[field]

    def _one(self, metric: Metric, gpu: Gpu) -> Reading:
        try:
            if metric.api == "nvmlDeviceGetPowerUsage":
                return float(self._nvml.nvmlDeviceGetPowerUsage(gpu.handle) * 1e-3)
            return self._readers[metric.name](gpu)
        except self._nvml.NVMLError as error:
            return reason_of(error)

    def _fields(self, gpu: Gpu, ids: Sequence[int]) -> dict[int, Reading]:
        """Field values in W and s. The call succeeds if any field did, so each has its own return code."""
        if not ids:
            return {}
        nvml = self._nvml
        scope = nvml.NVML_POWER_SCOPE_GPU
        asked = [(each, scope) if each == FIELD_POWER_INSTANT else each for each in ids]
        try:
            answers = nvml.nvmlDeviceGetFieldValues(gpu.handle, asked)
        except nvml.NVMLError as error:
            return dict.fromkeys(ids, reason_of(error))
        found: dict[int, Reading] = {}
        for each, answer in zip(ids, answers, strict=True):
            if answer.nvmlReturn != SUCCESS:
                found[each] = reason_of(nvml.NVMLError(answer.nvmlReturn))
            elif each == FIELD_POWER_INSTANT:
                found[each] = answer.value.uiVal * 1e-3
            else:
                found[each] = answer.value.ullVal * 1e-9
        return found

    def _temperature(self, gpu: Gpu) -> Reading:
        nvml = self._nvml
        try:
            return float(nvml.nvmlDeviceGetTemperatureV(gpu.handle, nvml.NVML_TEMPERATURE_GPU))
        except (AttributeError, nvml.NVMLError):  # drivers before 570 know the old call alone
            return float(nvml.nvmlDeviceGetTemperature(gpu.handle, nvml.NVML_TEMPERATURE_GPU))

    def _process_memory(self, gpu: Gpu, ours: bool) -> Reading:
        """Memory that the worker's process tree, or everyone else, holds on the GPU."""
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu.handle)
        if any(process.usedGpuMemory is None for process in running):
            return Missing("the driver does not tell memory by process (Windows' display driver model)")
        if running and not any(psutil.pid_exists(process.pid) for process in running):
            return Missing("the driver tells the process ids of the host, and this is a container")
        if ours and self._pid is None:
            return host.NO_WORKER
        tree = set() if self._pid is None else set(host.tree_pids(self._pid)) | {self._pid}
        return float(sum(process.usedGpuMemory for process in running if (process.pid in tree) == ours))


def _field(metric: Metric) -> int | None:
    """The field to ask for, where a metric is had by one."""
    if metric.name == base.POWER.name:
        return FIELD_POWER_INSTANT if "POWER_INSTANT" in metric.api else None
    return THROTTLE_FIELDS.get(base.Quantity(metric.name, metric.unit))


def reason_of(error: BaseException) -> Missing:
    """What an exception of NVML says to people. No address of the device is in it."""
    kind = type(error).__name__.removeprefix("NVMLError_")
    reason, fix = FIXES.get(kind, (f"NVML says: {error}", None))
    status = "denied" if kind == "NoPermission" else "unavailable"
    return Missing("; ".join(part for part in (reason, fix) if part), status)


def load() -> Any:
    """The module of nvidia-ml-py. ImportError with the fix where it is not there, or another package sits in its
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
    """The GPUs that are ours to see; `setting` None: by the environment."""
    setting = setting if setting is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    seen = visible([(handle, text(nvml.nvmlDeviceGetUUID(handle))) for handle in handles], setting)
    return [Gpu(f"gpu{index}", handle, text(nvml.nvmlDeviceGetName(handle))) for index, handle in enumerate(seen)]


def text(value: str | bytes) -> str:
    """Older versions of nvidia-ml-py answer in bytes."""
    return value.decode() if isinstance(value, bytes) else value


class _Ask:
    """Calls of NVML whose answer is None where the GPU or the driver has none."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml

    def __call__(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.nvml, name)(*arguments)
        except (AttributeError, self.nvml.NVMLError):
            return None

    def gpus(self, setting: str | None) -> list[Gpu]:
        try:
            return opened(self.nvml, setting)
        except self.nvml.NVMLError:
            return []


@contextlib.contextmanager
def _asking(nvml: Any) -> Iterator[_Ask | None]:
    """The library while it is open; None where there is no NVIDIA GPU to speak of."""
    try:
        nvml = nvml or load()
        nvml.nvmlInit()
    except Exception:  # ImportError, or any NVMLError
        yield None
        return
    ask = _Ask(nvml)
    try:
        yield ask
    finally:
        ask("nvmlShutdown")


def _facts(ask: _Ask, gpu: Gpu) -> dict[str, Any]:
    """What decides a GPU's speed; None where it is not known."""
    nvml, handle = ask.nvml, gpu.handle
    memory = ask("nvmlDeviceGetMemoryInfo", handle, nvml.nvmlMemory_v2)
    ecc = ask("nvmlDeviceGetEccMode", handle)
    limit_mw = ask("nvmlDeviceGetEnforcedPowerLimit", handle)
    default_limit_mw = ask("nvmlDeviceGetPowerManagementDefaultLimit", handle)
    clock_mhz = ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM)
    return {
        "name": gpu.name,
        "vendor": "NVIDIA",
        "memory_bytes": None if memory is None else int(memory.total),
        "memory_reserved_bytes": None if memory is None else int(memory.reserved),
        "power_limit_w": None if limit_mw is None else limit_mw * 1e-3,
        "power_limit_default_w": None if default_limit_mw is None else default_limit_mw * 1e-3,
        "pcie_generation": ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
        "pcie_generation_max": ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        "pcie_width": ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
        "pcie_width_max": ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        "ecc": None if ecc is None else bool(ecc[0]),
        "memory_bus_bits": ask("nvmlDeviceGetMemoryBusWidth", handle),
        "memory_clock_max_hz": None if clock_mhz is None else clock_mhz * 1_000_000,
    }
