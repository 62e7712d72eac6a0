"""`rigbench site`: the site of all results."""

from __future__ import annotations

from pathlib import Path

import typer

from rigbench.cli.options import FAULTS_SHOWN, number, say
from rigbench.text import printable


def command(
    folder: Path = typer.Argument(Path("results"), help="The folder that holds the result documents."),
    out: Path = typer.Option(Path("site"), "-o", "--out", help="The folder of the site; kept up to date if it is one."),
    repo: str = typer.Option("", "--repo", help="Where results are handed in, for the page that says how."),
    processes: int | None = number(
        None, "--processes", "How many at once.  [default: one per core]", 1, 1024, whole=True
    ),
) -> None:
    """Make the site of all results: leaderboard, a page for each result, machine and model, predictions; plain files."""
    from rigbench.report import site

    done = site.build(folder, out, processes=processes, repository=repo)
    for file, reason in done.faults[:FAULTS_SHOWN]:
        say(f"left out: {printable(file)}: {printable(reason)}")
    if done.refused:
        say(f"left out: {done.refused} of the results, which do not hold (rigbench validate says why)")
    changes = f"{done.written} files written, {done.unchanged} unchanged, {done.removed} gone"
    typer.echo(f"{done.results} results, {done.rows} rows in {out / 'index.html'} ({changes})")
