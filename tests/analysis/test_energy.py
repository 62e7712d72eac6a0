"""Known power curves, hand-worked counters, and windows of which nothing may be said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from rigbench.analysis import energy
from rigbench.analysis.windows import Window
from rigbench.records import Case, CaseResult, PhaseMark, Series
from rigbench.workloads import Generation

S = 1_000_000


def power(
    curve: Callable[[float], float | None],
    end_s: float = 30.0,
    period_s: float = 0.1,
    source: str = "nvml",
    device: str | None = "gpu0",
    scope: str = "board",
) -> Series:
    times = [round(k * period_s * S) for k in range(-1, round(end_s / period_s) + 2)]
    return Series(
        "power",
        "W",
        source,
        "test",
        scope,
        "sampled",
        "ok",
        None,
        device,
        tuple(times),
        tuple(curve(t / S) for t in times),
    )


def counter(
    readings: Sequence[tuple[float, float]], source: str = "nvml", device: str | None = "gpu0", scope: str = "board"
) -> Series:
    times, values = zip(*readings, strict=True)
    return Series(
        "energy", "J", source, "test", scope, "counter", "ok", None, device, tuple(round(t * S) for t in times), values
    )


def test_constant_power_is_power_times_time() -> None:
    total = energy.window_energy(power(lambda t: 250.0), None, 5 * S, 25 * S)
    assert total.joules == pytest.approx(5000.0, rel=1e-12)
    assert total.watts_mean == pytest.approx(250.0)
    assert total.watts_peak == 250.0
    assert (total.status, total.method) == ("ok", "integrated")


@pytest.mark.parametrize("start,end", [(5.0, 25.0), (5.037, 24.961), (7.77, 19.999)])
def test_a_known_curve_is_exact_to_a_thousandth(start: float, end: float) -> None:
    # 300 W with a swing of 100 W every 2 s, and a ramp of 2 W/s: the antiderivative is known.
    omega = math.pi
    total = energy.window_energy(
        power(lambda t: 300 + 100 * math.sin(omega * t) + 2 * t), None, round(start * S), round(end * S)
    )

    def area(t: float) -> float:
        return 300 * t - 100 / omega * math.cos(omega * t) + t * t

    assert total.joules == pytest.approx(area(end) - area(start), rel=1e-3)


def test_edges_between_readings_are_interpolated() -> None:
    # A ramp of 10 W/s: from 2.05 to 12.05 s it is 5 x (12.05^2 - 2.05^2) J exactly, though no reading is at an edge.
    total = energy.window_energy(power(lambda t: 10 * t), None, round(2.05 * S), round(12.05 * S))
    assert total.joules == pytest.approx(5 * (12.05**2 - 2.05**2), rel=1e-9)


@pytest.mark.parametrize(
    "seconds,status", [(1.999, "unavailable"), (2.0, "low_confidence"), (9.9, "low_confidence"), (10.0, "ok")]
)
def test_short_windows(seconds: float, status: str) -> None:
    total = energy.window_energy(power(lambda t: 100.0), None, S, round((1 + seconds) * S))
    assert total.status == status
    assert (total.joules is None) == (seconds < 2)
    assert (total.reason is None) == (status == "ok")


def test_wall_meter_needs_a_minute_and_few_gaps() -> None:
    def meter(curve: Callable[[float], float | None]) -> Series:
        return power(curve, 130, 1.0, "wall", None, "wall")

    assert energy.window_energy(meter(lambda t: 80.0), None, 0, 59 * S).joules is None
    assert energy.window_energy(meter(lambda t: 80.0), None, 0, 100 * S).joules == pytest.approx(8000)
    dying = energy.window_energy(meter(lambda t: 80.0 if t < 90 else None), None, 0, 100 * S)
    assert dying.joules is None
    assert dying.reason is not None and "11% of the window is without readings" in dying.reason


def test_gpu_lost_in_the_middle_has_no_energy() -> None:
    total = energy.window_energy(power(lambda t: 400.0 if t < 14 else None), None, 5 * S, 25 * S)
    assert total.joules is None and total.status == "unavailable"
    assert total.reason is not None and "without readings" in total.reason


def test_a_gap_of_six_periods_is_degraded_but_kept() -> None:
    total = energy.window_energy(power(lambda t: None if 10.05 < t < 10.65 else 400.0), None, 5 * S, 25 * S)
    assert total.status == "degraded" and total.joules == pytest.approx(8000)
    assert total.reason == "no reading for 0.70 s"


def test_every_other_reading_failing_still_integrates() -> None:
    curve = power(lambda t: 200.0 if round(t * 10) % 2 else None)
    total = energy.window_energy(curve, None, 5 * S, 25 * S)
    assert total.joules == pytest.approx(4000)
    assert (total.status, total.reason) == ("degraded", "50% of the readings failed")


@pytest.mark.parametrize("times", [(), (10,), (6, 12, 18, 24)])
def test_a_few_readings_are_no_curve(times: tuple[int, ...]) -> None:
    few = replace(power(lambda t: 0.0), time_us=tuple(t * S for t in times), values=(100.0,) * len(times))
    total = energy.window_energy(few, None, 5 * S, 25 * S)
    assert total.joules is None and total.watts_mean is None and total.reason


def test_a_case_that_was_degraded_elsewhere_leaves_a_good_window_good() -> None:
    curve = replace(power(lambda t: None if 1 < t < 4 else 400.0), status="degraded", reason="no reading for 3.00 s")
    assert energy.window_energy(curve, None, 5 * S, 25 * S).status == "ok"
    mean = replace(power(lambda t: 400.0), status="low_confidence", reason="a mean over about the last second")
    assert energy.window_energy(mean, None, 5 * S, 25 * S).reason == "a mean over about the last second"


def test_counter_without_power_beside_it_is_no_ratio() -> None:
    # Power was read from 4 to 26 s only, the counter at 0 and 30 s: what the counter had inside the window is unknown.
    curve = power(lambda t: 300.0)
    inside = [(at, value) for at, value in zip(curve.time_us, curve.values, strict=True) if 4 * S <= at <= 26 * S]
    curve = replace(curve, time_us=tuple(at for at, _ in inside), values=tuple(value for _, value in inside))
    total = energy.window_energy(curve, counter([(0, 0.0), (30, 9000.0)]), 5 * S, 25 * S)
    assert total.joules == pytest.approx(6000)
    assert total.counter_over_integrated is None


def test_counter_and_integral_are_both_kept_with_their_ratio() -> None:
    # The counter is read at the edges of the case (0 and 30 s) only and lost 10 % of the true 300 W.
    total = energy.window_energy(power(lambda t: 300.0), counter([(0, 5000.0), (30, 5000.0 + 8100.0)]), 5 * S, 25 * S)
    assert total.method == "integrated" and total.joules == pytest.approx(6000)
    assert total.counter_over_integrated == pytest.approx(0.9)


def test_ratio_compares_the_same_span() -> None:
    # Power steps from 100 W to 300 W at 10 s; the counter is exact. A naive straight line would give 4333 J, not 5000.
    count = counter([(0, 0.0), (30, 1000 + 6000.0)])
    total = energy.window_energy(power(lambda t: 100.0 if t <= 10 else 300.0), count, 5 * S, 25 * S)
    assert total.joules == pytest.approx(5000, rel=5e-3)
    assert total.counter_over_integrated == pytest.approx(1.0, rel=2e-3)


def test_counter_alone() -> None:
    count = counter([(k / 10, 65.0 * k / 10) for k in range(-10, 310)], "rapl", "package-0", "package")
    total = energy.window_energy(None, count, round(5.03 * S), round(9.03 * S))
    assert total.joules == pytest.approx(260.0)
    assert (total.method, total.status) == ("counter", "ok")
    assert total.watts_peak == pytest.approx(65.0)


def test_counter_read_at_far_edges_alone_is_low_confidence() -> None:
    total = energy.window_energy(None, counter([(0, 0.0), (30, 3000.0)]), 5 * S, 25 * S)
    assert total.status == "low_confidence" and total.joules == pytest.approx(2000)


def test_counter_that_ends_inside_the_window_is_unavailable() -> None:
    total = energy.window_energy(None, counter([(0, 0.0), (10, 1000.0), (20, 2000.0)]), 5 * S, 25 * S)
    assert total.joules is None and total.reason == "the counter was not read at the edges of the window"


@pytest.mark.parametrize("values,reason", [((7.0, 7.0), "stood still"), ((7.0, 3.0), "went backwards")])
def test_a_counter_that_does_not_count_is_null_not_zero(values: tuple[float, float], reason: str) -> None:
    total = energy.window_energy(None, counter([(0, values[0]), (20, values[1])]), 0, 20 * S)
    assert total.joules is None
    assert total.reason is not None and reason in total.reason


def test_apple_batches_need_ten_seconds() -> None:
    def channel(device: str) -> Series:
        return counter([(k, 20.0 * k) for k in range(-2, 33)], "apple", device, "soc")

    assert energy.window_energy(None, channel("gpu"), 0, 5 * S).joules == pytest.approx(100)
    assert energy.window_energy(None, channel("cpu"), 0, 5 * S).joules is None
    assert energy.window_energy(None, channel("cpu"), 0, 12 * S).joules == pytest.approx(240)
    resting = counter([(k, 5.0) for k in range(-2, 33)], "apple", "ane", "soc")
    assert energy.window_energy(None, resting, 0, 12 * S).joules == 0.0  # switched off, and the only true zero
    stuck = counter([(k, 5.0) for k in range(-2, 33)], "apple", "cpu", "soc")
    assert energy.window_energy(None, stuck, 0, 12 * S).joules is None


def test_net_is_gross_less_idle() -> None:
    idle = energy.case_energies([power(lambda t: 60.0)], 0, 10 * S)
    (total,) = energy.gross_and_net([power(lambda t: 360.0)], 5 * S, 25 * S, idle)
    assert total.joules == pytest.approx(7200) and total.net_joules == pytest.approx(6000)
    (low,) = energy.gross_and_net([power(lambda t: 50.0)], 5 * S, 25 * S, idle)
    assert low.joules == pytest.approx(1000) and low.net_joules is None
    (none,) = energy.gross_and_net([power(lambda t: 50.0)], 5 * S, 25 * S)
    assert none.joules == pytest.approx(1000) and none.net_joules is None


def test_phases_and_tokens() -> None:
    case = Case("a/r0", "a", "sim", "m", Generation("chat", "text", 8, 8), 1, 1, 0, 0)
    curve = power(lambda t: 100.0 if t <= 10 else 300.0)
    result = CaseResult(case, 0, 0.0, readings=(curve,), phases=(PhaseMark("load", 0, 5 * S),))
    total = energy.power_of(result, Window(15 * S, 25 * S, 1500), energy.Place("cuda"))
    assert total.joules_per_token == pytest.approx(2.0) and total.joules_per_token_net is None
    assert total.phase_joules["load"] == pytest.approx(500)
    assert total.phase_joules["decode"] == pytest.approx(3000)
    assert energy.power_of(result, Window(15 * S, 25 * S, 0), energy.Place("cuda")).joules_per_token is None
    assert energy.power_of(result, Window(15 * S, 16 * S, 100), energy.Place("cuda")).joules_per_token is None


def test_headline_is_the_widest_scope_that_holds_the_device() -> None:
    gpus = [power(lambda t: 300.0), power(lambda t: 200.0, device="gpu1")]
    package = counter([(k, 50.0 * k) for k in range(32)], "rapl", "package-0", "package")
    meter = power(lambda t: 700.0, 100, 1.0, "wall", None, "wall")
    total = energy.case_energies([*gpus, package, meter], 5 * S, 25 * S)
    cuda = energy.headline(total, energy.Place("cuda"))
    assert cuda is not None and cuda.joules == pytest.approx(10_000) and cuda.device == "gpu0+gpu1"
    cpu = energy.headline(total, energy.Place("cpu"))
    assert cpu is not None and cpu.scope == "package" and cpu.joules == pytest.approx(1000)
    longer = energy.headline(energy.case_energies([*gpus, meter], 5 * S, 95 * S), energy.Place("cuda"))
    assert longer is not None and longer.scope == "wall" and longer.joules == pytest.approx(63_000)


def test_the_boards_of_the_engine_alone_count() -> None:
    """A 3060 idles beside the 5090 that works, and the Ryzen's own graphics tell the power of its socket."""
    cards = [power(lambda t: 15.0), power(lambda t: 575.0, device="gpu1")]
    socket = power(lambda t: 62.0, source="amd", device="amd0", scope="package")
    total = energy.case_energies([*cards, socket], 5 * S, 25 * S)

    def watts(*devices: str, integrated: bool = False) -> float | None:
        whole = energy.headline(total, energy.Place("cuda", frozenset(devices) or None, integrated))
        return whole and whole.watts_mean

    assert watts("gpu1") == pytest.approx(575.0)
    assert watts("gpu0", "gpu1") == watts() == pytest.approx(590.0)
    assert watts("amd0", integrated=True) == pytest.approx(62.0)


