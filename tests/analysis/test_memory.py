"""What holds the model: of cards, Macs, shared memory and processors, out of a case's readings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rigbench.analysis.energy import Place
from rigbench.analysis.memory import Memory, device_memory, memory_of
from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.records import HostMemory, Series
from rigbench_backends.base import EngineMemory

DOCUMENT = store.read(Path(__file__).parent.parent / "documents" / "v1.json")
CASE = replace(DOCUMENT.cases[0], host_memory=HostMemory(rss_peak_bytes=1_200_000_000), readings=(), engine_memory=None)
TWO = Place("cuda", frozenset({"gpu0", "gpu1"}))


def series(name: str, device: str | None, *values: float | None, source: str = "nvml") -> Series:
    times = tuple(range(len(values)))
    return Series(name, "B", source, "t", "board", "sampled", "ok", None, device, times, values)


def test_two_cards_are_added_and_a_third_is_left_out() -> None:
    readings = (
        series("memory_used", "gpu0", 1e9, 22e9, 21e9),
        series("memory_used", "gpu1", 2e9, 22e9, None),
        series("memory_used", "gpu2", 9e9),
    )
    case = replace(CASE, readings=readings)
    assert device_memory(case, TWO) == 44_000_000_000
    assert memory_of(case, TWO) == Memory(44_000_000_000, "device memory")
    assert memory_of(case, TWO, partly=True) == Memory(45_200_000_000, "device memory and resident memory")
    assert memory_of(case, Place("cpu")) == Memory(1_200_000_000, "resident memory")


def test_where_the_device_s_memory_is_not_told_the_engine_s_part_of_it_is() -> None:
    """NVML on a GB10: no memory of the device, but of each process."""
    case = replace(CASE, readings=(series("memory_used_process", "gpu0", 0.0, 60e9),))
    assert memory_of(case, Place("cuda", frozenset({"gpu0"}), True)) == Memory(60_000_000_000, "device memory")


@pytest.mark.parametrize(
    ("footprint", "account", "expected"),
    [
        (109e9, 60e9, Memory(109_000_000_000, "footprint")),
        (3e9, 60e9, Memory(60_500_000_000, "the engine's own account")),  # weights that are mapped from their file
    ],
)
def test_a_mac_s_is_the_footprint_or_what_the_engine_says(footprint: float, account: float, expected: Memory) -> None:
    readings = (series("footprint_max", None, 1e9, footprint, source="apple"),)
    memory = EngineMemory(round(account), 400_000_000, 100_000_000)
    case = replace(CASE, readings=readings, engine_memory=memory)
    assert memory_of(case, Place("metal", None, True)) == expected


def test_shared_memory_that_no_driver_tells_is_what_the_host_lost() -> None:
    case = replace(CASE, readings=(series("memory_available", None, 40e9, 30e9, source="host"),))
    place = Place("rocm", frozenset({"amd0"}), True)
    assert memory_of(case, place, before=96e9) == Memory(66_000_000_000, "fall of the available memory")
    assert memory_of(case, place) == Memory(1_200_000_000, "resident memory")


def test_the_row_names_the_way_and_a_reason_where_nothing_tells() -> None:
    row = next(row for row in table(DOCUMENT) if not row.error)
    assert (row["memory_peak_bytes"], row.memory_method) == (row["rss_peak_bytes"], "resident memory")
    cases = tuple(replace(result, host_memory=HostMemory(reason="telemetry off")) for result in DOCUMENT.cases)
    bare = next(row for row in table(replace(DOCUMENT, cases=cases)) if not row.error)
    assert bare["memory_peak_bytes"] is None and bare.reasons["memory_peak_bytes"] == "telemetry off"
    assert bare.reasons["device_memory_peak_bytes"] == "not read"
