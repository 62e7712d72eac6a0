"""Constants of one machine from its own results: a planted truth is found again."""

from __future__ import annotations

import pytest

from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts
from rigbench.predict.calibrate import MeasuredRow, calibrated, scaled
from rigbench.predict.hardware import find
from rigbench.predict.predictors import roofline
from rigbench.predict.roofline import Setup, constants, step_seconds

CHIP = find("m2-max-38")
SETUP = Setup(CHIP.bandwidth_bytes_per_s, "metal", CHIP, context_tokens=200)
MODELS = [
    catalogued_facts(m, q)
    for m in ("llama-3.2-1b", "llama-3.1-8b", "qwen3-30b-a3b", "qwen2.5-14b")
    for q in ("Q4_K_M", "Q8_0")
]


def planted(stream: float, layer: float) -> list[MeasuredRow]:
    truth = scaled(constants(), stream, layer)
    return [MeasuredRow(facts, SETUP, 1 / step_seconds(facts, SETUP, truth)["step"]) for facts in MODELS]


@pytest.mark.parametrize(("stream", "layer"), [(0.0, 0.0), (-0.12, 0.3), (0.03, -0.4)])
def test_a_planted_truth_is_found(stream: float, layer: float) -> None:
    rows = planted(stream, layer)
    known = calibrated(constants(), rows)
    for row in rows:
        assert 1 / step_seconds(row.facts, row.setup, known)["step"] == pytest.approx(row.user_tps, rel=0.02)


def test_one_row_moves_the_constants_part_of_the_way() -> None:
    row = planted(-0.2, 0.0)[3]
    before, after = (
        1 / step_seconds(row.facts, row.setup, k)["step"] for k in (constants(), calibrated(constants(), [row]))
    )
    assert row.user_tps < after < before


def test_one_wild_row_does_not_carry_the_others_away() -> None:
    rows = planted(0.0, 0.0)
    known = calibrated(constants(), [*rows, rows[0]._replace(user_tps=rows[0].user_tps / 10)])
    for row in rows[2:]:
        assert 1 / step_seconds(row.facts, row.setup, known)["step"] == pytest.approx(row.user_tps, rel=0.08)


def test_the_prediction_says_so() -> None:
    prediction = roofline(
        MODELS[0], CHIP.bandwidth_bytes_per_s, device=CHIP, known=calibrated(constants(), planted(0.0, 0.0))
    )
    assert prediction.inputs["calibrated_with_rows"] == len(MODELS)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(InputError, match="calibrate"):
        calibrated(constants(), [])
