"""What makes a case unfit, from counters and states with known values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from rigbench.analysis import flags
from rigbench.records import Flag, PhaseMark, Series

ROOT = Path(__file__).parents[2]
S = 1_000_000
MEASURE = [PhaseMark("warmup", 0, 5 * S), PhaseMark("measure", 5 * S, 15 * S)]


def series(name: str, curve: Callable[[float], float], device: str | None = None, step_s: float = 0.5) -> Series:
    times = tuple(round(k * step_s * S) for k in range(round(20 / step_s) + 1))
    return Series(
        name, "s", "test", "test", "board", "counter", "ok", None, device, times, tuple(curve(t / S) for t in times)
    )


def flags_of(*readings: Series, cores: int = 8) -> list[Flag]:
    return list(flags.reading_flags(readings, MEASURE, cores))


def test_a_calm_machine_has_no_flags() -> None:
    assert (
        flags_of(
            series("throttled_sw_thermal", lambda t: 3.0, "gpu0"),
            series("throttled_power", lambda t: 2.0, "gpu0"),
            series("thermal_pressure", lambda t: 0.0),
            series("swap_used", lambda t: 5e9),
            series("cpu_busy", lambda t: 100 + 1.3 * t),
            series("cpu_ours", lambda t: 10 + 1.0 * t),
            series("cpu_steal", lambda t: 0.1 * t),
        )
        == []
    )


def test_throttled_only_where_it_was_measured() -> None:
    # Slowed by 0.25 s each second, but only while warming up: nothing; over the whole: 25 %.
    assert flags_of(series("throttled_hw_thermal", lambda t: min(0.25 * t, 1.25), "gpu0")) == []
    assert flags_of(series("throttled_hw_thermal", lambda t: 0.25 * t, "gpu0")) == [
        Flag("throttled", "gpu0 was slowed by the chip for heat during 25% of the window")
    ]


def test_power_cap_is_another_flag() -> None:
    assert flags_of(series("throttled_power", lambda t: 0.6 * t, "gpu1")) == [
        Flag("power_capped", "gpu1 was at its power limit during 60% of the window")
    ]


def test_mask_of_reasons_by_share_of_samples() -> None:
    # 0x04 power cap from 10 s on (11 of 21 samples in the window), 0x20 heat by software in one sample.
    mask = series("clocks_event_reasons", lambda t: 0x24 if t == 12 else 0x04 if t >= 10 else 0x01, "gpu0")
    assert flags_of(mask) == [
        Flag("throttled", "gpu0 was slowed for heat or supply in 5% of the samples"),
        Flag("power_capped", "gpu0 was at its power limit in 52% of the samples"),
    ]


def test_thermal_pressure_is_named() -> None:
    assert flags_of(series("thermal_pressure", lambda t: 2.0 if 8 < t < 9 else 0.0)) == [
        Flag("throttled", "thermal pressure was heavy")
    ]
    assert flags_of(series("thermal_pressure", lambda t: 2.0 if t < 4 else 0.0)) == []


def test_swapping_by_traffic_or_growth() -> None:
    assert flags_of(series("swap_in", lambda t: 10e6 * t)) == [
        Flag("swapping", "100 MB were read back from swap during the window")
    ]
    assert flags_of(series("swap_used", lambda t: 1e9 + (50e6 if t > 10 else 0))) == [
        Flag("swapping", "swap in use grew by 50 MB during the window")
    ]


def test_foreign_load_and_steal() -> None:
    assert flags_of(
        series("cpu_busy", lambda t: 500 + 3.0 * t),
        series("cpu_ours", lambda t: 20 + 2.0 * t),
        series("cpu_steal", lambda t: 0.5 * t),
    ) == [
        Flag("foreign_load", "other programs held 1.00 of 8 cores"),
        Flag("foreign_load", "the hypervisor took 0.50 of 8 cores (steal)"),
    ]


def test_foreign_program_on_the_gpu() -> None:
    assert flags_of(series("memory_used_foreign", lambda t: 3.2e9, "gpu0", step_s=10)) == [
        Flag("foreign_load", "another program held 3.2 GB of gpu0")
    ]


def test_nothing_read_is_nothing_flagged() -> None:
    empty = Series("cpu_busy", "s", "host", "test", "host", "counter", "unavailable", "no /proc")
    assert flags_of(empty) == []
    assert flags.reading_flags([], [], 8) == ()


def pressure(level: float) -> Series:
    return Series(
        "thermal_pressure", "level", "apple", "t", "host", "sampled", "ok", None, None, (-1, 0), (level, level)
    )


def test_a_machine_is_hot_for_as_long_as_its_last_readings_say_so() -> None:
    assert flags.hot([pressure(1.0)]) == "thermal pressure was moderate"
    assert flags.hot([pressure(0.0)]) is None
    assert flags.hot([]) is None


def test_noise_is_a_variation_above_five_percent() -> None:
    assert flags.row_flags([100, 101, 102], None) == ()
    assert flags.row_flags([100], None) == ()
    assert [flag.name for flag in flags.row_flags([100, 120, 90], None)] == ["noisy"]


def test_the_ceiling_may_be_passed_by_rounding_alone() -> None:
    assert flags.row_flags([100.4], 100.0) == ()
    assert [flag.name for flag in flags.row_flags([100.6], 100.0)] == ["above_ceiling"]


def test_every_flag_that_the_sources_raise_is_in_the_registry() -> None:
    names = set()
    for folder in ("harness", "backends"):
        for path in (ROOT / folder).rglob("*.py"):
            names |= set(re.findall(r"""(?:Flag\(|flags\.append\(\()"([a-z_]+)",""", path.read_text(encoding="utf-8")))
    assert {"throttled", "gpu_unused", "client_bound", "noisy", "above_ceiling"} <= names
    assert names <= {flag.name for flag in flags.FLAGS}


def test_the_readme_lists_each_flag() -> None:
    """One line may stand for several."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").split("| flag |")[1].split("\n\n")[0].splitlines()[2:]
    listed = [name for line in lines for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(flag.name for flag in flags.FLAGS)
