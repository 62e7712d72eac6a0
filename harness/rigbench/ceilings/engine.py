"""Bandwidths and arithmetic rates, measured in the interpreter that has the engine.
The parent never opens a device, and a crash ends the child alone.

Through mlx, of an Apple GPU: `mx.eval(mx.sum(x))` over some gigabytes. Through llama.cpp, of any device that its build of ggml
knows (Vulkan, ROCm, SYCL, Metal ...): a graph multiplies matrices of several gigabytes with one vector, as a decode step of one
user does. So the figure is what ggml's best kernel draws from the memory; on a processor that may be less than the memory gives.

    python -c "from rigbench.ceilings import engine; print(engine.through_ggml('vulkan'))"
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rigbench.ceilings.figure import figure
from rigbench.records import Arithmetic, Bandwidth
from rigbench.telemetry import machine

TIME_LIMIT_S = 180.0
GGML = ("ggml_program.py", "llama-cpp-python")
GGML_ARITHMETIC = {"F32": "f32", "F16": "f16", "Q8_0": "int8", "Q4_0": "int8"}
"""In which type ggml multiplies with weights of a type: quantised ones as 8-bit numbers."""
VECTORS = 1024
"""Of a product: more make it no faster, and a prompt is read in no larger pieces."""


def answer(python: str, program: str, package: str, *arguments: str) -> dict[str, Any] | str:
    """The JSON object in the last line that `program`, a module beside this one, prints; or why there is none.

    `package` is what the program imports, by the name that pip knows. The program travels as source, so that its folder's names
    shadow nothing in the other interpreter.
    """
    source = Path(__file__).with_name(program).read_text(encoding="utf-8")
    command = [python, "-c", source, *arguments]
    elsewhere = tempfile.gettempdir()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False, cwd=elsewhere)
    except OSError:
        return f"the interpreter given for {package} does not exist"
    except subprocess.TimeoutExpired:
        return f"{package} took longer than {TIME_LIMIT_S:g} s"
    if f"No module named '{package.replace('-python', '').replace('-', '_')}" in done.stderr:
        return f"{package} is not installed in this interpreter; pip install {package}"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # The kind of error alone: its text may hold a path.
        return f"{package} could not measure ({lines[-1].partition(':')[0] if lines else 'no message'})"
    try:
        content = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        content = None
    return content if isinstance(content, dict) else f"{package} gave no figures"


def through_mlx(python: str = sys.executable, size_bytes: int = 0) -> Bandwidth:
    """Read and copy bandwidth in bytes per second, the best samples, or None with the reason. `python` has mlx."""
    return from_mlx(answer(python, "metal_program.py", "mlx", str(size_bytes)))


def from_mlx(answer: dict[str, Any] | str) -> Bandwidth:
    """The program's answer. Without Metal (mlx on Linux) there is no figure: a processor's is measured by ceilings.cpu."""
    if isinstance(answer, str):
        return Bandwidth("metal", None, reason=answer)
    read, copy = answer.get("read"), answer.get("copy")
    if not read or not copy:
        return Bandwidth("metal", None, reason="mlx gave no figures")
    if not answer.get("metal"):
        return Bandwidth("metal", None, reason=f"mlx runs without Metal here, on {answer.get('device')}")
    size = answer["bytes"]
    return figure("metal", read, copy, source=f"mx.sum over {size / 1e6:.0f} MB, x + 1 for copy", array_bytes=size)


def ggml_devices(python: str = sys.executable) -> list[dict[str, Any]]:
    """What ggml knows in the interpreter `python`: name, kind, description and memory_bytes of each; [] where it has none."""
    known = answer(python, *GGML, "list")
    return [] if isinstance(known, str) else list(known.get("devices", []))


def through_ggml(device: str, python: str = sys.executable, size_bytes: int = 0) -> Bandwidth:
    """Read bandwidth of `device` in bytes per second, the best sample; None with the reason. `vulkan:1` is the second of its kind.

    `size_bytes` 0: 8 GiB (1 GiB on a processor), a quarter of the free memory at most.
    """
    return from_ggml(device, answer(python, *GGML, device, str(machine.usable_cores()), str(size_bytes)))


def from_ggml(device: str, answer: dict[str, Any] | str) -> Bandwidth:
    """The program's answer; the type of weights that was read fastest counts."""
    if isinstance(answer, str):
        return Bandwidth(device, None, reason=answer)
    if "rates" not in answer:
        kinds = ", ".join(dict.fromkeys(each["kind"] for each in answer.get("devices", []))) or "nothing"
        return Bandwidth(device, None, reason=f"this build of llama.cpp has no {device}; it has {kinds}")
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


def arithmetic(device: str, python: str = sys.executable) -> Arithmetic:
    """How fast `device` multiplies matrices: for each type the best sample of torch, MLX, numpy and llama.cpp in the interpreter
    `python`. Takes some 10 s on 2 cores."""
    kind, _, index = device.partition(":")
    threads = str(machine.usable_cores())
    by_library = answer(python, "gemm_program.py", "numpy", kind, index or "0", threads)
    by_ggml = answer(python, *GGML, device, threads, "0", str(VECTORS))
    return from_products(device, by_library, by_ggml)


def from_products(device: str, by_library: dict[str, Any] | str, by_ggml: dict[str, Any] | str) -> Arithmetic:
    """The programs' answers: the fastest library of each type counts."""
    reasons = [answer for answer in (by_library, by_ggml) if isinstance(answer, str)]
    known = {} if isinstance(by_library, str) else by_library
    rates: dict[str, dict[str, float]] = {
        dtype: {library: max(samples) for library, samples in each.items()}
        for dtype, each in known.get("rates", {}).items()
    }
    for kind, samples in ({} if isinstance(by_ggml, str) else by_ggml.get("rates", {})).items():
        of_type = rates.setdefault(GGML_ARITHMETIC[kind], {})
        of_type["llama.cpp"] = max(of_type.get("llama.cpp", 0.0), *samples)
    if not rates:
        return Arithmetic(
            device, {}, reason="; ".join([*reasons, *known.get("reasons", ())]) or "no library here has a product"
        )
    best = {dtype: max(each, key=lambda library: each[library]) for dtype, each in sorted(rates.items())}
    return Arithmetic(
        device,
        {dtype: rates[dtype][library] for dtype, library in best.items()},
        source=", ".join(f"{dtype} by {library}" for dtype, library in best.items()),
        detail={"flops_per_s_by_library": rates},
    )
