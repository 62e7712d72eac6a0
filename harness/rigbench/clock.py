"""The clock: one monotonic nanosecond counter, the same in the parent and in every worker.

`time.perf_counter_ns` reads CLOCK_MONOTONIC on Linux, mach_absolute_time on macOS and the performance counter on Windows: all
three count from boot, for the whole machine, so a stamp made in a worker can be laid beside a reading made in the parent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]

now_ns: Clock = time.perf_counter_ns


def utc_now(ahead_s: float = 0.0) -> str:
    """The wall clock, so many seconds ahead, as ISO 8601 in UTC to the second: for people, and for what is still to come."""
    return (datetime.now(UTC) + timedelta(seconds=ahead_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
