"""Run in an interpreter that has mlx, as source: how fast `mx.sum` reads an Apple GPU's memory. The last line of stdout is JSON.

python -c "$(cat metal_program.py)" 0      # bytes; 0: a quarter of what Metal may hold, 8 GiB at most
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UP_S = 1.0
SAMPLES = 12


def rates(evaluate: Callable[[Any], None], work: Callable[[], Any], moved_bytes: int) -> list[float]:
    """Bytes per second of each pass, once the GPU has worked for long enough to clock up."""

    def pass_s() -> float:
        start = time.perf_counter()
        evaluate(work())
        return time.perf_counter() - start

    begin = time.perf_counter()
    while time.perf_counter() - begin < WARM_UP_S:
        pass_s()
    return [moved_bytes / pass_s() for _ in range(SAMPLES)]


def main(size: int) -> dict[str, Any]:
    """The answer for the parent; `metal` is false where mlx computes on a processor."""
    import mlx.core as mx

    metal = bool(mx.metal.is_available())
    if not size:
        limit = mx.device_info().get("max_recommended_working_set_size", 0) if metal else 0
        size = max(1 << 29, min(8 << 30, limit // 4)) if limit else 1 << 28
    x = mx.random.uniform(low=0.5, high=1.0, shape=(size // 4,))
    mx.eval(x)
    return {
        "metal": metal,
        "device": str(mx.default_device()),
        "bytes": x.nbytes,
        "read": rates(mx.eval, lambda: mx.sum(x), x.nbytes),
        "copy": rates(mx.eval, lambda: x + 1.0, 2 * x.nbytes),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
