"""`.venv` is made once, made whole, and left alone when nothing has changed. pip and venv are played by a recorder."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script stands for the environment's Python")


@pytest.fixture
def setup_env(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    monkeypatch.setenv("RIGBENCH_LLAMA_BUILD", "cpu")
    import setup_env

    monkeypatch.setattr(setup_env.engine_build, "missing_compiler", lambda: None)
    yield setup_env
    for name in ("setup_env", "engine_build"):
        sys.modules.pop(name, None)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "a checkout"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "constraints.txt").write_text("llama-cpp-python==0.3.36\nnumpy==2.4.6\n")
    return folder


def make_python(venv: Path, code: int = 0) -> None:
    """A Python of the environment that answers every question alike."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    python = venv / "bin/python"
    python.write_text(f"#!/bin/sh\necho libllama.so libggml-cpu.so\nexit {code}\n")
    python.chmod(0o755)


@dataclass
class Recorder:
    """Plays `run_logged`: does what the commands would leave behind, and notes them. `stop_at` is interrupted there."""

    stop_at: str = ""
    seen: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, title: str, command: list[str], log: Path, *_: Any) -> None:
        step = next(word for word in ("venv", "wheel", "--no-deps", "-e") if word in command)
        step = {"--no-deps": "engine", "-e": "packages"}.get(step, step)
        self.seen.append(step)
        self.commands.append(command)
        if step == self.stop_at:
            raise KeyboardInterrupt
        if step == "venv":
            make_python(Path(command[-1]))
        if step == "wheel":
            (Path(command[command.index("--wheel-dir") + 1]) / "llama.whl").touch()


def steps(setup_env: ModuleType, checkout: Path, *extras: str, stop_at: str = "") -> list[str]:
    recorder = Recorder(stop_at)
    try:
        setup_env.prepare(*extras, checkout=checkout, run=recorder)
    except KeyboardInterrupt:
        recorder.seen.append("interrupted")
    return recorder.seen


def test_the_second_time_nothing_is_run(setup_env: ModuleType, checkout: Path) -> None:
    assert steps(setup_env, checkout, "llama-cpp") == ["venv", "wheel", "engine", "packages"]
    assert steps(setup_env, checkout, "llama-cpp") == []


