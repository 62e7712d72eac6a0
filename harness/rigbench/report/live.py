"""The present readings of all sources as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from rigbench import units
from rigbench.records import Series


def table_of(readings: Sequence[Series]) -> Table:
    """The last value of each series, or its status and reason."""
    table = Table(box=None, pad_edge=False)
    for title in ("source", "device", "metric", "value", "scope", "from", "remark"):
        table.add_column(title, justify="right" if title == "value" else "left", no_wrap=title != "remark")
    for series in readings:
        known = [value for value in series.values if value is not None]
        value = value_text(known[-1], series.unit) if known else units.MISSING
        remark = "" if series.status == "ok" else f"{series.status}: {series.reason}"
        table.add_row(series.source, series.device or "", series.name, value, series.scope, series.api, remark)
    return table


def value_text(value: float, unit: str) -> str:
    """A reading with its unit."""
    if unit == "B":
        return units.bytes_text(value)
    if unit == "Hz":
        return f"{value / 1e6:.0f} MHz"
    return f"{value:.4g} {unit}".rstrip()
