"""`rigbench validate`, `compare` and `regress`: whether a result holds, and what two or many of them say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rigbench.cli.progress import say
from rigbench.errors import InputError, RegressionFound, RigbenchError, ValidationFailed

if TYPE_CHECKING:
    from rigbench.analysis.table import Row
    from rigbench.documents.validate import Report

FAIL_ON = typer.Option(
    [], "--fail-on", help="Exit with 4 on this verdict: slower, more (memory, energy). May be repeated."
)
METRIC = typer.Option([], "--metric", help="Only this metric (user_tps, ttft_s, prefill_tps ...). May be repeated.")
JSON = typer.Option(False, "--json", help="As JSON, numbers in SI units.")
MARKDOWN = typer.Option(False, "--markdown", help="As Markdown, for a pull request.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(validate)
    app.command()(compare)
    app.command()(regress)


def validate(
    files: list[Path] = typer.Argument(help="Result documents, or folders of them."),
    as_json: bool = typer.Option(False, "--json", help="A list with one entry per file: faults with their JSON paths."),
) -> None:
    """Check results: every number again from the raw records, and nothing faster than the memory allows. Exit 5 on a fault."""
    from rigbench.documents import validate as validating

    reports = []
    for path in files_of(files, may_be_none=True):
        try:
            reports.append(validating.validate(path))
        except OSError as error:
            raise InputError(f"no result at {path}: {error.strerror}") from error
    if as_json:
        typer.echo(json.dumps([{**asdict(report), "valid": report.valid} for report in reports], indent=1))
    else:
        if not reports:
            typer.echo("no result documents")
        for report in reports:
            typer.echo(f"{report.file}: {'valid' if report.valid else f'{len(report.faults)} faults'}" + _notes(report))
            for fault in report.faults:
                typer.echo(f"  {printable(str(fault))}")
    wrong = sum(not report.valid for report in reports)
    if wrong:
        raise ValidationFailed(f"{wrong} of {len(reports)} files do not hold")


def _notes(report: Report) -> str:
    return f" ({printable('; '.join(report.notes))})" if report.notes else ""


def printable(text: str) -> str:
    """Text of a document, safe on a terminal."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def compare(
    results: list[Path] = typer.Argument(None, help="BASE and NEW: two documents, or two folders of them."),
    base: list[Path] = typer.Option([], "--base", help="A document or folder of the first side. May be repeated."),
    new: list[Path] = typer.Option([], "--new", help="A document or folder of the second side. May be repeated."),
    metric: list[str] = METRIC,
    fail_on: list[str] = FAIL_ON,
    as_json: bool = JSON,
    as_markdown: bool = MARKDOWN,
) -> None:
    """Compare two results case by case: faster, slower, same, cannot tell (~), or not comparable and why."""
    sides = list(base), list(new)
    given = list(results or [])
    for side in sides:
        if not side and given:
            side.append(given.pop(0))
    if given or not all(sides):
        raise InputError("name two results: rigbench compare BASE NEW, or --base FILE ... --new FILE ...")
    from rigbench.analysis import compare as comparing

    metrics, verdicts = _metrics(metric), _verdicts(fail_on)
    base_rows, new_rows = (rows_of(files_of(side)) for side in sides)
    found = comparing.compare(base_rows, new_rows, metrics)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        from rigbench.report import compare_table, table

        if as_markdown:
            typer.echo(compare_table.markdown(found), nl=False)
        else:
            compare_table.print_comparison(table.output_console(), found)
    if bad := found.bad(verdicts):
        raise RegressionFound(_bad_sentence([f"{cell.group} {cell.metric} {cell.verdict}" for cell in bad]))


def regress(
    results: list[Path] = typer.Argument(None, help="Result documents, or folders of them. Default: results/"),
    axis: str = typer.Option("driver", "--axis", help="What the history goes along: driver, engine, os or date."),
    index: Path | None = typer.Option(None, "--index", help="Read this index (rigbench index) in place of documents."),
    since: str | None = typer.Option(None, "--since", help="Only steps that lead to this value of the axis or beyond."),
    metric: list[str] = METRIC,
    every: bool = typer.Option(False, "--all", help="Show steps without a difference, too."),
    plot: Path | None = typer.Option(None, "--plot", help="Draw the histories into this SVG file."),
    fail_on: list[str] = FAIL_ON,
    as_json: bool = JSON,
    as_markdown: bool = MARKDOWN,
) -> None:
    """Follow each case along drivers, engine versions, systems or dates, and tell where it became slower."""
    from rigbench.analysis import regress as regressing

    if axis not in regressing.AXES:
        raise InputError(f"--axis {axis!r}: choose of {', '.join(regressing.AXES)}")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise InputError(f"--plot {plot.name}: give a file that ends in .svg")
    metrics, verdicts = _metrics(metric), _verdicts(fail_on)
    if index is not None:
        from rigbench.documents.index import read_rows

        found = read_rows(index)
    else:
        found = rows_of(files_of(results or [Path("results")]))
    histories = regressing.history(found, axis, metrics)
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
    if plot is not None:
        from rigbench.report.history_plot import svg

        try:
            plot.write_text(svg(histories, axis), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {plot}: {error.strerror}") from error
        say(f"drawn: {plot}")
    if bad := regressing.bad(histories, verdicts):
        raise RegressionFound(_bad_sentence(bad))


def _bad_sentence(found: Sequence[str]) -> str:
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{len(found)} of what --fail-on names: {', '.join(found[:5])}{more}"


def _metrics(names: Sequence[str]) -> tuple[str, ...]:
    from rigbench.analysis.definitions import comparable, compared

    for name in names:
        if name not in comparable():
            raise InputError(f"--metric {name!r}: choose of {', '.join(comparable())}")
    return tuple(names) or compared()


def _verdicts(names: Sequence[str]) -> list[str]:
    from rigbench.analysis.compare import BAD

    for name in names:
        if name not in BAD:
            raise InputError(f"--fail-on {name!r}: choose of {', '.join(BAD)}")
    return list(names)


def files_of(paths: Sequence[Path], *, may_be_none: bool = False) -> list[Path]:
    """The result documents among files and folders (all below them; hidden ones, links and schemas left out). InputError for an
    empty folder, unless it may hold none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [
                each
                for each in sorted(path.rglob("*.json"))
                if not each.name.startswith(("schema-v", ".")) and not each.is_symlink()
            ]
            if not inside and not may_be_none:
                raise InputError(f"no result documents (*.json) in {path}")
            found += inside
        else:
            found.append(path)
    return found


def rows_of(files: Sequence[Path]) -> list[Row]:
    """Samples of each document once, whatever the number of its copies. A broken one ends it if it is alone, else is said."""
    from rigbench.analysis.table import table
    from rigbench.documents import store

    seen: set[str] = set()
    found: list[Row] = []
    for path in files:
        try:
            document = store.read(path)
        except RigbenchError as error:
            if len(files) == 1:
                raise
            say(f"left out: {error}")
            continue
        if document.id not in seen:
            seen.add(document.id)
            found += table(document)
    if not found:
        raise InputError("none of these files holds a measured case")
    return found
