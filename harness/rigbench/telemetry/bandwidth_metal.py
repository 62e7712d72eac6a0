"""Read bandwidth of an Apple GPU: `mx.eval(mx.sum(x))` over 2-4 GiB, in whichever interpreter has mlx.

It runs in a process of its own, so that the parent never holds a Metal device, and an interpreter for one engine can
do it for all.

    python -c "from rigbench.telemetry.bandwidth_metal import measure_metal; print(measure_metal())"
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from rigbench.records import Bandwidth

TIME_LIMIT_S = 120.0

PROGRAM = """
import json, sys, time
import mlx.core as mx
size = int(sys.argv[1])
if not size:
    limit = mx.device_info().get("max_recommended_working_set_size", 0) if mx.metal.is_available() else 0
    size = max(1 << 29, min(4 << 30, limit // 4)) if limit else 1 << 28
x = mx.random.uniform(low=0.5, high=1.0, shape=(size // 4,))
mx.eval(x)
def rates(work, moved):
    found = []
    for _ in range(13):
        start = time.perf_counter()
        mx.eval(work())
        found.append(moved / (time.perf_counter() - start))
    return found[1:]
answer = {
    "metal": mx.metal.is_available(),
    "device": str(mx.default_device()),
    "bytes": x.nbytes,
    "read": rates(lambda: mx.sum(x), x.nbytes),
    "copy": rates(lambda: x + 1.0, 2 * x.nbytes),
}
print(json.dumps(answer))
"""


def measure_metal(python: str = sys.executable, size_bytes: int = 0, time_limit_s: float = TIME_LIMIT_S) -> Bandwidth:
    """Read and copy bandwidth in bytes per second, or None with the reason. `python` is an interpreter that has mlx.

    `size_bytes` 0: a quarter of what Metal may hold, 4 GiB at most.
    """
    command = [python, "-c", PROGRAM, str(size_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit_s, check=False)
    except FileNotFoundError:
        return Bandwidth("metal", None, reason="the interpreter given for mlx does not exist")
    except subprocess.TimeoutExpired:
        return Bandwidth("metal", None, reason=f"mlx took longer than {time_limit_s:g} s")
    if done.returncode:
        return Bandwidth("metal", None, reason=_why(done.stderr))
    return parsed(done.stdout)


def parsed(answer: str) -> Bandwidth:
    """The program's answer. Without Metal (mlx on Linux) there is no figure: a CPU's is measured by
    bandwidth.measure_cpu."""
    try:
        found = json.loads(answer.strip().splitlines()[-1])
        read, copy = statistics.median(found["read"]), statistics.median(found["copy"])
    except (ValueError, IndexError, KeyError, TypeError, statistics.StatisticsError):
        return Bandwidth("metal", None, reason="mlx gave no figures")
    if not found.get("metal"):
        return Bandwidth("metal", None, reason=f"mlx runs without Metal here, on {found.get('device')}")
    return Bandwidth(
        "metal",
        read,
        copy,
        source=f"mx.sum over {found['bytes'] / 1e6:.0f} MB; copy (x + 1) counts bytes read and written",
        detail={"read_best_bytes_per_s": max(found["read"]), "array_bytes": found["bytes"]},
    )


def _why(stderr: str) -> str:
    if "No module named 'mlx'" in stderr:
        return "mlx is not installed in this interpreter; pip install mlx"
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    kind = lines[-1].partition(":")[0] if lines else "no message"
    return f"mlx could not measure ({kind})"
