"""`rigbench submit`: handing a result in."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rigbench.cli.options import FAULTS_SHOWN, say
from rigbench.errors import InputError
from rigbench.text import printable

if TYPE_CHECKING:
    from rigbench.documents.submit import Parcel


def command(
    result: Path = typer.Argument(help="The result document to hand in."),
    repo: str | None = typer.Option(None, "--repo", help="The results repository: a URL or a path, as git takes it."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would leave this machine, and end."),
    private_ok: bool = typer.Option(False, "--private-ok", help="Send it although something in it looks private."),
) -> None:
    """Check a result, show all that would leave this machine, ask, and push it to a branch of its own."""
    from rigbench.documents import submit as handing

    parcel = handing.prepare(result)
    body = _description(parcel)
    _show_parcel(parcel, body, repo)
    if parcel.private:
        for place, what in parcel.private[:FAULTS_SHOWN]:
            say(f"looks private: {printable(place)}: {printable(what)}")
        if not private_ok:
            raise InputError("nothing was sent: see what looks private above; if it may be known, add --private-ok")
    if dry_run:
        return
    if repo is None:
        raise InputError("nothing was sent: name the results repository with --repo (a URL or a path)")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nothing was sent: there is nobody to ask here; look at it with --dry-run, then add --yes")
        if not typer.confirm(f"Send this to {repo}?"):
            typer.echo("nothing was sent")
            return
    sent = handing.send(parcel, repo, body=body)
    if sent.state == "already_in":
        typer.echo(f"already there: {sent.where} of {repo}")
    elif sent.state == "already_sent":
        typer.echo(f"already there: the branch {sent.branch} of {repo}")
    else:
        typer.echo(f"pushed: {sent.branch} to {repo}")
        link = handing.pull_request_link(repo, sent.branch)
        typer.echo(
            f"open the pull request: {link}" if link else "open a pull request from that branch with the text above"
        )


def _description(parcel: Parcel) -> str:
    """The text of the commit and the pull request: what ran on what, and the table."""
    from rigbench.documents.exchange import export as forms

    return forms.markdown([parcel.document]) + f"\nid {parcel.document.id}\n"


def _show_parcel(parcel: Parcel, body: str, repo: str | None) -> None:
    """All that would leave: the file, what it tells of the machine field by field, the commit's author and text."""
    from rigbench import units
    from rigbench.documents.submit import NEUTRAL, author

    document = parcel.document
    typer.echo(
        f"file         {parcel.path}, {len(parcel.data)} bytes, all of it and nothing else ({len(document.cases)} cases)"
    )
    typer.echo(f"to           {printable(parcel.target)}{f' of {repo}' if repo else ''}, on the branch {parcel.branch}")
    name, mail = author()
    neutral = " (git knows no name here: a neutral one)" if (name, mail) == NEUTRAL else " (from git's configuration)"
    typer.echo(f"commit by    {printable(name)} <{printable(mail)}>{neutral}")
    typer.echo(f"level        {printable(parcel.level)}")
    for note in parcel.notes:
        typer.echo(f"note         {printable(note)}")
    typer.echo("it tells of the machine:")
    for key, value in asdict(document.machine).items():
        typer.echo(f"  {key:<15}{_text(value)}")
    for engine in document.engines:
        typer.echo(
            f"  engine         {printable(engine.version)} on {printable(engine.device)}, {_text(engine.device_names)}"
        )
        typer.echo(f"  its build      {_text(engine.build)}; {_text(engine.detail)}")
    for model in document.models:
        typer.echo(
            f"  model          {printable(model.name)}, {units.bytes_text(model.file_bytes)}, sha256 {model.sha256}"
        )
    for bandwidth in document.bandwidth:
        speed = units.bandwidth_text(bandwidth.read_bytes_per_s)
        typer.echo(f"  bandwidth      {printable(bandwidth.device)} {speed}, {printable(bandwidth.method)}")
    for arithmetic in document.arithmetic:
        rates = ", ".join(f"{dtype} {units.flops_text(rate)}" for dtype, rate in arithmetic.flops_per_s.items())
        typer.echo(f"  arithmetic     {printable(arithmetic.device)} {printable(rates)}")
    typer.echo(f"  annotations    {_text(document.annotations)}")
    typer.echo(f"the commit and the pull request say:\n\n{printable(parcel.title)}\n\n{body}")


def _text(value: Any) -> str:
    if value is None or value == () or value == {}:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
