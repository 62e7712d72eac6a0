"""Tables on a terminal, as wide as it is; plain and whole when piped.

No column is ever dropped. What does not fit side by side goes on below: the same rows again, each table with the columns that name
them. Where not even that fits, each row is a list of `name: value`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rigbench import units
from rigbench.analysis.definitions import registry
from rigbench.analysis.table import Row
from rigbench.suites.plan import heading
from rigbench.workloads import KINDS
from rigbench_backends.base import EngineInfo

PIPED_WIDTH = 1000
GAP = 2
"""Blanks between columns; of a terminal's, the last is the box's."""
PROSE = 30
"""A last column of words may be wrapped down to this width."""
OPTIONAL = 8
"""The metrics of this priority and beyond have no column where no row has a number: their reasons are in `show --json`."""

FOOTNOTES = {
    "user t/s": "median over the requests of 1 / tpot, tpot = (last - first token) / (tokens - 1)",
    "all t/s": "tokens in the steady window (all users decoding) / its length",
    "TTFT": "first token - submitted; its p95 from 40 requests on",
    "gap p50": "time between two tokens of one request",
    "ceiling": "memory bandwidth / bytes, or arithmetic rate / operations of a step, the less of both",
    "MBU": "bytes x steps per second / bandwidth",
    "predicted": "the roofline's answer for this machine and model (rigbench predict shows its terms); 80 % lie in the brackets",
    "predicted TTFT": "users x prompt tokens / predicted prefill + one step",
}


def output_console() -> Console:
    """stdout; when it is no terminal, wide enough that nothing is cut or wrapped."""
    console = Console(markup=False, highlight=False)
    return (
        console if console.is_terminal else Console(markup=False, highlight=False, width=PIPED_WIDTH, color_system=None)
    )


def error_console() -> Console:
    """stderr, for what is not the answer itself."""
    return Console(stderr=True, markup=False, highlight=False)


def print_table(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    keys: int = 1,
    left: Sequence[str] | None = None,
    styles: Sequence[str] = (),
) -> None:
    """A table of texts. The first `keys` columns say which row it is and stand before every part of a table that is cut in parts;
    `left` are the headings of words, by default those of columns without a digit at the beginning of a cell."""
    if not console.is_terminal:
        _print_plain(console, headings, rows, left)
        return
    for part in parts(console.width, headings, rows, keys=keys, left=left, styles=styles):
        console.print(part)


def parts(
    width: int,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    keys: int = 1,
    left: Sequence[str] | None = None,
    styles: Sequence[str] = (),
) -> Iterator[Table | Text]:
    """What `print_table` prints on a terminal of this width."""
    for block in blocks(width, headings, rows, keys):
        if block is None:
            yield from _lists(headings, rows)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
        for place in block:
            wraps = place == len(headings) - 1 and place >= keys
            justify: Literal["left", "right"] = "left" if _is_left(headings, rows, place, left) else "right"
            table.add_column(headings[place], justify=justify, no_wrap=not wraps, overflow="fold")
        for number, row in enumerate(rows):
            table.add_row(*(Text(row[place]) for place in block), style=styles[number] if styles else "")
        yield table


def blocks(
    width: int, headings: Sequence[str], rows: Sequence[Sequence[str]], keys: int
) -> Iterator[tuple[int, ...] | None]:
    """The places of the columns of each part of a table that is cut to `width`; None where a single column beside the keys is
    already too wide."""
    places = range(len(headings))
    widths = [max(len(row[place]) for row in (headings, *rows)) for place in places]
    last = len(headings) - 1
    if last >= keys and _is_words([row[last] for row in rows]):
        widths[last] = min(widths[last], max(PROSE, len(headings[last])))
    key_width = sum(widths[:keys]) + GAP * keys
    if any(key_width + widths[place] > width for place in places[keys:]) or key_width - GAP > width:
        yield None
        return
    block, used = list(places[:keys]), key_width
    for place in places[keys:]:
        if used + widths[place] > width:
            yield tuple(block)
            block, used = list(places[:keys]), key_width
        block.append(place)
        used += widths[place] + GAP
    yield tuple(block)


def _print_plain(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] | None
) -> None:
    """Whole lines, however long, for a file or another program."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    words = [_is_left(headings, rows, place, left) for place in range(len(headings))]
    for row in (headings, *rows):
        cells = (
            text.ljust(w) if is_left else text.rjust(w) for text, w, is_left in zip(row, widths, words, strict=True)
        )
        console.file.write((" " * GAP).join(cells).rstrip() + "\n")


