"""NVIDIA cards of all kinds and drivers, played by fake_nvml.py."""

from __future__ import annotations

import types

import psutil
import pynvml
import pytest

from fake_nvml import FakeGpu, fake_module
from rigbench.analysis import energy, flags
from rigbench.records import PhaseMark, Series
from rigbench.telemetry import host
from rigbench.telemetry.base import Missing, Source, SourceOptions
from rigbench.telemetry.nvidia import NvmlSource
from rigbench.telemetry.sampler import Sampler


def read(source: Source, device: str = "gpu0") -> dict[str, float | Missing]:
    metrics = [metric for metric in source.metrics if metric.device == device and metric.readable]
    return dict(zip((metric.name for metric in metrics), source.read(metrics), strict=True))


def sampled(source: Source, seconds: int) -> tuple[Series, ...]:
    """All readings of so many seconds."""
    now = [0]

    def wait(step_s: float) -> bool:
        now[0] += round(step_s * 1e9)
        return now[0] > seconds * 1e9

    sampler = Sampler([source], lambda: now[0], wait)
    sampler.lanes[0].run()
    return sampler.window(0, 0, seconds * 10**9)


def test_readings_in_si_units() -> None:
    source = NvmlSource.open(SourceOptions(), fake_module([FakeGpu()]))
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
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
    power = next(metric for metric in source.metrics if metric.name == "power")
    assert (power.api, power.status, power.reason) == (
        "nvmlDeviceGetPowerUsage",
        "low_confidence",
        "a mean over about the last second",
    )
    assert read(source)["power"] == 400.0


def test_every_field_has_its_own_return_code() -> None:
    gpu = FakeGpu()
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
    gpu.fields[269] = (pynvml.NVML_ERROR_NOT_SUPPORTED, 12345)
    values = read(source)
    assert values["power"] == pytest.approx(431.25)
    assert values["throttled_sw_thermal"] == Missing("this GPU or driver does not tell")


def test_old_cards_without_energy_and_throttle_counters() -> None:
    gpu = FakeGpu(fields={186: (0, 100_000)}, unsupported={"nvmlDeviceGetTotalEnergyConsumption"}, temperature_v=False)
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
    by_name = {metric.name: metric for metric in source.metrics}
    assert (by_name["energy"].status, by_name["energy"].reason) == ("unavailable", "this GPU or driver does not tell")
    values = read(source)
    assert values["temperature"] == 63.0
    assert values["clocks_event_reasons"] == 0x24
    assert "throttled_power" not in values and "energy" not in values


# what a driver's generation leaves out: R535 to R570 know counter 74 alone, R470 has other names
R550 = {186: (0, 300_000), 74: (0, 0)} | dict.fromkeys((269, 270, 271), (pynvml.NVML_ERROR_INVALID_ARGUMENT, 0))


@pytest.mark.parametrize("without", [set(), {"nvmlDeviceGetCurrentClocksEventReasons"}])
def test_a_hot_card_is_flagged_whatever_its_driver_counts(without: set[str]) -> None:
    gpu = FakeGpu(fields=R550, reasons=0x68, temperature_v=False, unsupported=without)
    readings = sampled(NvmlSource.open(SourceOptions(), fake_module([gpu])), 12)
    result = flags.reading_flags(readings, [PhaseMark("measure", 0, 12_000_000)], 16)
    assert [(flag.name, flag.evidence) for flag in result] == [
        ("throttled", "gpu0 was slowed for heat or supply in 100% of the samples")
    ]
    assert flags.hot(readings) == result[0].evidence


def test_power_that_is_0_or_the_module_s() -> None:
    def power(gpu: FakeGpu) -> tuple[str, str, str, float | Missing]:
        source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
        metric = next(metric for metric in source.metrics if metric.name == "power")
        return metric.api, metric.scope, metric.status, source.read([metric])[0]

    zero = FakeGpu(fields={186: (0, 0), 74: (0, 0)})
    assert power(zero) == ("nvmlDeviceGetPowerUsage", "board", "low_confidence", 400.0)
    hopper = FakeGpu(fields={1186: (0, 650_000)})
    assert power(hopper) == ("nvmlDeviceGetFieldValues POWER_INSTANT MODULE", "package", "ok", 650.0)


