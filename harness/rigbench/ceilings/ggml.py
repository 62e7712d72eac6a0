"""Read bandwidth of any device that an engine's own build of ggml knows (Vulkan, ROCm, SYCL, Metal ...), through its own kernels.

A graph multiplies matrices of several gigabytes with one vector, as a decode step of one user does, in the engine's interpreter.
So the figure is what ggml's best kernel draws from the memory; on a processor that may be less than the memory gives.

    python -c "from rigbench.ceilings import ggml; print(ggml.measure('vulkan'))"
"""

from __future__ import annotations

import sys
from typing import Any

from rigbench.ceilings import child
from rigbench.ceilings.figure import figure
from rigbench.records import Bandwidth
from rigbench.telemetry import machine

PROGRAM, PACKAGE = "ggml_program.py", "llama-cpp-python"


def devices(python: str = sys.executable) -> list[dict[str, Any]]:
    """What ggml knows in the interpreter `python`: name, kind, description and memory_bytes of each; [] where it has none."""
    answer = child.answer(python, PROGRAM, PACKAGE, "list")
    return [] if isinstance(answer, str) else list(answer.get("devices", []))


def measure(device: str, python: str = sys.executable, size_bytes: int = 0) -> Bandwidth:
    """Read bandwidth of `device` in bytes per second, the best sample; None with the reason. `vulkan:1` is the second of its kind.

    `size_bytes` 0: 8 GiB (1 GiB on a processor), a quarter of the free memory at most.
    """
    answer = child.answer(python, PROGRAM, PACKAGE, device, str(machine.usable_cores()), str(size_bytes))
    return Bandwidth(device, None, reason=answer) if isinstance(answer, str) else parsed(device, answer)


def parsed(device: str, answer: dict[str, Any]) -> Bandwidth:
    """The program's answer; the type of weights that was read fastest counts."""
    if "rates" not in answer:
        known = ", ".join(dict.fromkeys(each["kind"] for each in answer.get("devices", []))) or "nothing"
        return Bandwidth(device, None, reason=f"this build of llama.cpp has no {device}; it has {known}")
    rates: dict[str, list[float]] = answer["rates"]
    if not rates:
        return Bandwidth(device, None, reason="; ".join(answer["reasons"]) or "llama.cpp gave no figures")
    best = max(rates, key=lambda kind: max(rates[kind]))
    return figure(
        device,
        rates[best],
        source=f"llama.cpp's {best} matrix times vector over {answer['bytes'] / 1e6:.0f} MB on {answer['device']}",
        array_bytes=answer["bytes"],
        read_best_bytes_per_s_by_type={kind: max(each) for kind, each in rates.items()},
    )
