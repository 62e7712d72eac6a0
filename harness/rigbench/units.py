"""Units, and how a number prints. SI on disk (`_s`, `_ns`, `_bytes`, `_w`, `_j`), scaled only here. GB = 1e9 bytes."""

from __future__ import annotations

MISSING = "-"


def _trim(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits, never in exponent form below 1e15."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e" in text and abs(value) >= 1 else text


def bytes_text(value: float | None) -> str:
    """1_500_000_000 -> '1.5 GB'."""
    if value is None:
        return MISSING
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{_trim(value / size)} {unit}"
    return f"{value:.0f} B"


def seconds_text(value: float | None) -> str:
    """0.0123 -> '12.3 ms'; 75 -> '1 min 15 s'."""
    if value is None:
        return MISSING
    if abs(value) < 1e-3:
        return f"{_trim(value * 1e6)} us"
    if abs(value) < 1:
        return f"{_trim(value * 1e3)} ms"
    if abs(value) < 60:
        return f"{_trim(value)} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def rate_text(value: float | None) -> str:
    """Tokens per second to three or four digits: 42.31 -> '42.3', 1234.5 -> '1234'."""
    if value is None:
        return MISSING
    return _trim(value, 4 if abs(value) >= 1000 else 3)


def ratio_text(value: float | None) -> str:
    """0.853 -> '0.85'."""
    return MISSING if value is None else f"{value:.2f}"


def energy_text(value: float | None) -> str:
    """Joules: 0.42 -> '0.42 J'."""
    return MISSING if value is None else f"{_trim(value)} J"


def bandwidth_text(value: float | None) -> str:
    """Bytes per second: 2.73e11 -> '273 GB/s'."""
    return MISSING if value is None else f"{_trim(value / 1e9)} GB/s"


def flops_text(value: float | None) -> str:
    """Operations per second: 2.095e14 -> '210 TFLOP/s', 1.9e11 -> '190 GFLOP/s'."""
    if value is None:
        return MISSING
    scale, name = (1e12, "TFLOP/s") if value >= 1e12 else (1e9, "GFLOP/s")
    return f"{_trim(value / scale)} {name}"


def number_text(value: float | None) -> str:
    """A number of any unit to four digits: 0.0123456 -> '0.01235'."""
    return MISSING if value is None else f"{value:.4g}"


TEXTS = {
    "tokens/s": rate_text,
    "steps/s": rate_text,
    "images/s": rate_text,
    "samples/s": rate_text,
    "s": seconds_text,
    "s/token": seconds_text,
    "bytes": bytes_text,
    "J": energy_text,
    "ratio": ratio_text,
}
"""How a number of a unit prints; of any other by `number_text`."""
