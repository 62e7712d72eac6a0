"""What holds for every sensor that is registered: what is not known is no reading, least of all 0, and has its reason; and nothing
is read sooner than its source has a new value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from fake_nvml import FakeGpu, fake_module
from rigbench import telemetry
from rigbench.telemetry import amd_table, base, host, wall
from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.apple import AppleSource
from rigbench.telemetry.base import Missing, Source, SourceOptions
from rigbench.telemetry.battery import BatterySource
from rigbench.telemetry.darwin import Channel, Footprint, HostMemory, State
from rigbench.telemetry.host import HostSource
from rigbench.telemetry.intel import IntelSource
from rigbench.telemetry.jetson import JetsonSource
from rigbench.telemetry.module import ModuleSource
from rigbench.telemetry.nvidia import NvmlSource
from rigbench.telemetry.rapl import RaplSource
from rigbench.telemetry.sampler import Sampler

OPTIONS = SourceOptions()
FILES = {
    "amd": {
        "card0/device/vendor": "0x1002",
        "card0/device/hwmon/hwmon0/power1_average": "300000000",
        "card0/device/hwmon/hwmon0/temp1_input": "61000",
        "card0/device/hwmon/hwmon0/freq1_input": "2450000000",
        "card0/device/hwmon/hwmon0/freq2_label": "mclk",
        "card0/device/hwmon/hwmon0/freq2_input": "1249000000",
        "card0/device/mem_info_vram_used": "8000000000",
        "card0/device/gpu_metrics": "x" * 120,
    },
    "intel": {
        "card0/device/vendor": "0x8086",
        "card0/device/hwmon/hwmon0/energy1_input": "5000000",
        "card0/device/hwmon/hwmon0/temp2_input": "61000",
        "card0/device/tile0/gt0/freq0/act_freq": "2850",
    },
    "rapl": {
        "intel-rapl:0/name": "package-0",
        "intel-rapl:0/energy_uj": "5",
        "intel-rapl:0/max_energy_range_uj": "1000000",
    },
    "module": {
        "hwmon0/device/power1_oem_info": "Grace Power Socket 0",
        "hwmon0/device/power1_average": "210000000",
        "hwmon0/device/power1_average_interval": "50",
        "hwmon1/name": "spbm",
        "hwmon1/power1_label": "sys_total",
        "hwmon1/power1_input": "120000000",
        "hwmon1/energy1_label": "pkg",
        "hwmon1/energy1_input": "5000000",
    },
    "jetson": {
        "class/hwmon/hwmon1/name": "ina3221",
        "class/hwmon/hwmon1/in1_label": "VDD_IN",
        "class/hwmon/hwmon1/in1_input": "5000",
        "class/hwmon/hwmon1/curr1_input": "3000",
    },
    "battery": {"BAT0/type": "Battery", "BAT0/status": "Discharging", "BAT0/power_now": "31000000"},
}
SENSORS: dict[str, type[Any]] = {
    "amd": AmdSource,
    "intel": IntelSource,
    "rapl": RaplSource,
    "module": ModuleSource,
    "jetson": JetsonSource,
    "battery": BatterySource,
}
CONSTANT = ("vendor", "type", "status", "name", "label", "oem_info", "interval", "range_uj")
"""The ends of the names of files that say what a sensor is, not what it reads."""


class Mac:
    """Answers, or refuses with `error`; `zero`: in the way of a driver that does not know."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.zero = False

    def _answer(self, answer: Any, none: Any) -> Any:
        if self.error:
            raise self.error
        return none if self.zero else answer

    def energy(self) -> Any:
        return self._answer([Channel("CPU Energy", "mJ", 900), Channel("GPU Energy", "mJ", 900)], [])

    def smc_float(self, key: str) -> Any:
        return self._answer(60.0, 0.0)

    def thermal_pressure(self) -> Any:
        return self._answer(0, 0)

    def gpu_states(self) -> Any:
        return self._answer([State("OFF", 1), State("P1", 1)], [State("OFF", 1), State("P1", 0)])

    def footprint(self, pid: int) -> Any:
        return self._answer(Footprint(1, 1), Footprint(0, 0))

    def reset_footprint(self, pid: int) -> None:
        pass

    def memory(self) -> Any:
        return self._answer(HostMemory(1, 1, 0, 0), HostMemory(0, 0, 0, 0))

    def close(self) -> None:
        pass


