"""What the hardware could do, measured: the memory bandwidth that bounds decoding, and the arithmetic rate that bounds prompts,
images and training. The best sample is the ceiling everywhere; the median beside it (`detail`) says how restless the machine is.

    cached("cuda", python)     # as measured in the last 30 days on this very card, else measured now
    measure("vulkan:1", python)

`python` is the engine's own interpreter: it has mlx, or the build of llama.cpp that knows the device.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from rigbench.errors import InputError
from rigbench.records import Arithmetic, Bandwidth

Figure = TypeVar("Figure", Bandwidth, Arithmetic)


def measure(device: str, python: str = sys.executable) -> Bandwidth:
    """The bandwidth of an engine's `device` in bytes per second, under that name, or None with the reason.

    `cuda:1` is the second card. `cpu` and `cuda` need nothing but rigbench, `metal` mlx or llama.cpp, and every other device the
    llama.cpp that knows it. InputError for what cannot name a device.
    """
    kind, index = _parts(device)
    if kind == "cpu":
        from rigbench.ceilings import cpu

        return cpu.measure()
    if kind == "cuda":
        from rigbench.ceilings import cuda

        return replace(cuda.measure(index), device=device)
    from rigbench.ceilings import engine

    through_mlx = engine.through_mlx(python) if kind == "metal" else None
    if through_mlx is not None and through_mlx.read_bytes_per_s is not None:
        return through_mlx
    through_ggml = engine.through_ggml(device, python)
    if through_mlx is not None and through_ggml.read_bytes_per_s is None:
        return replace(through_mlx, reason=f"{through_mlx.reason}; {through_ggml.reason}")
    return through_ggml


def identity(device: str, python: str = sys.executable) -> object:
    """What tells this machine's `device` from any other, so that a figure is kept for it alone. Not to be shown to anybody."""
    from rigbench.ceilings import cpu, cuda, engine

    kind, index = _parts(device)
    if kind == "cuda":
        return cuda.identity(index)
    if kind in ("cpu", "metal"):
        return cpu.identity()
    fitting = [each for each in engine.ggml_devices(python) if each["kind"] == kind or kind == "gpu"]
    return [(each["description"], each["memory_bytes"]) for each in fitting]


def cached(
    device: str, python: str = sys.executable, *, again: bool = False, say: Callable[[str], None] = lambda _: None
) -> Bandwidth:
    """measure(), at most once in 30 days for the same hardware; `again` measures in any case. What was measured while other
    programs held the processor is measured again once they do not. `say` hears of a measurement."""
    return _cached(device, python, Bandwidth, "memory bandwidth", lambda: measure(device, python), again, say)


def arithmetic(
    device: str, python: str = sys.executable, *, again: bool = False, say: Callable[[str], None] = lambda _: None
) -> Arithmetic:
    """How fast `device` multiplies matrices through the libraries of the interpreter `python`: kept as the bandwidth is."""
    from rigbench.ceilings import engine

    _parts(device)
    return _cached(device, python, Arithmetic, "arithmetic rate", lambda: engine.arithmetic(device, python), again, say)


def _cached(
    device: str,
    python: str,
    kind: type[Figure],
    what: str,
    measure: Callable[[], Figure],
    again: bool,
    say: Callable[[str], None],
) -> Figure:
    from rigbench.ceilings import figure

    def measured() -> Figure:
        busy = figure.busy_share()
        when = f"; other programs hold {busy:.0%} of the processor: it may be too low" if busy else ""
        say(f"measuring the {what} of {device}, once (a few seconds){when}")
        measurement = measure()
        return replace(measurement, detail={**measurement.detail, "busy_share": busy}) if busy else measurement

    known_by = identity(device, python)
    if kind is Arithmetic:
        known_by = (known_by, python)  # another interpreter, other libraries
    return figure.cached(device, known_by, measured, kind, again=again, quiet=lambda: not figure.busy_share())


def _parts(device: str) -> tuple[str, int]:
    """'cuda:1' -> ('cuda', 1). A machine has one `cpu` and one `metal`."""
    match = re.fullmatch(r"([a-z]+)(?::(\d{1,3}))?", device)
    if match is None or (match[1] in ("cpu", "metal") and match[2]):
        raise InputError(f"{device!r} does not name a device; use cpu, cuda, cuda:1, metal, vulkan, rocm, sycl ...")
    return match[1], int(match[2] or 0)
