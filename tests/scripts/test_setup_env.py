"""`.venv` is made once, made whole, and left alone when nothing has changed. pip and venv are played by a recorder."""

from __future__ import annotations

import json
import os
import select
import shlex
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
    no_amx = ("-mno-amx-tile", "-mno-amx-int8")
    compiler = setup_env.engine_build.Compiler("GCC 14.2.0", 14, True, no_amx)
    monkeypatch.setattr(setup_env.engine_build, "compiler_here", lambda environment: compiler)
    yield setup_env
    forget("setup_env", "engine_build", "commands", "toolchain")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import commands

    yield commands
    forget("commands")


def forget(*names: str) -> None:
    for name in names:
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
    """A Python of the environment that answers every question alike, and whose llama.cpp ends by the signal in `death`."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "llama_cpp").mkdir(exist_ok=True)
    python = venv / "bin/python"
    device = '["CPU", "a processor", false]'
    python.write_text(f"""#!/bin/sh
cd '{venv}'
case "$1" in *prove_engine.py)
    echo '{{"devices": [{device}], "error": "ggml_cuda_init: no CUDA-capable device", "folder": "{venv}/llama_cpp"}}'
    echo '{{"stage": "Q4_0, 4 users, on the processor"}}'
    [ -s death ] && kill -"$(cat death)" $$
    echo '{{"ok": true}}'
esac
exit {code}
""")
    python.chmod(0o755)


@dataclass
class Recorder:
    """Plays `run_logged`: does what the commands would leave behind, and notes them. `stop_at` is interrupted there.

    `deaths`: by which signal the llama.cpp of a level ends. `broken`: kinds that do not compile.
    """

    stop_at: str = ""
    deaths: dict[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    steps: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, title: str, command: list[str], log: Path, environment: Any = None, *_: Any) -> None:
        step = next(word for word in ("venv", "wheel", "--no-deps", "-e") if word in command)
        step = {"--no-deps": "engine", "-e": "packages"}.get(step, step)
        self.steps.append(step)
        self.commands.append(command)
        self.environments.append(environment or {})
        if step == self.stop_at:
            raise KeyboardInterrupt
        if step == "venv":
            make_python(Path(command[-1]))
        if step == "wheel":
            folder = Path(command[command.index("--wheel-dir") + 1])
            if any(f"-{kind}-" in folder.name for kind in self.broken):
                import commands

                raise commands.SetupError(f"{title.partition(':')[0]} failed, see {log}; its last lines are above.")
            (folder / "llama.whl").touch()
        if step == "engine":
            level = next((name for name in ("no-amx", "portable") if f"-{name}-" in command[-1]), "native")
            (Path(command[0]).parents[1] / "death").write_text(self.deaths.get(level, ""))


def steps(setup_env: ModuleType, checkout: Path, *extras: str, stop_at: str = "") -> list[str]:
    recorder = Recorder(stop_at)
    try:
        setup_env.prepare(*extras, checkout=checkout, run=recorder)
    except KeyboardInterrupt:
        recorder.steps.append("interrupted")
    return recorder.steps


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
    assert recorder.steps == ["wheel", "engine", "packages"]
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


def prepared(
    setup_env: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str], recorder: Recorder
) -> list[str]:
    """What is said while the engine is set up, a SetupError's sentence with its exit code at the end."""
    import commands

    capsys.readouterr()

    def main(arguments: list[str]) -> int:
        setup_env.prepare("llama-cpp", checkout=checkout, run=recorder)
        return 0

    with pytest.raises(SystemExit) as ended:
        commands.run_script(main)
    return [*capsys.readouterr().err.splitlines(), f"exit {ended.value.code}"]


def levels_built(recorder: Recorder) -> list[str]:
    names = [command[command.index("--wheel-dir") + 1] for command in recorder.commands if "wheel" in command]
    return [next((level for level in ("no-amx", "portable") if f"-{level}-" in name), "native") for name in names]