Broken = tuple[Source, Callable[[str], None]]


def of_files(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    table = bytearray(120)
    table[:4] = (120).to_bytes(2, "little") + b"\x01\x03"
    for path, text in FILES[name].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(bytes(table) if path.endswith(amd_table.NAME) else f"{text}\n".encode())
    source = SENSORS[name].open(OPTIONS, root)
    assert source is not None

    def spoil(how: str) -> None:
        for path in FILES[name]:
            if path.endswith(CONSTANT):
                continue
            if how == "absent":
                (root / path).unlink()
            elif how in ("garbage", "zero"):
                (root / path).write_text({"garbage": "<n/a>\n", "zero": "0\n"}[how])
        if how == "denied":
            for function in ("read_text", "read_bytes"):
                real = getattr(Path, function)

                def refuse(path: Path, *words: Any, real: Any = real, **named: Any) -> Any:
                    if path.is_relative_to(root) and not path.name.endswith(CONSTANT):
                        raise PermissionError(13, "Permission denied")
                    return real(path, *words, **named)

                monkeypatch.setattr(Path, function, refuse)

    return source, spoil


def of_nvml(monkeypatch: pytest.MonkeyPatch) -> Broken:
    gpu = FakeGpu()
    module = fake_module([gpu])
    source = NvmlSource.open(OPTIONS, module)

    def spoil(how: str) -> None:
        for name in [each for each in vars(module) if each.startswith("nvmlDevice")]:
            error = {
                "absent": pynvml.NVML_ERROR_GPU_IS_LOST,
                "denied": pynvml.NVML_ERROR_NO_PERMISSION,
                "garbage": pynvml.NVML_ERROR_UNKNOWN,
            }.get(how)

            def refuse(*words: Any, error: int | None = error, name: str = name) -> Any:
                if error is None and name == "nvmlDeviceGetFieldValues":
                    return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=0, ullVal=0))]
                if error is None and "Processes" in name:
                    return []
                if error is None and name == "nvmlDeviceGetMemoryInfo":
                    return SimpleNamespace(used=0)
                if error is None:
                    return 0
                raise pynvml.NVMLError(error)

            monkeypatch.setattr(module, name, refuse)

    return source, spoil


def of_apple(monkeypatch: pytest.MonkeyPatch) -> Broken:
    mac = Mac()
    source = AppleSource.open(OPTIONS, lambda: mac, registry=lambda: "")

    def spoil(how: str) -> None:
        mac.zero = how in ("zero", "garbage")
        mac.error = {"absent": OSError("gone"), "denied": PermissionError("macOS does not let this program")}.get(how)

    return source, spoil


def of_host(root: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """A system that is none of those known: no worker, no sysfs, no control group, no swap counters."""
    source = HostSource()
    frequency, throttled, quota = host.mean_frequency_hz, host.throttled_s, host.quota_periods

    def spoil(how: str) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(user=1.0, system=1.0, idle=1.0))
        monkeypatch.setattr(host, "process_cpu_s", lambda process: 1.0)
        monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=1, sin=0, sout=0))
        if how in ("garbage", "zero"):
            (root / "cpu0/cpufreq").mkdir(parents=True)
            (root / "cpu0/cpufreq/scaling_cur_freq").write_text("<unknown>\n" if how == "garbage" else "0\n")
        monkeypatch.setattr(host, "mean_frequency_hz", lambda: frequency(root))
        monkeypatch.setattr(host, "throttled_s", lambda: throttled(root))
        monkeypatch.setattr(host, "quota_periods", lambda: quota(root, root))

    return source, spoil


