"""The llama.cpp that this machine gets: chosen by what is here, built once from the source package, and kept.

    RIGBENCH_LLAMA_BUILD=cpu scripts/quickstart          # cpu, cuda or metal in place of what is found
    CMAKE_ARGS=-DGGML_VULKAN=on scripts/quickstart       # more of llama.cpp's own options; they come last

pip keeps wheels that it built too, but by name and version alone: it would hand a CPU build to a machine that has got a
GPU since. So pip's cache is passed by, and the wheel is kept under a name that holds all that went into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
KINDS = ("cpu", "cuda", "metal")
MINUTES = {"cpu": "1 to 5 minutes", "cuda": "5 to 30 minutes", "metal": "1 to 4 minutes"}
NAMES = {"cpu": "the CPU", "cuda": "CUDA", "metal": "Metal"}


class SetupError(Exception):
    """One sentence: what is missing, and the command that mends it."""


@dataclass(frozen=True, slots=True)
class Build:
    """What is built: `kind` is cpu, cuda or metal; `reason` is the sentence that says so to people."""

    kind: str
    cmake_args: tuple[str, ...]
    reason: str


def choose_build(system: str, wanted: str | None, nvcc: str | None, gpus: tuple[str, ...] | None) -> Build:
    """`gpus` are compute capabilities ("8.9", or "" where the driver does not tell), None where no NVIDIA GPU answers.

    Raises SetupError where `wanted` (RIGBENCH_LLAMA_BUILD) is unknown or cannot be had.
    """
    base: tuple[str, ...] = (
        "-DGGML_NATIVE=ON",
        "-DGGML_RPC=ON",
        f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={(SCRIPTS / 'engine_only.cmake').as_posix()}",
    )
    if wanted is not None and wanted not in KINDS:
        raise SetupError(
            f"RIGBENCH_LLAMA_BUILD={wanted} is not one of {', '.join(KINDS)}: set one of them, or unset it."
        )
    if wanted == "metal" and system != "Darwin":
        raise SetupError("RIGBENCH_LLAMA_BUILD=metal needs a Mac: unset it.")
    if wanted == "cuda" and nvcc is None:
        raise SetupError(f"RIGBENCH_LLAMA_BUILD=cuda needs nvcc: {cuda_mend(system)}")
    if wanted is not None:
        kind, reason = wanted, "as RIGBENCH_LLAMA_BUILD asks"
    elif system == "Darwin":
        kind, reason = "metal", "this is a Mac"
    elif nvcc and gpus:
        kind, reason = "cuda", "nvcc and an NVIDIA GPU are here"
    elif nvcc:
        kind, reason = "cpu", "nvcc is here, but no NVIDIA GPU answers"
    elif gpus:
        kind, reason = "cpu", f"an NVIDIA GPU is here, but nvcc is not; to measure the GPU, {cuda_mend(system)}"
    else:
        kind, reason = "cpu", "there is no NVIDIA GPU here"
    if kind == "cuda":
        base += ("-DGGML_CUDA=ON", *cuda_architectures(gpus or ()))
    if kind == "cpu" and system == "Darwin":
        base += ("-DRIGBENCH_NO_METAL=ON",)
    return Build(kind, base, f"llama.cpp is built for {NAMES[kind]}: {reason.rstrip('.')}.")


def cuda_architectures(gpus: tuple[str, ...]) -> tuple[str, ...]:
    """The code for the GPUs that are here alone: ("8.9", "12.0") -> -DCMAKE_CUDA_ARCHITECTURES=89-real;120-real.

    Not `native`, which CMake knows only since 3.24. Where the driver does not tell, llama.cpp's own choice holds.
    """
    if not gpus or "" in gpus:
        return ()
    codes = sorted({gpu.replace(".", "") for gpu in gpus}, key=int)
    return ("-DCMAKE_CUDA_ARCHITECTURES=" + ";".join(f"{code}-real" for code in codes),)


def cuda_mend(system: str) -> str:
    """How nvcc is had."""
    if system == "Windows":
        return "install the CUDA toolkit (winget install Nvidia.CUDA) and run this again."
    return "install the CUDA toolkit (from NVIDIA, or your distribution's nvidia-cuda-toolkit) and run this again."


def find_nvcc() -> str | None:
    """nvcc on PATH, or where its installers put it."""
    folders = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    folders += [f"{os.environ[name]}/bin/nvcc" for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    candidates = [*filter(None, folders), "/usr/local/cuda/bin/nvcc"]
    return next((found for name in candidates if (found := shutil.which(name))), None)


def nvidia_gpus() -> tuple[str, ...] | None:
    """Compute capability of each NVIDIA GPU whose driver answers; None where none does."""
    for field in ("compute_cap", "name"):  # drivers before 2021 do not know the first
        text = answer(["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"])
        if text:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return tuple(line if re.fullmatch(r"\d+\.\d+", line) else "" for line in lines)
    driver = Path("/proc/driver/nvidia/gpus")
    return (tuple("" for _ in driver.iterdir()) or None) if driver.is_dir() else None


def answer(command: list[str]) -> str | None:
    """What `command` prints; None where it is not there, fails, or takes longer than 20 s."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def compiler_problem(
    system: str, cxx: str | None, which: Callable[[str], str | None], asks: Callable[[list[str]], str | None]
) -> str | None:
    """The sentence for a machine without a C++ compiler, None where there is one. `cxx` is what CXX holds."""
    if cxx:
        program = shlex.split(cxx)[0]
        return (
            None
            if which(program)
            else f"CXX names {program}, which is not here: unset CXX or install it, and run this again."
        )
    if system == "Windows":
        programs = os.environ.get("PROGRAMFILES(X86)", "C:/Program Files (x86)")
        installer = f"{programs}/Microsoft Visual Studio/Installer/vswhere.exe"
        tools = [
            "-latest",
            "-products",
            "*",
            "-requires",
            "Microsoft.VisualStudio.Component.VC.Tools.*",
            "-property",
            "installationPath",
        ]
        if which("cl") or (asks([installer, *tools]) or "").strip():
            return None
        return (
            "There is no C++ compiler here: install Visual Studio's Build Tools with 'Desktop development with C++' "
            '(winget install Microsoft.VisualStudio.2022.BuildTools --override "--passive --add '
            'Microsoft.VisualStudio.Workload.VCTools --includeRecommended") and run this again.'
        )
    if system == "Darwin":
        if asks(["xcode-select", "-p"]):
            return None
        return "There is no C++ compiler here: run xcode-select --install, and then this again."
    if any(which(name) for name in ("c++", "g++", "clang++")):
        return None
    commands = {
        "apt-get": "sudo apt install build-essential",
        "dnf": "sudo dnf install gcc-c++",
        "pacman": "sudo pacman -S base-devel",
        "zypper": "sudo zypper install gcc-c++",
        "apk": "apk add build-base linux-headers",
    }
    mend = next((command for manager, command in commands.items() if which(manager)), "install g++ or clang++")
    return f"There is no C++ compiler here: {mend}, and run this again."


