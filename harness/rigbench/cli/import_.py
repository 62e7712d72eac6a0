"""`rigbench import`: another tool's figures as documents."""

from __future__ import annotations

from pathlib import Path

import typer

from rigbench.cli.options import say
from rigbench.errors import InputError
from rigbench.text import printable


def command(
    file: Path = typer.Argument(
        help="What llama-bench, llama-batched-bench, mlx_lm.benchmark, `vllm bench serve`, SGLang, guidellm, aiperf or "
        "llama-benchy wrote, in any form."
    ),
    machine: str | None = typer.Option(None, "--machine", help="The machine's name, where the file does not tell."),
    out: Path = typer.Option(Path("results"), "-o", "--out", help="Folder for the documents."),
) -> None:
    """Take another tool's figures as documents that can be compared, marked as imported."""
    from rigbench.documents import store
    from rigbench.documents.exchange import importing

    documents = importing.read(file, machine)
    for line in documents.left_out:
        say(f"left out: {printable(line)}")
    if not documents.documents:
        raise InputError(f"{file}: nothing in it can be taken")
    for document in documents.documents:
        typer.echo(f"result: {store.write(document, out)}")
