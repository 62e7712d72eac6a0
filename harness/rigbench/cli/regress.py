"""`rigbench regress`: many results along drivers, versions or dates."""

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
    metrics_of,
    rows_of,
    say,
    verdicts_of,
)
from rigbench.errors import InputError, RegressionFound


def command(
    results: list[Path] = typer.Argument(None, help="Result documents, or folders of them. Default: results/"),
    axis: str = typer.Option("driver", "--axis", help="What the history goes along: driver, engine, os or date."),
    index: Path | None = typer.Option(None, "--index", help="Read this index (rigbench index) in place of documents."),
    since: str | None = typer.Option(None, "--since", help="Only shifts to this value of the axis or beyond."),
    metric: list[str] = METRIC,
    known: Path | None = typer.Option(
        None, "--known", help="Shifts that are known ([[known]] in TOML): they fail nothing."
    ),
    every: bool = typer.Option(False, "--all", help="Name cases without a shift, too."),
    plot: Path | None = typer.Option(None, "--plot", help="Draw the histories into this SVG file."),
    fail_on: list[str] = FAIL_ON,
    as_json: bool = JSON_SI,
    as_markdown: bool = MARKDOWN,
) -> None:
    """Follow each case along drivers, engine versions, systems or dates, and tell where it became slower."""
    from rigbench.analysis import regress as regressing
    from rigbench.documents.find import result_files

    if axis not in regressing.AXES:
        raise InputError(f"--axis {axis!r}: choose of {', '.join(regressing.AXES)}")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise InputError(f"--plot {plot.name}: give a file that ends in .svg")
    metrics, verdicts = metrics_of(metric), verdicts_of(fail_on)
    if index is not None:
        from rigbench.documents.index import read_rows

        all_histories = read_rows(index)
    else:
        all_histories = rows_of(result_files(results or [Path("results")]))
    acknowledged = regressing.read_known(known) if known is not None else ()
    histories = regressing.history(all_histories, axis, metrics, acknowledged)
    if since is not None:
        histories = regressing.since(histories, since)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in histories], indent=1))
    elif not histories:
        typer.echo(f"no case was measured at two values of the axis {axis}" + (f" since {since}" if since else ""))
    else:
        from rigbench.report import compare_table, table

        if as_markdown:
            typer.echo(compare_table.history_markdown(histories, every=every), nl=False)
        else:
            compare_table.print_histories(table.output_console(), histories, every=every)
    if plot is not None and histories:
        from rigbench.report.history_plot import svg

        try:
            plot.write_text(svg(histories, axis), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {plot}: {error.strerror}") from error
        say(f"drawn: {plot}")
    if bad := regressing.bad(histories, verdicts):
        raise RegressionFound(bad_sentence(bad))
