"""The table of exit codes and JSON in CONTRIBUTING.md, command by command."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rigbench.cli.main import NAMES, main

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "results" / "amd-epyc-2c-24gb" / "20261121T134057Z-quickstart-417ae7fe.json"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE = {
    match[1]: (match[2], match[3])
    for match in re.finditer(r"^\| `(\w+)` \| ([\d, ]*) ?\| (.+) \|$", TEXT, re.MULTILINE)
}
WORDS: dict[str, list[str]] = {
    "doctor": [],
    "suites": [],
    "engines": [],
    "plan": ["smoke", "-b", "sim"],
    "show": [str(RESULT)],
    "compare": [str(RESULT), str(RESULT)],
    "metrics": [],
    "predict": ["-m", "llama-3.1-8b", "-d", "rtx-4090"],
    "cost": ["--active-watts", "100"],
    "advise": ["-m", "llama-3.1-8b"],
    "bandwidth": [],
    "validate": [str(RESULT)],
    "regress": [str(RESULT)],
    "index": [],
    "query": ["select model from cases"],
}


def test_every_command_is_in_the_table() -> None:
    assert set(TABLE) == set(NAMES)


@pytest.mark.slow
def test_each_json_has_the_keys_of_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / RESULT.name).write_bytes(RESULT.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for command, words in WORDS.items():
        assert main([command, *words, "--json"]) == 0, capsys.readouterr().err
        content = json.loads(capsys.readouterr().out)
        kind, _, keys = TABLE[command][1].partition(":")
        assert isinstance(content, dict if kind == "object" else list), command
        known = content if isinstance(content, dict) else (content or [{}])[0]
        expected = [
            key for part in re.split(r",| and ", keys.partition(";")[0]) if re.fullmatch(r"\w+", key := part.strip())
        ]
        assert not expected or set(expected) <= set(known), (command, set(expected) - set(known))
    assert main(["compare", "--table", str(RESULT), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"columns", "rows"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["show", "no-such.json"], 2),
        (["show"], 2),
        (["shwo"], 2),
        (["run"], 2),
        (["run", "smoke", "-b", "sim", "-O", "fault=load"], 3),
        (["run", "smoke", "-b", "sim", "-O", "fault=decode", "-O", "fault_users=2", "--strict"], 3),
        (["run", "smoke", "-b", "sim", "-O", "fault=decode", "-O", "fault_users=2"], 0),
        (["run", "smoke", "-b", "sim", "--wall-url", "http://127.0.0.1:1"], 3),
        (["bandwidth", "--device", "metal"], 2 if sys.platform == "darwin" else 3),
        (["watch", "--seconds", "-1"], 2),
        (["watch", "--seconds", "nan"], 2),
    ],
)
def test_an_exit_code_says_how_it_ended(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code


@pytest.fixture
def forked(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """(exit code, stderr) of a command whose stdout is an open file."""

    def run(out: int, *words: str) -> tuple[int, str]:
        error = tmp_path / "stderr"
        child = os.fork()
        if not child:
            code = 99
            try:
                os.dup2(out, 1)
                os.dup2(os.open(error, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                code = main(words)
                sys.stderr.flush()
                sys.stdout.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), error.read_text()

    return run


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize(
    "words", [["show", str(RESULT)], ["export", str(RESULT)], ["metrics"], ["show", str(RESULT), "--json"]]
)
def test_a_full_disk_ends_in_a_sentence(forked: Callable[..., tuple[int, str]], words: list[str]) -> None:
    code, error = forked(os.open("/dev/full", os.O_WRONLY), *words)
    assert (code, error) == (3, "rigbench: cannot write the output: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="closes a pipe")
def test_a_pipe_that_nobody_reads_any_more_is_no_error(forked: Callable[..., tuple[int, str]]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert forked(writer, "metrics", "--json") == (0, "")
