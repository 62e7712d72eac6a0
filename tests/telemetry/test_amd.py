"""A sysfs made by the test, as the amdgpu driver lays it out."""

from __future__ import annotations

from pathlib import Path

from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.base import Missing, SourceOptions


def card(drm: Path, index: int, vendor: str = "0x1002", **files: str) -> Path:
    device = drm / f"card{index}" / "device"
    hwmon = device / "hwmon" / f"hwmon{index + 3}"
    hwmon.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    for name, text in files.items():
        folder = hwmon if name.startswith(("power", "temp", "freq")) else device
        (folder / name).write_text(text + "\n")
    return hwmon


def test_readings_in_si_units(tmp_path: Path) -> None:
    card(
        tmp_path,
        1,
        power1_average="212000000",
        temp1_input="61000",
        freq1_input="2450000000",
        mem_info_vram_used="8000000000",
        product_name="Radeon RX 7900 XTX",
    )
    card(tmp_path, 0, vendor="0x8086")
    (tmp_path / "card1-DP-1").mkdir()
    source = AmdSource.open(SourceOptions(), tmp_path)
    assert source.probe().devices == ("Radeon RX 7900 XTX",)
    values = dict(zip((metric.name for metric in source.metrics), source.read(source.metrics), strict=True))
    assert values == {"power": 212.0, "temperature": 61.0, "clock": 2.45e9, "memory_used": 8e9}
    assert {metric.device for metric in source.metrics} == {"gpu0"}


def test_newer_cards_name_their_power_otherwise(tmp_path: Path) -> None:
    card(tmp_path, 0, power1_input="35500000", device="0x1586")
    source = AmdSource.open(SourceOptions(), tmp_path)
    (metric,) = source.metrics
    assert metric.api == "hwmon power1_input"
    assert source.read(source.metrics) == [35.5]
    assert source.probe().devices == ("AMD 0x1586",)


def test_a_card_that_goes_away_is_missing(tmp_path: Path) -> None:
    hwmon = card(tmp_path, 0, power1_average="100000000")
    source = AmdSource.open(SourceOptions(), tmp_path)
    (hwmon / "power1_average").unlink()
    (reading,) = source.read(source.metrics)
    assert isinstance(reading, Missing) and "cannot be read" in reading.reason


def test_absent(tmp_path: Path) -> None:
    assert AmdSource.open(SourceOptions(), tmp_path).probe().reason == "no AMD graphics card"
    card(tmp_path, 0)
    assert AmdSource.open(SourceOptions(), tmp_path).probe().reason == "the AMD card's driver gives no readings"


def test_fingerprint(tmp_path: Path) -> None:
    card(
        tmp_path,
        0,
        product_name="Radeon Pro W7900",
        mem_info_vram_total="51522830336",
        power1_cap="241000000",
        power1_cap_default="241000000",
        current_link_speed="16.0 GT/s PCIe",
        current_link_width="16",
        unique_id="deadbeefcafe",
    )
    (gpu,) = AmdSource.gpus(tmp_path)
    assert gpu == {
        "name": "Radeon Pro W7900",
        "vendor": "AMD",
        "memory_bytes": 51522830336,
        "power_limit_w": 241.0,
        "power_limit_default_w": 241.0,
        "pcie_speed": "16.0 GT/s PCIe",
        "pcie_width": 16,
    }
