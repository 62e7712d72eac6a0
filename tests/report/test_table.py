"""The table on terminals of every width, and piped."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from plain_row import PLAIN
from rigbench.analysis.table import Row
from rigbench.report.table import columns_within, output_console, print_rows

VALUES = {
    "user_tps": 32.31,
    "output_tps": 1234.5,
    "ttft_s": 1.26,
    "tpot_s": 0.0309,
    "prefill_tps": 102.0,
    "rss_peak_bytes": 1_920_000_000,
    "ceiling_tps": 70.3,
    "predicted_tps": 44.8,
    "mbu": 0.46,
}


def row(values: dict[str, float | None] | None = None, **given: Any) -> Row:
    plain = replace(PLAIN, group="llama_cpp/m-Q4/chat-128/c8", backend="llama_cpp", model="m-Q4", workload="chat-128")
    plain = replace(plain, concurrency=8, flags=("noisy",), evidence={"noisy": "3 repetitions vary by 5.8%"})
    return replace(plain, values=VALUES | (values or {}), **given)


def printed(width: int, rows: list[Row], terminal: bool = True) -> str:
    out = io.StringIO()
    print_rows(Console(file=out, width=width, force_terminal=terminal, color_system=None, highlight=False), rows)
    return out.getvalue()


@pytest.mark.parametrize("width", range(36, 160, 7))
def test_no_cell_is_ever_cut_and_no_line_is_too_long(width: int) -> None:
    text = printed(width, [row(), row(concurrency=1, flags=(), evidence={})])
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "32.3" in text


def test_what_matters_most_stays_longest() -> None:
    assert [column.title for column in columns_within(45, [row()])] == ["workload", "users", "user t/s", "all t/s"]
    wide = [column.title for column in columns_within(200, [row({"joules_per_token": 0.5})])]
    assert wide[-1] == "flags"
    assert "J/token" in wide


def test_a_column_of_joules_is_shown_only_where_there_are_some() -> None:
    assert "J/token" not in [column.title for column in columns_within(200, [row()])]


def test_missing_figures_are_dashes_and_never_zero() -> None:
    text = printed(
        150,
        [
            row(
                dict.fromkeys(("user_tps", "output_tps", "ttft_s", "mbu")),
                error="crash: it fell",
                flags=(),
                evidence={},
            )
        ],
    )
    line = next(line for line in text.splitlines() if "chat-128" in line and "failed" in line)
    assert line.split().count("-") == 4
    assert "crash: it fell" in text


def test_a_flag_of_many_rows_is_said_once() -> None:
    text = printed(150, [row(), row(concurrency=4)])
    assert text.count("3 repetitions vary") == 1
    assert "chat-128 x8, chat-128 x4: noisy" in text


def test_twins_have_tables_of_their_own_with_what_tells_them_apart() -> None:
    one = row({"user_tps": 11.1}, group="llama_cpp/m-Q4+threads=1/chat-128/c8")
    two = row({"user_tps": 22.2}, group='llama_cpp/m-Q4+flash_attn="on"+threads=2/chat-128/c8', flags=(), evidence={})
    lines = printed(150, [one, two]).splitlines()
    first, second = (
        lines.index("m-Q4 on llama_cpp (threads=1)"),
        lines.index('m-Q4 on llama_cpp (flash_attn="on", threads=2)'),
    )
    assert any("11.1" in line for line in lines[first:second]) and any("22.2" in line for line in lines[second:])
    (remark,) = (index for index, line in enumerate(lines) if line.startswith("! chat-128 x8: noisy"))
    assert first < remark < second


def test_square_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output_console().print("pip install 'mlx[cpu]'")
    assert capsys.readouterr().out == "pip install 'mlx[cpu]'\n"
