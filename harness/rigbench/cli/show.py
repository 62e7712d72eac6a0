"""`rigbench show`: the rows of a result."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def command(
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
