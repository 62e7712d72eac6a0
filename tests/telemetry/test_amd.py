"""A sysfs made by the test, as the amdgpu driver lays it out."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rigbench.analysis import flags
from rigbench.records import PhaseMark
from rigbench.telemetry import amd
from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.base import Missing, SourceOptions
from rigbench.telemetry.sampler import Sampler


def card(drm: Path, index: int, vendor: str = "0x1002", **files: str) -> Path:
    device = drm / f"card{index}" / "device"
    hwmon = device / "hwmon" / f"hwmon{index + 3}"
    hwmon.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    for name, text in files.items():
        folder = hwmon if name.startswith(("power", "temp", "freq", "in0", "in1")) else device
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
    assert {metric.device for metric in source.metrics} == {"amd0"}


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


def gpu_metrics(revision: tuple[int, int], size: int, **values: int) -> bytes:
    """The driver's table. `values`: `u8_112=...` is 8 bytes at 112."""
    table = bytearray(struct.pack("<HBB", size, *revision)) + bytes(size - 4)
    for name, value in values.items():
        width, place = name.removeprefix("u").split("_")
        table[int(place) : int(place) + int(width)] = value.to_bytes(int(width), "little")
    return bytes(table)


def values_of(drm: Path) -> dict[str, float | Missing]:
    source = AmdSource.open(SourceOptions(), drm)
    return dict(zip((metric.name for metric in source.metrics), source.read(source.metrics), strict=True))


@pytest.mark.parametrize(
    ("bits", "flag", "evidence"),
    [
        (1 << 36, "throttled", "amd0 was slowed for heat or supply in 100% of the samples"),
        (1 << 0, "power_capped", "amd0 was at its power limit in 100% of the samples"),
        (1 << 16, "power_capped", "amd0 was at its power limit in 100% of the samples"),
        (0, None, None),
    ],
)
def test_a_radeon_that_is_slowed_is_flagged(tmp_path: Path, bits: int, flag: str | None, evidence: str | None) -> None:
    hwmon = card(tmp_path, 0, power1_average="300000000")
    (hwmon.parent.parent / "gpu_metrics").write_bytes(gpu_metrics((1, 3), 120, u8_112=bits))
    now = [0]

    def wait(step_s: float) -> bool:
        now[0] += round(step_s * 1e9)
        return now[0] > 5e9

    sampler = Sampler([AmdSource.open(SourceOptions(), tmp_path)], lambda: now[0], wait)
    sampler.lanes[0].run()
    readings = sampler.window(0, 0, 5 * 10**9)
    result = flags.reading_flags(readings, [PhaseMark("measure", 0, 5_000_000)], 16)
    assert [(each.name, each.evidence) for each in result] == ([(flag, evidence)] if flag else [])


def test_strix_halo_has_the_watts_of_its_table_the_memory_of_both_kinds_and_residencies(tmp_path: Path) -> None:
    hwmon = card(
        tmp_path,
        0,
        power1_average="55000",  # of 55 W: the driver's unit is wrong
        in1_label="vddnb",
        mem_info_vram_used=str(2**30),
        mem_info_gtt_used=str(60 * 2**30),
        mem_info_vram_total=str(4 * 2**30),
        mem_info_gtt_total=str(96 * 2**30),
    )
    table = hwmon.parent.parent / "gpu_metrics"
    table.write_bytes(gpu_metrics((3, 0), 264, u4_112=55_000, u4_248=7))
    source = AmdSource.open(SourceOptions(), tmp_path)
    by_name = {metric.name: metric for metric in source.metrics}
    assert by_name["power"].scope == "package"

    def read(name: str) -> float | Missing:
        return source.read([by_name[name]])[0]

    assert (read("power"), read("memory_used"), read("clocks_event_reasons")) == (55.0, 61 * 2**30, 0)
    table.write_bytes(gpu_metrics((3, 0), 264, u4_112=55_000, u4_248=9, u4_232=1))
    assert read("clocks_event_reasons") == 0x20 | 0x04
    assert read("clocks_event_reasons") == 0
    (gpu,) = AmdSource.gpus(tmp_path)
    assert (gpu["memory_bytes"], gpu["integrated"]) == (100 * 2**30, True)


def test_power_in_the_wrong_unit_is_no_reading(tmp_path: Path) -> None:
    """A Phoenix whose driver tells 12 mW for 12 W, and whose older table tells no power."""
    card(tmp_path, 0, power1_average="12000", in1_label="vddnb")
    sampler = Sampler([AmdSource.open(SourceOptions(), tmp_path)])
    (lane,) = sampler.lanes
    lane.read(lane.groups[0.1])
    ((_, reading),) = next(known for metric, known in lane.readings.items() if metric.name == "power")
    assert reading == Missing(
        "hwmon power1_average reads 0.012 W, which no running machine draws: its unit may be wrong"
    )


def test_power_is_read_where_the_driver_knows_it(tmp_path: Path) -> None:
    card(tmp_path, 0, power1_average="0", power1_input="212000000")
    assert values_of(tmp_path)["power"] == 212.0


def test_memory_clock_and_the_hottest_places(tmp_path: Path) -> None:
    """temp1 is not there on MI300, and is the edge elsewhere."""
    card(
        tmp_path,
        0,
        temp2_label="junction",
        temp2_input="91000",
        temp3_label="mem",
        temp3_input="88000",
        freq2_label="mclk",
        freq2_input="1249000000",
    )
    assert values_of(tmp_path) == {"temperature": 91.0, "memory_temperature": 88.0, "memory_clock": 1.249e9}


def test_a_card_without_a_name_is_called_by_chip_and_revision(tmp_path: Path) -> None:
    ids = tmp_path / "amdgpu.ids"
    ids.write_text("744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n")
    folder = card(tmp_path / "drm", 0, device="0x744c", revision="0xcc").parent.parent
    assert amd.card_name(folder, ids) == "AMD Radeon RX 7900 XT"
    assert amd.card_name(folder, tmp_path / "none") == "AMD 0x744c"


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
        "device": "amd0",
        "bus_id": None,
        "integrated": False,
        "memory_bytes": 51522830336,
        "power_limit_w": 241.0,
        "power_limit_default_w": 241.0,
        "pcie_speed": "16.0 GT/s PCIe",
        "pcie_width": 16,
    }
