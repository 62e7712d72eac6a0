"""Every published cell and figure, recomputed."""

from __future__ import annotations

from collections import Counter

from rigbench.predict import published


def test_all_77_cells() -> None:
    cells = published.cells()
    assert Counter(cell.verdict for cell in cells) == {"reproduces": 73, "truncated": 1, "one device": 3}
    assert len(cells) == 77


def test_the_exceptions_are_named() -> None:
    odd = [(c.source, c.model, c.hardware, c.verdict) for c in published.cells() if c.verdict != "reproduces"]
    assert odd == [
        ("000", "llama-3.1-8b-q4_k_m", "m4-ultra", "truncated"),
        ("000", "llama-3.1-8b-q4_k_m", "rtx-5090x2", "one device"),
        ("003", "llama-3.1-8b-q4_k_m", "rtx-5090x2", "one device"),
        ("003", "llama-3.1-8b-q4_k_m", "rtx-pro-6000x2", "one device"),
    ]


def test_computed_figures_are_those_of_the_reference() -> None:
    for cell, row in zip(published.cells(), published._rows("published_predictions.csv"), strict=True):
        assert (
            f"{cell.computed:.2f}" == f"{float(row['formula_tokens_per_s']):.2f}"
            if cell.computed
            else not row["formula_tokens_per_s"]
        )


def test_costs_reproduce_from_their_own_inputs() -> None:
    figures = {row["quantity"]: (row["value"], published.computed_cost(row)) for row in published.costs()}
    assert len(figures) == 6
    for printed, computed in figures.values():
        assert published.same(printed, computed)


def test_a_changed_cell_is_noticed() -> None:
    row = {
        "source": "000",
        "model": "llama-3.1-8b-q4_k_m",
        "hardware": "m4-max-40",
        "fits": "yes",
        "tokens_per_s": "73",
    }
    assert published._cell(row).verdict == "differs"
