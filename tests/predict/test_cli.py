"""`rigbench predict`, `cost` and `advise` as a person types them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rigbench.cli.main import main
from rigbench.paths import configs_dir
from rigbench.predict.hardware import GIB
from rigbench.telemetry import machine
from rigbench.telemetry.machine import fingerprint


@pytest.fixture(name="run")
def fixture_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str, expect: int = 0) -> str:
        assert main(words) == expect
        out, err = capsys.readouterr()
        return err if expect else out

    return run


def test_one_prediction_shows_formula_and_inputs(run: Callable[..., str]) -> None:
    text = run("predict", "--hardware", "rtx-5090", "--model", "llama-3.1-8b", "--users", "8", "--context", "4096")
    for word in ("predicted  ", "active-bytes", "published", "ceiling", "user_tps = 1/t", "weight_bytes", "fits: "):
        assert word in text


def test_json_is_json_and_whole(run: Callable[..., str]) -> None:
    answer = json.loads(run("predict", "-d", "m4-max-40", "-m", "qwen3-30b-a3b:Q8_0", "--json"))
    assert [p["predictor"] for p in answer["predictions"]] == ["roofline", "active-bytes", "published", "ceiling"]
    assert answer["model"]["quantization"] == "Q8_0" and answer["hardware"]["id"] == "m4-max-40"


def test_two_devices_by_their_count(run: Callable[..., str]) -> None:
    one, layers, tensor = (
        json.loads(run("predict", "-m", "llama-3.1-8b", "--json", *words))["predictions"][0]["user_tps"]
        for words in (["-d", "rtx-4090"], ["-d", "rtx-4090x2"], ["-d", "rtx-4090x2", "--tensor-parallel"])
    )
    assert layers < one < tensor


def test_published_explains_where_the_rule_fails(run: Callable[..., str]) -> None:
    text = run("predict", "--published")
    assert "77 cells: 73 reproduces, 1 truncated, 3 one device" in text
    assert "144.86 was cut off" in text and "8 of 256 experts" in text
    assert "quoted 10-16 t/s; the rule says 1.8" in text


def test_the_grid_has_a_line_for_each_model(run: Callable[..., str]) -> None:
    lines = run("predict", "--table", "-d", "rtx-4090").splitlines()
    cells = dict(line.split() for line in lines if len(line.split()) == 2)
    assert cells["model"] == "rtx-4090" and cells["deepseek-r1"] == "-" and cells["llama-3.3-70b"].endswith("*")
    assert float(cells["llama-3.1-8b"]) > 50


def test_cases_file(run: Callable[..., str], tmp_path: Path) -> None:
    measured = (configs_dir() / "reference" / "measured_train.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "in.csv").write_text("\n".join(measured[:30]) + "\n", encoding="utf-8")
    run("predict", "--cases", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 29 and rows[0]["predictor"] == "roofline"


def test_costs(run: Callable[..., str]) -> None:
    assert run("cost", "--published").count("reproduces") == 6
    answer = json.loads(run("cost", "--active-watts", "725", "--idle-watts", "100", "--hardware-price", "4100", "--api-input", "1",
                          "--api-output", "1", "--json"))  # fmt: skip
    assert answer["annual_energy_cost"] == pytest.approx(432.16)
    assert answer["break_even_months_ignoring_energy"] == pytest.approx(4100 / 375)


def test_advice_names_reasons_that_are_arithmetic(run: Callable[..., str]) -> None:
    """bytes / bandwidth + the rest = a step, and a step's inverse is the speed in the row."""
    advice = json.loads(run("advise", "-m", "llama-3.1-8b", "--top", "0", "--json"))
    assert {one["bound"] for one in advice} >= {"speed-bound", "overhead-bound"}
    for one in advice:
        match = re.search(
            r"a step, ([\d.]+ \w+) at (\S+) GB/s; with ([\d.]+ \w+) for .* takes ([\d.]+ \w+)\.", one["sentence"]
        )
        if match is None:
            assert one["bound"] == "capacity-bound"
            continue
        read, rest, step = (seconds(match[group]) for group in (1, 3, 4))
        assert read + rest == pytest.approx(step, rel=0.02)
        assert 1 / step == pytest.approx(one["user_tps"], rel=0.02)
        assert one["options"][0]["prediction"]["bytes_per_step"] / float(match[2]) / 1e9 == pytest.approx(
            read, rel=0.02
        )


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def test_advice_shows_no_machine_that_does_not_hold_the_model(run: Callable[..., str]) -> None:
    advice = json.loads(run("advise", "-m", "deepseek-r1", "--json"))
    assert advice and all(one["user_tps"] for one in advice)
    assert "other machines do not hold" in run("advise", "-m", "deepseek-r1")


