"""`rigbench validate`: whether results hold."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rigbench.errors import InputError, ValidationFailed
from rigbench.text import printable

if TYPE_CHECKING:
    from rigbench.documents.validate import Report


def command(
    files: list[Path] = typer.Argument(help="Result documents, or folders of them."),
    as_json: bool = typer.Option(False, "--json", help="A list with one entry per file: faults with their JSON paths."),
) -> None:
    """Check results: every number again from the raw records, nothing faster than physics allows. Exit 5 on a fault.

    A document that holds has a level: unchecked, sound, physical, complete or confirmed. What keeps it from the next is listed.
    """
    from rigbench.documents import validate as validating
    from rigbench.documents.find import result_files

    reports = []
    for path in result_files(files):
        try:
            reports.append(validating.validate(path))
        except OSError as error:
            raise InputError(f"no result at {path}: {error.strerror}") from error
    if as_json:
        typer.echo(
            json.dumps(
                [{**asdict(report), "valid": report.valid, "level": report.level} for report in reports], indent=1
            )
        )
    else:
        for report in reports:
            state = f"valid, {report.level}" if report.valid else f"{len(report.faults)} faults"
            typer.echo(f"{printable(report.file)}: {state}" + _notes(report))
            for fault in report.faults:
                typer.echo(f"  {printable(str(fault))}")
            for doubt in report.doubts if report.valid else ():
                typer.echo(f"  below {doubt.below}: {printable(str(doubt))}")
    wrong = sum(not report.valid for report in reports)
    if wrong:
        raise ValidationFailed(f"{wrong} of {len(reports)} files do not hold")


def _notes(report: Report) -> str:
    return f" ({printable('; '.join(report.notes))})" if report.notes else ""
