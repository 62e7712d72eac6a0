"""From samples to a figure, by one rule for every device."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rigbench.records import Bandwidth


def figure(
    device: str,
    reads: Sequence[float],
    copies: Sequence[float] = (),
    *,
    source: str,
    array_bytes: int,
    threads: int | None = None,
    reason: str | None = None,
    **detail: Any,
) -> Bandwidth:
    """The best sample is the ceiling: what disturbs a machine only slows it. The medians beside it say how restless it is."""
    detail |= {"read_median_bytes_per_s": statistics.median(reads), "array_bytes": array_bytes}
    if copies:
        detail["copy_median_bytes_per_s"] = statistics.median(copies)
        source += "; copy counts bytes read and written"
    return Bandwidth(device, max(reads), max(copies, default=None), "measured", source, threads, reason, detail)
