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
    from rigbench.report.table import output_console, print_table

    console = output_console()
    rows = [(each["of"], each["name"], each.get("label", ""), each["unit"], each["formula"]) for each in found]
    print_table(console, ("of a", "name", "in tables", "unit", "formula"), rows, keys=2)
    console.print()
    print_table(console, ("flag", "means"), [(flag.name, flag.meaning) for flag in FLAGS])
