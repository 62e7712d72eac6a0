"""What is read around a case: the engine's memory. The sampler and its sources join here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Flag, HostMemory, PhaseMark, Series
from harness.telemetry import host


@dataclass(frozen=True, slots=True)
class Metered:
    """What the meters say of one case."""

    memory: HostMemory
    readings: tuple[Series, ...] = ()
    flags: tuple[Flag, ...] = ()


class Meters:
    """Reads around each case of one job."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._resettable = False

    def __enter__(self) -> Meters:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def before_load(self) -> None:
        """Nothing is loaded yet: the time for an idle baseline."""

    def before_case(self, pid: int) -> tuple[Flag, ...]:
        """Wait for a cool machine, and begin new peaks."""
        self._resettable = host.reset_peak(pid)
        return ()

    def after_case(self, pid: int, t0_ns: int, phases: Sequence[PhaseMark]) -> Metered:
        """Everything read since `before_case`, times relative to `t0_ns`."""
        memory = host.tree_memory(pid)
        if memory is None:
            return Metered(HostMemory(reason="the engine's processes were gone before they could be read"))
        exact = self._resettable and memory.hwm_bytes is not None
        return Metered(
            HostMemory(
                rss_peak_bytes=memory.hwm_bytes if exact else memory.rss_bytes,
                anonymous_peak_bytes=memory.anonymous_bytes,
                file_backed_peak_bytes=memory.file_backed_bytes,
                method="high-water mark" if exact else "resident at the end of the case",
            )
        )
