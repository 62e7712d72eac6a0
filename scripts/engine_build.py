"""The llama.cpp that this machine gets: chosen by what is here, built once from the source package, proved, and kept.

    RIGBENCH_LLAMA_BUILD=cpu scripts/quickstart          # cpu, cuda, metal, vulkan or hip in place of what is here
    CMAKE_ARGS=-DGGML_BLAS=on scripts/quickstart         # more of llama.cpp's own options; they come last

pip keeps wheels that it built too, but by name and version alone: it would hand a CPU build to a machine that has got a
GPU since. So pip's cache is passed by, and the wheel is kept under a name that holds all that went into it.

A build that compiles may still crash: a compiler's fault, or an instruction that the processor lists and a virtual machine does
not give. So scripts/prove_engine.py computes with each build after it is installed, and where it does not, the next more
cautious one follows: for the GPU, for this processor, without AMX, without native instructions.
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
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from commands import SetupError, answer
from toolchain import Toolchain

SCRIPTS = Path(__file__).resolve().parent
PACKAGE = "llama-cpp-python"
PROVE = SCRIPTS / "prove_engine.py"
PROOF_LIMIT_S = 120
GPU_PROOF_LIMIT_S = 900
"""A driver compiles its shaders when they are first used: on Mesa's software device for minutes."""
RECORD = "rigbench-build.json"
"""Beside the installed llama_cpp: how it was built, for the result document."""
REFUSED = "refused.txt"
KINDS = ("cpu", "cuda", "metal", "vulkan", "hip")
MINUTES = {
    "cpu": "1 to 5 minutes",
    "cuda": "5 to 30 minutes",
    "metal": "1 to 4 minutes",
    "vulkan": "3 to 15 minutes",
    "hip": "5 to 40 minutes",
}
NAMES = {"cpu": "the CPU", "cuda": "CUDA", "metal": "Metal", "vulkan": "Vulkan", "hip": "ROCm (HIP)"}
NO_NVIDIA_DRIVER = "answers (nvidia-smi): install NVIDIA's driver, then run this again"
VENDORS = {"nvidia": "an NVIDIA", "amd": "an AMD", "intel": "an Intel", "apple": "an Apple"}
LEVELS = {"native": "for this processor", "no-amx": "without AMX", "portable": "without native instructions"}
PORTABLE = ("-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=OFF" for name in ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")))
"""With GGML_NATIVE=OFF alone llama.cpp takes a processor with AVX2 for granted."""
AMX_FLAGS = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16", "-mno-amx-fp16")
GCC_WITH_SOUND_AMX = 13
"""Before, `_tile_loadconfig` names 8 of the 64 bytes that ldtilecfg reads as its input: the compiler drops the stores of the other
56, and the instruction faults on what the stack happens to hold (llama.cpp #20824)."""
SDIST_DEPTH = 248
"""Characters that pip's folders and the longest path in llama-cpp-python's source package add to the folder for temporary files:
1 + 18 (pip-wheel-...) + 1 + 49 (llama-cpp-python_...) + 1 + 178."""
WINDOWS_PATH_LIMIT = 259


@dataclass(frozen=True, slots=True)
class Choice:
    """What is built for. `reason` is the sentence that says so. `required`: asked for, so that nothing else will do.
    `unused_gpu`: a GPU is here that this build does not use."""

    kind: str
    reason: str
    toolchain: Toolchain | None = None
    required: bool = False
    unused_gpu: bool = False


def choose_build(
    system: str,
    wanted_kind: str | None,
    gpus: Sequence[Any],
    cuda: Callable[[], Toolchain | str | None],
    vulkan: Callable[[], Toolchain | str],
    hip: Callable[[], Toolchain | str],
) -> Choice:
    """`gpus` are what the system shows (rigbench.telemetry.adapters). `cuda`, `vulkan` and `hip` give what builds for them, or the
    sentence why nothing does; `cuda` None where no NVIDIA driver answers.

    Raises SetupError where `wanted_kind` (RIGBENCH_LLAMA_BUILD) is unknown or cannot be had.
    """
    if wanted_kind is not None and wanted_kind not in KINDS:
        raise SetupError(
            f"RIGBENCH_LLAMA_BUILD={wanted_kind} is not one of {', '.join(KINDS)}: set one of them, or unset it."
        )
    if wanted_kind == "metal" and system != "Darwin":
        raise SetupError("RIGBENCH_LLAMA_BUILD=metal needs a Mac: unset it.")
    if wanted_kind in ("cpu", "metal"):
        return _choice(wanted_kind, "as RIGBENCH_LLAMA_BUILD asks", required=True)
    if wanted_kind is not None:
        tools = {"cuda": cuda, "vulkan": vulkan, "hip": hip}[wanted_kind]()
        if not isinstance(tools, Toolchain):
            raise SetupError(
                f"RIGBENCH_LLAMA_BUILD={wanted_kind}: {_plain(tools or f'no NVIDIA driver {NO_NVIDIA_DRIVER}')}."
            )
        return _choice(wanted_kind, f"as RIGBENCH_LLAMA_BUILD asks; {tools.reason}", tools, required=True)
    if system == "Darwin":
        return _choice("metal", "this is a Mac")
    worth = [gpu for gpu in gpus if gpu.worth_using]
    nvidia = next((gpu for gpu in worth if gpu.vendor == "nvidia"), None)
    other = next((gpu for gpu in worth if gpu.vendor in ("amd", "intel")), None)
    tools = cuda() if nvidia or not other else None
    if isinstance(tools, Toolchain):
        return _choice("cuda", tools.reason, tools)
    if nvidia or tools:
        return _unused(nvidia, tools or f"no driver {NO_NVIDIA_DRIVER}")
    if other is None:
        return _choice("cpu", "no GPU that llama.cpp could use is here")
    tools = vulkan()
    if isinstance(tools, Toolchain):
        return _choice("vulkan", f"{VENDORS[other.vendor]} GPU ({other.name}) is here, and {tools.reason}", tools)
    return _unused(other, tools)


def _choice(kind: str, reason: str, toolchain: Toolchain | None = None, required: bool = False) -> Choice:
    return Choice(kind, f"llama.cpp is built for {NAMES[kind]}: {_plain(reason)}.", toolchain, required)


def _unused(gpu: Any, problem: str) -> Choice:
    name = f"{VENDORS[gpu.vendor]} GPU ({gpu.name})" if gpu else "an NVIDIA GPU"
    here = "" if gpu and gpu.name in problem else f"{name[0].upper()}{name[1:]} is here, but "
    return Choice("cpu", f"llama.cpp is built for the CPU. {here}{_plain(problem)}.", unused_gpu=True)


def _plain(sentence: str) -> str:
    return sentence.strip().rstrip(".")


def hip_here() -> Toolchain | str:
    """AMD's ROCm, which is used by request alone: it knows fewer cards than Vulkan, and takes longer."""
    hipcc = shutil.which("hipcc") or shutil.which("/opt/rocm/bin/hipcc")
    hipconfig = shutil.which("hipconfig") or shutil.which("/opt/rocm/bin/hipconfig")
    if not hipcc or not hipconfig:
        return "hipcc is not here: install ROCm's HIP SDK (hipcc, hipblas-dev), then run this again"
    version, clang, root = (
        (answer([hipconfig, option]) or "").strip() for option in ("--version", "--hipclangpath", "--rocmpath")
    )
    environment = {"HIPCXX": f"{clang}/clang", "HIP_PATH": root} if clang and root else {}
    return Toolchain(f"hipcc {version} of this system", f"hip {version}", ("-DGGML_HIP=ON",), environment)


@dataclass(frozen=True, slots=True)
class Compiler:
    """The C++ compiler that CMake will take. `amx`: it makes AMX instructions for this processor, unless it gets `no_amx`."""

    name: str = ""
    gcc: int | None = None
    amx: bool = False
    no_amx: tuple[str, ...] = ()


def compiler_here(environment: dict[str, str], asks: Callable[[list[str]], str | None] = answer) -> Compiler:
    """What the compiler says of itself and of this processor; nothing known of Visual Studio's, which has no AMX."""
    for words in [shlex.split(environment["CXX"])] if environment.get("CXX") else [["c++"], ["g++"], ["clang++"]]:
        question = [*words, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
        text = asks(question) or asks([word for word in question if word != "-march=native"])
        if text:
            macros = dict(re.findall(r"^#define (\w+) (.*)$", text, re.MULTILINE))
            clang = "__clang__" in macros
            gcc = int(macros["__GNUC__"]) if "__GNUC__" in macros and not clang else None
            version = macros.get("__VERSION__", "").strip('"')  # Clang's holds its name
            name = version if clang else f"GCC {version}"
            amx = "__AMX_INT8__" in macros
            known = [
                flag for flag in AMX_FLAGS if amx and asks([*words, flag, "-E", "-x", "c++", os.devnull]) is not None
            ]
            return Compiler(name, gcc, amx, tuple(known))
    return Compiler()


def compiler_problem(
    system: str, cxx: str | None, which: Callable[[str], str | None], asks: Callable[[list[str]], str | None]
) -> str | None:
    """The sentence for a machine without a C++ compiler, None where there is one. `cxx` is what CXX holds."""
    if cxx:
        program = shlex.split(cxx)[0]
        fix = "unset CXX or install it, and run this again"
        return None if which(program) else f"CXX names {program}, which is not here: {fix}."
    if system == "Windows":
        programs = os.environ.get("PROGRAMFILES(X86)", "C:/Program Files (x86)")
        installer = f"{programs}/Microsoft Visual Studio/Installer/vswhere.exe"
        requires = "Microsoft.VisualStudio.Component.VC.Tools.*"
        question = f"-latest -products * -requires {requires} -property installationPath".split()
        if which("cl") or (asks([installer, *question]) or "").strip():
            return None
        return (
            "There is no C++ compiler here: install Visual Studio's Build Tools with 'Desktop development with C++' "
            '(winget install Microsoft.VisualStudio.2022.BuildTools --override "--passive --add '
            'Microsoft.VisualStudio.Workload.VCTools --includeRecommended") and run this again.'
        )
    if system == "Darwin":
        if asks(["xcrun", "--find", "clang++"]):  # xcode-select prints its path also where an upgrade broke the tools
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
    fix = next((command for manager, command in commands.items() if which(manager)), "install g++ or clang++")
    return f"There is no C++ compiler here: {fix}, and run this again."


def missing_compiler() -> str | None:
    """See `compiler_problem`, of this machine."""
    return compiler_problem(platform.system(), os.environ.get("CXX"), shutil.which, answer)


def rosetta_problem(machine: str, translated: str | None) -> str | None:
    """The sentence for an x86_64 Python on an Apple chip: llama.cpp would be built for an emulated processor without AVX."""
    if machine == "x86_64" and (translated or "").strip() == "1":
        return (
            "This Python runs under Rosetta, and so would llama.cpp: use an arm64 Python "
            "(brew install python@3.12, or python.org's universal installer), and run this again with it."
        )
    return None


def short_temp(temp: str, long_paths: bool) -> str | None:
    """The folder for temporary files in which pip can unpack llama-cpp-python on Windows; None where `temp` will do."""
    if long_paths or len(temp) + SDIST_DEPTH <= WINDOWS_PATH_LIMIT:
        return None
    return f"{temp[:2]}\\rb" if temp[1:2] == ":" else "C:\\rb"


def long_paths_allowed() -> bool:
    """Whether Windows takes paths of more than 259 characters; it does not, by default."""
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def windows_cuda_generator(cl: bool, integration: bool) -> dict[str, str]:
    """What CMake has to be told on Windows to compile CUDA. `cl`: Visual Studio's compiler is on PATH; `integration`: Visual
    Studio's own build system knows CUDA, which holds only where CUDA was installed after it. Raises SetupError."""
    if cl:
        return {"CMAKE_GENERATOR": "Ninja"}
    if integration:
        return {}
    raise SetupError(
        "Visual Studio does not know CUDA here, because it was installed after CUDA: install CUDA again, or run this in "
        "the 'x64 Native Tools Command Prompt'."
    )


def visual_studio_knows_cuda() -> bool:
    """Whether CUDA's build rules are among Visual Studio's."""
    folders = [os.environ.get(name, "") for name in ("PROGRAMFILES", "PROGRAMFILES(X86)")]
    rules = "Microsoft Visual Studio/*/*/MSBuild/Microsoft/VC/*/BuildCustomizations/CUDA *.props"
    return any(next(Path(folder).glob(rules), None) for folder in folders if folder)


@dataclass(frozen=True, slots=True)
class Build:
    """One way to build llama.cpp. `level` is of LEVELS; its wheel is kept under `key`."""

    kind: str
    level: str
    cmake_args: tuple[str, ...]
    key: str = ""
    toolchain: Toolchain | None = None
    compiler: str = ""

    @property
    def name(self) -> str:
        """ "for CUDA", "for this processor", "without AMX" ..."""
        return LEVELS[self.level] if self.kind == "cpu" else f"for {NAMES[self.kind]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What this machine gets: the builds in the order in which they are tried."""

    choice: Choice
    builds: tuple[Build, ...]

    @property
    def keys(self) -> list[str]:
        """What an environment was made from: it fits as long as they are the same."""
        return [build.key for build in self.builds]


def plan(version: str, kind: str | None = None) -> Plan:
    """What this machine gets of llama-cpp-python `version`: for `kind`, else as RIGBENCH_LLAMA_BUILD says. Raises SetupError."""
    import cuda_toolkit
    import vulkan_sdk

    sys.path[:0] = [str(SCRIPTS.parent / name) for name in ("harness", "backends")]
    from rigbench.telemetry.adapters import adapters

    system = platform.system()
    if system == "Darwin" and (
        problem := rosetta_problem(platform.machine(), answer(["sysctl", "-n", "sysctl.proc_translated"]))
    ):
        raise SetupError(problem)
    wanted_kind = kind or os.environ.get("RIGBENCH_LLAMA_BUILD") or None
    choice = choose_build(system, wanted_kind, adapters(), cuda_toolkit.here, vulkan_sdk.here, hip_here)
    tools = choice.toolchain.environment if choice.toolchain else {}
    # A Mac without Apple's tools has a c++ that opens a window when it is asked; and no Mac has AMX of this kind.
    compiler = Compiler() if system == "Darwin" else compiler_here({**os.environ, **tools})
    return plan_builds(version, choice, system, compiler)


def plan_builds(version: str, choice: Choice, system: str, compiler: Compiler) -> Plan:
    """The builds of a choice: for the GPU, then for the CPU with ever fewer of the processor's instructions."""
    levels = ["native", "portable"]
    if compiler.amx and compiler.no_amx:
        levels.insert(1, "no-amx")
        if compiler.gcc is not None and compiler.gcc < GCC_WITH_SOUND_AMX:
            levels.remove("native")
            reason = f"{choice.reason} AMX is left out, which GCC {compiler.gcc} compiles wrongly."
            choice = replace(choice, reason=reason)
    planned = []
    steps = [("cpu", level) for level in levels]
    if choice.kind != "cpu":
        steps = [(choice.kind, levels[0]), *([] if choice.required else steps)]
    for kind, level in steps:
        tools = choice.toolchain if kind == choice.kind else None
        arguments = [f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={(SCRIPTS / 'engine_only.cmake').as_posix()}", "-DGGML_RPC=ON"]
        arguments += PORTABLE if level == "portable" else ["-DGGML_NATIVE=ON"]
        if level == "no-amx":
            for language, variable in (("C", "CFLAGS"), ("CXX", "CXXFLAGS")):
                flags = " ".join([os.environ.get(variable, ""), *compiler.no_amx]).strip()
                arguments.append(f"-DCMAKE_{language}_FLAGS={flags}")
        if kind == "cpu" and system == "Darwin":
            arguments.append("-DRIGBENCH_NO_METAL=ON")
        arguments += tools.cmake_args if tools else ()
        build = Build(kind, level, tuple(arguments), "", tools, compiler.name)
        planned.append(replace(build, key=build_key(version, build)))
    return Plan(choice, tuple(planned))


def processor() -> tuple[str, str]:
    """The CPU's model, and that with its instruction sets: a build for this one may not run on another."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        facts = {line for line in lines if re.match(r"(model name|flags|Features|CPU part)\s*:", line)}
        model = next((line.partition(":")[2] for line in sorted(facts) if line.startswith("model name")), "")
        return model.strip() or platform.machine(), "\n".join(sorted(facts))
    model = (answer(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()).strip()
    return model, model


def build_key(version: str, build: Build) -> str:
    """Names a build: version, kind, level, processor, and a digest of all that goes into it."""
    own = {name: os.environ.get(name, "") for name in ("CMAKE_ARGS", "CXX", "CC", "CFLAGS", "CXXFLAGS")}
    options = [argument.replace(SCRIPTS.as_posix(), "") for argument in build.cmake_args]
    recipe = (SCRIPTS / "engine_only.cmake").read_text(encoding="utf-8")
    tools = build.toolchain.identity if build.toolchain else ""
    model, instructions = processor()
    content = [version, build.kind, options, recipe, own, tools, platform.system(), platform.machine(), instructions]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    short = re.sub(r"\((R|TM|tm)\)|\bCPU\b|@.*|\d+-Core Processor|\bw(ith|/) Radeon.*", " ", model)
    name = re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-")[:40]
    level = [] if build.level == "native" else [build.level]
    return "-".join([version, build.kind, *level, *filter(None, [name]), digest])


def build_environment(build: Build, packages: Path) -> dict[str, str]:
    """What the build reads from the environment; the user's own CMAKE_ARGS come last and win."""
    own = os.environ.get("CMAKE_ARGS", "")
    arguments = [argument.replace("{packages}", packages.as_posix()) for argument in build.cmake_args]
    environment = {"CMAKE_ARGS": " ".join([*map(shlex.quote, arguments), own]).strip()}
    if "CMAKE_BUILD_PARALLEL_LEVEL" not in os.environ:
        environment["CMAKE_BUILD_PARALLEL_LEVEL"] = str(os.cpu_count() or 1)
    for name, value in (build.toolchain.environment if build.toolchain else {}).items():
        environment[name] = value.replace("{packages}", str(packages))
    if os.name == "nt" and build.kind == "cuda" and "CMAKE_GENERATOR" not in {**os.environ, **environment}:
        environment |= windows_cuda_generator(bool(shutil.which("cl")), visual_studio_knows_cuda())
    return environment


def packages_folder(build: Build) -> Path:
    """Where pip puts what this build's compiler needs. It stays: the libraries may be needed to run, too."""
    content = repr((build.toolchain.packages if build.toolchain else (), sys.version_info[:2]))
    return cache_folder() / "toolchains" / hashlib.sha256(content.encode()).hexdigest()[:12]


def cache_folder() -> Path:
    """The user's cache folder, or RIGBENCH_CACHE."""
    if os.environ.get("RIGBENCH_CACHE"):
        return Path(os.environ["RIGBENCH_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/rigbench"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "rigbench/Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rigbench"


def wheel_folder(key: str) -> Path:
    """Where the wheel of `key` is kept, or the reason why it is not used."""
    return cache_folder() / "wheels" / f"llama_cpp_python-{key}"


def kept_wheel(key: str) -> Path | None:
    """The wheel that was built before for `key`, if any."""
    return next(iter(sorted(wheel_folder(key).glob("*.whl"))), None)


def refusal(key: str) -> str | None:
    """Why the build of `key` is not made again: how it crashed. None where it did not."""
    try:
        return (wheel_folder(key) / REFUSED).read_text(encoding="utf-8")
    except OSError:
        return None


def refuse(key: str, text: str) -> None:
    """Put the reason in the place of the wheel."""
    shutil.rmtree(wheel_folder(key), ignore_errors=True)
    wheel_folder(key).mkdir(parents=True)
    (wheel_folder(key) / REFUSED).write_text(text, encoding="utf-8")


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


def fetch_tools(
    pip: Sequence[str], build: Build, log: Path, run: Callable[..., None], environment: dict[str, str]
) -> None:
    """What the build takes from PyPI: to compile, and its libraries to run. `run` as for `build_wheel`. Raises SetupError."""
    folder = packages_folder(build)
    if not build.toolchain or not build.toolchain.packages or folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    command = [*pip, "install", "--target", str(part), *build.toolchain.packages]
    run(f"Fetching the compiler for {NAMES[build.kind]}: some minutes", command, log, environment, "Check the network.")
    part.replace(folder)


def build_wheel(
    pip: Sequence[str], version: str, build: Build, log: Path, run: Callable[..., None], environment: dict[str, str]
) -> Path:
    """llama-cpp-python from its source package, into the folder of kept wheels; nothing is left there if it fails.

    `run` takes a title, a command, a log, an environment and the advice for a failure (commands.run_logged). Raises SetupError.
    """
    time = "" if build.toolchain and "minutes" in build.toolchain.reason else f": {MINUTES[build.kind]}"
    title = f"Building llama.cpp {build.name} with {os.cpu_count()} cores{time}"
    fix = "If the lines above name no fix, a newer compiler may help (GCC 11, Clang 14)."
    options = ["--verbose", "--no-cache-dir", "--no-deps", "--no-binary", PACKAGE]
    environment = {**environment, **build_environment(build, packages_folder(build))}
    temp = short_temp(tempfile.gettempdir(), long_paths_allowed()) if os.name == "nt" else None
    if temp:
        try:
            Path(temp).mkdir(exist_ok=True)
        except OSError:
            raise SetupError(
                f"{temp} cannot be made, and in {tempfile.gettempdir()} the paths of llama.cpp's files are too long for "
                "Windows: set TEMP and TMP to a folder of at most 11 characters, and run this again."
            ) from None
        environment |= {"TEMP": temp, "TMP": temp}
    try:
        with keeping_wheel(build.key) as wheels:
            command = [*pip, "wheel", *options, "--wheel-dir", str(wheels), f"{PACKAGE}=={version}"]
            run(title, command, log, environment, fix)
    finally:
        if temp:
            with contextlib.suppress(OSError):  # it was there before, and holds something
                Path(temp).rmdir()
    wheel = kept_wheel(build.key)
    if wheel is None:
        raise SetupError(f"pip built no wheel of {PACKAGE} {version}; see {log}.")
    return wheel


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of the tiny models. `failure` is None or how it ended ("crashes here (SIGILL, Q4_0, 1 user, on the processor)");
    `crash`: by a signal, so that this build will not do better next time. `loads` is False where Python cannot load it at all.
    `folder` is where llama_cpp is installed."""

    failure: str | None = None
    crash: bool = False
    loads: bool = True
    folder: Path | None = None


def prove(python: Path, kind: str, script: Path = PROVE, limit_s: float | None = None) -> Proof:
    """Let the llama.cpp of `python` compute, in a process of its own. A build for a GPU has to see one."""
    limit_s = limit_s or (PROOF_LIMIT_S if kind == "cpu" else GPU_PROOF_LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="rigbench-", ignore_cleanup_errors=True) as folder:
        command = [str(python), str(script), folder]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return Proof(f"did not compute a tiny model within {limit_s:.0f} s")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    report = {name: value for line in lines for name, value in line.items()}
    where = f", {report['stage']}" if "stage" in report else ""
    if crash := crash_name(done.returncode):
        return Proof(f"crashes here ({crash}{where})", True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Proof(f"{'does not compute' if where else 'does not load'} here ({last}{where})", loads=bool(where))
    place = Path(report["folder"])
    if kind != "cpu" and not any(is_gpu for _, _, is_gpu in report["devices"]):
        return Proof(f"sees no GPU here ({report['error'] or 'llama.cpp gives no reason'})", folder=place)
    return Proof(folder=place)


def crash_name(returncode: int) -> str | None:
    """SIGSEGV, SIGILL ... or Windows' number for such an end; None for an ordinary one."""
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-returncode).name
        return f"signal {-returncode}"
    return f"{returncode:#010x}" if returncode >= 0x80000000 else None


def settle(
    plan: Plan, install: Callable[[Build], None], prove: Callable[[Build], Proof], say: Callable[[str], None]
) -> str:
    """Install the first build of the plan that computes here, and note beside it how it was built. Raises SetupError.

    Returns the sentence about a GPU that is not used after all, or "".
    """
    unused = plan.choice.reason if plan.choice.unused_gpu else ""
    for build, following in zip(plan.builds, [*plan.builds[1:], None], strict=True):
        try:
            failure = refusal(build.key)
            if failure is None:
                install(build)
                proof = prove(build)
                failure = proof.failure
                if failure is None and proof.folder is not None:
                    record(proof.folder, build, plan.choice.reason)
                if failure and proof.crash:
                    refuse(build.key, failure)
                if failure and not proof.loads:
                    raise SetupError(f"llama.cpp was installed, but {failure}: remove .venv and run this again.")
        except SetupError as error:
            if build.kind == "cpu" or plan.choice.required:
                raise
            failure = f"was not built ({_plain(str(error).partition('; ')[0])})"
        if failure is None:
            return unused
        if following is None:
            raise SetupError(last_word(build, failure))
        if build.kind != "cpu":
            unused = f"A GPU is here that is not used: llama.cpp {build.name} {failure}."
        then = following.name if build.kind == "cpu" else "for the CPU"
        say(f"llama.cpp {build.name} {failure}: building it {then}.")
    raise AssertionError("a plan has at least one build")


def last_word(build: Build, failure: str) -> str:
    if build.kind != "cpu":
        return f"llama.cpp {build.name} {failure}: unset RIGBENCH_LLAMA_BUILD, and the CPU is measured instead."
    return (
        f"llama.cpp cannot be built here: {build.name} it {failure}. Another compiler may help "
        "(CC and CXX name one: GCC 13 or Clang 16)."
    )


def record(folder: Path, build: Build, reason: str) -> None:
    """Note how it was built beside the installed engine, without the names of the user's folders."""
    own = os.environ.get("CMAKE_ARGS", "")
    arguments = [*build.cmake_args, *shlex.split(own)]
    for text, short in ((SCRIPTS.parent.as_posix(), "."), (str(Path.home()), "~"), (Path.home().as_posix(), "~")):
        arguments = [argument.replace(text, short) for argument in arguments]
    content = {
        "kind": build.kind,
        "level": build.level,
        "cmake_args": arguments,
        "compiler": build.compiler,
        "toolchain": build.toolchain.reason if build.toolchain else None,
        "reason": reason,
    }
    (folder / RECORD).write_text(json.dumps(content, indent=1), encoding="utf-8")