def of_wall(monkeypatch: pytest.MonkeyPatch) -> Broken:
    answers: list[object] = [{"apower": 61.0, "aenergy": {"total": 5.0}}]
    source = wall.WallSource(lambda: answers[-1], wall.PRESETS["shelly"], "shelly HTTP")

    def spoil(how: str) -> None:
        answers.append(
            {
                "absent": Missing("the meter cannot be reached"),
                "denied": Missing("the meter answered HTTP 401", "denied"),
                "garbage": {"apower": "n/a", "aenergy": []},
                "zero": {"apower": 0, "aenergy": {"total": None}},
            }[how]
        )

    return source, spoil


def stand_in(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """The sensor at work, and what makes all that it reads unknown."""
    if name in FILES:
        return of_files(name, root, monkeypatch)
    if name == "host":
        return of_host(root, monkeypatch)
    return {"nvml": of_nvml, "apple": of_apple, "wall": of_wall}[name](monkeypatch)


MAY_BE_0 = {"energy", "thermal_pressure", "clocks_event_reasons", "swap_used", "swap_in", "swap_out", "compressed"}
MAY_BE_0 |= {"throttled_power", "throttled_sw_thermal", "throttled_hw_thermal", "throttled_hw_brake", "memory_used"}
MAY_BE_0 |= {"memory_used_foreign"}
"""Of these 0 is an answer: nothing is slowed, swapped or held; a counter begins there, and one that stays there has no energy."""


@pytest.mark.parametrize("how", ["absent", "denied", "garbage", "zero"])
@pytest.mark.parametrize("name", telemetry.BUILT_IN)
def test_what_is_not_known_is_no_reading_and_has_its_reason(
    name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, spoil = stand_in(name, tmp_path, monkeypatch)
    assert any(metric.readable for metric in source.metrics)
    clock = [0]
    sampler = Sampler([source], lambda: clock[0], lambda seconds: True)
    spoil(how)
    for lane in sampler.lanes:
        for group in lane.groups.values():
            lane.read(group)
    known = {"cpu_busy", "cpu_ours", "memory_available", "swap_used"} if name == "host" else set()
    for series in sampler.window(0, 0, 1):
        if series.name in known:
            continue
        if series.values and how in ("zero", "garbage") and series.name in MAY_BE_0:
            continue
        assert series.values == (), (series.name, series.values)
        assert series.reason and series.status in ("unavailable", "denied"), series.name
    if how == "denied" and name not in ("host", "nvml"):  # a lost permission is told from a lost device
        assert {each.status for each in sampler.window(0, 0, 1) if each.name in ("power", "energy")} == {"denied"}


@pytest.mark.parametrize("name", telemetry.BUILT_IN)
def test_nothing_is_read_sooner_than_its_source_has_a_new_value(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [stand_in(name, tmp_path, monkeypatch)[0]]
    if name == "wall":
        sources = [wall.WallSource(lambda: None, meter, "HTTP") for meter in wall.PRESETS.values()]
    for source in sources:
        for metric in source.metrics:
            assert metric.period_s is None or metric.period_s >= metric.published_s, metric
            # these have a period that their makers or maintainers tell
            if metric.readable and metric.name == "power" and name not in ("amd",):
                assert metric.published_s > 0, metric


def test_a_window_is_long_enough_for_the_readings_that_its_energy_needs() -> None:
    for meter in wall.PRESETS.values():
        source = wall.WallSource(lambda: None, meter, "HTTP")
        (power, *_) = source.metrics
        assert power.period_s is not None
        assert (
            source.limits(power.device).min_s >= 5 * power.period_s
            and source.idle_s > source.limits(power.device).min_s
        )


def test_what_never_is_0_names_quantities() -> None:
    names = {each.name for each in vars(base).values() if isinstance(each, base.Quantity)}
    assert names > base.NEVER_0 and names >= MAY_BE_0
