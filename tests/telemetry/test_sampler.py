"""The sampler on a clock that only moves when it is waited on or a source takes its time. Nothing here sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from rigbench.analysis import energy
from rigbench.records import Series
from rigbench.telemetry.base import Absent, Metric, Missing, Reading
from rigbench.telemetry.sampler import Lane, Sampler
from rigbench_backends.base import Probe

S = 1_000_000_000
POWER = Metric("power", "W", "test", "board", "sampled", 0.1, "gpu0")
TEMPERATURE = Metric("temperature", "degC", "test", "board", "sampled", 0.5, "gpu0")
ENERGY = Metric("energy", "J", "test", "board", "counter", None, "gpu0")


class Time:
    """Nanoseconds that pass when waited for; `wait` answers True (stop) from `end_ns` on."""

    def __init__(self, end_s: float) -> None:
        self.now_ns = 0
        self.end_ns = round(end_s * S)

    def clock(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> bool:
        self.now_ns += round(seconds * S)
        return self.now_ns >= self.end_ns


class Fake:
    """A source whose readings and duration are functions of the time."""

    name = "nvml"

    def __init__(
        self,
        time: Time,
        metrics: Sequence[Metric] = (POWER,),
        value: Callable[[float], Reading] = lambda t: 100.0,
        takes_s: Callable[[float], float] = lambda t: 0.0,
    ) -> None:
        self.time, self.metrics, self.value, self.takes_s = time, tuple(metrics), value, takes_s
        self.closed = 0
        self.pid: int | None = None

    def probe(self) -> Probe:
        return Probe(True, "1.0", devices=("Fake GPU",))

    def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
        at = self.time.now_ns / S
        self.time.now_ns += round(self.takes_s(at) * S)
        return [self.value(at) for _ in metrics]

    def watch(self, pid: int | None) -> None:
        self.pid = pid

    def close(self) -> None:
        self.closed += 1


def run(source: Fake, time: Time) -> tuple[Sampler, Lane]:
    """A sampler whose one lane has run to the end of `time` in this thread."""
    sampler = Sampler([source], time.clock, time.wait)
    (lane,) = sampler.lanes
    lane.run()
    return sampler, lane


def test_deadlines_are_absolute() -> None:
    # Each reading takes 30 ms; reading at start + k x 100 ms + 15 ms shows that the time taken does not add up.
    time = Time(1.0)
    _, lane = run(Fake(time, takes_s=lambda t: 0.03), time)
    assert [at for at, _ in lane.readings[POWER]] == [k * S // 10 + 15_000_000 for k in range(10)]
    assert lane.late_ticks == 0


def test_late_ticks_are_skipped_and_counted_never_burst() -> None:
    # The reading at 0.3 s takes 0.35 s: those due at 0.4, 0.5 and 0.6 are lost, the next is at 0.7.
    time = Time(1.0)
    sampler, lane = run(Fake(time, takes_s=lambda t: 0.35 if 0.25 < t < 0.35 else 0.0), time)
    starts = [at for at, _ in lane.readings[POWER]]
    assert starts == [0, S // 10, 2 * S // 10, round(0.475 * S), 7 * S // 10, 8 * S // 10, 9 * S // 10]
    assert lane.late_ticks == 3
    assert sampler.report()["sampler"]["late_ticks"] == 3


def test_each_group_has_its_period_and_edges_are_read_at_edges() -> None:
    time = Time(2.0)
    source = Fake(time, [POWER, TEMPERATURE, ENERGY])
    sampler, lane = run(source, time)
    assert [len(lane.readings[metric]) for metric in (POWER, TEMPERATURE, ENERGY)] == [20, 4, 0]
    sampler.edge()
    time.now_ns += 3 * S
    sampler.edge()
    (_, _, energy_series) = sampler.window(0, 2 * S, 5 * S)
    assert energy_series.time_us == (2_000_000, 5_000_000)


def test_window_is_relative_to_t0_and_holds_one_reading_on_each_side() -> None:
    time = Time(3.0)
    sampler, _ = run(Fake(time, value=lambda t: 100.0 + t), time)
    (series,) = sampler.window(S, round(1.25 * S), round(1.55 * S))
    assert series.time_us == (200_000, 300_000, 400_000, 500_000, 600_000)
    assert series.values == (101.2, 101.3, 101.4, 101.5, 101.6)
    assert (series.name, series.unit, series.source, series.scope, series.device) == (
        "power",
        "W",
        "nvml",
        "board",
        "gpu0",
    )
    assert (series.status, series.reason) == ("ok", None)


def test_gpu_lost_in_the_middle_is_degraded_then_unavailable() -> None:
    lost = Missing("the GPU is lost")
    time = Time(20.0)
    sampler, _ = run(Fake(time, value=lambda t: 300.0 if t < 9.95 else lost), time)
    (across,) = sampler.window(0, 5 * S, 15 * S)
    assert across.status == "degraded"
    assert across.reason is not None and across.reason.endswith("readings failed: the GPU is lost")
    assert across.values[0] == 300.0 and across.values[-1] is None
    assert energy.case_energies([across], 5_000_000, 15_000_000)[0].joules is None
    (after,) = sampler.window(0, 12 * S, 15 * S)
    assert (after.status, after.reason, after.values) == ("unavailable", "the GPU is lost", ())


def test_permission_denied_keeps_its_status() -> None:
    time = Time(1.0)
    sampler, _ = run(Fake(time, value=lambda t: Missing("root only", "denied")), time)
    (series,) = sampler.window(0, 0, S)
    assert (series.status, series.reason, series.time_us) == ("denied", "root only", ())


def test_zero_watts_are_no_reading() -> None:
    time = Time(1.0)
    sampler, _ = run(Fake(time, value=lambda t: 0.0), time)
    (series,) = sampler.window(0, 0, S)
    assert series.status == "unavailable" and series.values == ()
    assert series.reason == "test reads 0 W, which no running machine draws"


@pytest.mark.parametrize(
    ("name", "unit", "missing"), [("clock", "Hz", True), ("temperature", "degC", True), ("swap_used", "B", False)]
)
def test_0_is_no_clock_or_temperature_but_may_be_swap(name: str, unit: str, missing: bool) -> None:
    time = Time(1.0)
    metric = Metric(name, unit, "test", "board", "sampled", 0.1)
    sampler, _ = run(Fake(time, [metric], value=lambda t: 0.0), time)
    (series,) = sampler.window(0, 0, S)
    reason = f"test reads 0 {unit}: it does not know, or this part rests"
    assert (series.status, series.reason) == (("unavailable", reason) if missing else ("ok", None))


def test_a_gap_of_more_than_five_periods_is_degraded() -> None:
    time = Time(4.0)
    sampler, _ = run(Fake(time, takes_s=lambda t: 0.75 if 1.95 < t < 2.05 else 0.0), time)
    (series,) = sampler.window(0, S, round(3.5 * S))
    assert series.status == "ok"  # 0.475 s and 0.425 s: the slow reading itself stands in the middle of its call
    time = Time(4.0)
    sampler, _ = run(Fake(time, takes_s=lambda t: 1.2 if 1.95 < t < 2.05 else 0.0), time)
    (series,) = sampler.window(0, S, round(3.5 * S))
    assert series.status == "degraded"
    assert series.reason == "no reading for 0.70 s (one is due every 0.1 s)"


def test_a_source_that_raises_is_missing_not_fatal() -> None:
    def fail(t: float) -> Reading:
        if t > 0.45:
            raise RuntimeError("driver gone mad")
        return 100.0

    time = Time(1.0)
    sampler, lane = run(Fake(time, value=fail), time)
    assert len(lane.readings[POWER]) == 10
    (series,) = sampler.window(0, 0, S)
    assert series.reason is not None and "RuntimeError: driver gone mad" in series.reason


def test_a_machine_without_sources_is_null_with_reasons() -> None:
    absent = Absent("rapl", "package", Probe(False, reason="no powercap; virtual machine"))
    sampler = Sampler([absent])
    sampler.start()
    sampler.edge()
    (series,) = sampler.window(0, 0, S)
    assert series == Series(
        "power", "W", "rapl", "rapl", "package", "sampled", "unavailable", "no powercap; virtual machine"
    )
    (energies,) = energy.case_energies([series], 0, 30_000_000)
    assert energies.joules is None and energies.reason == "no powercap; virtual machine"
    sampler.stop()
    report = sampler.report()
    assert report["sources"][0]["usable"] is False
    assert report["sources"][0]["calls"] == 0 and report["sources"][0]["call_p50_s"] is None


def test_no_sources_at_all() -> None:
    sampler = Sampler([]).start()
    assert sampler.window(0, 0, S) == ()
    sampler.stop()
    assert sampler.report()["sources"] == []


def test_report_tells_calls_and_gaps() -> None:
    time = Time(10.0)
    source = Fake(time, takes_s=lambda t: 0.25 if t > 9.85 else 0.002)
    sampler, lane = run(source, time)
    report = sampler.report()["sources"][0]
    assert report["calls"] == len(lane.call_ns) == 100
    assert report["call_p50_s"] == pytest.approx(0.002)
    assert report["call_p99_s"] == pytest.approx(0.25)
    assert report["longest_gap_s"] == pytest.approx(0.224)
    assert report["devices"] == ["Fake GPU"] and report["version"] == "1.0"


def test_forget_keeps_one_reading_for_interpolation() -> None:
    time = Time(10.0)
    sampler, lane = run(Fake(time), time)
    sampler.forget(8 * S)
    assert [at for at, _ in lane.readings[POWER]][:2] == [round(7.9 * S), 8 * S]


def test_watch_reaches_every_source() -> None:
    time = Time(1.0)
    sources = [Fake(time), Fake(time)]
    Sampler(sources, time.clock, time.wait).watch(42)
    assert [source.pid for source in sources] == [42, 42]


def test_real_threads_start_read_and_end() -> None:
    # Real time, but nothing is asserted of it: the thread says itself when it has read three times.
    three = threading.Event()

    class Counting(Fake):
        def read(self, metrics: Sequence[Metric]) -> Sequence[Reading]:
            if len(sampler.lanes[0].call_ns) >= 3:
                three.set()
            return [250.0]

    source = Counting(Time(1.0), [Metric("power", "W", "test", "board", "sampled", 0.001)])
    sampler = Sampler([source])
    sampler.start()
    assert three.wait(10)
    sampler.stop()
    sampler.stop()
    assert source.closed == 1
    report = sampler.report()["sampler"]
    assert report["calls"] >= 3 and report["cpu_s"] > 0 and report["elapsed_s"] > 0
