"""Which llama.cpp a machine gets, and when one that was built before may be used again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def engine_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import engine_build

    yield engine_build
    sys.modules.pop("engine_build", None)


@pytest.mark.parametrize(
    ("system", "wanted", "nvcc", "gpus", "kind", "says"),
    [
        ("Linux", None, None, None, "cpu", "llama.cpp is built for the CPU: there is no NVIDIA GPU here."),
        (
            "Linux",
            None,
            "nvcc",
            None,
            "cpu",
            "llama.cpp is built for the CPU: nvcc is here, but no NVIDIA GPU answers.",
        ),
        ("Linux", None, "nvcc", ("8.9",), "cuda", "llama.cpp is built for CUDA: nvcc and an NVIDIA GPU are here."),
        ("Linux", None, None, ("8.9",), "cpu", "install the CUDA toolkit (from NVIDIA"),
        ("Windows", None, None, ("",), "cpu", "winget install Nvidia.CUDA"),
        ("Linux", "cpu", "nvcc", ("8.9",), "cpu", "as RIGBENCH_LLAMA_BUILD asks."),
        ("Linux", "cuda", "nvcc", None, "cuda", "as RIGBENCH_LLAMA_BUILD asks."),
        ("Darwin", None, None, None, "metal", "llama.cpp is built for Metal: this is a Mac."),
        ("Darwin", "cpu", None, None, "cpu", "as RIGBENCH_LLAMA_BUILD asks."),
    ],
)
def test_choice(
    engine_build: ModuleType,
    system: str,
    wanted: str | None,
    nvcc: str | None,
    gpus: tuple[str, ...] | None,
    kind: str,
    says: str,
) -> None:
    build = engine_build.choose_build(system, wanted, nvcc, gpus)
    assert build.kind == kind
    assert says in build.reason
    assert ("-DGGML_CUDA=ON" in build.cmake_args) == (kind == "cuda")
    assert ("-DRIGBENCH_NO_METAL=ON" in build.cmake_args) == (system == "Darwin" and kind == "cpu")


@pytest.mark.parametrize(
    ("system", "wanted", "nvcc", "says"),
    [
        ("Linux", "rocm", None, "RIGBENCH_LLAMA_BUILD=rocm is not one of cpu, cuda, metal"),
        ("Linux", "metal", None, "needs a Mac"),
        ("Linux", "cuda", None, "RIGBENCH_LLAMA_BUILD=cuda needs nvcc: install the CUDA toolkit"),
    ],
)
def test_impossible_choice(engine_build: ModuleType, system: str, wanted: str, nvcc: str | None, says: str) -> None:
    with pytest.raises(engine_build.SetupError, match=says):
        engine_build.choose_build(system, wanted, nvcc, None)


def test_code_is_made_for_the_gpus_that_are_here(engine_build: ModuleType) -> None:
    assert engine_build.cuda_architectures(("12.0", "8.9", "8.9")) == ("-DCMAKE_CUDA_ARCHITECTURES=89-real;120-real",)
    assert engine_build.cuda_architectures(("9.0",)) == ("-DCMAKE_CUDA_ARCHITECTURES=90-real",)
    assert engine_build.cuda_architectures(("",)) == ()
    assert engine_build.cuda_architectures(()) == ()


@pytest.mark.parametrize(
    ("answers", "gpus"),
    [
        ({"compute_cap": "8.9\n12.0\n"}, ("8.9", "12.0")),
        ({"compute_cap": "[N/A]\n"}, ("",)),
        ({"name": "NVIDIA GeForce GTX 1080\n"}, ("",)),  # a driver that does not know compute_cap
    ],
)
def test_what_nvidia_smi_says(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], gpus: tuple[str, ...]
) -> None:
    monkeypatch.setattr(engine_build, "answer", lambda command: answers.get(command[1].removeprefix("--query-gpu=")))
    assert engine_build.nvidia_gpus() == gpus


@pytest.mark.parametrize(
    ("system", "there", "asked", "cxx", "says"),
    [
        ("Linux", {"g++"}, None, None, None),
        ("Linux", {"clang++"}, None, None, None),
        ("Linux", {"apt-get"}, None, None, "There is no C++ compiler here: sudo apt install build-essential, and"),
        ("Linux", {"dnf"}, None, None, "sudo dnf install gcc-c++, and"),
        ("Linux", set(), None, None, "install g++ or clang++, and"),
        ("Linux", {"g++"}, None, "icpx -O2", "CXX names icpx, which is not here"),
        ("Linux", {"icpx"}, None, "icpx -O2", None),
        ("Darwin", {"c++"}, None, None, "xcode-select --install"),  # a Mac has a c++ that only says it is missing
        ("Darwin", {"c++"}, "/Library/Developer/CommandLineTools\n", None, None),
        ("Windows", set(), None, None, "Microsoft.VisualStudio.2022.BuildTools"),
        ("Windows", set(), "\n", None, "Microsoft.VisualStudio.2022.BuildTools"),
        ("Windows", set(), "C:\\VS\n", None, None),
        ("Windows", {"cl"}, None, None, None),
    ],
)
def test_compiler(
    engine_build: ModuleType, system: str, there: set[str], asked: str | None, cxx: str | None, says: str | None
) -> None:
    problem = engine_build.compiler_problem(
        system, cxx, lambda name: f"/bin/{name}" if name in there else None, lambda command: asked
    )
    assert (problem is None) == (says is None)
    if says is not None:
        assert says in problem and "\n" not in problem


def test_own_cmake_options_come_last(engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_VULKAN=on -DX='a b'")
    build = engine_build.Build("cpu", ("-DP=/a folder/x;y",), "")
    words = shlex.split(engine_build.build_environment(build, None)["CMAKE_ARGS"])
    assert words == ["-DP=/a folder/x;y", "-DGGML_VULKAN=on", "-DX=a b"]


def test_a_wheel_is_used_again_for_the_same_build_only(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    build = engine_build.Build("cpu", ("-DA=1",), "because")

    def key(version: str = "1.0", build: object = build) -> str:
        return str(engine_build.build_key(version, build, None))

    first = key()
    assert first.startswith("1.0-cpu-")
    assert key() == first
    assert key(build=engine_build.Build("cpu", ("-DA=1",), "another reason")) == first
    assert key("1.1") != first
    assert key(build=engine_build.Build("cpu", ("-DA=2",), "")) != first
    monkeypatch.setattr(engine_build, "processor", lambda: "another CPU, whose instruction sets differ")
    assert key() != first
    monkeypatch.undo()
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_VULKAN=on")
    assert key() != first


def test_a_failed_build_leaves_no_wheel(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), engine_build.keeping_wheel("k") as folder:
        (folder / "half.whl").touch()
        raise KeyboardInterrupt
    assert engine_build.kept_wheel("k") is None
    assert list((tmp_path / "wheels").iterdir()) == []
    with engine_build.keeping_wheel("k") as folder:
        (folder / "whole.whl").touch()
    assert engine_build.kept_wheel("k") == tmp_path / "wheels/llama_cpp_python-k/whole.whl"
