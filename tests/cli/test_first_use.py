"""What a new user met, each as a sentence that holds now; what stands in other tests is not here again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rigbench.cli.main import main
from rigbench.documents import store
from rigbench.models.synthetic.gguf import ensure_synthetic
from rigbench.report.compare_table import differing

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "results" / "amd-epyc-2c-24gb" / "20261121T134057Z-quickstart-417ae7fe.json"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model.gguf").write_bytes(ensure_synthetic("tiny", "Q8_0").read_bytes())
    return tmp_path


def test_a_folder_counts_a_run_once_although_its_partial_document_is_beside_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = store.read(RESULT)
    part = store.with_id(replace(whole, cases=whole.cases[:4], complete=False))
    for document in (whole, part):
        store.write(document, here / "both")
    assert main(["compare", "--table", "both", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["columns"]) == 1
    for document in (part,):
        store.write(document, here / "only")
    assert main(["compare", "--table", "only", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["columns"]) == 1


def test_of_long_values_only_what_differs_is_shown() -> None:
    flags = " | ".join(f"FLAG{number} = 1" for number in range(30))
    assert differing(flags, f"{flags} | AMX_INT8 = 1") == ("… without it", "… AMX_INT8 = 1")
    assert differing("6.1.0", "6.1.2") == ("6.1.0", "6.1.2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run"], "rigbench run my-model.gguf"),
        (["run", "my-model.gguf", "-b", "lama.cpp"], "did you mean llama.cpp?"),
        (["plan", "smoke", "-m", "nosuch", "-m", "my-model.gguf", "-b", "sim"], "'nosuch' is no file"),
        (["plan", "smoke", "-m", "my-model.gguf", "-m", "my-model.gguf"], "is there twice"),
        (["plan", "my-model.gguf", "-u", "4,4"], "4 is there twice"),
        (["plan", "my-model.gguf", "-u", "0"], "0 is impossible"),
        (["plan", "my-model.gguf", "-r", "0"], "0 is impossible"),
        (["plan", "my-model.gguf", "--minutes", "nan"], "nan is impossible"),
        (["plan", "twice.toml"], "1 users are there twice"),
        (["plan", "smoke", "-s", "ollama", "-b", "sim"], "leave --backend out"),
        (["run", "--resume", "x.journal", "-b", "sim"], "leave --backend out"),
        (["run", "--resume", "x.journal", "-o", "elsewhere"], "leave --out out"),
        (["run", "smoke", "--wall-meter", "shelly"], "--wall-meter has no effect without --wall-url"),
        (["run", "smoke", "--wall-url", "10.0.0.1", "--wall-meter", "foo"], "choose one of shelly, "),
        (["run", "smoke", "--wall-url", "10.0.0.1", "--no-telemetry"], "contradict each other"),
        (["compare", "--table", "x", "--fail-on", "slower"], "--fail-on has no effect with --table"),
        (["engines", "vlm"], "did you mean vllm?"),
        (["models", "make", "tiny", "Q4_0", "--format", "ggfu"], "did you mean gguf?"),
    ],
)
def test_nothing_that_was_written_passes_silently(
    words: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke = (ROOT / "configs" / "suites" / "smoke.toml").read_text(encoding="utf-8")
    (here / "twice.toml").write_text(smoke.replace("[1, 2]", "[1, 1]"))
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_a_model_is_enough_and_the_plan_says_what_gives_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["plan", "standard", "-m", "synthetic:llama-160m:Q4_0", "-b", "sim", "--minutes", "0.05", "--json"]) == 0
    )
    answer = capsys.readouterr()
    suite = json.loads(answer.out)["suite"]
    assert suite["name"] == "custom" and "to take about" in answer.err and suite["about"] in answer.err


@pytest.mark.parametrize("name", ["llama.cpp", "mlx", "vllm", "openai", "sim"])
def test_engines_says_each_option_with_its_meaning(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", name, "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)
    assert engine["options"] and all(option["about"] for option in engine["options"])


def test_no_picture_is_drawn_of_no_history(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.write(store.read(RESULT), here / "one")
    assert main(["regress", "one", "--plot", "history.svg"]) == 0
    assert "no case was measured at two values" in capsys.readouterr().out and not (here / "history.svg").exists()


def test_the_catalogue_of_shapes_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--shapes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["llama-160m"]["layers"] == 12


def test_help_is_had_by_every_word_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for words in (["-h"], ["--help"], ["help"]):
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1
    for words in (["-V"], ["--version"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("rigbench 0.")


@pytest.mark.parametrize(
    ("line", "words"),
    [("rigbench su", {"suites", "submit"}), ("rigbench run --min", {"--minutes"}), ("rigbench run -ng", {"-ngl"})],
)
def test_the_shell_completes_commands_and_flags(line: str, words: set[str]) -> None:
    variables = {"_RIGBENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    command = [sys.executable, "-m", "rigbench.cli.main"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert set(done.stdout.split()) == words


def test_show_and_compare_have_the_same_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """The largest of the repetitions, in both."""
    assert main(["show", str(RESULT), "--json"]) == 0
    peaks = {row["group"]: row["memory_peak_bytes"] for row in json.loads(capsys.readouterr().out)}
    assert main(["compare", str(RESULT), str(RESULT), "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    compared = {cell["group"]: cell["base"] for cell in cells if cell["metric"] == "memory_peak_bytes"}
    assert compared == pytest.approx(peaks)
