"""The device memory of a case: the largest reading of any device, out of the case's readings."""

from dataclasses import replace
from pathlib import Path

from rigbench.analysis.table import table
from rigbench.documents import store
from rigbench.records import Series

DOCUMENT = store.read(Path(__file__).parent.parent / "documents" / "v1.json")


def gpu(name: str, device: str, *values: float | None) -> Series:
    times = tuple(range(len(values)))
    return Series(name, "B", "nvml", "t", "board", "sampled", "ok", None, device, times, values)


def test_the_largest_reading_of_any_device() -> None:
    readings = (
        gpu("memory_used", "gpu0", 1e9, 8e9, 7e9),
        gpu("memory_used_process", "gpu0", 0.5e9, 9e9),
        gpu("memory_used", "gpu1", 2e9, None),
        gpu("memory_used", "gpu2"),
    )
    cases = tuple(replace(result, readings=readings) for result in DOCUMENT.cases)
    row = next(row for row in table(replace(DOCUMENT, cases=cases)) if not row.error)
    assert row["device_memory_peak_bytes"] == 8_000_000_000
    without = tuple(replace(result, readings=readings[3:]) for result in cases)
    bare = next(row for row in table(replace(DOCUMENT, cases=without)) if not row.error)
    assert bare["device_memory_peak_bytes"] is None
    assert bare.reasons["device_memory_peak_bytes"] == "not read"
