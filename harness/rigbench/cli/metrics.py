"""`rigbench metrics`: each metric's formula and unit."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from rigbench.cli.options import JSON


def command(as_json: bool = JSON) -> None:
    """Print each metric's name, formula and unit."""
    from rigbench.analysis.metrics import METRICS

    if as_json:
        typer.echo(json.dumps([asdict(metric) for metric in METRICS], indent=1))
        return
    from rich.table import Table

    from rigbench.report.table import output_console

    table = Table(box=None, pad_edge=False)
    for title in ("of a", "name", "unit", "formula"):
        table.add_column(title, no_wrap=title != "formula")
    for metric in METRICS:
        table.add_row(metric.of, metric.name, metric.unit, metric.formula)
    output_console().print(table)
