"""The rows of a result on a terminal: as wide as it is, plain and whole when piped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rigbench import units
from rigbench.analysis.summary import Row
from rigbench.suites.plan import heading

PIPED_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """A column; on a narrow terminal those with the largest `yields` go first."""

    title: str
    text: Callable[[Row], str]
    yields: int


COLUMNS = (
    Column("workload", lambda row: row.workload, 0),
    Column("users", lambda row: str(row.concurrency), 0),
    Column("user t/s", lambda row: units.rate_text(row.user_tps), 0),
    Column("all t/s", lambda row: units.rate_text(row.output_tps), 1),
    Column("TTFT", lambda row: units.seconds_text(row.ttft_s), 2),
    Column("TPOT", lambda row: units.seconds_text(row.tpot_s), 7),
    Column("prefill t/s", lambda row: units.rate_text(row.prefill_tps), 5),
    Column("memory", lambda row: units.bytes_text(row.rss_peak_bytes), 6),
    Column("J/token", lambda row: units.energy_text(row.joules_per_token), 8),
    Column("ceiling", lambda row: units.rate_text(row.ceiling_tps), 4),
    Column("predicted", lambda row: units.rate_text(row.predicted_tps), 9),
    Column("MBU", lambda row: units.ratio_text(row.mbu), 3),
    Column("flags", lambda row: ", ".join(row.flags) or ("failed" if row.error else ""), 10),
)
GAP = 3  # between columns: two of padding, one of the box

FOOTNOTES = (
    "user t/s: median over the requests of 1 / tpot, tpot = (last - first token) / (tokens - 1)",
    "all t/s: tokens in the steady window (all users decoding) / its length      TTFT: first token - submitted",
    "ceiling: memory bandwidth / bytes a decode step reads      MBU: bytes x steps per second / bandwidth",
    "predicted: the roofline's answer for this machine and model (rigbench predict shows its terms)",
)


def output_console() -> Console:
    """stdout; when it is no terminal, wide enough that nothing is cut or wrapped."""
    console = Console(markup=False, highlight=False)
    return (
        console if console.is_terminal else Console(markup=False, highlight=False, width=PIPED_WIDTH, color_system=None)
    )


def error_console() -> Console:
    """stderr, for what is not the answer itself."""
    return Console(stderr=True, markup=False, highlight=False)


def make_table(console: Console, columns: Sequence[str], left: int = 1) -> Table:
    """A table whose first `left` columns are words and the rest figures."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        table.add_column(
            name, justify="left" if i < left else "right", no_wrap=i >= left or i == 0 or not console.is_terminal
        )
    return table


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """One table per engine and model, under it its flags and errors in words; at the end the formulas."""
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(heading(row.group, row.backend, row.model), []).append(row)
    for title, here in tables.items():
        console.print(Text(title, style="bold"))
        table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        columns = columns_within(console.width, here)
        for column in columns:
            table.add_column(
                column.title, justify="left" if column.title in ("workload", "flags") else "right", no_wrap=True
            )
        for row in here:
            style = "dim" if row.error and row.user_tps is None else ""
            table.add_row(*(column.text(row) for column in columns), style=style)
        console.print(table)
        _print_remarks(console, here)
    for note in FOOTNOTES:
        console.print(Text(note, style="dim"))


def columns_within(width: int, rows: Sequence[Row]) -> list[Column]:
    """The columns that fit side by side without cutting any cell, the readiest to yield left out first."""
    widths = {column.title: max(map(len, (column.title, *map(column.text, rows)))) for column in COLUMNS}
    if not any(row.joules_per_token is not None for row in rows):
        del widths["J/token"]  # an empty column says less than its reason in `show --json`
    for column in sorted(COLUMNS, key=lambda column: -column.yields):
        if sum(widths.values()) + GAP * len(widths) <= width or not column.yields:
            break
        widths.pop(column.title, None)
    return [column for column in COLUMNS if column.title in widths]


def _print_remarks(console: Console, rows: Sequence[Row]) -> None:
    """Flags and errors, each said once with the rows that it concerns."""
    remarks: dict[str, list[str]] = {}
    for row in rows:
        place = f"{row.workload} x{row.concurrency}"
        for name, evidence in row.evidence.items():
            remarks.setdefault(f"{name}: {evidence}", []).append(place)
        if row.error:
            remarks.setdefault(row.error, []).append(place)
    for remark, places in remarks.items():
        console.print(Text(f"! {', '.join(places)}: {remark}", style="yellow"))
