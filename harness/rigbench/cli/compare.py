"""`rigbench compare`: two results case by case."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from rigbench.cli.options import (
    FAIL_ON,
    JSON_SI,
    MARKDOWN,
    METRIC,
    bad_sentence,
    levels_of,
    levels_text,
    metrics_of,
    rows_of,
    say_json,
    verdicts_of,
    without_effect,
)
from rigbench.errors import InputError, RegressionFound


def command(
    context: typer.Context,
    results: list[Path] = typer.Argument(None, help="BASE and NEW: two documents, or two folders of them."),
    base: list[Path] = typer.Option([], "--base", help="A document or folder of the first side. May be repeated."),
    new: list[Path] = typer.Option([], "--new", help="A document or folder of the second side. May be repeated."),
    history: list[Path] = typer.Option(
        [],
        "--history",
        help="Earlier results of this machine (a folder): they tell how much its runs differ. May be repeated.",
    ),
    metric: list[str] = METRIC,
    fail_on: list[str] = FAIL_ON,
    as_json: bool = JSON_SI,
    as_markdown: bool = MARKDOWN,
    as_table: bool = typer.Option(False, "--table", help="Any number of results side by side, without verdicts."),
) -> None:
    """Compare two results case by case, with how sure; or many side by side."""
    if as_table:
        without_effect(context, "--table", {"results", "metric", "as_json", "as_table"})
        _side_by_side(list(results or []), metric, as_json)
        return
    sides = list(base), list(new)
    paths = list(results or [])
    for side in sides:
        if not side and paths:
            side.append(paths.pop(0))
    if paths or not all(sides):
        raise InputError("name two results: rigbench compare BASE NEW, or --base FILE ... --new FILE ...")
    from rigbench.analysis import compare as comparing
    from rigbench.documents.find import result_files

    metrics, verdicts = metrics_of(metric), verdicts_of(fail_on)
    base_rows, new_rows = (rows_of(result_files(side)) for side in sides)
    levels = levels_of(base_rows, new_rows)
    earlier = rows_of(result_files(history)) if history else []
    comparison = comparing.compare(base_rows, new_rows, metrics, earlier)
    if as_json:
        typer.echo(json.dumps({**asdict(comparison), "levels": levels}, indent=1))
    else:
        from rigbench.report import compare_table, table

        if as_markdown:
            typer.echo(compare_table.markdown(comparison), nl=False)
        else:
            compare_table.print_comparison(table.output_console(), comparison)
        typer.echo(levels_text(levels))
    if bad := comparison.bad(verdicts):
        raise RegressionFound(bad_sentence([f"{cell.group} {cell.metric} {cell.verdict}" for cell in bad]))


def _side_by_side(results: list[Path], metric: list[str], as_json: bool) -> None:
    from rigbench.documents.find import result_files
    from rigbench.report import side_by_side, table

    if not results:
        raise InputError("name results: rigbench compare --table A.json B.json C.json, or folders of them")
    metrics = metrics_of(metric) if metric else side_by_side.METRICS
    content = side_by_side.side_by_side(rows_of(result_files(results)), metrics)
    if as_json:
        say_json(content)
    else:
        side_by_side.print_side_by_side(table.output_console(), content)
