"""`rigbench metrics`: each metric's formula and unit, and the meaning of each flag."""

from __future__ import annotations

from dataclasses import asdict

from rigbench.cli.options import JSON, say_json


def command(as_json: bool = JSON) -> None:
    """Say what each metric and flag means."""
    from rigbench.analysis.definitions import TERMS, registry
    from rigbench.analysis.flags import FLAGS

    entries = [*(metric.describe() for metric in registry()), *map(asdict, TERMS)]
    if as_json:
        flags = [{"name": flag.name, "formula": flag.meaning, "unit": "", "of": "flag"} for flag in FLAGS]
        say_json([*entries, *flags])
        return
    from rigbench.report.table import output_console, print_table

    console = output_console()
    rows = [(each["of"], each["name"], each.get("label", ""), each["unit"], each["formula"]) for each in entries]
    print_table(console, ("of a", "name", "in tables", "unit", "formula"), rows, keys=2)
    console.print()
    print_table(console, ("flag", "means"), [(flag.name, flag.meaning) for flag in FLAGS])
