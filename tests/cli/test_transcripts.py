"""What people see: every example of README and every --help, in terminals of 40, 80 and 200 columns and in a pipe."""

from __future__ import annotations

import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.main import get_command

from rigbench.analysis.table import table
from rigbench.cli.main import NAMES, Commands, app, main
from rigbench.documents import store
from rigbench.models.synthetic.gguf import ensure_synthetic
from rigbench.report.table import columns_of
from terminal import on_terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="opens a pseudo-terminal")
ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "results" / "amd-epyc-2c-24gb" / "20261121T134057Z-quickstart-417ae7fe.json"
WIDTHS = (40, 80, 200)
LINES = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]
EXAMPLES = [line for line in LINES if line.startswith("rigbench ")]
ELSEWHERE = ("10.0.0.5", "ollama", "OWNER/REPO")
"""Examples with these words name what is not here: they end in one sentence."""
CHANGES_THE_SHELL = "--install-completion"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples are typed: two models, and a result."""
    here = tmp_path_factory.mktemp("here")
    for name, quant in (("my-model.gguf", "Q8_0"), ("other.gguf", "F16")):
        (here / name).write_bytes(ensure_synthetic("tiny", quant).read_bytes())
    (here / "RESULT").write_bytes(RESULT.read_bytes())
    return here


def words_of(example: str) -> list[str]:
    """As typed, but a run is only planned: what it prints besides is what `show` prints, and progress."""
    words = shlex.split(example)[1:]
    return ["plan", *words[1:]] if words[0] == "run" else words


def too_wide(text: str, width: int) -> list[str]:
    """Lines beyond the terminal's edge, but for those of one long word: a path cannot be broken."""
    lines = [line.rstrip() for line in re.split(r"[\r\n]", text)]
    return [line for line in lines if len(line) > width and max(map(len, line.split())) < width - 12]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("example", [one for one in EXAMPLES if CHANGES_THE_SHELL not in one])
def test_an_example_of_the_readme_fits_its_terminal(example: str, width: int, folder: Path) -> None:
    words = words_of(example)
    away = any(word in example for word in ELSEWHERE)
    if words[0] == "plan" and not away and find_spec("llama_cpp") is None:
        pytest.skip("llama.cpp is not installed here")
    code, text = on_terminal(words, folder, width)
    assert "Traceback" not in text
    assert code in ((2, 3) if away else (0,)), text
    assert too_wide(text, width) == []
    assert "…" not in text


@pytest.mark.parametrize("name", ["", *NAMES, "models list"])
def test_help_fits_its_terminal(name: str, tmp_path: Path) -> None:
    for width in WIDTHS:
        code, text = on_terminal([*name.split(), "-h"], tmp_path, width)
        assert (code, too_wide(text, width)) == (0, [])


def test_no_command_is_described_by_half_a_sentence(tmp_path: Path) -> None:
    text = " ".join(on_terminal(["-h"], tmp_path, 80)[1].split())
    commands = get_command(app)
    assert isinstance(commands, Commands)
    for name in NAMES:
        assert " ".join(str(commands.get_command(None, name).help).split("\n")[0].split()) in text


def test_the_table_of_the_readme_is_what_show_prints(tmp_path: Path) -> None:
    table_shown = (ROOT / "README.md").read_text(encoding="utf-8").split("```\n")[1].splitlines()
    text = on_terminal(["show", str(RESULT)], tmp_path, 100)[1]
    printed = [line.rstrip() for line in text.splitlines()]
    assert [line for line in table_shown if line not in printed] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_column_of_a_result_is_lost(width: int, folder: Path) -> None:
    _, text = on_terminal(["show", "RESULT"], folder, width)
    for title, cells in columns_of(table(store.read(RESULT))).items():
        assert title in text and all(cell in text for cell in cells)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_from_a_model_to_its_table(width: int, folder: Path) -> None:
    words = ["run", "my-model.gguf", "-b", "sim", "-p", "64", "-n", "32", "-u", "1,2", "-r", "1", "-o", f"out{width}"]
    code, text = on_terminal(words, folder, width)
    assert code == 0 and too_wide(text, width) == []
    order = [text.index(word) for word in ("2 cases", "my-model on sim", "workload", "result: ")]
    assert order == sorted(order)
    assert "p64-n32" in text and text.rstrip().splitlines()[-1].endswith(".json")


def test_piped_a_table_is_one_and_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder / "RESULT")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = (line for line in lines if line.startswith("workload"))
    assert head.split("  ")[0] == "workload" and head.endswith("flags")
    assert sum(line.startswith("chat-128") for line in lines) == 4


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama.cpp is not installed here")
def test_a_model_is_measured_by_its_name_alone(folder: Path) -> None:
    code, text = on_terminal(["run", "my-model.gguf", "--minutes", "1", "-o", "out"], folder, 80)
    assert code == 0 and "my-model on llama_cpp" in text and "result: out/" in text
