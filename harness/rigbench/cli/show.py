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
    from rigbench.analysis.table import content
    from rigbench.analysis.table import table as rows_of
    from rigbench.documents import store

    document = store.read(result)
    found = rows_of(document)
    if as_json:
        typer.echo(json.dumps([content(row) for row in found], indent=1))
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
    """Print each metric's name, formula and unit, and the meaning of each flag."""
    from rigbench.analysis.definitions import TERMS, registry
    from rigbench.analysis.flags import FLAGS

    found = [*(metric.describe() for metric in registry()), *map(asdict, TERMS)]
    if as_json:
        flags = [{"name": flag.name, "formula": flag.meaning, "unit": "", "of": "flag"} for flag in FLAGS]
        typer.echo(json.dumps([*found, *flags], indent=1))
        return
    from rich.table import Table

    from rigbench.report.table import output_console

    console = output_console()
    table = Table("of a", "name", "in tables", "unit", "formula", box=None, pad_edge=False)
    for each in found:
        table.add_row(each["of"], each["name"], each.get("label", ""), each["unit"], each["formula"])
    console.print(table, "")
    table = Table("flag", "means", box=None, pad_edge=False)
    for flag in FLAGS:
        table.add_row(flag.name, flag.meaning)
    console.print(table)