def test_a_prediction_for_this_machine_says_whether_it_fits(run: Callable[..., str]) -> None:
    answer = json.loads(run("predict", "-m", "llama-3.1-405b", "--bandwidth", "30", "--json"))
    assert answer["fit"]["answer"] in ("fits", "tight", "does not fit")
    assert answer["hardware"]["status"] == "this machine"


@pytest.mark.parametrize(("wired", "usable"), [(None, 0.75 * 128), (120, 120.0)])
def test_what_a_mac_may_hold_grows_with_the_limit_that_its_owner_raised(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, wired: int | None, usable: float
) -> None:
    """`sudo sysctl iogpu.wired_limit_mb`: 70b in Q8_0 with its cache fits 128 GiB then, and not before."""
    gpu = {"name": "Apple M3 Max", "gpu_cores": 40, "memory_bytes": 128 * GIB, "integrated": True}
    mac = fingerprint(({**gpu, "wired_limit_bytes": wired and wired * GIB},))
    monkeypatch.setattr(machine, "this_machine", lambda: mac)
    words = ("predict", "-m", "llama-3.3-70b:Q8_0", "-u", "4", "-c", "32768", "--json")
    fitting = json.loads(run(*words))["fit"]
    assert fitting["usable_bytes"] == round(usable * GIB)
    assert (fitting["answer"] == "does not fit") == (wired is None)


def test_a_machine_that_cannot_make_the_tokens_never_pays(run: Callable[..., str]) -> None:
    words = ["cost", "--active-watts", "500", "--tokens-per-s", "240", "--hardware-price", "4000", "--currency", "EUR"]
    text = run(*words, "--api-output", "5000")
    assert (
        "break-even                       - (never: the API makes 5000 million tokens a day, this machine 6.91 million"
        in text
    )
    assert "kWh, " in text and text.count("EUR") >= 5
    assert " months" in run(*words, "--api-output", "5")


def test_prices_of_another_currency_are_the_same_numbers(run: Callable[..., str]) -> None:
    euros, dollars = (json.loads(run("cost", "--active-watts", "9", "--currency", c, "--json")) for c in ("EUR", "USD"))
    assert euros.pop("inputs") != dollars.pop("inputs") and euros == dollars


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "-d", "rtx-4900", "-m", "llama-3.1-8b"], "rtx-4090"),
        (["predict", "-d", "rtx-4090", "-m", "lama-3.1"], "llama-3.1-8b"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-q", "Q9"], "Q9"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b:Q8_0", "-q", "Q4_K_M"], "--quant Q4_K_M has no effect"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--bandwidth", "0"], "0 is impossible"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--bandwidth", "nan"], "nan is impossible"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--users", "-1"], "-1 is impossible"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--kv-bits", "0"], "0 is impossible"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-c", "-5"], "-5 is impossible"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-c", "10000000"], "beyond the 131072 tokens"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-b", "nosuch"], "no engine 'nosuch'"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-b", "olama"], "did you mean ollama?"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "--tensor-parallel"], "no effect on one device"),
        (["predict", "-d", "rtx-4090", "-m", "llama-3.1-8b", "-o", "x.csv"], "--out has no effect"),
        (["predict", "--published", "-m", "llama-3.1-8b"], "--model has no effect with --published"),
        (["predict", "--published", "--table"], "contradict each other"),
        (["predict", "-d", "rtx-4090"], "name a model"),
        (["predict", "--cases", "/no/such/file.csv"], "cannot read"),
        (["predict", "-d", "rtx-4090", "-m", "no-such-file.gguf"], "no-such-file.gguf"),
        (["cost"], "--active-watts"),
        (["cost", "--active-watts", "-5"], "-5"),
        (["cost", "--active-watts", "5", "--hours", "25"], "25 is impossible"),
        (["cost", "--active-watts", "5", "-u", "4"], "--users has no effect without --model"),
        (["cost", "-d", "rtx-4090", "-m", "deepseek-r1"], "does not fit"),
        (["advise"], "at least one model"),
        (["advise", "-m", "llama-3.1-8b", "--memory", "nan"], "--memory"),
        (["advise", "-m", "llama-3.1-8b", "--top", "-3"], "-3 is impossible"),
        (["advise", "-m", "llama-3.1-8b", "--vendor", "aple"], "did you mean apple?"),
    ],
)
def test_bad_input_is_one_sentence(run: Callable[..., str], words: list[str], says: str) -> None:
    error = run(*words, expect=2)
    assert says in error and error.count("\n") == 1


def test_a_plan_says_what_is_expected_of_each_case(run: Callable[..., str]) -> None:
    pytest.importorskip("llama_cpp")
    words = ("plan", "-m", "synthetic:tiny:Q4_0", "-p", "64", "-n", "32", "-u", "1,4", "--json")
    plan = json.loads(run(*words))
    assert [each["inputs"]["users"] for each in plan["predictions"]] == [1, 4]
    assert all(each["inputs"]["prompt_tokens"] == 64 and each["user_tps"] > 0 for each in plan["predictions"])
