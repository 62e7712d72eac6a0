"""`rigbench index`, `query`, `export`, `import`, `submit` and `bisect`: results of many runs, machines and tools."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rigbench.cli.bisect import bisect
from rigbench.cli.progress import say
from rigbench.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from rigbench.documents.submit import Parcel

FAULTS_SHOWN = 20
INDEX = Path("results/.index.parquet")
JSON = typer.Option(False, "--json", help="As JSON, numbers in SI units.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(index)
    app.command()(query)
    app.command()(export)
    app.command("import")(import_)
    app.command()(submit)
    app.command()(bisect)


def index(
    folder: Path = typer.Argument(Path("results"), help="The folder that holds the result documents."),
    out: Path | None = typer.Option(
        None, "-o", "--out", help="The index file (default: .index.parquet in the folder)."
    ),
    processes: int | None = typer.Option(None, "--processes", min=1, help="How many at once (default: one per core)."),
    as_json: bool = JSON,
) -> None:
    """Bring the table of all results up to date: one Parquet file, for query, regress, pandas or DuckDB."""
    from rigbench.documents import index as indexing

    done = indexing.update(folder, out, processes=processes)
    if as_json:
        content = {
            "index": str(done.path),
            "documents": done.documents,
            "rows": done.rows,
            "read": done.read,
            "unchanged": done.kept,
            "gone": done.removed,
            "left_out": [{"file": file, "reason": reason} for file, reason in done.faults],
        }
        typer.echo(json.dumps(content, indent=1))
        return
    if done.anew:
        say(f"read everything anew: {done.anew}")
    for file, reason in done.faults[:FAULTS_SHOWN]:
        say(f"left out: {printable(file)}: {printable(reason)}")
    if len(done.faults) > FAULTS_SHOWN:
        say(f"left out: {len(done.faults) - FAULTS_SHOWN} more (--json names them all)")
    changes = f"{done.read} files read, {done.kept} unchanged, {done.removed} gone"
    typer.echo(f"{done.documents} documents, {done.rows} rows in {done.path} ({changes})")


def query(
    sql: str = typer.Argument(help="A SELECT over the table `cases`: a row per document and case group."),
    index: Path = typer.Option(INDEX, "--index", help="The index file that `rigbench index` made."),
    as_json: bool = typer.Option(False, "--json", help="As JSON: a list of objects."),
    as_csv: bool = typer.Option(False, "--csv", help="As CSV."),
) -> None:
    """Ask the index a question in SQL (DuckDB's). It is only read, and no other file can be."""
    from rigbench.documents import query as asking

    answer = asking.ask(index, sql)
    if as_json:
        rows = [dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows]
        typer.echo(json.dumps(rows, indent=1))
        return
    if as_csv:
        import csv

        from rigbench.documents.exchange.export import csv_cell

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(csv_cell, answer.columns))
        writer.writerows([csv_cell(value) for value in row] for row in answer.rows)
        return
    from rich.table import Table
    from rich.text import Text

    from rigbench.report.table import output_console

    console = output_console()
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(answer.columns):
        numbers = all(isinstance(row[place], int | float | None) for row in answer.rows)
        table.add_column(Text(printable(name)), justify="right" if numbers else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def export(
    results: list[Path] = typer.Argument(help="Result documents, or folders of them."),
    form: str = typer.Option("csv", "--format", help="csv, markdown, llama-bench-json or llama-bench-sql."),
    out: Path | None = typer.Option(None, "-o", "--out", help="The file to write (default: the terminal)."),
) -> None:
    """Write results in a form that other tools take."""
    from rigbench.cli.trust import files_of
    from rigbench.documents import store
    from rigbench.documents.exchange import export as forms

    if form not in forms.FORMATS:
        raise InputError(f"--format {form!r}: choose of {', '.join(forms.FORMATS)}")
    documents = [store.read(path) for path in files_of(results)]
    if form == "csv":
        text = forms.csv_text(documents)
    elif form == "markdown":
        text = forms.markdown(documents)
    else:
        entries, left = forms.llama_bench(documents)
        for line in left:
            say(f"left out: {printable(line)}")
        text = forms.llama_bench_json(entries) if form == "llama-bench-json" else forms.llama_bench_sql(entries)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        store.write_whole(out, text.encode("utf-8", "replace"))
    except OSError as error:
        raise UnavailableError(f"cannot write {out}: {error.strerror}") from error


def import_(
    file: Path = typer.Argument(help="What `llama-bench -o json` or `vllm bench serve --save-result` wrote."),
    machine: str | None = typer.Option(None, "--machine", help="The machine's name, where the file does not tell."),
    out: Path = typer.Option(Path("results"), "-o", "--out", help="Folder for the documents."),
) -> None:
    """Take another tool's figures as documents that can be compared, marked as imported."""
    from rigbench.documents import store
    from rigbench.documents.exchange import importing

    found = importing.read(file, machine)
    for line in found.left_out:
        say(f"left out: {printable(line)}")
    if not found.documents:
        raise InputError(f"{file}: nothing in it can be taken")
    for document in found.documents:
        typer.echo(f"result: {store.write(document, out)}")


def submit(
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
    from dataclasses import asdict

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
    for note in parcel.notes:
        typer.echo(f"note         {printable(note)}")
    typer.echo("it tells of the machine:")
    for key, value in asdict(document.machine).items():
        typer.echo(f"  {key:<15}{_shown(value)}")
    for engine in document.engines:
        typer.echo(
            f"  engine         {printable(engine.version)} on {printable(engine.device)}, {_shown(engine.device_names)}"
        )
        typer.echo(f"  its build      {_shown(engine.build)}; {_shown(engine.detail)}")
    for model in document.models:
        typer.echo(
            f"  model          {printable(model.name)}, {units.bytes_text(model.file_bytes)}, sha256 {model.sha256}"
        )
    for bandwidth in document.bandwidth:
        speed = units.bandwidth_text(bandwidth.read_bytes_per_s)
        typer.echo(f"  bandwidth      {printable(bandwidth.device)} {speed}, {printable(bandwidth.method)}")
    typer.echo(f"  annotations    {_shown(document.annotations)}")
    typer.echo(f"the commit and the pull request say:\n\n{printable(parcel.title)}\n\n{body}")


def _shown(value: Any) -> str:
    if value is None or value == () or value == {}:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """A value of SQL as JSON has it: what is no number there (NaN, infinity) is null, what is of no JSON type its text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


def printable(text: str) -> str:
    """Nothing that a document says may move the cursor or colour the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