def test_a_package_is_counted_once_whoever_tells_it() -> None:
    """RAPL and the graphics' driver both tell the power of a Strix Halo."""
    package = counter([(k, 55.0 * k) for k in range(32)], "rapl", "package-0", "package")
    socket = power(lambda t: 54.0, source="amd", device="amd0", scope="package")
    total = energy.case_energies([package, socket], 5 * S, 25 * S)
    place = energy.Place("vulkan", frozenset({"amd0"}), integrated=True)
    whole = energy.headline(total, place)
    assert whole is not None and (whole.source, whole.joules) == ("rapl", pytest.approx(1100))
    alone = energy.headline(total[1:], place)
    assert alone is not None and (alone.source, alone.scope) == ("amd", "package")


def test_a_server_on_the_processor_has_the_energy_of_its_package() -> None:
    package = counter([(k, 80.0 * k) for k in range(32)], "rapl", "package-0", "package")
    absent = Series("power", "W", "nvml", "nvml", "board", "sampled", "unavailable", "no NVIDIA driver")
    whole = energy.headline(energy.case_energies([absent, package], 5 * S, 25 * S), energy.Place("remote"))
    assert whole is not None and whole.joules == pytest.approx(1600)


def test_a_counter_and_a_power_that_disagree_are_little_trusted() -> None:
    total = energy.window_energy(power(lambda t: 300.0), counter([(0, 0.0), (30, 5130.0)]), 5 * S, 25 * S)
    assert (total.status, total.joules) == ("low_confidence", pytest.approx(6000))
    assert total.reason == "the counter says 0.57 of the energy that the power adds up to"


