"""`rigbench report`: results as one page."""

from __future__ import annotations

from pathlib import Path

import typer

from rigbench.cli.options import number, rows_of
from rigbench.errors import InputError


def command(
    results: list[Path] = typer.Argument(..., help="Result documents (the first is the base), or a folder of them."),
    out: Path = typer.Option(Path("report.html"), "-o", "--out", help="The page to write."),
    png: Path | None = typer.Option(None, "--png", help="Draw the first result's speeds into this file, 1200 x 630."),
    price_kwh: float = number(0.16, "--price-kwh", "Price of a kWh."),
    currency: str = typer.Option("USD", "--currency", help="What the price is in."),
) -> None:
    """Make one page of results, without a script, to send to a friend: charts, flags, numbers, verdicts, history."""
    from rigbench.documents import store
    from rigbench.documents.find import result_files
    from rigbench.report import page
    from rigbench.report.result_view import Price

    price = Price(price_kwh, currency)
    files = result_files(results)
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {out.name}: give a file that ends in .html")
    if png is not None and png.suffix.lower() != ".png":
        raise InputError(f"--png {png.name}: give a file that ends in .png")
    folders = [path for path in results if path.is_dir()]
    if len(files) > 1 and folders:
        rows = rows_of(files)
        newest = max(rows, key=lambda row: row.created_utc).document_id
        likely = [file for file in files if newest[:8] in file.name] or files
        files = [next(file for file in likely if store.read(file).id == newest)]
        page.save(out, page.of_folder(folders[0], rows, files[0], price))
    else:
        page.save(out, page.of_results(files, price))
    typer.echo(f"page: {out}")
    if png is not None:
        from rigbench.report import picture

        picture.draw(files[0], png)
        typer.echo(f"picture: {png}")
