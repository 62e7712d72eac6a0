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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rigbench.telemetry import host
from rigbench.telemetry.nvml_library import Gpu, load, opened, reason_of, text
from rigbench.telemetry.source import POWER_PERIOD_S, STATE_PERIOD_S, Absent, Metric, Missing, Reading, Source
from rigbench_backends.base import Probe

FIELD_POWER_INSTANT = 186
THROTTLE_FIELDS = {
    "throttled_power": 74,
    "throttled_sw_thermal": 269,
    "throttled_hw_thermal": 270,
    "throttled_hw_brake": 271,
}
"""Nanoseconds that clocks were held down: by the power limit, by the driver for heat, by the chip for heat, by the
supply."""
SUCCESS = 0


class NvmlSource:
    """The GPUs of this machine."""

    name = "nvml"

    def __init__(self, nvml: Any, gpus: Sequence[Gpu], driver: str | None) -> None:
        self._nvml = nvml
        self._gpus = {gpu.device: gpu for gpu in gpus}
        self._driver = driver
        self._pid: int | None = None
        self._readers: dict[str, Callable[[Gpu], Reading]] = {
            "energy": lambda gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle) * 1e-3,
            "memory_used": lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu.handle, version=nvml.nvmlMemory_v2).used,
            "clock": lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu.handle, nvml.NVML_CLOCK_SM) * 1e6,
            "memory_clock": lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu.handle, nvml.NVML_CLOCK_MEM) * 1e6,
            "temperature": self._temperature,
            "clocks_event_reasons": lambda gpu: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu.handle),
            "memory_used_process": lambda gpu: self._process_memory(gpu, ours=True),
            "memory_used_foreign": lambda gpu: self._process_memory(gpu, ours=False),
        }
        self.metrics = tuple(metric for gpu in gpus for metric in self._metrics(gpu))

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

        def metric(name: str, unit: str, api: str, method: str, period_s: float | None) -> Metric:
            return Metric(name, unit, api, "board", method, period_s, gpu.device)

        power = metric("power", "W", "nvmlDeviceGetFieldValues POWER_INSTANT", "sampled", POWER_PERIOD_S)
        if isinstance(self._try(power, gpu), Missing):
            power = replace(
                power,
                api="nvmlDeviceGetPowerUsage",
                status="low_confidence",
                reason="a mean over about the last second",
            )
        throttle = [
            metric(name, "s", f"nvmlDeviceGetFieldValues {field}", "counter", STATE_PERIOD_S)
            for name, field in THROTTLE_FIELDS.items()
        ]
        if all(isinstance(self._try(each, gpu), Missing) for each in throttle):
            api = "nvmlDeviceGetCurrentClocksEventReasons"
            throttle = [metric("clocks_event_reasons", "mask", api, "sampled", STATE_PERIOD_S)]
        candidates = [
            power,
            metric("energy", "J", "nvmlDeviceGetTotalEnergyConsumption", "counter", None),
            metric("memory_used", "B", "nvmlDeviceGetMemoryInfo v2", "sampled", STATE_PERIOD_S),
            metric("clock", "Hz", "nvmlDeviceGetClockInfo SM", "sampled", STATE_PERIOD_S),
            metric("memory_clock", "Hz", "nvmlDeviceGetClockInfo MEM", "sampled", STATE_PERIOD_S),
            metric("temperature", "degC", "nvmlDeviceGetTemperatureV", "sampled", STATE_PERIOD_S),
            *throttle,
            metric("memory_used_process", "B", "nvmlDeviceGetComputeRunningProcesses_v3", "sampled", None),
            metric("memory_used_foreign", "B", "nvmlDeviceGetComputeRunningProcesses_v3", "sampled", None),
        ]
        found = []
        for each in candidates:
            answer = self._try(each, gpu)
            lasting = isinstance(answer, Missing) and not each.name.startswith("memory_used_")
            found.append(replace(each, status=answer.status, reason=answer.reason) if lasting else each)  # type: ignore[union-attr]
        return found

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
        if running and not any(host.process_exists(process.pid) for process in running):
            return Missing("the driver tells the process ids of the host, and this is a container")
        if ours and self._pid is None:
            return Missing("no worker is running")
        tree = set() if self._pid is None else set(host.tree_pids(self._pid)) | {self._pid}
        return float(sum(process.usedGpuMemory for process in running if (process.pid in tree) == ours))


def _field(metric: Metric) -> int | None:
    """The field to ask for, where a metric is had by one."""
    if metric.name == "power":
        return FIELD_POWER_INSTANT if "POWER_INSTANT" in metric.api else None
    return THROTTLE_FIELDS.get(metric.name)


def open_source(nvml: Any = None, setting: str | None = None) -> Source:
    """The source, or Absent with NVML's own reason. `nvml` is the module, for tests; `setting` CUDA_VISIBLE_DEVICES."""
    setting = setting if setting is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        nvml = nvml or load()
    except ImportError as error:
        return Absent("nvml", "board", Probe(False, reason=str(error)))
    try:
        nvml.nvmlInit()
        gpus = opened(nvml, setting)
        driver = text(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError as error:
        found = reason_of(error)
        return Absent("nvml", "board", Probe(False, reason=found.reason), found.status)
    if not gpus:
        hidden = "" if setting is None else " that CUDA_VISIBLE_DEVICES lets be seen"
        return Absent("nvml", "board", Probe(False, reason=f"no NVIDIA GPU{hidden}"))
    return NvmlSource(nvml, gpus, driver)