def test_a_source_that_is_not_here_spoils_no_sum() -> None:
    amd = Series("power", "W", "amd", "amd", "board", "sampled", "unavailable", "no AMD graphics card")
    total = energy.headline(energy.case_energies([power(lambda t: 300.0), amd], 5 * S, 25 * S), energy.Place("cuda"))
    assert total is not None and total.joules == pytest.approx(6000)


def test_one_gpu_without_power_leaves_no_sum() -> None:
    lost = replace(
        power(lambda t: 300.0, device="gpu1"), status="unavailable", reason="GPU is lost", time_us=(), values=()
    )
    total = energy.headline(energy.case_energies([power(lambda t: 300.0), lost], 5 * S, 25 * S), energy.Place("cuda"))
    assert total is not None and total.joules is None and total.reason == "gpu1: GPU is lost"


def test_no_source_is_null_with_reason() -> None:
    absent = Series(
        "power", "W", "rapl", "powercap", "package", "counter", "unavailable", "no powercap; virtual machine"
    )
    (total,) = energy.case_energies([absent], 0, 20 * S)
    assert (total.joules, total.watts_mean, total.reason) == (None, None, "no powercap; virtual machine")
    assert energy.headline([total], energy.Place("cpu")) == total
    assert energy.headline([], energy.Place("cpu")) is None


def test_two_meters_that_disagree_are_told_and_not_believed() -> None:
    """A card whose counter gains 37 J a second while its power says 65 W: both are read without a fault."""
    total = energy.window_energy(power(lambda t: 65.0), counter([(0, 0.0), (30, 37.0 * 30)]), 1 * S, 29 * S)
    assert (total.status, total.method) == ("low_confidence", "integrated")
    assert total.reason == "the counter says 0.57 of the energy that the power adds up to"
