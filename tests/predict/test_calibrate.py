"""Constants of one machine from its own results: a planted truth is found again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rigbench.documents import store
from rigbench.errors import InputError
from rigbench.models.footprint import catalogued_facts
from rigbench.predict.calibrate import MeasuredRow, Probe, calibrated, probe_of, scaled
from rigbench.predict.document import predictions
from rigbench.predict.hardware import find
from rigbench.predict.predictors import roofline
from rigbench.predict.probes import load, save
from rigbench.predict.roofline import Setup, constants, step_seconds

RESULT = next((Path(__file__).parents[2] / "results").glob("*/*.json"))
CHIP = find("m2-max-38")
SETUP = Setup(CHIP.bandwidth_bytes_per_s, "metal", CHIP, context_tokens=200)
MODELS = [
    catalogued_facts(m, q)
    for m in ("llama-3.2-1b", "llama-3.1-8b", "qwen3-30b-a3b", "qwen2.5-14b")
    for q in ("Q4_K_M", "Q8_0")
]


def planted(stream: float, layer: float) -> list[MeasuredRow]:
    truth = scaled(constants(), {"stream": stream, "layer": layer})
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


def test_a_planted_arithmetic_is_found_from_1_and_8_users() -> None:
    """A processor that needs three times the arithmetic: fitted on two models, true of a third, for users between."""
    setups = [Setup(40e9, "cpu", users=users, context_tokens=100, cpu_cores=8) for users in (1, 8)]
    truth = scaled(constants(), {"compute": 0.6, "users": 1.1})

    def speed(name: str, setup: Setup, known: dict[str, float]) -> float:
        return 1 / step_seconds(catalogued_facts(name, "Q4_K_M"), setup, known)["step"]

    rows = [
        MeasuredRow(catalogued_facts(name, "Q4_K_M"), setup, speed(name, setup, truth))
        for name in ("llama-3.2-1b", "qwen3-0.6b")
        for setup in setups
    ]
    known = calibrated(constants(), rows)
    between = replace(setups[0], users=4)
    assert speed("llama-3.2-3b", between, known) == pytest.approx(speed("llama-3.2-3b", between, truth), rel=0.05)
    assert speed("llama-3.2-3b", between, constants()) > 1.2 * speed("llama-3.2-3b", between, truth)


PROBE = Probe("2026-11-27T07:00:00Z", "llama_cpp", "cpu", "llama.cpp b9999", 11, 0.07, {"stream": 0.9, "users": 4.0})


def test_a_probe_is_read_back_and_what_is_none_is_not() -> None:
    content = json.loads(json.dumps(asdict(PROBE)))
    assert probe_of(content) == PROBE
    for broken in (
        None,
        [],
        {**content, "factors": {"users": 1e9}},
        {**content, "factors": {"users": "many"}},
        {**content, "spread": float("nan")},
        {**content, "spread": 0.7},
        {**content, "utc": "yesterday"},
    ):
        assert probe_of(broken) is None


def test_a_probe_moves_its_constants_and_the_answer_says_so() -> None:
    moved = PROBE.constants(constants())
    assert moved["stream.base"] == pytest.approx(0.9 * constants()["stream.base"])
    assert moved["layer.base"] == constants()["layer.base"]
    assert "2026-11-27" in PROBE.sentence and "llama.cpp b9999" in PROBE.sentence
    answer = roofline(MODELS[0], 40e9, backend="llama_cpp", device_kind="cpu", known=moved, cpu_cores=8)
    low, high = answer.inputs["user_tps_80_percent"]
    assert high / low == pytest.approx(math.exp(2 * 1.28 * 0.07), rel=0.02)


def test_a_probe_is_kept_for_its_device_and_engine_for_90_days(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    save(PROBE)
    assert load("cpu", "llama_cpp", now=lambda: "2026-12-27T07:00:00Z") == PROBE
    assert load("cpu", "mlx_lm", now=lambda: "2026-12-27T07:00:00Z") is None
    assert load("cpu", "llama_cpp", now=lambda: "2027-03-27T07:00:00Z") is None


def test_rows_of_a_run_are_predicted_by_the_probe_of_their_document(monkeypatch) -> None:
    """Whoever has the document predicts the same, with the probe that it holds and with no other."""
    document = store.read(RESULT)
    probed = replace(document, annotations={"probes": [asdict(PROBE)]})
    plain, moved = ({p.group: p for p in predictions(d) if p.predictor == "roofline"} for d in (document, probed))
    for group, prediction in moved.items():
        assert prediction.inputs["calibrated_by"] == PROBE.sentence
        assert "calibrated_by" not in plain[group].inputs
        if prediction.inputs["users"] == 8:
            assert (prediction.user_tps or 0) < 0.7 * (plain[group].user_tps or 0)
