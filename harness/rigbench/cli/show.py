"""`rigbench show`: the rows of a result."""

from __future__ import annotations

from pathlib import Path

import typer

from rigbench.cli.options import JSON_SI, say_json


def command(
    result: Path = typer.Argument(help="A result document."),
    as_json: bool = JSON_SI,
) -> None:
    """Show a result: a row per case, computed from the raw records."""
    from rigbench.analysis.table import content
    from rigbench.documents.validate import examined, level_sentence

    report, document, rows = examined(result)
    if as_json:
        say_json([content(row) for row in rows])
        return
    from rigbench.report import table

    console = table.output_console()
    machine, suite = document.machine, document.suite
    lines = [f"{machine.cpu}, {machine.os}; suite {suite.name} {suite.version}; {document.created_utc}"]
    for engine in document.engines:
        lines.append(
            f"{table.engine_text(engine)} on {engine.device}"
            + (f", {engine.threads} threads" if engine.threads else "")
        )
    table.print_notes(console, lines, "")
    table.print_notes(console, [level_sentence(report)], "" if report.valid else "red")
    if (source := rows[0].imported if rows else None) is not None:
        table.print_notes(
            console, [f"Imported from {source}: figures of another tool, not measured by rigbench."], "yellow"
        )
    if not document.complete:
        table.print_notes(console, ["This run was ended early: cases are missing."], "yellow")
    table.print_rows(console, rows)
