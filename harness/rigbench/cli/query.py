"""`rigbench query`: a question to the table of all results."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import typer

from rigbench.cli.options import say_json
from rigbench.text import printable


def command(
    sql: str = typer.Argument(help="A SELECT over the table `cases`: a row per document and case group."),
    index: Path = typer.Option(
        Path("results/.index.parquet"), "--index", help="The index file that `rigbench index` made."
    ),
    as_json: bool = typer.Option(False, "--json", help="As JSON: a list of objects."),
    as_csv: bool = typer.Option(False, "--csv", help="As CSV."),
) -> None:
    """Ask the index a question in SQL (DuckDB's). It is only read, and no other file can be."""
    from rigbench.documents import query as asking

    answer = asking.ask(index, sql)
    if as_json:
        rows = [dict(zip(answer.columns, map(_json_value, row), strict=True)) for row in answer.rows]
        say_json(rows)
        return
    if as_csv:
        import csv

        from rigbench.documents.exchange.export import csv_cell

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(csv_cell, answer.columns))
        writer.writerows([csv_cell(value) for value in row] for row in answer.rows)
        return
    from rigbench.report.table import output_console, print_table

    columns = [printable(name) for name in answer.columns]
    print_table(output_console(), columns, [[_cell(value) for value in row] for row in answer.rows])


def _json_value(value: Any) -> Any:
    """A value of SQL as JSON has it: what is no number there (NaN, infinity) is null, what is of no JSON type its text."""
    if isinstance(value, dict):
        return {str(key): _json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))
