"""`rigbench export`: results in the forms of other tools."""

from __future__ import annotations

from pathlib import Path

import typer

from rigbench.cli.options import one_of, say
from rigbench.errors import UnavailableError
from rigbench.text import printable


def command(
    results: list[Path] = typer.Argument(help="Result documents, or folders of them."),
    form: str = typer.Option("csv", "--format", help="csv, markdown, llama-bench-json or llama-bench-sql."),
    out: Path | None = typer.Option(None, "-o", "--out", help="The file to write (default: the terminal)."),
) -> None:
    """Write results in a form that other tools take."""
    from rigbench.documents import store
    from rigbench.documents.exchange import export as forms
    from rigbench.documents.find import result_files
    from rigbench.documents.validate import validate

    form = one_of("--format", form, forms.FORMATS)
    files = result_files(results)
    documents = [store.read(path) for path in files]
    levels = {document.id: validate(path).level for document, path in zip(documents, files, strict=True)}
    if form == "csv":
        text = forms.csv_text(documents, levels)
    elif form == "markdown":
        text = forms.markdown(documents, levels)
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
    say(f"{len(documents)} results written to {out}")
