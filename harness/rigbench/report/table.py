"""The rows of a result on a terminal: as wide as it is, plain and whole when piped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rigbench.analysis.definitions import registry
from rigbench.analysis.table import Row
from rigbench.suites.plan import heading

PIPED_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """A column, with a text for each row; on a narrow terminal those with the largest `yields` go first."""

    title: str
    texts: tuple[str, ...]
    yields: int

    @property
    def width(self) -> int:
        """Of its longest cell."""
        return max(map(len, (self.title, *self.texts)))


GAP = 3  # between columns: two of padding, one of the box
OPTIONAL = 8
"""The metrics that yield this readily have no column where no row has a number."""

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
        for place, row in enumerate(here):
            style = "dim" if row.error and not row.samples else ""
            table.add_row(*(column.texts[place] for column in columns), style=style)
        console.print(table)
        _print_remarks(console, here)
    for note in FOOTNOTES:
        console.print(Text(note, style="dim"))


def columns_within(width: int, rows: Sequence[Row]) -> list[Column]:
    """The columns that fit side by side without cutting any cell, the readiest to yield left out first."""
    columns = _columns(rows)
    for column in sorted(columns, key=lambda column: -column.yields):
        if sum(each.width + GAP for each in columns) <= width or not column.yields:
            break
        columns.remove(column)
    return columns


def _columns(rows: Sequence[Row]) -> list[Column]:
    """What a row is of, the metrics that its kind of workload has, and its flags."""
    kinds = {row.workload_kind for row in rows}
    found = [
        Column("workload", tuple(row.workload for row in rows), 0),
        Column("users", tuple(str(row.concurrency) for row in rows), 0),
    ]
    for metric in registry():
        if metric.priority is None or (metric.kinds and kinds.isdisjoint(metric.kinds)):
            continue
        # An empty column says less than its reason in `show --json`.
        if metric.priority < OPTIONAL or any(row[metric.name] is not None for row in rows):
            found.append(Column(metric.label, tuple(metric.text(row[metric.name]) for row in rows), metric.priority))
    flags = (", ".join(row.flags) or ("failed" if row.error else "") for row in rows)
    return [*found, Column("flags", tuple(flags), 10)]


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
