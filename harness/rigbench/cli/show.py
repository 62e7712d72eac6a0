"""`rigbench show RESULT` and `rigbench metrics`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(show)
    app.command()(metrics)


def show(
    result: Path = typer.Argument(help="A result document."),
    as_json: bool = typer.Option(False, "--json", help="Rows as JSON, numbers in SI units."),
) -> None:
    """Show a result: a row per case, every number recomputed from the raw records."""
    from rigbench.analysis.summary import rows
    from rigbench.documents import store

    document = store.read(result)
    found = rows(document)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=1))
        return
    from rigbench.report import table

    console = table.output_console()
    machine = document.machine
    console.print(
        f"{machine.cpu}, {machine.os}; suite {document.suite.name} {document.suite.version}; {document.created_utc}"
    )
    for engine in document.engines:
        # Servers tell a bare number.
        named = engine.version if engine.version[:1].isalpha() else f"{engine.engine} {engine.version}"
        console.print(f"{named} on {engine.device}" + (f", {engine.threads} threads" if engine.threads else ""))
    if not document.complete:
        console.print("This run was ended early: cases are missing.", style="yellow")
    table.print_rows(console, found)


def metrics(as_json: bool = typer.Option(False, "--json", help="As JSON.")) -> None:
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