def _is_left(headings: Sequence[str], rows: Sequence[Sequence[str]], place: int, left: Sequence[str] | None) -> bool:
    return _is_words([row[place] for row in rows]) if left is None else headings[place] in left


def _is_words(texts: Sequence[str]) -> bool:
    return not all(text[:1].isdigit() or text[:2].lstrip("+-<>").isdigit() or text in ("", "-") for text in texts)


def _lists(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Text]:
    """Each row as lines of its own; what is empty is left out."""
    for row in rows:
        yield Text(f"{headings[0]}: {row[0]}", style="bold", overflow="fold")
        for title, text in zip(headings[1:], row[1:], strict=True):
            if text:
                yield Text(f"  {title}: {text}", overflow="fold")


def print_pairs(console: Console, pairs: Sequence[tuple[str, str]]) -> None:
    """`what  text` a line; a long text is wrapped below itself."""
    if not console.is_terminal:
        width = max((len(what) for what, _ in pairs), default=0)
        console.file.write("".join(f"{what:{width}}  {text}".rstrip() + "\n" for what, text in pairs))
        return
    table = Table.grid(padding=(0, GAP, 0, 0))
    for what, text in pairs:
        table.add_row(Text(what), Text(text, overflow="fold"))
    console.print(table)


def print_notes(console: Console, notes: Sequence[str], style: str = "dim") -> None:
    """Lines below a table, wrapped between words."""
    for note in notes:
        console.print(Text(note, style=style), soft_wrap=not console.is_terminal)


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """One table per engine, model and sort of work, under it its flags and errors in words; at the end the formulas."""
    tables: dict[tuple[str, type], list[Row]] = {}
    for row in rows:
        title = heading(row.group, row.backend, row.model)
        tables.setdefault((title, KINDS[row.workload_kind]), []).append(row)
    titles: dict[str, None] = {}
    for (title, _), here in tables.items():
        console.print(Text(title, style="bold"))
        columns = columns_of(here)
        titles |= dict.fromkeys(columns)
        styles = ["dim" if row.error and not row.samples else "" for row in here]
        lines = list(zip(*columns.values(), strict=True))
        print_table(console, tuple(columns), lines, keys=2, left=("workload", "flags"), styles=styles)
        print_notes(console, remarks(here), "yellow")
    methods = dict.fromkeys(row.memory_method for row in rows if row.memory_method)
    notes = FOOTNOTES | ({"memory": f"peak, by {'; '.join(methods)}"} if methods else {})
    print_notes(console, [f"{title}: {text}" for title, text in notes.items() if title in titles])


def columns_of(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Heading -> a text for each row: what the row is of, the metrics that its kind of workload has, and its flags."""
    kinds = {row.workload_kind for row in rows}
    columns = {
        "workload": tuple(row.workload for row in rows),
        "users": tuple(str(row.concurrency) for row in rows),
    }
    for metric in registry():
        if metric.priority is None or (metric.kinds and kinds.isdisjoint(metric.kinds)):
            continue
        if metric.priority < OPTIONAL or any(row[metric.name] is not None for row in rows):
            columns[metric.label] = tuple(metric.cell(row.__getitem__) for row in rows)
        if metric.name == "ttft_s":
            columns |= _percentile_columns(rows)
    flags = tuple(", ".join(row.flags) or ("failed" if row.error else "") for row in rows)
    return columns | ({"flags": flags} if any(flags) else {})


def _percentile_columns(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """The tail of TTFT, and the middle and tail of the gaps between tokens, where there are requests enough."""
    percentiles = {}
    for title, names, p in (
        ("TTFT p95", ("ttft_s",), "p95"),
        ("gap p50", ("itl_s", "chunk_gap_s"), "p50"),
        ("gap p95", ("itl_s", "chunk_gap_s"), "p95"),
    ):
        values = [next((row.percentiles[n].get(p) for n in names if n in row.percentiles), None) for row in rows]
        if any(value is not None for value in values):
            percentiles[title] = tuple(units.seconds_text(value) for value in values)
    return percentiles


def engine_text(engine: EngineInfo) -> str:
    """`llama.cpp 0.5`; servers tell a bare number."""
    return engine.version if engine.version[:1].isalpha() else f"{engine.engine} {engine.version}"


def remarks(rows: Sequence[Row]) -> list[str]:
    """Flags and errors, each said once with the rows that it concerns."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        place = f"{row.workload} x{row.concurrency}"
        for name, evidence in row.evidence.items():
            notes.setdefault(f"{name}: {evidence}", []).append(place)
        if row.error:
            notes.setdefault(row.error, []).append(place)
    return [f"! {', '.join(places)}: {remark}" for remark, places in notes.items()]
