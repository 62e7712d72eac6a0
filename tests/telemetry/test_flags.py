"""What makes a case unfit, from counters and states with known values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rigbench.records import Flag, PhaseMark, Series
from rigbench.telemetry import flags

S = 1_000_000
MEASURE = [PhaseMark("warmup", 0, 5 * S), PhaseMark("measure", 5 * S, 15 * S)]


def series(name: str, curve: Callable[[float], float], device: str | None = None, step_s: float = 0.5) -> Series:
    times = tuple(round(k * step_s * S) for k in range(round(20 / step_s) + 1))
    return Series(
        name, "s", "test", "test", "board", "counter", "ok", None, device, times, tuple(curve(t / S) for t in times)
    )


def found(*readings: Series, cores: int = 8) -> list[Flag]:
    return list(flags.flags(readings, MEASURE, cores))


def test_a_calm_machine_has_no_flags() -> None:
    assert (
        found(
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
    assert found(series("throttled_hw_thermal", lambda t: min(0.25 * t, 1.25), "gpu0")) == []
    assert found(series("throttled_hw_thermal", lambda t: 0.25 * t, "gpu0")) == [
        Flag("throttled", "gpu0 was slowed by the chip for heat during 25% of the window")
    ]


def test_power_cap_is_another_flag() -> None:
    assert found(series("throttled_power", lambda t: 0.6 * t, "gpu1")) == [
        Flag("power_capped", "gpu1 was at its power limit during 60% of the window")
    ]


def test_mask_of_reasons_by_share_of_samples() -> None:
    # 0x04 power cap from 10 s on (11 of 21 samples in the window), 0x20 heat by software in one sample.
    mask = series("clocks_event_reasons", lambda t: 0x24 if t == 12 else 0x04 if t >= 10 else 0x01, "gpu0")
    assert found(mask) == [
        Flag("throttled", "gpu0 was slowed for heat or supply in 5% of the samples"),
        Flag("power_capped", "gpu0 was at its power limit in 52% of the samples"),
    ]


def test_thermal_pressure_is_named() -> None:
    assert found(series("thermal_pressure", lambda t: 2.0 if 8 < t < 9 else 0.0)) == [
        Flag("throttled", "thermal pressure was heavy")
    ]
    assert found(series("thermal_pressure", lambda t: 2.0 if t < 4 else 0.0)) == []


def test_swapping_by_traffic_or_growth() -> None:
    assert found(series("swap_in", lambda t: 10e6 * t)) == [
        Flag("swapping", "100 MB were read back from swap during the window")
    ]
    assert found(series("swap_used", lambda t: 1e9 + (50e6 if t > 10 else 0))) == [
        Flag("swapping", "swap in use grew by 50 MB during the window")
    ]


def test_foreign_load_and_steal() -> None:
    assert found(
        series("cpu_busy", lambda t: 500 + 3.0 * t),
        series("cpu_ours", lambda t: 20 + 2.0 * t),
        series("cpu_steal", lambda t: 0.5 * t),
    ) == [
        Flag("foreign_load", "other programs held 1.00 of 8 cores"),
        Flag("foreign_load", "the hypervisor took 0.50 of 8 cores (steal)"),
    ]


def test_foreign_program_on_the_gpu() -> None:
    assert found(series("memory_used_foreign", lambda t: 3.2e9, "gpu0", step_s=10)) == [
        Flag("foreign_load", "another program held 3.2 GB of gpu0")
    ]


def test_nothing_read_is_nothing_flagged() -> None:
    empty = Series("cpu_busy", "s", "host", "test", "host", "counter", "unavailable", "no /proc")
    assert found(empty) == []
    assert flags.flags([], [], 8) == ()


class Gate:
    """A machine that is hot until `cool_s`, on a clock that moves when it is waited on."""

    def __init__(self, cool_s: float) -> None:
        self.now_ns, self.cool_s, self.looks = 0, cool_s, 0

    def look(self) -> Sequence[Series]:
        self.looks += 1
        pressure = 1.0 if self.now_ns * 1e-9 < self.cool_s else 0.0
        return [
            Series(
                "thermal_pressure",
                "level",
                "apple",
                "t",
                "host",
                "sampled",
                "ok",
                None,
                None,
                (-1, 0),
                (pressure, pressure),
            )
        ]

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def settle(self, settle_s: float) -> tuple[Flag, ...]:
        return flags.settle(self.look, settle_s, lambda: self.now_ns, self.wait)


def test_settle_waits_until_cool() -> None:
    gate = Gate(3.2)
    assert gate.settle(30) == ()
    assert gate.now_ns == 3_500_000_000


def test_settle_does_not_wait_on_a_cool_machine() -> None:
    gate = Gate(0)
    assert gate.settle(30) == () and gate.now_ns == 0 and gate.looks == 1
    assert flags.settle(lambda: [], 30, lambda: 0, lambda _: None) == ()


def test_settle_gives_up_with_a_flag() -> None:
    gate = Gate(1000)
    assert gate.settle(5) == (Flag("throttled", "not cool after 5 s of waiting: thermal pressure was moderate"),)
    assert gate.now_ns == 5_000_000_000
