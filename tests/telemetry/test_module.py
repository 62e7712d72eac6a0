"""Grace's power meters and laptops' batteries, in a sysfs made by the test."""

from __future__ import annotations

from pathlib import Path

from rigbench.telemetry.base import Missing, SourceOptions
from rigbench.telemetry.battery import BatterySource
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
