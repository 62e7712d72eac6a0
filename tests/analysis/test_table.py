"""Rows of a document: energy of a known power curve, repetitions joined, reasons where there is nothing."""

from dataclasses import replace
from typing import Any

import pytest

from rigbench.analysis.energy import Place
from rigbench.analysis.table import content, place_of, table
from rigbench.records import (
    Case,
    CaseResult,
    Failure,
    HostMemory,
    Machine,
    PhaseMark,
    Prediction,
    RequestRecord,
    RunDocument,
    Series,
    SuiteRecord,
)
from rigbench.workloads import Generation
from rigbench_backends.base import EngineInfo

MACHINE = Machine("box", "A CPU", 2, 4, 10**9, (), "Linux", "6", "x86_64", "3.11")


def power(start_us: int, end_us: int, watts: float, idle_watts: float = 20.0) -> Series:
    """10 Hz: idle until t0, then `watts`."""
    times = tuple(range(start_us, end_us, 100_000))
    values = tuple(idle_watts if at < -500_000 else watts for at in times)
    return Series("power", "W", "nvml", "api", "board", "sampled", "ok", None, "GPU 0", times, values)


def result(repetition: int, step_us: int, watts: float, idle: bool) -> CaseResult:
    case = Case(f"g/r{repetition}", "g", "b", "m", Generation("w", "tokens", 100, 600), 1, 1, repetition, 1)
    stamps = tuple(100_000 + step_us * k for k in range(600))
    phases = [PhaseMark("measure", 0, stamps[-1])]
    if idle:
        phases.insert(0, PhaseMark("idle", -12_000_000, -2_000_000))
    return CaseResult(
        case,
        repetition,
        0.0,
        engine=0,
        requests=(RequestRecord(0, 0, 100, 0, stamps),),
        phases=tuple(phases),
        readings=(power(-13_000_000, stamps[-1] + 300_000, watts),),
        host_memory=HostMemory(rss_peak_bytes=1000 + repetition),
    )


def document(*results: CaseResult) -> RunDocument:
    prediction = Prediction("g", "published", 40.0, 40.0, 80.0, 2_000_000_000, 160e9, "f")
    return RunDocument(
        1,
        "",
        "0",
        "2026-01-01T00:00:00Z",
        1.0,
        SuiteRecord("s", "1", "0", {}),
        MACHINE,
        (EngineInfo("e", "1", "cuda"),),
        (),
        (),
        results,
        (prediction,),
    )


def test_the_engine_s_devices_are_found_by_address_by_process_or_by_name() -> None:
    gpus: tuple[dict[str, Any], ...] = (
        {"device": "gpu0", "name": "NVIDIA GeForce RTX 3060", "bus_id": "0000:01:00.0"},
        {"device": "gpu1", "name": "NVIDIA GeForce RTX 5090", "bus_id": "0000:02:00.0"},
        {"device": "amd0", "name": "AMD Radeon Graphics", "bus_id": "0000:10:00.0", "integrated": True},
    )
    machine = replace(MACHINE, gpus=gpus)
    by_bus = EngineInfo("e", "1", "cuda", bus_ids=("0000:02:00.0",))
    assert place_of(machine, by_bus, ()) == Place("cuda", frozenset({"gpu1"}))
    own = ("memory_used_process", "B", "nvml", "api", "board", "sampled", "ok", None)
    memory = [Series(*own, f"gpu{index}", (0, 1), (0.0, 20e9 * index)) for index in (0, 1)]
    assert place_of(machine, EngineInfo("e", "1", "cuda"), memory).devices == {"gpu1"}
    by_name = EngineInfo("e", "1", "vulkan", ("AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)",))
    assert place_of(machine, by_name, ()) == Place("vulkan", frozenset({"amd0"}), integrated=True)
    assert place_of(machine, EngineInfo("e", "1", "remote"), ()) == Place("remote")


def test_energy_per_token_of_a_known_curve_gross_and_net() -> None:
    # 50 tokens/s at 200 W are 4 J a token; 20 W of it were drawn before the model was loaded.
    row = table(document(result(0, 20_000, 200.0, idle=True)))[0]
    assert row["user_tps"] == pytest.approx(50)
    assert row["joules_per_token"] == pytest.approx(4, rel=0.001)
    assert row["joules_per_token_net"] == pytest.approx(3.6, rel=0.001)
    assert (row["watts_mean"], row["watts_peak"]) == (pytest.approx(200), pytest.approx(200))
    assert row.power_scope == "board"
    # 599 steps of 20 ms at 200 W; the prompt took 0.1 s, too short for any sensor.
    assert row.phase_joules["decode"] == pytest.approx(599 * 0.02 * 200, rel=0.001)
    assert row.phase_joules["prefill"] is None


def test_the_idle_window_of_the_first_case_serves_the_later_ones() -> None:
    row = table(document(result(0, 20_000, 200.0, idle=True), result(1, 20_000, 220.0, idle=False)))[0]
    assert row["joules_per_token"] == pytest.approx(4.2, rel=0.001)
    assert row["joules_per_token_net"] == pytest.approx(3.8, rel=0.001)


def test_without_power_there_is_a_reason_and_no_zero() -> None:
    bare = replace(result(0, 20_000, 200.0, idle=False), readings=())
    row = table(document(bare))[0]
    assert row["joules_per_token"] is None
    assert row["watts_mean"] is None
    assert row.reasons["joules_per_token"]


def test_repetitions_are_joined_by_their_median_with_their_range() -> None:
    measured_results = [result(k, step, 100.0, idle=False) for k, step in enumerate((20_000, 25_000, 20_000))]
    row = table(document(*measured_results))[0]
    assert row.repetitions == 3
    assert row["user_tps"] == pytest.approx(50)
    assert content(row)["intervals"]["user_tps"] == {
        "low": pytest.approx(40),
        "high": pytest.approx(50),
        "method": "range",
        "n": 3,
    }
    assert "noisy" in row.flags
    assert row["rss_peak_bytes"] == 1002


def test_ceiling_prediction_and_mbu_stand_beside_the_number() -> None:
    row = table(document(result(0, 20_000, 100.0, idle=False)))[0]
    assert (row["ceiling_tps"], row["predicted_tps"]) == (80, 40)
    assert row["measured_over_predicted"] == pytest.approx(1.25)
    assert row["mbu"] == pytest.approx(2e9 * 50 / 160e9)
    assert row.flags == ()


def test_what_is_above_the_ceiling_is_flagged() -> None:
    row = table(document(result(0, 12_000, 100.0, idle=False)))[0]
    assert row.flags == ("above_ceiling",)


def test_a_failed_repetition_is_told_beside_the_measured_ones() -> None:
    failed = replace(result(1, 20_000, 100.0, idle=False), requests=(), error=Failure("crash", "it fell"))
    row = table(document(result(0, 20_000, 100.0, idle=False), failed))[0]
    assert row["user_tps"] == pytest.approx(50)
    assert row.error == "crash: it fell"
    assert table(document(failed))[0]["user_tps"] is None
