"""Read bandwidth of an Apple GPU through mlx: `mx.eval(mx.sum(x))` over some gigabytes, in whichever interpreter has mlx.

python -c "from rigbench.ceilings import metal; print(metal.measure())"
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from rigbench.ceilings import child
from rigbench.records import Bandwidth


def measure(python: str = sys.executable, size_bytes: int = 0) -> Bandwidth:
    """Read and copy bandwidth in bytes per second, the best samples, or None with the reason. `python` has mlx."""
    answer = child.answer(python, "metal_program.py", "mlx", str(size_bytes))
    return Bandwidth("metal", None, reason=answer) if isinstance(answer, str) else parsed(answer)


def parsed(answer: dict[str, Any]) -> Bandwidth:
    """The program's answer. Without Metal (mlx on Linux) there is no figure: a processor's is measured by ceilings.cpu."""
    read, copy = answer.get("read"), answer.get("copy")
    if not read or not copy:
        return Bandwidth("metal", None, reason="mlx gave no figures")
    if not answer.get("metal"):
        return Bandwidth("metal", None, reason=f"mlx runs without Metal here, on {answer.get('device')}")
    return Bandwidth(
        "metal",
        max(read),
        max(copy),
        source=f"mx.sum over {answer['bytes'] / 1e6:.0f} MB; copy (x + 1) counts bytes read and written",
        detail={
            "read_median_bytes_per_s": statistics.median(read),
            "copy_median_bytes_per_s": statistics.median(copy),
            "array_bytes": answer["bytes"],
        },
    )
