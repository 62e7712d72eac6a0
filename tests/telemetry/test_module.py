"""Power meters of Grace, GB10 and Jetson, and laptops' batteries, in a sysfs made by the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigbench.telemetry.base import Missing, SourceOptions
from rigbench.telemetry.battery import BatterySource
from rigbench.telemetry.jetson import JetsonSource
from rigbench.telemetry.module import ModuleSource


def test_each_socket_of_a_grace_once(tmp_path: Path) -> None:
    meters = [
        ("Module Power Socket 0", 640),
        ("Grace Power Socket 0", 210),
        ("CPU Power Socket 0", 150),
        ("Module Power Socket 1", 600),
    ]
    for index, (label, watts) in enumerate(meters):
        folder = tmp_path / f"hwmon{index}" / "device"
        folder.mkdir(parents=True)
        for name, text in {
            "power1_oem_info": label,
            "power1_average": watts * 10**6,
            "power1_average_interval": 50,
        }.items():
            (folder / name).write_text(f"{text}\n")
    source = ModuleSource.open(SourceOptions(), tmp_path)
    assert source is not None
    read = dict(zip((metric.device for metric in source.metrics), source.read(source.metrics), strict=True))
    assert read == {"package-0": 210.0, "package-1": 600.0}
    assert {(metric.scope, metric.period_s) for metric in source.metrics} == {("package", 0.1)}
    assert ModuleSource.open(SourceOptions(), tmp_path / "none") is None


def meters(folder: Path, files: dict[str, str | int]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return folder


def test_a_gb10_tells_its_whole_system_and_its_chip(tmp_path: Path) -> None:
    """The channels of spark_hwmon, whose `cpu_gpu` and `gpu` are parts of `soc_pkg`."""
    watts = {"sys_total": 152, "soc_pkg": 92, "cpu_gpu": 88, "dc_input": 155, "gpu": 64, "pl1": 90}
    files: dict[str, str | int] = {"name": "spbm", "energy1_label": "pkg", "energy1_input": 7_500_000}
    for number, (label, power) in enumerate(watts.items(), 1):
        files |= {f"power{number}_label": label, f"power{number}_input": power * 10**6}
    folder = meters(tmp_path / "hwmon6", files)
    meters(tmp_path / "hwmon0", {"name": "acpitz", "temp1_input": 38000})
    source = ModuleSource.open(SourceOptions(), tmp_path)
    assert source is not None and source.devices == ("host", "package-0", "package-0")
    known = [(each.name, each.scope, each.device, each.method) for each in source.metrics]
    assert known == [
        ("power", "host", None, "sampled"),
        ("power", "package", "package-0", "sampled"),
        ("energy", "package", "package-0", "counter"),
    ]
    assert source.read(source.metrics) == [152.0, 92.0, 7.5]
    (folder / "power2_input").unlink()
    assert isinstance(source.read(source.metrics)[1], Missing)


@pytest.mark.parametrize(
    ("rails", "watts"),
    [
        ({"VDD_IN": (4976, 3216), "VDD_CPU_GPU_CV": (4976, 1000), "VDD_SOC": (4976, 500)}, 16.002816),  # Orin NX
        ({"VDD_GPU_SOC": (18000, 1200), "VDD_CPU_CV": (18000, 500), "VIN_SYS_5V0": (5000, 1000)}, 35.6),  # AGX Orin
        ({"VDD_GPU_SOC": (18000, 1200), "VDD_CPU_CV": (18000, 500)}, None),  # not all of it
    ],
)
def test_a_jetson_tells_what_its_module_takes(
    rails: dict[str, tuple[int, int]], watts: float | None, tmp_path: Path
) -> None:
    files: dict[str, str | int] = {"name": "ina3221", "update_interval": 140}
    for number, (label, (volts, amperes)) in enumerate(rails.items(), 1):
        files |= {f"in{number}_label": label, f"in{number}_input": volts, f"curr{number}_input": amperes}
    folder = meters(tmp_path / "class/hwmon/hwmon3", files)
    other = {"name": "ina3221", "in1_label": "VDDQ_VDD2_1V8AO", "in1_input": 5000, "curr1_input": 800}
    meters(tmp_path / "class/hwmon/hwmon4", other)
    source = JetsonSource.open(SourceOptions(), tmp_path)
    if watts is None:
        assert source is None
        return
    assert source is not None and source.read(source.metrics) == [pytest.approx(watts)]
    (metric,) = source.metrics
    assert (metric.scope, metric.period_s, metric.published_s) == ("soc", 0.14, 0.14)
    (folder / "curr1_input").unlink()
    assert isinstance(source.read(source.metrics)[0], Missing)


def test_a_jetson_under_jetpack_4(tmp_path: Path) -> None:
    rails = {"POM_5V_IN": 5210, "POM_5V_GPU": 1700, "POM_5V_CPU": 900}
    files: dict[str, str | int] = {}
    for number, (label, milliwatts) in enumerate(rails.items()):
        files |= {f"rail_name_{number}": label, f"in_power{number}_input": milliwatts}
    meters(tmp_path / "bus/iio/devices/iio:device0", files)
    source = JetsonSource.open(SourceOptions(), tmp_path)
    assert source is not None and source.read(source.metrics) == [pytest.approx(5.21)]
    assert JetsonSource.open(SourceOptions(), tmp_path / "none") is None


def test_a_battery_tells_the_machine_s_power_only_while_it_is_drained(tmp_path: Path) -> None:
    def supply(name: str, **files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text + "\n")
        return folder

    assert BatterySource.open(SourceOptions(), tmp_path) is None
    supply("AC", type="Mains", online="0")
    supply("hidpp_battery_0", type="Battery", scope="Device", status="Discharging", power_now="9")
    first = supply("BAT0", type="Battery", status="Discharging", power_now="31000000")
    supply("BAT1", type="Battery", status="Discharging", current_now="500000", voltage_now="12000000")
    source = BatterySource.open(SourceOptions(), tmp_path)
    assert source is not None and source.read(source.metrics) == [37.0]
    assert BatterySource.modes(tmp_path) == {"power_source": "battery"}
    (first / "power_now").write_text("-31000000\n")  # as some drivers count what leaves it
    assert source.read(source.metrics) == [37.0]
    (tmp_path / "AC/online").write_text("1\n")  # a supply that is too weak: the battery adds the rest alone
    (reading,) = source.read(source.metrics)
    assert isinstance(reading, Missing) and reading.reason.startswith("on mains")
    assert BatterySource.modes(tmp_path) == {"power_source": "mains"}
    (tmp_path / "AC/online").write_text("0\n")
    (first / "status").write_text("Charging\n")
    (tmp_path / "BAT1/status").write_text("Full\n")
    (reading,) = source.read(source.metrics)
    assert isinstance(reading, Missing) and reading.reason.startswith("on mains")
    assert BatterySource.modes(tmp_path) == {"power_source": "mains"}
