"""A sysfs made by the test, as xe and i915 lay it out, and the memory that /proc tells of each open card."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigbench.analysis import flags
from rigbench.analysis.energy import Place, case_energies, headline
from rigbench.records import PhaseMark
from rigbench.telemetry import drm, host
from rigbench.telemetry.base import Missing, SourceOptions
from rigbench.telemetry.intel import IntelSource
from rigbench.telemetry.sampler import Sampler


def card(root: Path, index: int, bus: str, files: dict[str, str]) -> Path:
    """card<index>, its device where the bus has it; `files` by their paths below the device."""
    device = root / "devices" / bus
    for path, text in {"vendor": "0x8086", "device": "0xe20b", **files}.items():
        (device / path).parent.mkdir(parents=True, exist_ok=True)
        (device / path).write_text(text + "\n")
    (root / "drm" / f"card{index}").mkdir(parents=True)
    (root / "drm" / f"card{index}" / "device").symlink_to(device)
    return device


B580 = {
    "hwmon/hwmon5/energy1_label": "card",
    "hwmon/hwmon5/energy1_input": "0",
    "hwmon/hwmon5/energy2_label": "pkg",
    "hwmon/hwmon5/energy2_input": "5000000000",
    "hwmon/hwmon5/power1_max": "190000000",
    "hwmon/hwmon5/temp2_label": "pkg",
    "hwmon/hwmon5/temp2_input": "61000",
    "hwmon/hwmon5/temp3_label": "vram",
    "hwmon/hwmon5/temp3_input": "74000",
    "tile0/gt0/freq0/act_freq": "2850",
    "tile0/gt0/freq0/throttle/reason_pl1": "0",
    "tile0/gt0/freq0/throttle/reason_thermal": "0",
    "tile0/gt0/freq0/throttle/status": "0",
}


def test_an_arc_b580_under_xe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = card(tmp_path, 0, "0000:03:00.0", B580)
    source = IntelSource.open(SourceOptions(), tmp_path / "drm")
    by_name = {metric.name: metric for metric in source.metrics}

    def values() -> dict[str, float | Missing]:
        return dict(zip(by_name, source.read(list(by_name.values())), strict=True))

    assert values() == {
        "energy": 5000.0,
        "clock": 2.85e9,
        "clocks_event_reasons": 0.0,
        "temperature": 61.0,
        "memory_temperature": 74.0,
        "memory_used_process": Missing("no worker is running"),
    }
    (device / "tile0/gt0/freq0/throttle/reason_thermal").write_text("1\n")
    (device / "tile0/gt0/freq0/throttle/reason_pl1").write_text("1\n")
    assert values()["clocks_event_reasons"] == 0x24
    (counter,) = [metric for metric in source.metrics if metric.name == "energy"]
    assert (counter.status, counter.reason) == ("low_confidence", "of the chip alone, without the card's memory")
    (gpu,) = IntelSource.gpus(tmp_path / "drm")
    assert (gpu["bus_id"], gpu["integrated"], gpu["power_limit_w"]) == ("0000:03:00.0", False, 190.0)


@pytest.mark.parametrize(
    ("reason", "bits"),
    [
        ("soc_thermal", 0x20),
        ("vr_thermalert", 0x20),
        ("psys_pl1", 0x04),
        ("icc_max", 0x04),
        ("status", 0),
        ("burst", 0),
    ],
)
def test_reasons_of_newer_kernels(tmp_path: Path, reason: str, bits: int) -> None:
    card(tmp_path, 0, "0000:03:00.0", B580 | {f"tile0/gt0/freq0/throttle/reason_{reason}": "1"})
    source = IntelSource.open(SourceOptions(), tmp_path / "drm")
    (metric,) = [each for each in source.metrics if each.name == "clocks_event_reasons"]
    assert source.read([metric]) == [bits]


def test_joules_of_a_card_that_works(tmp_path: Path) -> None:
    device = card(tmp_path, 0, "0000:03:00.0", B580)
    now = [0]

    def wait(step_s: float) -> bool:
        """150 W."""
        now[0] += round(step_s * 1e9)
        (device / "hwmon/hwmon5/energy2_input").write_text(str(5_000_000_000 + 150 * now[0] // 1000))
        return now[0] > 5e9

    sampler = Sampler([IntelSource.open(SourceOptions(), tmp_path / "drm")], lambda: now[0], wait)
    sampler.lanes[0].run()
    readings = sampler.window(0, 0, 5 * 10**9)
    whole = headline(case_energies(readings, 0, 5_000_000), Place("sycl", frozenset({"intel0"})))
    assert whole is not None and whole.watts_mean == pytest.approx(150, rel=0.02) and whole.scope == "board"
    assert (whole.status, whole.reason) == ("low_confidence", "of the chip alone, without the card's memory")
    assert flags.reading_flags(readings, [PhaseMark("measure", 0, 5_000_000)], 8) == ()


def test_graphics_in_the_processor_under_i915(tmp_path: Path) -> None:
    device = card(tmp_path, 1, "0000:00:02.0", {})
    (tmp_path / "drm/card1/gt/gt0").mkdir(parents=True)
    (tmp_path / "drm/card1/gt/gt0/rps_act_freq_mhz").write_text("1450\n")
    source = IntelSource.open(SourceOptions(), tmp_path / "drm")
    assert source.read(source.metrics[:1]) == [1.45e9] and source.metrics[0].device == "intel0"
    assert IntelSource.gpus(tmp_path / "drm")[0]["integrated"] is True
    assert device.name == "0000:00:02.0"
    assert IntelSource.open(SourceOptions(), tmp_path / "none").probe().reason == "no Intel graphics"


def test_memory_of_a_process_counts_each_client_once(tmp_path: Path) -> None:
    def fd(pid: int, number: int, text: str) -> None:
        folder = tmp_path / str(pid) / "fdinfo"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_text(text)

    xe = "drm-driver:\txe\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t7\ndrm-resident-vram0:\t8192 KiB\n"
    xe += "drm-resident-system:\t512 KiB\n"
    fd(10, 3, xe)
    fd(10, 4, xe)
    fd(11, 3, xe.replace("client-id:\t7", "client-id:\t8").replace("8192 KiB", "1 MiB"))
    fd(11, 4, "drm-pdev:\t0000:10:00.0\ndrm-client-id:\t9\ndrm-memory-vram:\t100 KiB\ndrm-memory-gtt:\t60 MiB\n")
    assert drm.process_memory([10, 11], "0000:03:00.0", False, tmp_path) == 9 * 2**20
    assert drm.process_memory([10, 11], "0000:10:00.0", True, tmp_path) == 60 * 2**20 + 100 * 2**10
    assert isinstance(drm.process_memory([12], "0000:03:00.0", False, tmp_path), Missing)
    # a kernel that numbers no clients: two processes with the same file
    for pid in (13, 14):
        fd(pid, 5, "drm-pdev:\t0000:04:00.0\ndrm-resident-vram0:\t100 KiB\n")
    assert drm.process_memory([13, 14], "0000:04:00.0", False, tmp_path) == 200 * 2**10
    # ROCm's memory, which older kernels do not show here
    fd(15, 5, "drm-pdev:\t0000:04:00.0\ndrm-client-id:\t3\ndrm-memory-vram:\t0 KiB\n")
    assert isinstance(drm.process_memory([15], "0000:04:00.0", False, tmp_path), Missing)
    assert Path("/proc") == host.PROC
