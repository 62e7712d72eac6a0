"""Which llama.cpp a machine gets, in what order builds are tried, and when one that was built before may be used again."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rigbench.telemetry.adapters import Adapter

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

RTX = Adapter("nvidia", "NVIDIA GeForce RTX 4090", False)
RADEON = Adapter("amd", "Radeon RX 7900 XTX", False)
STRIX_HALO = Adapter("amd", "AMD Strix Halo [Radeon 8060S]", True)
ARC = Adapter("intel", "Intel Arc B580", False)
UHD = Adapter("intel", "Intel UHD Graphics 770", True)
NO_NVCC = "nvcc is not here: install the CUDA toolkit, then run this again."
OLD_DRIVER = "NVIDIA GeForce RTX 4090: the NVIDIA driver 470 is too old: update it to 580 or newer, and run this again."
OLD_CARD = "NVIDIA GeForce RTX 4090 needs the CUDA toolkit 12.9, and here is nvcc 13.0 of this system: install it."
NEW_GCC = "GCC 15 is the newest that nvcc 13.0 takes, and here is GCC 16: sudo apt install g++-15, and run this again."
NO_VULKAN = "Vulkan's headers are not: sudo apt install libvulkan-dev glslc, then run this again."


@pytest.fixture
def engine_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    import engine_build

    yield engine_build
    for name in ("engine_build", "toolchain"):
        sys.modules.pop(name, None)


def choose(
    engine_build: ModuleType,
    system: str = "Linux",
    kind_set: str | None = None,
    gpus: tuple[Adapter, ...] = (),
    cuda: str | None = None,
    vulkan: str = NO_VULKAN,
    hip: str = "hipcc is not here",
) -> Any:
    """A text with "builds" in it is what builds, every other one the sentence why nothing does."""

    def tools(text: str | None) -> Any:
        return engine_build.Toolchain(text, text, ("-DGPU=ON",)) if text and " builds " in text else text

    return engine_build.choose_build(
        system, kind_set, gpus, lambda: tools(cuda), lambda: tools(vulkan), lambda: tools(hip)
    )


NVCC, SDK, HIPCC = "nvcc 13.0 builds for 8.9", "glslc 2024 builds shaders", "hipcc 6.4 builds for gfx1100"


@pytest.mark.parametrize(
    ("system", "gpus", "cuda", "vulkan", "kind", "reason"),
    [
        ("Linux", (), None, SDK, "cpu", "llama.cpp is built for the CPU: no GPU that llama.cpp could use is here."),
        ("Linux", (RTX,), NVCC, SDK, "cuda", f"llama.cpp is built for CUDA: {NVCC}."),
        ("Linux", (STRIX_HALO, RTX), NVCC, SDK, "cuda", f"llama.cpp is built for CUDA: {NVCC}."),
        ("Linux", (), NVCC, SDK, "cuda", f"llama.cpp is built for CUDA: {NVCC}."),  # a driver without a PCI bus
        *(
            ("Linux", (RTX,), problem, SDK, "cpu", f"An NVIDIA GPU (NVIDIA GeForce RTX 4090) is here, but {problem}")
            for problem in (NO_NVCC, NEW_GCC)
        ),
        *(
            ("Linux", (RTX,), problem, SDK, "cpu", f"llama.cpp is built for the CPU. {problem}")
            for problem in (OLD_DRIVER, OLD_CARD)  # which name the card themselves
        ),
        ("Linux", (RTX,), None, SDK, "cpu", "(NVIDIA GeForce RTX 4090) is here, but no driver answers (nvidia-smi)"),
        ("Linux", (RADEON,), None, SDK, "vulkan", f"An AMD GPU (Radeon RX 7900 XTX) is here, and {SDK}."),
        ("Linux", (RADEON,), None, NO_VULKAN, "cpu", f"An AMD GPU (Radeon RX 7900 XTX) is here, but {NO_VULKAN}"),
        ("Linux", (STRIX_HALO,), None, SDK, "vulkan", "(AMD Strix Halo [Radeon 8060S])"),
        ("Windows", (UHD, ARC), None, SDK, "vulkan", f"An Intel GPU (Intel Arc B580) is here, and {SDK}."),
        ("Windows", (ARC,), None, NO_VULKAN, "cpu", f"An Intel GPU (Intel Arc B580) is here, but {NO_VULKAN}"),
        ("Linux", (UHD,), None, SDK, "cpu", "no GPU that llama.cpp could use is here"),
        ("Darwin", (), None, SDK, "metal", "llama.cpp is built for Metal: this is a Mac."),
    ],
)
def test_choice(
    engine_build: ModuleType,
    system: str,
    gpus: tuple[Adapter, ...],
    cuda: str | None,
    vulkan: str,
    kind: str,
    reason: str,
) -> None:
    choice = choose(engine_build, system, None, gpus, cuda, vulkan)
    assert choice.kind == kind and not choice.required
    assert reason.lower() in choice.reason.lower() and choice.reason.endswith(".") and ".." not in choice.reason
    assert choice.unused_gpu == (kind == "cpu" and "built for the CPU:" not in choice.reason)
    assert (choice.toolchain is None) == (kind in ("cpu", "metal"))


@pytest.mark.parametrize(
    ("system", "kind_set", "kind", "reason"),
    [
        ("Linux", "cpu", "cpu", "llama.cpp is built for the CPU: as RIGBENCH_LLAMA_BUILD asks."),
        ("Darwin", "cpu", "cpu", "as RIGBENCH_LLAMA_BUILD asks."),
        ("Darwin", "metal", "metal", "as RIGBENCH_LLAMA_BUILD asks."),
        ("Linux", "vulkan", "vulkan", f"llama.cpp is built for Vulkan: as RIGBENCH_LLAMA_BUILD asks; {SDK}."),
        ("Linux", "hip", "hip", f"llama.cpp is built for ROCm (HIP): as RIGBENCH_LLAMA_BUILD asks; {HIPCC}."),
    ],
)
def test_what_is_asked_for_is_had(engine_build: ModuleType, system: str, kind_set: str, kind: str, reason: str) -> None:
    choice = choose(engine_build, system, kind_set, (RTX,), NO_NVCC, SDK, HIPCC)
    assert choice.kind == kind and choice.required and reason in choice.reason and not choice.unused_gpu


@pytest.mark.parametrize(
    ("system", "kind_set", "cuda", "says"),
    [
        ("Linux", "rocm", None, "RIGBENCH_LLAMA_BUILD=rocm is not one of cpu, cuda, metal, vulkan, hip: set one"),
        ("Linux", "metal", None, "needs a Mac"),
        ("Linux", "cuda", NO_NVCC, f"RIGBENCH_LLAMA_BUILD=cuda: {NO_NVCC}"),
        ("Linux", "cuda", OLD_CARD, f"RIGBENCH_LLAMA_BUILD=cuda: {OLD_CARD}"),
        ("Linux", "cuda", None, "RIGBENCH_LLAMA_BUILD=cuda: no NVIDIA driver answers (nvidia-smi)"),
        ("Linux", "vulkan", None, f"RIGBENCH_LLAMA_BUILD=vulkan: {NO_VULKAN}"),
        ("Linux", "hip", None, "RIGBENCH_LLAMA_BUILD=hip: hipcc is not here"),
    ],
)
def test_impossible_choice(engine_build: ModuleType, system: str, kind_set: str, cuda: str | None, says: str) -> None:
    with pytest.raises(engine_build.SetupError) as error:
        choose(engine_build, system, kind_set, (RADEON,), cuda)
    assert says in str(error.value)


def test_rocm_is_asked_where_its_compiler_is(engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_build.shutil, "which", lambda name: None)
    assert "hipcc is not here: install ROCm" in engine_build.hip_here()
    answers = {"--version": "6.4.1\n", "--hipclangpath": "/opt/rocm/llvm/bin\n", "--rocmpath": "/opt/rocm\n"}
    monkeypatch.setattr(engine_build.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(engine_build, "answer", lambda command: answers[command[1]])
    tools = engine_build.hip_here()
    assert tools.cmake_args == ("-DGGML_HIP=ON",) and tools.reason == "hipcc 6.4.1 of this system"
    assert tools.environment == {"HIPCXX": "/opt/rocm/llvm/bin/clang", "HIP_PATH": "/opt/rocm"}


AMX = ("-mno-amx-tile", "-mno-amx-int8")


@pytest.mark.parametrize(
    ("gcc", "amx", "levels"),
    [
        (14, True, ["native", "no-amx", "portable"]),
        (13, True, ["native", "no-amx", "portable"]),
        (12, True, ["no-amx", "portable"]),
        (12, False, ["native", "portable"]),
        (None, True, ["native", "no-amx", "portable"]),  # Clang
    ],
)
def test_gcc_12_makes_no_amx(engine_build: ModuleType, gcc: int | None, amx: bool, levels: list[str]) -> None:
    compiler = engine_build.Compiler("a compiler", gcc, amx, AMX if amx else ())
    plan = engine_build.plan_builds("1.0", choose(engine_build), "Linux", compiler)
    assert [build.level for build in plan.builds] == levels
    assert ("AMX is left out, which GCC 12 compiles wrongly." in plan.choice.reason) == (levels[0] == "no-amx")
    for build in plan.builds:
        assert ("-DCMAKE_CXX_FLAGS=-mno-amx-tile -mno-amx-int8" in build.cmake_args) == (build.level == "no-amx")
        assert ("-DGGML_NATIVE=ON" in build.cmake_args) == (build.level != "portable")
        assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF"} <= {
            *build.cmake_args
        } or build.level != "portable"
    assert len({*plan.keys}) == len(levels)


def test_a_gpu_build_is_followed_by_the_cpu_unless_it_was_asked_for(engine_build: ModuleType) -> None:
    compiler = engine_build.Compiler("GCC 12.2.0", 12, True, AMX)
    plan = engine_build.plan_builds("1.0", choose(engine_build, gpus=(RADEON,), vulkan=SDK), "Linux", compiler)
    assert [(build.kind, build.level) for build in plan.builds] == [
        ("vulkan", "no-amx"),
        ("cpu", "no-amx"),
        ("cpu", "portable"),
    ]
    assert ["-DGPU=ON" in build.cmake_args for build in plan.builds] == [True, False, False]
    plan = engine_build.plan_builds("1.0", choose(engine_build, kind_set="vulkan", vulkan=SDK), "Linux", compiler)
    assert [build.kind for build in plan.builds] == ["vulkan"]
    plan = engine_build.plan_builds("1.0", choose(engine_build, "Darwin"), "Darwin", engine_build.Compiler())
    assert ["-DRIGBENCH_NO_METAL=ON" in build.cmake_args for build in plan.builds] == [False, True, True]


def test_flags_of_the_users_own_stay_beside_those_against_amx(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-g")
    compiler = engine_build.Compiler("GCC 12.2.0", 12, True, AMX)
    build = engine_build.plan_builds("1.0", choose(engine_build), "Linux", compiler).builds[0]
    assert "-DCMAKE_C_FLAGS=-g -mno-amx-tile -mno-amx-int8" in build.cmake_args


SAPPHIRE_RAPIDS = '#define __GNUC__ 12\n#define __AMX_INT8__ 1\n#define __VERSION__ "12.2.0"\n'


@pytest.mark.parametrize(
    ("macros", "compiler"),
    [
        (SAPPHIRE_RAPIDS, ("GCC 12.2.0", 12, True, AMX)),
        (SAPPHIRE_RAPIDS.replace("__AMX_INT8__", "__SSE2__"), ("GCC 12.2.0", 12, False, ())),
        (
            '#define __GNUC__ 4\n#define __clang__ 1\n#define __AMX_INT8__ 1\n#define __VERSION__ "Clang 18"\n',
            ("Clang 18", None, True, AMX),
        ),
        (None, ("", None, False, ())),
    ],
)
def test_what_the_compiler_says_of_itself(engine_build: ModuleType, macros: str | None, compiler: Any) -> None:
    def asks(command: list[str]) -> str | None:
        if "-dM" in command:
            return macros
        return "" if {*command} & {*AMX} else None  # it does not know bf16 and fp16

    assert engine_build.compiler_here({}, asks) == engine_build.Compiler(*compiler)


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is asked")
def test_the_real_compiler_says_its_version(engine_build: ModuleType) -> None:
    major = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=True).stdout.split(".")[0]
    compiler = engine_build.compiler_here({"CXX": "g++ -O2"})
    assert compiler.gcc == int(major) and compiler.name.startswith(f"GCC {int(major)}.")


@pytest.mark.parametrize(
    ("system", "there", "answer", "cxx", "says"),
    [
        ("Linux", {"g++"}, None, None, None),
        ("Linux", {"clang++"}, None, None, None),
        ("Linux", {"apt-get"}, None, None, "There is no C++ compiler here: sudo apt install build-essential, and"),
        ("Linux", {"dnf"}, None, None, "sudo dnf install gcc-c++, and"),
        ("Linux", set(), None, None, "install g++ or clang++, and"),
        ("Linux", {"g++"}, None, "icpx -O2", "CXX names icpx, which is not here"),
        ("Linux", {"icpx"}, None, "icpx -O2", None),
        ("Darwin", {"c++"}, None, None, "xcode-select --install"),  # a Mac has a c++ that only says it is missing
        ("Darwin", {"c++"}, "/Library/Developer/CommandLineTools/usr/bin/clang++\n", None, None),
        ("Windows", set(), None, None, "Microsoft.VisualStudio.2022.BuildTools"),
        ("Windows", set(), "\n", None, "Microsoft.VisualStudio.2022.BuildTools"),
        ("Windows", set(), "C:\\VS\n", None, None),
        ("Windows", {"cl"}, None, None, None),
    ],
)
def test_compiler(
    engine_build: ModuleType, system: str, there: set[str], answer: str | None, cxx: str | None, says: str | None
) -> None:
    problem = engine_build.compiler_problem(
        system, cxx, lambda name: f"/bin/{name}" if name in there else None, lambda command: answer
    )
    assert (problem is None) == (says is None)
    if says is not None:
        assert says in problem and "\n" not in problem


@pytest.mark.parametrize(
    ("machine", "translated", "refused"),
    [("x86_64", "1\n", True), ("x86_64", None, False), ("x86_64", "0\n", False), ("arm64", "0\n", False)],
)
def test_a_python_under_rosetta_is_refused(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch, machine: str, translated: str | None, refused: bool
) -> None:
    monkeypatch.setattr(engine_build.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(engine_build.platform, "machine", lambda: machine)
    answers = {"sysctl.proc_translated": translated}
    monkeypatch.setattr(engine_build, "answer", lambda command: answers.get(command[-1]))
    if refused:
        with pytest.raises(engine_build.SetupError, match=r"runs under Rosetta.*: use an arm64 Python"):
            engine_build.plan("1.0")
    else:
        assert engine_build.plan("1.0").choice.kind == "metal"


@pytest.mark.parametrize(
    ("temp", "long_paths", "short"),
    [
        (r"C:\Users\bob\AppData\Local\Temp", False, r"C:\rb"),  # 31 + 248 = 279
        (r"D:\a folder\Temp", False, r"D:\rb"),
        (r"C:\Users\bob\AppData\Local\Temp", True, None),
        (r"C:\12345678", False, None),  # 11 + 248 = 259, which is allowed
        (r"C:\123456789", False, r"C:\rb"),
        (r"\\server\profiles\bob", False, r"C:\rb"),
    ],
)
def test_windows_unpacks_in_a_short_folder(
    engine_build: ModuleType, temp: str, long_paths: bool, short: str | None
) -> None:
    assert engine_build.short_temp(temp, long_paths) == short


def test_windows_compiles_cuda_by_ninja_or_says_the_order(engine_build: ModuleType) -> None:
    assert engine_build.windows_cuda_generator(cl=True, integration=False) == {"CMAKE_GENERATOR": "Ninja"}
    assert engine_build.windows_cuda_generator(cl=False, integration=True) == {}
    with pytest.raises(engine_build.SetupError, match=r"Visual Studio does not know CUDA here.*: install CUDA again"):
        engine_build.windows_cuda_generator(cl=False, integration=False)


def test_own_cmake_options_come_last(engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_VULKAN=on -DX='a b'")
    tools = engine_build.Toolchain("r", "i", environment={"CUDACXX": "{packages}/bin/nvcc"}, packages=("cuda",))
    build = engine_build.Build("cuda", "native", ("-DP=/a folder/x;y", "-DI={packages}/include"), toolchain=tools)
    environment = engine_build.build_environment(build, Path("/cache/tools"))
    words = shlex.split(environment["CMAKE_ARGS"])
    assert words == ["-DP=/a folder/x;y", "-DI=/cache/tools/include", "-DGGML_VULKAN=on", "-DX=a b"]
    assert environment["CUDACXX"] == "/cache/tools/bin/nvcc"


def test_a_wheel_is_used_again_for_the_same_build_only(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz"
    monkeypatch.setattr(engine_build, "processor", lambda: (model, f"{model}, amx_tile"))
    build = engine_build.Build("cpu", "native", ("-DA=1",))

    def key(version: str = "1.0", build: Any = build) -> str:
        return str(engine_build.build_key(version, build))

    first = key()
    assert first.startswith("1.0-cpu-intel-xeon-platinum-8488c-")
    assert key() == first
    assert key("1.1") != first
    assert key(build=replace(build, cmake_args=("-DA=2",))) != first
    assert key(build=replace(build, level="portable")).startswith("1.0-cpu-portable-intel-xeon")
    tools = engine_build.Toolchain("said otherwise", "nvcc 12.9")
    with_tools = key(build=replace(build, toolchain=tools))
    assert with_tools != first
    assert key(build=replace(build, toolchain=replace(tools, reason="said anew"))) == with_tools
    assert key(build=replace(build, toolchain=replace(tools, identity="nvcc 13.0"))) != with_tools
    monkeypatch.setattr(engine_build, "processor", lambda: (model, f"{model}, another instruction set"))
    assert key() != first
    monkeypatch.setattr(engine_build, "processor", lambda: ("AMD Ryzen 9 7950X 16-Core Processor", "flags"))
    assert key().startswith("1.0-cpu-amd-ryzen-9-7950x-")


def test_own_options_are_part_of_the_name(engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    build = engine_build.Build("cpu", "native", ())
    first = engine_build.build_key("1.0", build)
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_VULKAN=on")
    assert engine_build.build_key("1.0", build) != first


def test_tools_from_packages_are_fetched_once(
    engine_build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    tools = engine_build.Toolchain("r", "i", ("-DROOT={packages}",), packages=("cuda-toolkit[nvcc]==13.0",))
    build = engine_build.Build("cuda", "native", tools.cmake_args, "k", tools)
    commands = []

    def run(title: str, command: list[str], log: Path, environment: dict[str, str], fix: str) -> None:
        commands.append(command)
        if "--target" in command:
            Path(command[command.index("--target") + 1]).mkdir(parents=True)
        else:
            assert environment["CMAKE_ARGS"] == f"-DROOT={engine_build.packages_folder(build).as_posix()}"
            assert engine_build.packages_folder(build).is_dir()
            (Path(command[command.index("--wheel-dir") + 1]) / "a.whl").touch()

    for _ in range(2):
        engine_build.fetch_tools(["pip"], build, tmp_path / "log", run, {})
        engine_build.build_wheel(["pip"], "1.0", build, tmp_path / "log", run, {})
    assert ["--target" in command for command in commands] == [True, False, False]
    assert commands[0][-1] == "cuda-toolkit[nvcc]==13.0"


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


def test_a_plan_is_made_before_anything_is_installed() -> None:
    """In an interpreter with the standard library alone."""
    code = (
        f"import sys; sys.path[:0] = [{str(SCRIPTS)!r}]; import engine_build; print(engine_build.plan('1').choice.kind)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() in ("cpu", "cuda", "vulkan", "metal"), done.stderr