@dataclass(frozen=True, slots=True)
class Plan:
    """A build, what its compilation reads from the environment, and the name under which its wheel is kept."""

    build: Build
    environment: dict[str, str]
    key: str


def plan(version: str) -> Plan:
    """What this machine gets of llama-cpp-python `version`."""
    nvcc = find_nvcc()
    gpus = None if platform.system() == "Darwin" else nvidia_gpus()
    build = choose_build(platform.system(), os.environ.get("RIGBENCH_LLAMA_BUILD") or None, nvcc, gpus)
    return Plan(build, build_environment(build, nvcc), build_key(version, build, nvcc))


def missing_compiler() -> str | None:
    """See `compiler_problem`, of this machine."""
    return compiler_problem(platform.system(), os.environ.get("CXX"), shutil.which, answer)


def build_environment(build: Build, nvcc: str | None) -> dict[str, str]:
    """What the build reads from the environment; the user's own CMAKE_ARGS come last and win."""
    own = os.environ.get("CMAKE_ARGS", "")
    arguments = " ".join([*(shlex.quote(argument) for argument in build.cmake_args), own]).strip()
    environment = {"CMAKE_ARGS": arguments}
    if "CMAKE_BUILD_PARALLEL_LEVEL" not in os.environ:
        environment["CMAKE_BUILD_PARALLEL_LEVEL"] = str(os.cpu_count() or 1)
    if build.kind == "cuda" and nvcc:
        environment["CUDACXX"] = nvcc
    return environment


def processor() -> str:
    """The CPU with its instruction sets: a build for this one may not run on another."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        return "\n".join(
            sorted({line for line in lines if re.match(r"(model name|flags|Features|CPU part)\s*:", line)})
        )
    return answer(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()


def build_key(version: str, build: Build, nvcc: str | None) -> str:
    """Names a build by all that goes into it: version, options, processor, compilers."""
    own = {name: os.environ.get(name, "") for name in ("CMAKE_ARGS", "CXX", "CC", "CFLAGS", "CXXFLAGS")}
    cuda = answer([nvcc, "--version"]) if nvcc and build.kind == "cuda" else None
    options = [argument.replace(SCRIPTS.as_posix(), "") for argument in build.cmake_args]
    recipe = (SCRIPTS / "engine_only.cmake").read_text(encoding="utf-8")
    content = [version, build.kind, options, recipe, own, cuda, platform.system(), platform.machine(), processor()]
    return f"{version}-{build.kind}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"


def wheel_folder(key: str) -> Path:
    """Where the wheel of `key` is kept: the user's cache folder, or RIGBENCH_CACHE."""
    if os.environ.get("RIGBENCH_CACHE"):
        cache = Path(os.environ["RIGBENCH_CACHE"]).expanduser()
    elif sys.platform == "darwin":
        cache = Path.home() / "Library/Caches/rigbench"
    elif os.name == "nt":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "rigbench/Cache"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rigbench"
    return cache / "wheels" / f"llama_cpp_python-{key}"


def kept_wheel(key: str) -> Path | None:
    """The wheel that was built before for `key`, if any."""
    return next(iter(sorted(wheel_folder(key).glob("*.whl"))), None)


@contextlib.contextmanager
def keeping_wheel(key: str) -> Iterator[Path]:
    """A folder to build into, which becomes the one of `key` when the block has ended well, and else is removed."""
    folder = wheel_folder(key)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
