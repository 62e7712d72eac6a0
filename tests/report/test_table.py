"""The table on terminals of every width, and piped."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from plain_row import PLAIN
from rigbench.analysis.table import Row
from rigbench.report.table import columns_of, output_console, print_rows, print_table

VALUES = {
    "user_tps": 32.31,
    "output_tps": 1234.5,
    "ttft_s": 1.26,
    "tpot_s": 0.0309,
    "prefill_tps": 102.0,
    "memory_peak_bytes": 1_920_000_000,
    "ceiling_tps": 70.3,
    "predicted_tps": 44.8,
    "mbu": 0.46,
}


def row(values: dict[str, float | None] | None = None, **fields: Any) -> Row:
    plain = replace(PLAIN, group="llama_cpp/m-Q4/chat-128/c8", backend="llama_cpp", model="m-Q4", workload="chat-128")
    plain = replace(plain, concurrency=8, flags=("noisy",), evidence={"noisy": "3 repetitions vary by 5.8%"})
    return replace(plain, values=VALUES | (values or {}), **fields)


def printed(width: int, rows: list[Row], terminal: bool = True) -> str:
    out = io.StringIO()
    print_rows(Console(file=out, width=width, force_terminal=terminal, color_system=None, highlight=False), rows)
    return out.getvalue()


@pytest.mark.parametrize("width", [20, *range(36, 200, 7)])
def test_no_cell_is_cut_no_line_too_long_and_no_column_dropped(width: int) -> None:
    rows = [row(), row(concurrency=1, flags=(), evidence={})]
    text = printed(width, rows)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for title, cells in columns_of(rows).items():
        assert title in text
        assert all(cell in text for cell in cells)


def test_what_does_not_fit_goes_on_below_with_the_rows_named_again() -> None:
    lines = printed(60, [row(), row(concurrency=4)]).splitlines()
    heads = [line for line in lines if line.startswith("workload  users")]
    assert len(heads) > 1 and "user t/s" in heads[0] and "user t/s" not in heads[1]
    assert sum(line.startswith("chat-128      8") for line in lines) == len(heads)


def test_where_nothing_fits_side_by_side_a_row_is_a_list() -> None:
    assert "  user t/s: 32.3" in printed(20, [row()]).splitlines()


def test_piped_a_table_is_whole_however_wide() -> None:
    out = io.StringIO()
    print_table(Console(file=out, width=40), ("name", "text"), [("a", "x" * 300), ("b", "y")])
    assert out.getvalue().splitlines() == ["name  text", "a     " + "x" * 300, "b     y"]


def test_a_last_column_of_words_is_wrapped_and_figures_never_are() -> None:
    out = io.StringIO()
    console = Console(file=out, width=50, force_terminal=True, color_system=None)
    print_table(console, ("name", "n", "why"), [("a", "12345", "because of " * 9)])
    lines = out.getvalue().splitlines()
    assert len(lines) > 4 and max(map(len, lines)) <= 50 and "12345" in lines[2]


def test_a_column_of_joules_is_shown_only_where_there_are_some() -> None:
    assert "J/token" not in columns_of([row()])
    assert "J/token" in columns_of([row({"joules_per_token": 0.5})])


def test_tails_of_waiting_are_shown_where_there_are_requests_enough() -> None:
    known = row(percentiles={"ttft_s": {"p50": 1.0, "p95": 2.5}, "itl_s": {"p50": 0.03, "p95": 0.05}})
    columns = columns_of([known, row(percentiles={"ttft_s": {"p50": 1.0, "p95": None}, "itl_s": {"p50": 0.03}})])
    assert columns["TTFT p95"] == ("2.5 s", "-")
    assert columns["gap p50"] == ("30 ms", "30 ms") and columns["gap p95"] == ("50 ms", "-")


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


def test_a_prediction_has_its_interval_beside_it() -> None:
    spans = {"predicted_low_tps": 40.0, "predicted_high_tps": 50.2, "predicted_ttft_s": 1.5}
    columns = columns_of([row(spans), row()])
    assert columns["predicted"] == ("44.8 (40 to 50.2)", "44.8")
    assert columns["predicted TTFT"] == ("1.5 s", "-")
