"""`rigbench predict`, `cost` and `advise` as a person types them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rigbench.cli.main import app
from rigbench.errors import InputError
from rigbench.paths import configs_dir


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_prediction_shows_formula_and_inputs() -> None:
    text = run("predict", "--hardware", "rtx-5090", "--model", "llama-3.1-8b", "--users", "8", "--context", "4096")
    for word in ("roofline", "active-bytes", "published", "ceiling", "user_tps = 1/t", "weight_bytes", "memory: fits"):
        assert word in text


def test_json_is_json_and_whole() -> None:
    made = json.loads(run("predict", "-d", "m4-max-40", "-m", "qwen3-30b-a3b:Q8_0", "--json"))
    assert [p["predictor"] for p in made["predictions"]] == ["roofline", "active-bytes", "published", "ceiling"]
    assert made["model"]["quantization"] == "Q8_0" and made["hardware"]["id"] == "m4-max-40"


def test_two_devices_by_their_count() -> None:
    one, layers, tensor = (
        json.loads(run("predict", "-m", "llama-3.1-8b", "--json", *words))["predictions"][0]["user_tps"]
        for words in (["-d", "rtx-4090"], ["-d", "rtx-4090x2"], ["-d", "rtx-4090x2", "--tensor-parallel"])
    )
    assert layers < one < tensor


def test_published_explains_where_the_rule_fails() -> None:
    text = run("predict", "--published")
    assert "77 cells: 73 reproduces, 1 truncated, 3 one device" in text
    assert "144.86 was cut off" in text and "8 of 256 experts" in text
    assert "quoted 10-16 t/s; the rule says 1.8" in text


def test_grid_of_one_device_is_tabbed_when_piped() -> None:
    lines = run("predict", "--table", "-d", "rtx-4090").splitlines()
    cells = dict(line.split("\t") for line in lines if "\t" in line)
    assert cells["model"] == "rtx-4090" and cells["deepseek-r1"] == "-" and cells["llama-3.3-70b"].endswith("*")
    assert float(cells["llama-3.1-8b"]) > 50


def test_cases_file(tmp_path: Path) -> None:
    measured = (configs_dir() / "reference" / "measured_train.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "in.csv").write_text("\n".join(measured[:30]) + "\n", encoding="utf-8")
    run("predict", "--cases", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 29 and rows[0]["predictor"] == "roofline"


def test_costs() -> None:
    assert run("cost", "--published").count("reproduces") == 6
    made = json.loads(run("cost", "--active-watts", "725", "--idle-watts", "100", "--hardware-price", "4100", "--api-input", "1",
                          "--api-output", "1", "--json"))  # fmt: skip
    assert made["annual_energy_cost"] == pytest.approx(432.16)
    assert made["break_even_months_ignoring_energy"] == pytest.approx(4100 / 375)


def test_advice_names_reasons() -> None:
    text = run("advise", "-m", "llama-3.3-70b", "-m", "qwen3-30b-a3b", "-u", "4", "--memory", "128", "--top", "0")
    assert "speed-bound" in text and "capacity-bound" in text and "concurrency-bound" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "-d", "rtx-4900", "-m", "llama-3.1-8b"], "rtx-4090"),
        (["predict", "-d", "rtx-4090", "-m", "lama-3.1-8b"], "llama-3.1-8b"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-q", "Q9"], "Q9"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--bandwidth", "0"], "0 GB/s"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--bandwidth", "nan"], "nan GB/s"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--users", "-1"], "-1 users"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--kv-bits", "0"], "0 bits"),
        (["predict", "-d", "rtx-4090"], "name a model"),
        (["predict", "--cases", "/no/such/file.csv"], "cannot read"),
        (["predict", "-d", "rtx-4090", "-m", "no-such-file.gguf"], "no-such-file.gguf"),
        (["cost"], "--active-watts"),
        (["cost", "--active-watts", "-5"], "-5"),
        (["advise"], "at least one model"),
        (["advise", "-m", "llama-3.1-8b", "--memory", "nan"], "--memory"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        run(*words)
    assert says in str(error.value) and "\n" not in str(error.value)
