"""`rigbench serve`: the site on this machine, live."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import typer

from rigbench.cli.options import number


def command(
    folder: Path = typer.Argument(Path("results"), help="The folder that holds the result documents."),
    port: int = number(8100, "--port", "Port on loopback; 0: any that is free.", 0, 65535, whole=True),
) -> None:
    """Show the site of all results on this machine alone, anew when they change, and the run that is going on."""
    from rigbench.report import serve

    if hasattr(os, "nice"):
        os.nice(10)  # whatever is measured meanwhile goes first
    with (
        tempfile.TemporaryDirectory(prefix="rigbench-site-") as out,
        serve.open_server(folder, Path(out), port) as server,
    ):
        address = f"http://127.0.0.1:{server.server_port}"
        typer.echo(f"{address}/index.html and, while a run goes on, {address}/live.html (Ctrl-C ends)")
        server.serve_forever()
