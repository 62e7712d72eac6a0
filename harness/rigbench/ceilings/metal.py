"""Read bandwidth of an Apple GPU through mlx: `mx.eval(mx.sum(x))` over some gigabytes, in whichever interpreter has mlx.

python -c "from rigbench.ceilings import metal; print(metal.measure())"
"""

from __future__ import annotations

import sys
from typing import Any

from rigbench.ceilings import child
from rigbench.ceilings.figure import figure
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
    size = answer["bytes"]
    return figure("metal", read, copy, source=f"mx.sum over {size / 1e6:.0f} MB, x + 1 for copy", array_bytes=size)
