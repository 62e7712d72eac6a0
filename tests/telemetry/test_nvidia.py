"""A fake driver under the real module of nvidia-ml-py: its error classes and structures are the real ones, the GPUs
are not."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import Any

import psutil
import pynvml
import pytest

from rigbench.analysis import energy
from rigbench.telemetry import host, nvidia
from rigbench.telemetry.base import Missing, Source, SourceOptions
from rigbench.telemetry.nvidia import NvmlSource
from rigbench.telemetry.sampler import Sampler


@dataclass
class FakeGpu:
    """What one GPU answers. `fields`: field id to (return code, raw value)."""

    uuid: str = "GPU-aaaa-1111"
    name: str = "NVIDIA GeForce RTX 5090"
    fields: dict[int, tuple[int, int]] = field(
        default_factory=lambda: {186: (0, 431_250), 74: (0, 2_000_000_000), 269: (0, 0), 270: (0, 0), 271: (0, 0)}
    )
    energy_mj: int = 1_000_000
    temperature_v: bool = True
    unsupported: set[str] = field(default_factory=set)
    lost: bool = False
    processes: list[tuple[int, int | None]] = field(default_factory=list)


def fake_module(gpus: list[FakeGpu], init_error: int | None = None) -> Any:
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
        for answer, asked in zip(answers, ids, strict=True):
            number, scope = asked if isinstance(asked, tuple) else (asked, 0)
            assert number != 186 or (isinstance(asked, tuple) and scope == pynvml.NVML_POWER_SCOPE_GPU)
            code, raw = gpu.fields.get(number, (pynvml.NVML_ERROR_NOT_SUPPORTED, 0))
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

    memory = pynvml.c_nvmlMemory_v2_t()
    memory.total, memory.used, memory.reserved = 34_190_917_632, 20_000_000_000, 600_000_000
    module.nvmlInit, module.nvmlShutdown = init, shutdown
    module.nvmlSystemGetDriverVersion = lambda: "580.126.09"
    module.nvmlSystemGetCudaDriverVersion = lambda: 13010
    module.nvmlDeviceGetCount = lambda: len(gpus)
    module.nvmlDeviceGetHandleByIndex = lambda index: gpus[index]
    for name, answer in {
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetName": lambda gpu: gpu.name,
        "nvmlDeviceGetFieldValues": values,
        "nvmlDeviceGetPowerUsage": lambda gpu: 400_000,
        "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: gpu.energy_mj,
        "nvmlDeviceGetMemoryInfo": lambda gpu, *_: memory,
        "nvmlDeviceGetClockInfo": lambda gpu, kind: 2400 if kind == pynvml.NVML_CLOCK_SM else 14001,
        "nvmlDeviceGetMaxClockInfo": lambda gpu, kind: 14001,
        "nvmlDeviceGetMemoryBusWidth": lambda gpu: 512,
        "nvmlDeviceGetTemperatureV": temperature_v,
        "nvmlDeviceGetTemperature": lambda gpu, sensor: 63,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x24,
        "nvmlDeviceGetComputeRunningProcesses_v3": lambda gpu: [
            types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes
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


def read(source: Source, device: str = "gpu0") -> dict[str, float | Missing]:
    metrics = [metric for metric in source.metrics if metric.device == device and metric.readable]
    return dict(zip((metric.name for metric in metrics), source.read(metrics), strict=True))


def test_readings_in_si_units() -> None:
    source = NvmlSource.open(SourceOptions(), fake_module([FakeGpu()]), setting="0")
    assert source.probe().version == "580.126.09"
    values = read(source)
    assert values["power"] == pytest.approx(431.25)
    assert values["energy"] == pytest.approx(1000.0)
    assert values["memory_used"] == 20e9
    assert values["clock"] == 2.4e9 and values["memory_clock"] == 14.001e9
    assert values["temperature"] == 64.0
    assert values["throttled_power"] == pytest.approx(2.0) and values["throttled_hw_thermal"] == 0.0
    assert "clocks_event_reasons" not in values
    periods = {metric.name: metric.period_s for metric in source.metrics}
    assert (periods["power"], periods["clock"]) == (0.1, 0.5)
    assert (
        periods["energy"] is None and periods["memory_used_process"] is None
    )  # costly, or spoilt by polling: edges only


def test_power_without_the_field_is_the_mean_of_a_second_and_says_so() -> None:
    gpu = FakeGpu(fields={74: (0, 0)})
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]), setting="0")
    power = next(metric for metric in source.metrics if metric.name == "power")
    assert (power.api, power.status, power.reason) == (
        "nvmlDeviceGetPowerUsage",
        "low_confidence",
        "a mean over about the last second",
    )
    assert read(source)["power"] == 400.0


def test_every_field_has_its_own_return_code() -> None:
    gpu = FakeGpu()
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]), setting="0")
    gpu.fields[269] = (pynvml.NVML_ERROR_NOT_SUPPORTED, 12345)
    values = read(source)
    assert values["power"] == pytest.approx(431.25)
    assert values["throttled_sw_thermal"] == Missing("this GPU or driver does not tell")


def test_old_cards_without_energy_and_throttle_counters() -> None:
    gpu = FakeGpu(fields={186: (0, 100_000)}, unsupported={"nvmlDeviceGetTotalEnergyConsumption"}, temperature_v=False)
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]), setting="0")
    by_name = {metric.name: metric for metric in source.metrics}
    assert (by_name["energy"].status, by_name["energy"].reason) == ("unavailable", "this GPU or driver does not tell")
    values = read(source)
    assert values["temperature"] == 63.0
    assert values["clocks_event_reasons"] == 0x24
    assert "throttled_power" not in values and "energy" not in values


def test_gpu_lost_in_the_middle() -> None:
    gpus = [FakeGpu(), FakeGpu("GPU-bbbb-2222")]
    source = NvmlSource.open(SourceOptions(), fake_module(gpus), setting="0,1")
    gpus[1].lost = True
    assert read(source)["power"] == pytest.approx(431.25)
    lost = read(source, "gpu1")
    assert all(isinstance(value, Missing) for value in lost.values())
    power = lost["power"]
    assert isinstance(power, Missing) and power.reason.startswith("the GPU is lost")


@pytest.mark.parametrize(
    "code,reason,status",
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver", "unavailable"),
        (
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
            "the NVIDIA driver is installed but not loaded; reboot, or: sudo modprobe nvidia",
            "unavailable",
        ),
        (
            pynvml.NVML_ERROR_NO_PERMISSION,
            "the NVIDIA driver refuses this user; give the user access to /dev/nvidia*",
            "denied",
        ),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML says: Unknown Error", "unavailable"),
    ],
)
def test_no_driver_is_a_reason(code: int, reason: str, status: str) -> None:
    source = NvmlSource.open(SourceOptions(), fake_module([], init_error=code))
    assert not source.probe().usable
    (metric,) = source.metrics
    assert (metric.reason, metric.status) == (reason, status)


def test_no_gpu_and_hidden_gpus() -> None:
    assert NvmlSource.open(SourceOptions(), fake_module([]), setting="0").probe().reason == (
        "no NVIDIA GPU that CUDA_VISIBLE_DEVICES lets be seen"
    )
    assert not NvmlSource.open(SourceOptions(), fake_module([FakeGpu()]), setting="-1").probe().usable


@pytest.mark.parametrize(
    "setting,seen",
    [
        (None, ["a", "b", "c"]),
        ("", []),
        ("1", ["b"]),
        ("2,0", ["c", "a"]),
        ("0,7,1", ["a"]),
        ("GPU-bb", ["b"]),
        ("GPU-cc,GPU-aa", ["c", "a"]),
        ("GPU-", []),
        ("1,1", ["b"]),
    ],
)
def test_visible_devices_by_index_and_uuid(setting: str | None, seen: list[str]) -> None:
    gpus = [("a", "GPU-aa11"), ("b", "GPU-bb22"), ("c", "GPU-cc33")]
    assert nvidia.visible(gpus, setting) == seen


def test_memory_of_our_tree_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(processes=[(100, 5_000_000_000), (101, 1_000_000_000), (200, 300_000_000)])
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]), setting="0")
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: True)
    monkeypatch.setattr(host, "tree_pids", lambda pid: (100, 101))
    assert read(source)["memory_used_process"] == Missing("no worker is running")
    source.watch(100)
    values = read(source)
    assert (values["memory_used_process"], values["memory_used_foreign"]) == (6e9, 3e8)
    gpu.processes.append((300, None))
    used = read(source)["memory_used_process"]
    assert isinstance(used, Missing) and "Windows" in used.reason


def test_process_ids_of_another_namespace_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = NvmlSource.open(SourceOptions(), fake_module([FakeGpu(processes=[(100, 5)])]), setting="0")
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: False)
    used = read(source)["memory_used_foreign"]
    assert isinstance(used, Missing) and "container" in used.reason


def test_through_the_sampler_to_joules() -> None:
    # 431.25 W for 20 s is 8625 J; the counter gained 8000 J: both and their ratio are kept.
    gpu = FakeGpu()
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]), setting="0")
    now = [0]
    sampler = Sampler(
        [source],
        lambda: now[0],
        lambda seconds: now.__setitem__(0, now[0] + round(seconds * 1e9)) or now[0] > 20_000_000_000,
    )
    (lane,) = sampler.lanes
    sampler.edge()
    lane.run()
    gpu.energy_mj += 8_000_000
    now[0] = 20_000_000_000
    sampler.edge()
    energies = energy.case_energies(sampler.window(0, 0, 20_000_000_000), 0, 20_000_000)
    (board,) = [each for each in energies if each.source == "nvml"]
    assert board.joules == pytest.approx(8625)
    assert board.counter_over_integrated == pytest.approx(8000 / 8625)


def test_close_shuts_the_library() -> None:
    module = fake_module([FakeGpu()])
    source = NvmlSource.open(SourceOptions(), module, setting="0")
    source.close()
    assert module.shut == 1


def test_facts_for_the_fingerprint_hold_no_uuid() -> None:
    gpus = NvmlSource.gpus(fake_module([FakeGpu()]), setting="0")
    assert NvmlSource.drivers(fake_module([FakeGpu()])) == {"nvidia": "580.126.09", "cuda": "13.1"}
    (gpu,) = gpus
    assert gpu["name"] == "NVIDIA GeForce RTX 5090"
    assert gpu["memory_bytes"] == 34_190_917_632 and gpu["memory_reserved_bytes"] == 600_000_000
    assert (gpu["power_limit_w"], gpu["power_limit_default_w"]) == (575.0, 600.0)
    assert (gpu["pcie_generation"], gpu["pcie_generation_max"], gpu["pcie_width"]) == (4, 5, 8)
    assert gpu["ecc"] is False
    assert "GPU-" not in repr(gpu)


def test_facts_of_a_machine_without_a_driver() -> None:
    module = fake_module([], init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert (NvmlSource.gpus(module), NvmlSource.drivers(module)) == ((), {})
    lost = fake_module([FakeGpu(lost=True)])
    assert (NvmlSource.gpus(lost), lost.shut) == ((), 1)


def test_a_package_in_the_place_of_nvidia_ml_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", types.ModuleType("pynvml"))
    probe = NvmlSource.open(SourceOptions()).probe()
    assert probe.reason is not None and "hides nvidia-ml-py" in probe.reason