def test_memory_of_old_drivers_and_of_gb10() -> None:
    old = FakeGpu(unsupported={"nvmlDeviceGetMemoryInfo v2"})
    source = NvmlSource.open(SourceOptions(), fake_module([old]))
    metric = next(metric for metric in source.metrics if metric.name == "memory_used")
    assert (metric.status, metric.reason) == ("low_confidence", "what the driver keeps for itself is included")
    assert source.read([metric]) == [20.6e9]
    assert NvmlSource.gpus(fake_module([old]))[0]["memory_bytes"] == 34_190_917_632
    gb10 = FakeGpu(unsupported={"nvmlDeviceGetMemoryInfo"})
    (facts,) = NvmlSource.gpus(fake_module([gb10]))
    assert (facts["memory_bytes"], facts["integrated"]) == (None, True)
    assert "memory_used" not in read(NvmlSource.open(SourceOptions(), fake_module([gb10])))


def test_a_card_that_is_lost_at_the_start_takes_no_other_with_it() -> None:
    module = fake_module([FakeGpu(lost=True), FakeGpu("00000000:02:00.0")])
    source = NvmlSource.open(SourceOptions(), module)
    assert {metric.device for metric in source.metrics} == {"gpu1"}
    assert [gpu["bus_id"] for gpu in NvmlSource.gpus(module)] == ["0000:02:00.0"]
    alone = NvmlSource.open(SourceOptions(), fake_module([FakeGpu(lost=True)])).probe()
    assert alone.reason is not None and alone.reason.startswith("the GPU is lost")


def test_what_is_read_of_a_sliced_card_is_the_whole_card_s() -> None:
    source = NvmlSource.open(SourceOptions(), fake_module([FakeGpu(name="NVIDIA H100 80GB HBM3", mig=True)]))
    power = next(metric for metric in source.metrics if metric.name == "power")
    assert (power.status, power.reason) == (
        "low_confidence",
        "of the whole card, of which the engine has a slice (MIG)",
    )


def test_gpu_lost_in_the_middle() -> None:
    gpus = [FakeGpu(), FakeGpu("00000000:02:00.0")]
    source = NvmlSource.open(SourceOptions(), fake_module(gpus))
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


def test_no_gpu() -> None:
    assert NvmlSource.open(SourceOptions(), fake_module([])).probe().reason == "no NVIDIA GPU"


def test_memory_of_our_tree_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(processes=[(100, 5_000_000_000), (101, 1_000_000_000), (200, 300_000_000)])
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: True)
    monkeypatch.setattr(host, "tree_pids", lambda pid: (100, 101))
    assert read(source)["memory_used_process"] == Missing("no worker is running")
    source.watch(100)
    values = read(source)
    assert (values["memory_used_process"], values["memory_used_foreign"]) == (6e9, 3e8)
    gpu.processes.append((300, None))
    used = read(source)["memory_used_process"]
    assert isinstance(used, Missing) and "Windows" in used.reason


def test_an_engine_under_vulkan_holds_memory_and_a_desktop_is_nobody_s_load(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(processes=[(300, 400_000_000)], drawing=[(100, 18_000_000_000), (50, 900_000_000)])
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: True)
    monkeypatch.setattr(host, "tree_pids", lambda pid: (100, 101))
    source.watch(100)
    assert [read(source)[name] for name in ("memory_used_process", "memory_used_foreign")] == [18e9, 4e8]
    gpu.processes.append((100, 18_000_000_000))  # it is in both lists
    assert read(source)["memory_used_process"] == 18e9
    gpu.processes, gpu.drawing = [], []
    assert read(source)["memory_used_process"] == Missing(
        "the driver lists none of the engine's processes on this card"
    )
    gpu.unsupported.add("nvmlDeviceGetGraphicsRunningProcesses_v3")
    gpu.processes = [(101, 5)]
    assert read(source)["memory_used_process"] == 5.0


def test_a_library_that_was_opened_for_nothing_is_closed() -> None:
    module = fake_module([FakeGpu(lost=True)])
    NvmlSource.open(SourceOptions(), module)
    assert module.shut == 1


def test_process_ids_of_another_namespace_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = NvmlSource.open(SourceOptions(), fake_module([FakeGpu(processes=[(100, 5)])]))
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: False)
    used = read(source)["memory_used_foreign"]
    assert isinstance(used, Missing) and "container" in used.reason


def test_through_the_sampler_to_joules() -> None:
    # 431.25 W for 20 s is 8625 J; the counter gained 8000 J: both and their ratio are kept.
    gpu = FakeGpu()
    source = NvmlSource.open(SourceOptions(), fake_module([gpu]))
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
    source = NvmlSource.open(SourceOptions(), module)
    source.close()
    assert module.shut == 1


def test_facts_for_the_fingerprint_hold_no_uuid() -> None:
    gpus = NvmlSource.gpus(fake_module([FakeGpu()]))
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
