"""A driver that the tests play, under the real module of nvidia-ml-py: its error classes and structures are the real ones, the GPUs
are not."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import Any

import pynvml


@dataclass
class FakeGpu:
    """What one GPU answers. `fields`: field id to (return code, raw value)."""

    bus: str = "00000000:01:00.0"
    name: str = "NVIDIA GeForce RTX 5090"
    fields: dict[int, tuple[int, int]] = field(
        default_factory=lambda: {186: (0, 431_250), 74: (0, 2_000_000_000), 269: (0, 0), 270: (0, 0), 271: (0, 0)}
    )
    energy_mj: int = 1_000_000
    reasons: int = 0x24
    memory_used: int = 20_000_000_000
    mig: bool = False
    temperature_v: bool = True
    unsupported: set[str] = field(default_factory=set)
    lost: bool = False
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    drawing: list[tuple[int, int | None]] = field(default_factory=list)


def fake_module(gpus: list[FakeGpu], init_error: int | None = None, driver: str = "580.126.09") -> Any:
    """pynvml with every function that is used replaced, so that nothing reaches for a driver."""
    module = types.SimpleNamespace(
        **{name: getattr(pynvml, name) for name in dir(pynvml) if not name.startswith("nvmlDevice")}
    )
    module.shut = 0

    def check(gpu: FakeGpu, name: str) -> None:
        if gpu.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if name in gpu.unsupported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def define(name: str, answer: Any) -> None:
        def call(gpu: FakeGpu, *arguments: Any, **options: Any) -> Any:
            check(gpu, name)
            return answer(gpu, *arguments)

        setattr(module, name, call)

    def init() -> None:
        if init_error is not None:
            raise pynvml.NVMLError(init_error)

    def shutdown() -> None:
        module.shut += 1

    def values(gpu: FakeGpu, ids: list[Any]) -> Any:
        answers = (pynvml.c_nvmlFieldValue_t * len(ids))()
        for answer, field_id in zip(answers, ids, strict=True):
            number, scope = field_id if isinstance(field_id, tuple) else (field_id, 0)
            assert number != 186 or isinstance(field_id, tuple)
            key = 1186 if scope == pynvml.NVML_POWER_SCOPE_MODULE else number
            code, raw = gpu.fields.get(key, (pynvml.NVML_ERROR_NOT_SUPPORTED, 0))
            answer.fieldId, answer.nvmlReturn = number, code
            if number == 186:
                answer.value.uiVal = raw
            else:
                answer.value.ullVal = raw
        return answers

    def temperature_v(gpu: FakeGpu, sensor: int) -> int:
        if not gpu.temperature_v:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return 64

    def memory(gpu: FakeGpu, version: int | None = None) -> Any:
        check(gpu, f"nvmlDeviceGetMemoryInfo {'v2' if version else 'v1'}")
        kind = pynvml.c_nvmlMemory_v2_t if version else pynvml.c_nvmlMemory_t
        used = gpu.memory_used + (0 if version else 600_000_000)
        return kind(total=34_190_917_632, used=used, **({"reserved": 600_000_000} if version else {}))

    def by_index(index: int) -> FakeGpu:
        check(gpus[index], "nvmlDeviceGetHandleByIndex")
        return gpus[index]

    module.nvmlInit, module.nvmlShutdown = init, shutdown
    module.nvmlSystemGetDriverVersion = lambda: driver
    module.nvmlSystemGetCudaDriverVersion = lambda: 13010
    module.nvmlDeviceGetCount = lambda: len(gpus)
    module.nvmlDeviceGetHandleByIndex = by_index
    for name, answer in {
        "nvmlDeviceGetPciInfo": lambda gpu: types.SimpleNamespace(busId=gpu.bus.encode()),
        "nvmlDeviceGetMigMode": lambda gpu: [int(gpu.mig), int(gpu.mig)],
        "nvmlDeviceGetName": lambda gpu: gpu.name,
        "nvmlDeviceGetFieldValues": values,
        "nvmlDeviceGetPowerUsage": lambda gpu: 400_000,
        "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: gpu.energy_mj,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetClockInfo": lambda gpu, kind: 2400 if kind == pynvml.NVML_CLOCK_SM else 14001,
        "nvmlDeviceGetMaxClockInfo": lambda gpu, kind: 14001,
        "nvmlDeviceGetMemoryBusWidth": lambda gpu: 512,
        "nvmlDeviceGetTemperatureV": temperature_v,
        "nvmlDeviceGetTemperature": lambda gpu, sensor: 63,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: gpu.reasons,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: gpu.reasons,
        "nvmlDeviceGetComputeRunningProcesses_v3": lambda gpu: [
            types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes
        ],
        "nvmlDeviceGetGraphicsRunningProcesses_v3": lambda gpu: [
            types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.drawing
        ],
        "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 575_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": lambda gpu: 600_000,
        "nvmlDeviceGetCurrPcieLinkGeneration": lambda gpu: 4,
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda gpu: 5,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda gpu: 8,
        "nvmlDeviceGetMaxPcieLinkWidth": lambda gpu: 16,
        "nvmlDeviceGetEccMode": lambda gpu: [0, 0],
    }.items():
        define(name, answer)
    return module
