"""The clock: one monotonic nanosecond counter, the same in the parent and in every worker.

`time.perf_counter_ns` reads CLOCK_MONOTONIC on Linux, mach_absolute_time on macOS and the performance counter on Windows: all
three count from boot, for the whole machine, so a stamp made in a worker can be laid beside a reading made in the parent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]

now_ns: Clock = time.perf_counter_ns


def utc_now() -> str:
    """The wall clock as ISO 8601 in UTC to the second, for people; nothing is ever computed from it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
