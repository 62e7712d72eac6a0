"""Tables as the C compiler lays them out: the fields in the order of the kernel's kgd_pp_interface.h, aligned by ctypes, with
values that are all different."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from rigbench.telemetry import amd_table, base
from rigbench.telemetry.amd import AmdSource
from rigbench.telemetry.base import Missing, SourceOptions

C = {"B": ctypes.c_uint8, "H": ctypes.c_uint16, "I": ctypes.c_uint32, "Q": ctypes.c_uint64}
TEMPERATURES_1 = "H:edge H:hotspot H:mem H:vrgfx H:vrsoc H:vrmem"
LOAD_1 = "H:gfx_activity H:umc_activity H:mm_activity H:socket_power"
CLOCKS_1 = "H7:average_clocks H:gfxclk H:socclk H:uclk H4:video_clocks I:throttle_status H:fan"
CARD = f"{TEMPERATURES_1} {LOAD_1} Q:energy Q:clock_counter {CLOCKS_1}"
CARD_1_1 = f"{CARD} H:pcie_width H:pcie_speed H:padding I:gfx_acc I:mem_acc H4:hbm"
CARD_1_2 = f"{CARD_1_1} Q:firmware_time"
INSTINCT = "H:hotspot H:mem H:vrsoc H:socket_power H:gfx_activity H:umc_activity H4:vcn"
THROTTLERS = "I:accumulation I:prochot I:ppt I:socket_thm I:vr_thm I:hbm_thm"
APU_HEAT = "H:gfx H:soc H8:core H2:l3 H:gfx_activity H:mm_activity"
APU_POWER = "H:socket_power H:cpu_power H:soc_power H:gfx_power H8:core_power"
APU_CLOCKS = "H6:average_clocks H:gfxclk H:socclk H:uclk H3:others H8:coreclk H2:l3clk I:throttle_status H:fan"
APU = f"{APU_HEAT} Q:clock_counter {APU_POWER} {APU_CLOCKS} H3:padding"
FIELDS = {
    (1, 1): CARD_1_1,
    (1, 2): CARD_1_2,
    (1, 3): f"{CARD_1_2} H3:voltages H:padding_1 Q:indep_throttle_status",
    (1, 4): f"{INSTINCT} Q:energy Q:clock_counter I:throttle_status I:lock",
    (1, 5): f"{INSTINCT} H32:jpeg Q:energy Q:clock_counter I:throttle_status I:lock",
    (1, 6): f"{INSTINCT} H32:jpeg Q:energy Q:clock_counter {THROTTLERS} I:throttle_status I:lock",
    (2, 0): f"Q:clock_counter {APU_HEAT} {APU_POWER} {APU_CLOCKS} H:padding",
    (2, 1): APU,
    (2, 2): f"{APU} Q:indep_throttle_status",
    (2, 3): f"{APU} Q:indep_throttle_status H12:average_temperatures",
    (2, 4): f"{APU} Q:indep_throttle_status H12:average_temperatures H6:volts_and_amperes",
    (
        3,
        0,
    ): "H:gfx H:soc H16:core H:skin H:gfx_activity H:vcn H8:ipu H16:c0 H4:traffic Q:clock_counter I:socket_power H:ipu_power "
    "I:apu_power I:gfx_power I:dgpu_power I:all_core_power H16:core_power H:sys_power H2:stapm H:gfxclk H:socclk H4:others "
    "H:uclk H:mpipu H16:coreclk H2:limits I:prochot I:spl I:fppt I:sppt I:thm_core I:thm_gfx I:thm_soc I:alpha",
}
SIZES = {(1, 3): 120, (2, 1): 120, (2, 2): 128, (3, 0): 264}
"""What the headers' sizeof is where a driver's source or a recorded table tells it."""


def structure(revision: tuple[int, int]) -> Any:
    fields: list[tuple[str, Any]] = [("size", C["H"]), ("format", C["B"]), ("content", C["B"])]
    for word in FIELDS[revision].split():
        kind, name = word.split(":")
        fields.append((name, C[kind[0]] * int(kind[1:]) if kind[1:] else C[kind]))
    kind = type("Table", (ctypes.Structure,), {"_fields_": fields})
    size = ctypes.sizeof(kind)
    assert SIZES.get(revision, size) == size
    return kind(size, *revision)


def table(revision: tuple[int, int], fill: int = 0, **values: int) -> bytes:
    """Each field that is not named is `fill` in every byte."""
    content = structure(revision)
    ctypes.memset(ctypes.addressof(content) + 4, fill, ctypes.sizeof(content) - 4)
    for name, value in values.items():
        setattr(content, name, value)
    return bytes(content)


EXPECTED = {
    (1, 1): {base.POWER: 212.0, base.TEMPERATURE: 91.0, base.MEMORY_TEMPERATURE: 88.0, base.CLOCK: 2.5e9,
             base.MEMORY_CLOCK: 1.249e9},
    (1, 4): {base.POWER: 212.0, base.TEMPERATURE: 91.0, base.MEMORY_TEMPERATURE: 88.0, base.ENERGY: 3.0},
    (2, 0): {},
    (2, 1): {base.CLOCK: 2.5e9, base.MEMORY_CLOCK: 1.249e9},
    (2, 4): {base.CLOCK: 2.5e9, base.MEMORY_CLOCK: 1.249e9, base.POWER: 0.212, base.TEMPERATURE: 61.25},
    (3, 0): {base.CLOCK: 2.5e9, base.MEMORY_CLOCK: 1.249e9, base.POWER: 0.212},
}  # fmt: skip
EXPECTED |= {
    (1, 2): EXPECTED[1, 1],
    (1, 3): EXPECTED[1, 1],
    (1, 5): EXPECTED[1, 4],
    (1, 6): EXPECTED[1, 4],
    (2, 2): EXPECTED[2, 1],
    (2, 3): EXPECTED[2, 1],
}
SAMPLE = {"hotspot": 91, "mem": 88, "socket_power": 212, "gfxclk": 2500, "uclk": 1249, "energy": 3 << 16, "gfx": 6125}
QUANTITIES = (base.POWER, base.ENERGY, base.TEMPERATURE, base.MEMORY_TEMPERATURE, base.CLOCK, base.MEMORY_CLOCK)


@pytest.mark.parametrize("revision", FIELDS)
def test_each_value_comes_from_its_own_field(revision: tuple[int, int]) -> None:
    names = {word.split(":")[1] for word in FIELDS[revision].split()}
    content = table(revision, 0xAA, **{name: value for name, value in SAMPLE.items() if name in names})
    values = {
        each: reading for each in QUANTITIES if not isinstance(reading := amd_table.value(content, each), Missing)
    }
    assert values == {each: pytest.approx(value) for each, value in EXPECTED[revision].items()}


@pytest.mark.parametrize("fill", [0x00, 0xFF])
@pytest.mark.parametrize("revision", FIELDS)
def test_what_the_firmware_does_not_fill_is_no_reading(revision: tuple[int, int], fill: int) -> None:
    content = table(revision, fill)
    assert all(isinstance(amd_table.value(content, each), Missing) for each in QUANTITIES)
    if fill:
        assert amd_table.slowed(content, None) in (0.0, Missing("gpu_metrics does not tell what slows the chip"))


@pytest.mark.parametrize("revision", [(1, 0), (1, 7), (2, 5), (3, 1), (4, 0), (255, 255)])
def test_a_revision_that_is_not_known_tells_nothing(revision: tuple[int, int]) -> None:
    content = bytes([8, 2, *revision]) + b"\x11" * 516
    assert all(isinstance(amd_table.value(content, each), Missing) for each in QUANTITIES)
    assert isinstance(amd_table.slowed(content, None), Missing)


def test_a_table_that_is_cut_short_tells_nothing() -> None:
    for revision in FIELDS:
        whole = table(revision, 0x11)
        for length in range(0, len(whole), 3):
            for each in QUANTITIES:
                amd_table.value(whole[:length], each)
            amd_table.slowed(whole[:length], None)
        assert isinstance(amd_table.value(whole[:4], base.POWER), Missing)


@pytest.mark.parametrize("revision", [(1, 3), (2, 2), (2, 3), (2, 4)])
@pytest.mark.parametrize(
    ("bit", "mask"),
    [(None, 0), (0, 0x04), (7, 0x04), (16, 0x04), (23, 0x04), (32, 0x20), (36, 0x20), (47, 0x20), (48, 0)],
)
def test_the_bits_that_no_chip_changes(revision: tuple[int, int], bit: int | None, mask: int) -> None:
    status = 0 if bit is None else 1 << bit
    assert amd_table.slowed(table(revision, throttle_status=0xFFFF, indep_throttle_status=status), None) == mask


@pytest.mark.parametrize(
    ("revision", "field", "mask"),
    [
        ((1, 6), "ppt", 0x04), ((1, 6), "prochot", 0x20), ((1, 6), "socket_thm", 0x20), ((1, 6), "vr_thm", 0x20),
        ((1, 6), "hbm_thm", 0x20), ((1, 6), "accumulation", 0), ((1, 6), "throttle_status", 0), ((3, 0), "spl", 0x04),
        ((3, 0), "fppt", 0x04), ((3, 0), "sppt", 0x04), ((3, 0), "prochot", 0x20), ((3, 0), "thm_core", 0x20),
        ((3, 0), "thm_gfx", 0x20), ((3, 0), "thm_soc", 0x20), ((3, 0), "alpha", 0),
    ],
)  # fmt: skip
def test_the_counters_of_time_slowed(revision: tuple[int, int], field: str, mask: int) -> None:
    before, after = table(revision, 0x01), table(revision, 0x01, **{field: 0x01010102})
    assert amd_table.slowed(before, None) == 0
    assert amd_table.slowed(after, amd_table.counters(before)) == mask


def test_an_instinct_that_has_nothing_but_its_table(tmp_path: Path) -> None:
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "gpu_metrics").write_bytes(table((1, 6), hotspot=71, mem=66, socket_power=612, energy=1 << 26))
    source = AmdSource.open(SourceOptions(), tmp_path)
    readings = dict(
        zip(((each.name, each.scope, each.method) for each in source.metrics), source.read(source.metrics), strict=True)
    )
    assert readings == {
        ("power", "board", "sampled"): 612.0,
        ("energy", "board", "counter"): 1024.0,
        ("temperature", "board", "sampled"): 71.0,
        ("memory_temperature", "board", "sampled"): 66.0,
        ("clocks_event_reasons", "board", "sampled"): 0.0,
    }


def test_each_look_asks_the_firmware_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "gpu_metrics").write_bytes(table((1, 3), hotspot=71, mem=66, socket_power=212, gfxclk=2500, uclk=1249))
    source = AmdSource.open(SourceOptions(), tmp_path)
    looks: list[Path] = []
    real = amd_table.content
    monkeypatch.setattr(amd_table, "content", lambda path: looks.append(path) or real(path))
    source.read(source.metrics)
    assert len(source.metrics) == 6 and len(looks) == 1
