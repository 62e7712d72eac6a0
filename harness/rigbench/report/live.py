"""The present readings of all sources as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from rigbench import units
from rigbench.records import Series

HEADINGS = ("source", "metric", "value", "scope", "from", "remark")


def reading_rows(readings: Sequence[Series]) -> list[tuple[str, ...]]:
    """As in HEADINGS: the last value of each series, of a counter its rate, or its status and reason."""
    rows: list[tuple[str, ...]] = []
    for series in readings:
        remark = "" if series.status == "ok" else f"{series.status}: {series.reason}"
        name = f"{series.device} {series.name}" if series.device else series.name
        rows.append((series.source, name, _value_text(series), series.scope, series.api, remark))
    return rows


def _value_text(series: Series) -> str:
    known = [(at, value) for at, value in zip(series.time_us, series.values, strict=True) if value is not None]
    if not known:
        return units.MISSING
    if series.method != "counter":
        return value_text(known[-1][1], series.unit)
    (start_us, first), (end_us, last) = known[0], known[-1]
    if end_us <= start_us:
        return units.MISSING
    rate = (last - first) / (end_us - start_us) * 1e6
    return value_text(rate, {"J": "W"}.get(series.unit, f"{series.unit}/s"))


def value_text(value: float, unit: str) -> str:
    """A reading with its unit."""
    if unit in ("B", "B/s"):
        return units.bytes_text(value) + unit[1:]
    if unit == "Hz":
        return f"{value / 1e6:.0f} MHz"
    return f"{value:.4g} {unit}".rstrip()
