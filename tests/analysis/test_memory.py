"""Peak memory of each device out of a case's readings."""

from rigbench.analysis.memory import DeviceMemory, device_memory
from rigbench.records import Series


def test_peak_of_each_device() -> None:
    def gpu(name: str, device: str, *values: float | None) -> Series:
        times = tuple(range(len(values)))
        return Series(name, "B", "nvml", "t", "board", "sampled", "ok", None, device, times, values)

    readings = [
        gpu("memory_used", "gpu0", 1e9, 8e9, 7e9),
        gpu("memory_used_process", "gpu0", 0.5e9, 6e9),
        gpu("memory_used", "gpu1", 2e9, None),
        gpu("memory_used", "gpu2"),
    ]
    assert device_memory(readings) == (
        DeviceMemory("gpu0", 8_000_000_000, 6_000_000_000),
        DeviceMemory("gpu1", 2_000_000_000, None),
    )
