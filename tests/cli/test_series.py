"""`rigbench run --runs N --against "OPTIONS"`: turns, words, failures and interruption, over the simulator and one real engine."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import rigbench
from rigbench.cli import series
from rigbench.errors import InputError
from rigbench.run import processes
from rigbench.run.processes import Ended
from simulated import REAL_TIME, suite_text

NAMES = {
    "--model": series.Parameter("model", True),
    "-m": series.Parameter("model", True),
    "-ngl": series.Parameter("engine_layers", True),
    "-u": series.Parameter("users", True),
    "-O": series.Parameter("option", True),
    "--runs": series.Parameter("runs", True),
    "--against": series.Parameter("against", True),
    "-o": series.Parameter("out", True),
    "--strict": series.Parameter("strict", False),
}


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Path]:
    def write(extra: str = "") -> Path:
        path = tmp_path / "t.toml"
        path.write_text(suite_text(extra))
        return path

    return write


@pytest.mark.parametrize(
    ("words", "against", "sides"),
    [
        ("m.gguf --runs 3 -u 1", None, ["m.gguf -u 1"]),
        ("m.gguf --runs=3 --strict -u1", "-ngl 9", ["m.gguf --strict -u1", "m.gguf --strict -u1 -ngl 9"]),
        ("m.gguf -ngl 0 -u 1,4", "-ngl=99", ["m.gguf -ngl 0 -u 1,4", "m.gguf -u 1,4 -ngl=99"]),
        ("m.gguf -u 1", "other.gguf", ["m.gguf -u 1", "-u 1 other.gguf"]),
        ("-m a -O a=1 -O threads=2", "-O threads=4 --model b", ["-m a -O a=1 -O threads=2", "-O a=1 -O threads=4 --model b"]),
    ],
)  # fmt: skip
def test_the_second_side_has_the_words_of_the_first_but_those_that_it_names(
    words: str, against: str | None, sides: list[str]
) -> None:
    assert series.sides_of(words.split(), against, NAMES) == [side.split() for side in sides]


@pytest.mark.parametrize("against", ["", "-u '1", "--runs 3", "-o there"])
def test_what_cannot_be_a_second_side_is_said(against: str) -> None:
    with pytest.raises(InputError, match="--against"):
        series.sides_of(["m.gguf"], against, NAMES)


def turns(monkeypatch: pytest.MonkeyPatch, ends: list[Ended], sides: int, runs: int) -> tuple[int, list[str]]:
    """(exit code, the sides in their order) of runs that end so."""
    begun: list[str] = []

    def run(words: list[str]) -> Ended:
        begun.append(words[1])
        return ends[len(begun) - 1]

    monkeypatch.setattr(processes, "rigbench", run)
    monkeypatch.setattr(series, "_say_what_they_tell", lambda results: None)
    return series.measured([["a"], ["b"]][:sides], runs, strict=True), begun


def test_sides_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns(monkeypatch, [Ended(0, Path("x"))] * 6, 2, 3) == (0, ["a", "b", "b", "a", "a", "b"])
    assert turns(monkeypatch, [Ended(0, Path("x"))] * 3, 1, 3) == (0, ["a"] * 3)


def test_a_failure_goes_on_and_a_wrong_option_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad, wrong = Ended(0, Path("x")), Ended(3, None), Ended(2, None)
    assert turns(monkeypatch, [bad, good, good], 1, 3) == (3, ["a"] * 3)
    assert turns(monkeypatch, [good, bad, bad, good], 2, 2) == (3, ["a", "b", "b", "a"])
    assert turns(monkeypatch, [wrong], 2, 2) == (2, ["a"])


def test_two_sides_of_the_simulator_are_compared(suite: Callable[..., Path], tmp_path: Path) -> None:
    done = rigbench(
        "run", suite(), "--no-telemetry", "--runs", "2", "-O", "bandwidth_gb_per_s=20", "--against",
        "-O bandwidth_gb_per_s=10", cwd=tmp_path,
    )  # fmt: skip
    assert len(list((tmp_path / "results").glob("*/*.json"))) == 4
    assert done.stdout.count("result: ") == 4
    assert "bandwidth_gb_per_s=20" in done.stdout and "bandwidth_gb_per_s=10" in done.stdout
    assert "-49." in done.stdout and "slower" in done.stdout
    assert "run 4 of 4, side A" in done.stderr


def test_a_run_that_fails_is_said_and_the_rest_is_compared(suite: Callable[..., Path], tmp_path: Path) -> None:
    done = rigbench(
        "run", suite(), "--no-telemetry", "--runs", "1", "--against", "-O fault=load", cwd=tmp_path, expect=3
    )
    assert "run 2 failed (exit code 3)" in done.stderr and "nothing to compare" in done.stderr
    assert done.stdout.count("result: ") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_loses_no_finished_run_and_ends_everything(
    how: signal.Signals, suite: Callable[..., Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "rigbench", "run", suite(REAL_TIME), "--no-telemetry", "--runs", "20"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert run.stderr is not None
    while "run 2 of 20" not in (line := run.stderr.readline()):
        assert line
    run.send_signal(how)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, out + err
    assert "1 of 20 runs are finished and kept" in err
    assert out.count("result: ") == 1
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left


@pytest.mark.slow
def test_a_real_engine_against_itself_with_other_threads(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    done = rigbench(
        "run", "synthetic:tiny:Q8_0", "-p", "16", "-n", "24", "-u", "1", "-r", "2", "--no-telemetry", "--runs", "2",
        "-O", "threads=1", "--against", "-O threads=2", cwd=tmp_path,
    )  # fmt: skip
    assert "threads=1" in done.stdout and "threads=2" in done.stdout and "verdict" in done.stdout
