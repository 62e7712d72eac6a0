"""One page of one result, of several with the verdicts between them, or of a folder with its history: a single file without a
script, which works offline, on a dark screen, a phone and paper.

    rigbench report results/box/x.json -o report.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rigbench import __version__
from rigbench.analysis import compare, regress
from rigbench.analysis.table import Row, content, table
from rigbench.documents import store
from rigbench.documents.validate import level_sentence, validate
from rigbench.errors import InputError
from rigbench.report import compare_table, history_plot, result_view
from rigbench.report.result_view import Price
from rigbench.report.site import PAGES, clipped, environment, write

MOST_RESULTS = 8
"""Results that a page shows whole."""


def of_results(files: Sequence[Path], price: Price) -> str:
    """The page of these results, the first as the base of every comparison. InputError for more than MOST_RESULTS or a file that is
    no result."""
    if len(files) > MOST_RESULTS:
        raise InputError(f"{len(files)} results are too many for one page ({MOST_RESULTS} at most): name their folder")
    results = [_result(file, price) for file in files]
    first, *others = results
    pairs = [_comparison(first, other) for other in others]
    title = first["hardware"] if len(results) == 1 else f"{len(results)} results"
    return _page(f"{first['result'].suite} on {title}" if not others else title, first["headline"], results, pairs, [])


def of_folder(folder: Path, rows: Sequence[Row], newest: Path, price: Price) -> str:
    """The page of a folder: the histories of its rows along every axis that has one, and its newest result."""
    histories = []
    for axis in regress.AXES:
        if entries := regress.history(rows, axis):
            histories.append(_history(entries, axis))
    result = _result(newest, price)
    count = len({row.document_id for row in rows})
    return _page(
        f"{count} results in {folder.name or folder}", f"The newest: {result['headline']}", [result], [], histories
    )


def save(path: Path, text: str) -> None:
    """InputError if it cannot be written."""
    try:
        write(path, text.encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _page(
    title: str,
    headline: str,
    results: Sequence[dict[str, Any]],
    comparisons: Sequence[dict[str, Any]],
    histories: Sequence[dict[str, Any]],
) -> str:
    return (
        environment()
        .get_template("report.html")
        .render(
            title=clipped(title),
            headline=headline,
            style=Markup((PAGES / "style.css").read_text(encoding="utf-8")),
            results=results,
            comparisons=comparisons,
            histories=histories,
            version=__version__,
        )
    )


def _result(file: Path, price: Price) -> dict[str, Any]:
    document = store.read(file)
    checked = validate(file)
    rows = [replace(row, level=checked.level) for row in table(document)]
    if not rows:
        raise InputError(f"{file} holds no case")
    view = result_view.view(rows, price)
    return view | {
        "charts": view["charts"] + result_view.record_charts(document, rows),
        "level": level_sentence(checked),
        "name": clipped(file.stem),
        "rows": rows,
        "headline": result_view.headline(rows),
        "json": Markup.escape(json.dumps([content(row) for row in rows], separators=(",", ":"))),
    }


def _comparison(base: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    comparison = compare.compare(base["rows"], new["rows"])
    return {
        "base": base["name"],
        "new": new["name"],
        "differences": [(each.name, clipped(each.base), clipped(each.new)) for each in comparison.differences],
        "headings": compare_table.HEADINGS,
        "words": compare_table.LEFT,
        "lines": [tuple(map(clipped, compare_table.cell_texts(cell))) for cell in comparison.cells],
        "notes": [*comparison.remarks, *compare_table.reason_lines(comparison.cells), *compare_table.FOOTNOTES],
    }


def _history(histories: Sequence[regress.History], axis: str) -> dict[str, Any]:
    shifts = compare_table.shift_texts(histories)
    words = "; ".join(f"{line[0]} {line[1]}: {line[8]} at {line[2]}, {line[6]}" for line in shifts) or "no shift"
    return {
        "axis": axis,
        "picture": history_plot.figure(histories, axis, words),
        "headings": compare_table.SHIFT_HEADINGS,
        "words": compare_table.LEFT,
        "lines": [tuple(map(clipped, line)) for line in shifts],
        "notes": compare_table.side_lines(histories),
    }
