"""The wait for a cool machine before a case."""

from __future__ import annotations

import time
from collections.abc import Callable

from rigbench.clock import Clock, now_ns
from rigbench.records import Flag

LOOK_EVERY_S = 0.5


def settle(
    hot: Callable[[], str | None],
    settle_s: float,
    clock: Clock = now_ns,
    wait: Callable[[float], object] = time.sleep,
) -> tuple[Flag, ...]:
    """Wait until the machine is cool, `settle_s` seconds at most; a flag where it was still hot then.

    `hot` says why it is not cool now: `lambda: flags.hot(sampler.recent(1.5))`, with harness/rigbench/analysis/flags.py.
    """
    until_ns = clock() + round(settle_s * 1e9)
    while (reason := hot()) is not None:
        if clock() >= until_ns:
            return (Flag("throttled", f"not cool after {settle_s:g} s of waiting: {reason}"),)
        wait(LOOK_EVERY_S)
    return ()
