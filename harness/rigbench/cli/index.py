"""`rigbench index`: the table of all results."""

from __future__ import annotations

from pathlib import Path

import typer

from rigbench.cli.options import FAULTS_SHOWN, JSON_SI, number, say, say_json
from rigbench.text import printable


def command(
    folder: Path = typer.Argument(Path("results"), help="The folder that holds the result documents."),
    out: Path | None = typer.Option(
        None, "-o", "--out", help="The index file (default: .index.parquet in the folder)."
    ),
    processes: int | None = number(
        None, "--processes", "How many at once.  [default: one per core]", 1, 1024, whole=True
    ),
    as_json: bool = JSON_SI,
) -> None:
    """Bring the table of all results up to date: a Parquet file for query, regress and pandas."""
    from rigbench.documents import index as indexing

    done = indexing.update(folder, out, processes=processes)
    if as_json:
        say_json(
            {
                "index": str(done.path),
                "documents": done.documents,
                "rows": done.rows,
                "read": done.read,
                "unchanged": done.unchanged,
                "gone": done.removed,
                "left_out": [{"file": file, "reason": reason} for file, reason in done.faults],
            }
        )
        return
    if done.anew:
        say(f"read everything anew: {done.anew}")
    for file, reason in done.faults[:FAULTS_SHOWN]:
        say(f"left out: {printable(file)}: {printable(reason)}")
    if len(done.faults) > FAULTS_SHOWN:
        say(f"left out: {len(done.faults) - FAULTS_SHOWN} more (--json names them all)")
    changes = f"{done.read} files read, {done.unchanged} unchanged, {done.removed} gone"
    typer.echo(f"{done.documents} documents, {done.rows} rows in {done.path} ({changes})")