@pytest.mark.parametrize("signal_name", ["SEGV", "ILL", "ABRT"])
def test_a_build_that_crashes_is_followed_by_more_cautious_ones(
    setup_env: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str], signal_name: str
) -> None:
    crash = f"crashes here (SIG{signal_name}, Q4_0, 4 users, on the processor)"
    first = f"llama.cpp for this processor {crash}: building it without AMX."
    second = f"llama.cpp without AMX {crash}: building it without native instructions."

    recorder = Recorder(deaths={"native": signal_name})
    assert prepared(setup_env, checkout, capsys, recorder)[1:] == [first, "exit 0"]
    assert recorder.steps == ["venv", "wheel", "engine", "packages", "wheel", "engine"]
    assert levels_built(recorder) == ["native", "no-amx"]
    flags = [
        dict(word.split("=", 1) for word in shlex.split(env.get("CMAKE_ARGS", ""))) for env in recorder.environments
    ]
    assert "-DCMAKE_C_FLAGS" not in flags[1]
    assert flags[4]["-DCMAKE_C_FLAGS"] == flags[4]["-DCMAKE_CXX_FLAGS"] == "-mno-amx-tile -mno-amx-int8"
    built = json.loads((checkout / ".venv/llama_cpp/rigbench-build.json").read_text())
    assert (built["kind"], built["level"], built["compiler"]) == ("cpu", "no-amx", "GCC 14.2.0")
    assert "-DCMAKE_CXX_FLAGS=-mno-amx-tile -mno-amx-int8" in built["cmake_args"]
    assert str(Path.home()) not in json.dumps(built) and str(SCRIPTS) not in json.dumps(built)
    assert steps(setup_env, checkout, "llama-cpp") == []  # the second start

    shutil.rmtree(checkout / ".venv")  # the outcome is kept beside the wheels too
    recorder = Recorder(deaths={"native": signal_name})
    assert prepared(setup_env, checkout, capsys, recorder)[1:] == [first, "exit 0"]
    assert recorder.steps == ["venv", "engine", "packages"]

    shutil.rmtree(checkout / ".venv")  # a kept wheel is proved again: this machine is another one
    recorder = Recorder(deaths={"no-amx": signal_name})
    assert prepared(setup_env, checkout, capsys, recorder)[1:] == [first, second, "exit 0"]
    assert levels_built(recorder) == ["portable"]
    assert json.loads((checkout / ".venv/llama_cpp/rigbench-build.json").read_text())["level"] == "portable"


def test_a_machine_on_which_no_build_computes_is_told_so(
    setup_env: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(deaths={"native": "SEGV", "no-amx": "ILL", "portable": "ILL"})
    lines = prepared(setup_env, checkout, capsys, recorder)
    assert levels_built(recorder) == ["native", "no-amx", "portable"]
    assert [line.partition(" (")[0] for line in lines[1:3]] == [
        "llama.cpp for this processor crashes here",
        "llama.cpp without AMX crashes here",
    ]
    assert lines[3:] == [
        "llama.cpp cannot be built here: without native instructions it crashes here (SIGILL, Q4_0, 4 users, on the "
        "processor). Another compiler may help (CC and CXX name one: GCC 13 or Clang 16).",
        "exit 3",
    ]
    assert not (checkout / ".venv" / setup_env.NOTE).exists()


def test_an_engine_that_was_replaced_is_not_taken_for_the_one_before(
    setup_env: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps(setup_env, checkout, "llama-cpp") == ["venv", "wheel", "engine", "packages"]
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_BLAS=on")
    broken = Recorder(deaths={"native": "ILL", "no-amx": "ILL", "portable": "ILL"})
    assert prepared(setup_env, checkout, capsys, broken)[-1] == "exit 3"
    monkeypatch.delenv("CMAKE_ARGS")
    assert steps(setup_env, checkout, "llama-cpp") == ["engine"]  # the first wheel was kept
    assert steps(setup_env, checkout, "llama-cpp") == []


@dataclass(frozen=True)
class Gpu:
    vendor: str = "nvidia"
    name: str = "NVIDIA GeForce RTX 4090"
    worth_using: bool = True


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (("cuda",), "was not built (Building llama.cpp for CUDA with"),  # nvcc fails
        ((), "sees no GPU here (ggml_cuda_init: no CUDA-capable device)."),  # it compiles, and the driver refuses
    ],
)
def test_the_cpu_follows_a_gpu_that_cannot_be_had(
    setup_env: ModuleType,
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[str, ...],
    why: str,
) -> None:
    build = setup_env.engine_build
    tools = build.Toolchain("nvcc 13.0 of this system", "nvcc 13.0", ("-DGGML_CUDA=ON",))

    def plan(version: str, kind_set: str | None = None) -> Any:
        choice = build.choose_build("Linux", kind_set, [Gpu()], lambda: tools, lambda: "", lambda: "")
        return build.plan_builds(version, choice, "Linux", build.Compiler())

    monkeypatch.setattr(build, "plan", plan)
    recorder = Recorder(broken=broken)
    lines = prepared(setup_env, checkout, capsys, recorder)
    assert lines[0] == "llama.cpp is built for CUDA: nvcc 13.0 of this system."
    assert lines[1].startswith(f"llama.cpp for CUDA {why.rstrip('.')}") and lines[1].endswith(
        ": building it for the CPU."
    )
    assert lines[2:] == ["exit 0"]
    assert json.loads((checkout / ".venv/llama_cpp/rigbench-build.json").read_text())["kind"] == "cpu"

    again = Recorder(broken=broken)
    lines = prepared(setup_env, checkout, capsys, again)
    assert again.steps == [] and len(lines) == 2
    assert "above" not in lines[0] and ("setup-engine-cuda-native.log" in lines[0]) == bool(broken)
    assert lines[0].startswith(f"A GPU is here that is not used: llama.cpp for CUDA {why.rstrip('.')}")

    monkeypatch.setattr(
        build, "plan", lambda version, kind: plan(version, "cuda")
    )  # by request: no other build will do
    lines = prepared(setup_env, checkout, capsys, Recorder(broken=broken))
    assert lines[-1] == "exit 3" and len(lines) == 3
    assert ("unset RIGBENCH_LLAMA_BUILD" in lines[1]) == (not broken)


