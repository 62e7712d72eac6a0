"""Several results side by side: a column for each machine, engine, model and setting, a row for each workload, users and metric."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from string import ascii_uppercase
from typing import Any

from rich.console import Console

from rigbench import units
from rigbench.analysis.definitions import metric
from rigbench.analysis.table import Row
from rigbench.report.table import print_notes, print_table
from rigbench.suites.plan import heading

METRICS = ("user_tps", "output_tps", "ttft_s")
COLUMN = ("machine", "setting", "engine_version", "created_utc", "level")
"""What a column is of."""


def side_by_side(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    """Columns by letter (what each is of), and rows: workload, users, metric and a value for each column, None without one."""
    columns: dict[tuple[str, ...], dict[tuple[str, int], Row]] = {}
    for row in rows:
        setting = heading(row.group, row.backend, row.model)
        of = (row.machine_id, setting, row.engine_version, row.created_utc, str(row.level))
        columns.setdefault(of, {})[row.workload, row.concurrency] = row
    letters = dict(zip(_letters(len(columns)), columns.items(), strict=True))
    cases = dict.fromkeys(case for cells in columns.values() for case in cells)
    return {
        "columns": {letter: dict(zip(COLUMN, of, strict=True)) for letter, (of, _) in letters.items()},
        "rows": [
            {
                "workload": workload,
                "users": users,
                "metric": name,
                "values": {
                    letter: cells[workload, users][name] if (workload, users) in cells else None
                    for letter, (_, cells) in letters.items()
                },
            }
            for name in metrics
            for workload, users in cases
        ],
    }


def _letters(count: int) -> list[str]:
    """A, B … Z, AA, AB …"""
    size = 1
    while len(ascii_uppercase) ** size < count:
        size += 1
    return ["".join(letters) for letters in product(ascii_uppercase, repeat=size)][:count]


def print_side_by_side(console: Console, content: dict[str, Any]) -> None:
    """A table for each metric, and below what the letters are."""
    for name in dict.fromkeys(row["metric"] for row in content["rows"]):
        definition = metric(name)
        rows = [
            (row["workload"], str(row["users"]), *map(definition.text, row["values"].values()))
            for row in content["rows"]
            if row["metric"] == name
        ]
        print_notes(
            console,
            [f"{definition.label} ({definition.better} is better)" if definition.better else definition.label],
            "bold",
        )
        print_table(console, ("workload", "users", *content["columns"]), rows, keys=2, left=("workload",))
    print_notes(console, [f"{letter}: {', '.join(of.values())}" for letter, of in content["columns"].items()])
    print_notes(
        console,
        [f"{units.MISSING}: not measured; one column against another, with how sure: rigbench compare BASE NEW"],
    )
