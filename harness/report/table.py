"""The rows of a result on a terminal: as wide as it is, plain and whole when piped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import units
from harness.analysis.summary import Row

PIPED_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """A column and from which terminal width on it is shown."""

    title: str
    text: Callable[[Row], str]
    min_width: int = 0


COLUMNS = (
    Column("users", lambda row: str(row.concurrency)),
    Column("user t/s", lambda row: units.rate_text(row.user_tps)),
    Column("all t/s", lambda row: units.rate_text(row.output_tps)),
    Column("TTFT", lambda row: units.seconds_text(row.ttft_s)),
    Column("TPOT", lambda row: units.seconds_text(row.tpot_s), 100),
    Column("prefill t/s", lambda row: units.rate_text(row.prefill_tps), 90),
    Column("memory", lambda row: units.bytes_text(row.rss_peak_bytes), 80),
    Column("J/token", lambda row: units.energy_text(row.joules_per_token), 120),
    Column("ceiling t/s", lambda row: units.rate_text(row.ceiling_tps), 70),
    Column("predicted", lambda row: units.rate_text(row.predicted_tps), 110),
    Column("MBU", lambda row: units.ratio_text(row.mbu)),
    Column("flags", lambda row: ", ".join(row.flags) or ("failed" if row.error else ""), 60),
)

FOOTNOTES = (
    "user t/s: median over the requests of 1 / tpot, tpot = (last - first token) / (tokens - 1)",
    "all t/s: tokens in the steady window (all users decoding) / its length      TTFT: first token - submitted",
    "ceiling t/s: memory bandwidth / bytes a decode step reads      MBU: bytes x steps per second / bandwidth",
)


def output_console() -> Console:
    """stdout; when it is no terminal, wide enough that nothing is cut or wrapped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH, color_system=None)


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """One table per backend and model, then the formulas, then every flag and error in words."""
    width = console.width
    columns = [column for column in COLUMNS if column.min_width <= width]
    for heading in dict.fromkeys((row.backend, row.model) for row in rows):
        console.print(Text(f"{heading[1]} on {heading[0]}", style="bold"))
        table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
        table.add_column("workload", no_wrap=True)
        for column in columns:
            table.add_column(
                column.title, justify="left" if column.title == "flags" else "right", no_wrap=column.title != "flags"
            )
        for row in rows:
            if (row.backend, row.model) == heading:
                style = "dim" if row.error and row.user_tps is None else ""
                table.add_row(row.workload, *(column.text(row) for column in columns), style=style)
        console.print(table)
    for note in FOOTNOTES:
        console.print(Text(note, style="dim"))
    _print_remarks(console, rows)


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