def test_only_what_has_changed_is_done_again(
    setup_env: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(setup_env, checkout, "llama-cpp")
    (checkout / "constraints.txt").write_text("llama-cpp-python==0.3.36\nnumpy==2.4.7\n")
    assert steps(setup_env, checkout, "llama-cpp") == ["packages"]
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_VULKAN=on")
    assert steps(setup_env, checkout, "llama-cpp") == ["wheel", "engine"]
    monkeypatch.delenv("CMAKE_ARGS")
    assert steps(setup_env, checkout, "llama-cpp") == ["engine"]  # the wheel of before was kept


def test_extras_add_up(setup_env: ModuleType, checkout: Path) -> None:
    assert steps(setup_env, checkout, "dev") == ["venv", "packages"]  # no engine for a check of the code
    recorder = Recorder()
    setup_env.prepare("llama-cpp", "test", checkout=checkout, run=recorder)
    assert recorder.seen == ["wheel", "engine", "packages"]
    assert recorder.commands[-1][-1] == ".[dev,llama-cpp,test]"
    for extras in (("dev",), ("llama-cpp",), ("llama-cpp", "test")):
        assert steps(setup_env, checkout, *extras) == []


def test_pip_builds_from_source_and_passes_its_own_cache_by(setup_env: ModuleType, checkout: Path) -> None:
    recorder = Recorder()
    setup_env.prepare("llama-cpp", checkout=checkout, run=recorder)
    build = recorder.commands[1]
    assert build[-1] == "llama-cpp-python==0.3.36"
    assert "--no-cache-dir" in build and build[build.index("--no-binary") + 1] == "llama-cpp-python"
    assert not any("index" in word for command in recorder.commands for word in command)


@pytest.mark.parametrize(
    ("stop_at", "after"),
    [
        ("venv", ["venv", "wheel", "engine", "packages"]),
        ("wheel", ["wheel", "engine", "packages"]),  # building touches nothing in the environment
        ("engine", ["venv", "engine", "packages"]),
        ("packages", ["venv", "engine", "packages"]),
    ],
)
def test_what_was_interrupted_is_not_taken_for_whole(
    setup_env: ModuleType, checkout: Path, stop_at: str, after: list[str]
) -> None:
    assert steps(setup_env, checkout, "llama-cpp", stop_at=stop_at)[-1] == "interrupted"
    assert not (checkout / ".venv" / setup_env.NOTE).exists()
    assert steps(setup_env, checkout, "llama-cpp") == after
    assert steps(setup_env, checkout, "llama-cpp") == []


def test_an_upgrade_that_was_interrupted_starts_from_nothing(setup_env: ModuleType, checkout: Path) -> None:
    steps(setup_env, checkout, "llama-cpp")
    (checkout / ".venv/half-installed").touch()
    (checkout / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    steps(setup_env, checkout, "llama-cpp", stop_at="packages")
    assert steps(setup_env, checkout, "llama-cpp") == ["venv", "engine", "packages"]
    assert not (checkout / ".venv/half-installed").exists()


def test_a_moved_checkout_gets_a_new_environment(setup_env: ModuleType, checkout: Path) -> None:
    steps(setup_env, checkout, "llama-cpp")
    moved = checkout.with_name("moved")
    shutil.move(checkout, moved)
    assert steps(setup_env, moved, "llama-cpp") == ["venv", "engine", "packages"]


def test_an_environment_of_the_users_own_is_used_or_moved_aside(setup_env: ModuleType, checkout: Path) -> None:
    make_python(checkout / ".venv")
    (checkout / ".venv/mine").touch()
    assert steps(setup_env, checkout, "dev") == ["packages"]
    shutil.rmtree(checkout / ".venv")
    make_python(checkout / ".venv", code=1)  # no pip in it, or a Python that is too old
    (checkout / ".venv/mine").touch()
    assert steps(setup_env, checkout, "dev") == ["venv", "packages"]
    (aside,) = checkout.glob(".venv-*")
    assert (aside / "mine").exists()


def test_an_engine_that_is_not_what_was_asked_for_is_refused(
    setup_env: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = setup_env.engine_build.Build("cuda", (), "")
    monkeypatch.setattr(setup_env.engine_build, "plan", lambda version: setup_env.engine_build.Plan(build, {}, "k"))
    with pytest.raises(setup_env.SetupError, match=r"llama\.cpp was built without cuda"):
        setup_env.prepare("llama-cpp", checkout=checkout, run=Recorder())
    assert not (checkout / ".venv" / setup_env.NOTE).exists()


def test_no_compiler_is_said_before_anything_is_made(
    setup_env: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_env.engine_build, "missing_compiler", lambda: "There is no C++ compiler here: do this.")
    with pytest.raises(setup_env.SetupError, match="There is no C"):
        setup_env.prepare("llama-cpp", checkout=checkout, run=Recorder())
    assert not (checkout / ".venv").exists()


def test_no_venv_module_is_one_sentence(setup_env: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(setup_env.SetupError, match=r"sudo apt install python3-venv \(or python3\.\d+-venv\)"):
        setup_env.prepare("dev", checkout=checkout, run=Recorder())


def test_a_failed_command_shows_its_last_words(
    setup_env: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "print('x.cpp:3: error: no such thing'); [print('line', n) for n in range(40)]; raise SystemExit(7)"
    with pytest.raises(setup_env.SetupError, match=r"^Building it failed; .* Do this\.$"):
        setup_env.run_logged(
            tmp_path, "Building it: 1 minute", [sys.executable, "-c", code], tmp_path / "log", {}, "Do this."
        )
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["Building it: 1 minute", "  | x.cpp:3: error: no such thing"]
    assert said[-1] == "  | line 39" and len(said) == 1 + 1 + 15


def test_progress_is_the_last_count_of_the_log(setup_env: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("configuring\n")
    assert setup_env.progress(log) == ""
    log.write_text("  [1/83] cc -c a.c\n  [12/83] cc -c b.c\nwarning\n")
    assert setup_env.progress(log) == ", 12 of 83 files"


def test_a_command_ends_with_all_that_it_started(setup_env: ModuleType) -> None:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo up; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    setup_env.end_tree(process)
    # The pipe ends only when the last process that holds it has.
    assert select.select([process.stdout], [], [], 5)[0] and process.stdout.read() == b""
    process.stdout.close()


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [("SetupError", 3, "There is no C++ compiler here."), ("KeyboardInterrupt", 130, "Stopped.")],
)
def test_ends_in_one_line(
    setup_env: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.setattr(setup_env.signal, "signal", lambda *_: None)

    def main(arguments: list[str]) -> int:
        raise setup_env.SetupError(says) if raised == "SetupError" else KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        setup_env.run_script(main)
    said = capsys.readouterr().err
    assert ended.value.code == code and said.startswith(says) and said.count("\n") == 1


def test_constraints_name_every_tool_of_the_build_and_no_address() -> None:
    lines = (SCRIPTS.parent / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(len(line.split("==")) == 2 and "/" not in line and "@" not in line for line in pins)
    assert {"llama-cpp-python", "scikit-build-core", "hatchling", "cmake", "ninja"} <= {
        pin.split("==")[0] for pin in pins
    }
