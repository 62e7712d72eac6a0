"""`rigbench metrics`: each metric's formula and unit, and the meaning of each flag."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from rigbench.cli.options import JSON


def command(as_json: bool = JSON) -> None:
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