def test_an_engine_that_does_not_load_is_not_built_otherwise(
    setup_env: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    failure = setup_env.engine_build.Proof("does not load here (ImportError: no libgomp)", loads=False)
    with pytest.raises(setup_env.SetupError, match=r"was installed, but does not load here .*: remove \.venv"):
        setup_env.prepare("llama-cpp", checkout=checkout, run=recorder, prove=lambda python, kind: failure)
    assert levels_built(recorder) == ["native"]


def test_the_command_that_follows_hands_its_exit_code_on() -> None:
    code = "import commands, sys; commands.hand_over([sys.executable, '-c', 'raise SystemExit(3)'])"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS).returncode == 3


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
    commands: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "print('x.cpp:3: error: no such thing'); [print('line', n) for n in range(40)]; raise SystemExit(7)"
    with pytest.raises(
        commands.SetupError, match=r"^Building it failed, see .*log; its last lines are above\. Do this\.$"
    ):
        commands.run_logged(
            tmp_path, "Building it: 1 minute", [sys.executable, "-c", code], tmp_path / "log", {}, "Do this."
        )
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Building it: 1 minute", "  | x.cpp:3: error: no such thing"]
    assert lines[-1] == "  | line 39" and len(lines) == 1 + 1 + 15


def test_progress_is_the_last_count_of_the_log(commands: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("configuring\n")
    assert commands.progress(log) == ""
    log.write_text("  [1/83] cc -c a.c\n  [12/83] cc -c b.c\nwarning\n")
    assert commands.progress(log) == ", 12 of 83 files"


def test_a_command_ends_with_all_that_it_started(commands: ModuleType) -> None:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo up; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    commands.end_tree(process)
    # The pipe ends only when the last process that holds it has.
    assert select.select([process.stdout], [], [], 5)[0] and process.stdout.read() == b""
    process.stdout.close()


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [("SetupError", 3, "There is no C++ compiler here."), ("KeyboardInterrupt", 130, "Stopped.")],
)
def test_ends_in_one_line(
    commands: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)

    def main(arguments: list[str]) -> int:
        raise commands.SetupError(says) if raised == "SetupError" else KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        commands.run_script(main)
    lines = capsys.readouterr().err
    assert ended.value.code == code and lines.startswith(says) and lines.count("\n") == 1


def test_constraints_name_every_tool_of_the_build_and_no_address() -> None:
    lines = (SCRIPTS.parent / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(len(line.split("==")) == 2 and "/" not in line and "@" not in line for line in pins)
    assert {"llama-cpp-python", "scikit-build-core", "hatchling", "cmake", "ninja"} <= {
        pin.split("==")[0] for pin in pins
    }
