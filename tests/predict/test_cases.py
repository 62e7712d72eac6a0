"""Many cases at once: the CSV comes back whole, whatever is in it."""

from __future__ import annotations

import csv
import io

import pytest

from rigbench.errors import InputError
from rigbench.paths import configs_dir
from rigbench.predict.cases import (
    ADDED,
    depth_of,
    mean_context,
    named_facts,
    parse_row,
    predict_cases,
    settled,
    software_year,
)
from rigbench.predict.predictors import ceiling
from rigbench.predict.roofline import constants

MEASURED = (configs_dir() / "reference" / "measured_train.csv").read_text(encoding="utf-8")
COLUMNS = MEASURED.splitlines()[0]
GOOD = {
    "source_id": "T",
    "hardware": "RTX 4090",
    "memory_bandwidth_gbs": "1008",
    "devices": "1",
    "backend": "llama.cpp-cuda",
    "model": "Llama 3 8B",
    "params_b": "8.03",
    "active_params_b": "8.03",
    "quant": "Q4_K_M",
    "model_size_gib": "4.58",
    "test": "tg512",
    "context_depth": "0",
    "concurrency": "1",
    "tokens_per_s_kind": "decode per-user",
    "date": "2024-05",
}


def answer(**changes: str) -> dict[str, str]:
    """The one row that comes back for GOOD with some fields changed."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS.split(","), restval="")
    writer.writeheader()
    writer.writerow({**GOOD, **changes})
    return next(csv.DictReader(io.StringIO(predict_cases(out.getvalue()))))


def test_every_measured_row_comes_back_and_decode_rows_are_answered() -> None:
    rows = list(csv.DictReader(io.StringIO(predict_cases(MEASURED))))
    before = list(csv.DictReader(io.StringIO(MEASURED)))
    assert [{k: v for k, v in row.items() if k not in ADDED} for row in rows] == before
    answered = [row for row in rows if row["pred_tokens_per_s"]]
    for kind in ("decode per-user", "aggregate", "prefill"):
        of_kind = [row for row in rows if row["tokens_per_s_kind"] == kind]
        assert len([row for row in of_kind if row["pred_tokens_per_s"]]) >= 0.98 * len(of_kind)
    assert all(row["reason"] for row in rows if not row["pred_tokens_per_s"])
    assert all(float(row["pred_tokens_per_s"]) > 0 and row["predictor"] == "roofline" for row in answered)


def test_every_fresh_name_is_known_and_no_fit_row_lies_above_its_ceiling() -> None:
    """What people type, without size or parameters; and rows that a source marks as speculative are no steps of the model."""
    known = constants()
    for file in ("measured_train.csv", "measured_fresh.csv"):
        for row in csv.DictReader((configs_dir() / "reference" / file).open(encoding="utf-8", newline="")):
            if file == "measured_fresh.csv":
                named_facts(row["model"], row["quant"])
            if row["tokens_per_s_kind"] == "prefill" or "excl=" in row["note"]:
                continue
            try:
                case = parse_row(row, known)
            except InputError:
                continue
            setup = settled(case, known)
            whole = setup.bandwidth_bytes_per_s * (setup.devices if setup.tensor_parallel else 1)
            bound = ceiling(case.facts, whole, users=max(1, round(setup.users)), context_tokens=depth_of(row) or 0)
            users = setup.users if case.target == "output" else 1
            assert float(row["tokens_per_s"]) <= users * (bound.user_tps or 0), row


def test_a_measured_cell_is_met() -> None:
    assert float(answer()["pred_tokens_per_s"]) == pytest.approx(130.6, rel=0.15)


def test_a_chip_nobody_knows_is_predicted_from_bandwidth_and_backend() -> None:
    row = answer(hardware="Voodoo 9", memory_bandwidth_gbs="1008")
    assert 60 < float(row["pred_tokens_per_s"]) < 200
    assert "not in the catalogue" in row["reason"]


def test_aggregate_is_all_users_together() -> None:
    each = float(answer(concurrency="4")["pred_tokens_per_s"])
    together = float(answer(concurrency="4", tokens_per_s_kind="aggregate")["pred_tokens_per_s"])
    assert together == pytest.approx(4 * each, rel=1e-3)


def test_an_open_loop_has_the_users_that_its_rate_makes() -> None:
    slow = answer(concurrency="", test="sharegpt 1 req/s open loop", backend="vllm", quant="BF16", model_size_gib="")
    fast = answer(concurrency="", test="sharegpt 16 req/s open loop", backend="vllm", quant="BF16", model_size_gib="")
    assert float(fast["pred_tokens_per_s"]) < float(slow["pred_tokens_per_s"])
    assert "request rate" in fast["reason"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens_per_s_kind": "latency"}, "prefill"),
        ({"tokens_per_s_kind": "vibes"}, "vibes"),
        ({"hardware": "Voodoo 9", "memory_bandwidth_gbs": ""}, "not in the catalogue"),
        ({"memory_bandwidth_gbs": "0"}, "memory_bandwidth_gbs"),
        ({"memory_bandwidth_gbs": "-5"}, "memory_bandwidth_gbs"),
        ({"memory_bandwidth_gbs": "1e308"}, "memory_bandwidth_gbs"),
        ({"memory_bandwidth_gbs": "inf"}, "memory_bandwidth_gbs"),
        ({"memory_bandwidth_gbs": "fast"}, "no number"),
        ({"concurrency": "0"}, "concurrency"),
        ({"concurrency": "-8"}, "concurrency"),
        ({"concurrency": "0.5"}, "0.5 users"),
        ({"devices": "1.5"}, "devices"),
        ({"context_depth": "-1"}, "context_depth"),
        ({"model_size_gib": "0"}, "model_size_gib"),
        ({"quant": "not stated", "model_size_gib": ""}, "neither"),
        ({"quant": "QUANTUM", "model_size_gib": ""}, "not known"),
        ({"model": "", "params_b": "", "active_params_b": ""}, "no model"),
        ({"params_b": "nope"}, "params_b"),
        ({"backend": "abacus", "hardware": "Voodoo 9"}, "abacus"),
    ],
)
def test_a_row_that_cannot_be_predicted_stays_blank_with_the_reason(changes: dict[str, str], says: str) -> None:
    row = answer(**changes)
    assert row["pred_tokens_per_s"] == "" and row["predictor"] == ""
    assert says in row["reason"] and row["source_id"] == "T"


def test_one_bad_row_spoils_no_other_and_strange_text_survives() -> None:
    odd = 'x,"a, ""b""\nc",,=1+1,,1008,1,llama.cpp-cuda,,Llama 3 8B,8.03,8.03,Q4_0,4.3,tg128,0,1,1,decode per-user,,\u00fc'
    text = f"{COLUMNS}\r\n{odd}\r\n,short\r\n"
    rows = list(csv.DictReader(io.StringIO(predict_cases("\ufeff" + text))))
    assert rows[0]["source"] == 'a, "b"\nc' and rows[0]["hardware"] == "=1+1" and rows[0]["note"] == "\u00fc"
    assert rows[0]["pred_tokens_per_s"] and not rows[1]["pred_tokens_per_s"]


def test_predicting_twice_gives_the_same_file() -> None:
    once = predict_cases("\n".join(MEASURED.splitlines()[:20]) + "\n")
    assert predict_cases(once) == once


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("hello world\n", "no column hardware"),
        (COLUMNS.replace("quant", "qnt") + "\n", "no column quant"),
        (COLUMNS + ",model\n", "twice"),
        (COLUMNS + "\n" + "," * 40 + "\n", "row 2"),
    ],
)
def test_what_is_no_such_table_is_one_clear_error(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        predict_cases(text)


def test_mean_context_is_the_depth_and_half_of_what_is_generated() -> None:
    known = constants()
    assert mean_context({"context_depth": "0", "test": "tg512"}, known) == 256
    assert mean_context({"context_depth": "4096", "test": "tg32 @ d4096"}, known) == 4112
    assert mean_context({"context_depth": "512", "test": "batched-bench PP512 TG32 B4"}, known) == 528
    assert mean_context({"context_depth": "40", "test": "llama-server -np 32, 128-token outputs"}, known) == 104


@pytest.mark.parametrize(
    ("version", "date", "year"),
    [
        ("May 2024", "2024-05", 2024 + 4.5 / 12),
        ("8e672ef (2023-11)", "2023-11..2026-08", 2023 + 10.5 / 12),
        ("b8000", "", 2026.1),
        ("97d5117", "2025-08..2026-08", 2026 + 1.5 / 12),
        ("", "2026", 2026.5),
    ],
)
def test_software_age(version: str, date: str, year: float) -> None:
    assert software_year({"backend_version": version, "date": date}) == pytest.approx(year, abs=0.01)


def test_no_date_is_none() -> None:
    assert software_year({"backend_version": "97d5117", "date": ""}) is None


def test_an_unknown_model_gets_the_layers_of_the_nearest_and_its_own_bytes() -> None:
    facts, stood_in = named_facts("Nobody-13B", "Q8_0", parameters=13e9, active=13e9, size_bytes=13.8e9)
    assert facts.file_bytes == 13_800_000_000
    assert 0.9 * facts.file_bytes < facts.dense_bytes <= facts.file_bytes
    assert 36 <= facts.layers <= 50
    assert "stands in" in stood_in and "Nobody-13B" in stood_in


def test_the_stated_size_is_the_file_and_experts_keep_their_type() -> None:
    plain, _ = named_facts("gpt-oss-20b", "MXFP4", size_bytes=12.11e9)
    wide, _ = named_facts("gpt-oss-20b-F16", "F16 (MXFP4 experts)", size_bytes=13.78e9)
    assert plain.expert_bytes == pytest.approx(wide.expert_bytes, rel=0.01)
    assert wide.dense_bytes - plain.dense_bytes == pytest.approx(13.78e9 - 12.11e9, rel=0.45)
    assert wide.file_bytes == 13_780_000_000


@pytest.mark.parametrize(
    ("name", "quant", "size", "parameters"),
    [("", "Q4_0", None, None), ("x", "nonsense", None, 7e9), ("x", "Q4_0", 0.0, 7e9), ("x", "Q4_0", 4e9, -7e9)],
)
def test_what_is_neither_known_nor_stated_is_an_error(name, quant, size, parameters) -> None:
    with pytest.raises(InputError):
        named_facts(name, quant, parameters=parameters, size_bytes=size)


def test_an_answer_lies_inside_its_interval_and_none_has_none() -> None:
    good = answer()
    low, middle, high = (float(good[name]) for name in ("pred_low", "pred_tokens_per_s", "pred_high"))
    assert low < middle < high and high / middle == pytest.approx(middle / low, rel=0.01)
    assert answer(quant="", model_size_gib="")["pred_low"] == ""


def test_a_row_says_its_micro_batch_and_whether_a_server_sampled() -> None:
    wide = parse_row(
        {**GOOD, "tokens_per_s_kind": "prefill", "test": "pp2048", "note": "-fa 1 -ub 2048 [tier=P]"}, constants()
    )
    assert wide.setup.batch_tokens == 2048 and not wide.setup.served
    assert parse_row({**GOOD, "test": "llama-server per request"}, constants()).setup.served
    assert parse_row({**GOOD, "backend": "ollama"}, constants()).setup.served
