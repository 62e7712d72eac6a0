"""Which CUDA compiler builds llama.cpp for the NVIDIA GPUs that are here: the system's, PyPI's, or none and why.

    from cuda_toolkit import here
    here()      # a Toolchain; or the sentence why there is none; None where there is no NVIDIA GPU

Four things must fit together, and each toolkit tells its own limits (`nvcc --list-gpu-code`, its headers):

- the cards: CUDA 13 dropped all before compute capability 7.5, 12.0 knows none after 9.0;
- the driver: see `driver_runs`;
- the C library: glibc 2.41 and 2.42 declare functions that older toolkits declare in another way (13.0 and 13.2 are the first
  that agree);
- the host compiler: each toolkit refuses GCC, Clang and Visual Studio from some release on.

PyPI has an nvcc from 13.0 on; the wheels of CUDA 12 hold `ptxas` alone. So cards before 7.5 and drivers before 580 need an
installed toolkit. Standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commands import answer
from toolchain import Toolchain

Release = tuple[int, int]

BUILD_CORE_MINUTES = 35.0  # one GPU architecture, without the CPU part's minutes: results/LOG.md, 2026-11-26
WHEEL_FOLDER = "{packages}/nvidia/cu13"
# The first toolkit that knows a compute capability; those that are not here came before CUDA 11.
FIRST_RELEASE: dict[str, Release] = {
    "8.6": (11, 1),
    "8.7": (11, 4),
    "8.9": (11, 8),
    "9.0": (11, 8),
    "10.0": (12, 8),
    "10.3": (12, 9),
    "11.0": (13, 0),
    "12.0": (12, 8),
    "12.1": (12, 9),
}
FIRST_DRIVER = {11: 450, 12: 525, 13: 580}  # NVIDIA's table of minor version compatibility
COMPILER_PACKAGES = {
    "apt-get": "sudo apt install g++-{0}",
    "dnf": "sudo dnf install gcc{0}-c++",
    "pacman": "sudo pacman -S gcc{0}",
    "zypper": "sudo zypper install gcc{0}-c++",
}


@dataclass(frozen=True, slots=True)
class Cards:
    """The NVIDIA GPUs.

    A capability is "8.9", or "" where the driver does not tell. `driver_cuda` is the newest CUDA that the driver knows,
    `libcuda` the driver's library for programs; None where it does not tell, and where there is none.
    """

    capabilities: tuple[str, ...]
    names: tuple[str, ...]
    driver_cuda: Release | None
    driver: str | None
    libcuda: str | None = None


@dataclass(frozen=True, slots=True)
class Nvcc:
    """A CUDA toolkit.

    `codes` are the GPUs that it knows ("89"). `gcc`, `clang` (major versions) and `msvc` (_MSC_VER) are the newest host
    compilers that it takes, `glibc` the newest C library; None where it sets no limit. `package` is what pip installs for it.
    """

    path: str
    release: Release
    codes: frozenset[str]
    gcc: int | None = None
    clang: int | None = None
    msvc: int | None = None
    glibc: Release | None = None
    cublas: bool = True
    package: str = ""

    @property
    def name(self) -> str:
        return f"nvcc {dotted(self.release)} {'from PyPI' if self.package else 'of this system'}"

    def accepts(self, host: HostCompiler) -> bool:
        newest = {"gcc": self.gcc, "clang": self.clang, "msvc": self.msvc}[host.kind]
        return newest is None or host.version <= newest


@dataclass(frozen=True, slots=True)
class HostCompiler:
    """`kind` is gcc, clang (`version` is the major one) or msvc (`version` is _MSC_VER, 1944 for Visual Studio 17.14)."""

    path: str
    kind: str
    version: int


def wheel(version: str, release: Release, codes: str, gcc: int, clang: int, glibc: Release | None) -> Nvcc:
    package = f"cuda-toolkit[nvcc,cudart,cublas,cccl]=={version}"
    path = f"{WHEEL_FOLDER}/bin/nvcc"
    return Nvcc(path, release, frozenset(codes.split()), gcc, clang, None, glibc, package=package)


WHEELS = (  # as their own --list-gpu-code, crt/host_config.h and crt/math_functions.h say
    wheel("13.5.0", (13, 5), "75 80 86 87 88 89 90 100 103 107 110 120 121", 16, 22, None),
    wheel("13.0.3.0", (13, 0), "75 80 86 87 88 89 90 100 103 110 120 121", 15, 20, (2, 41)),
)


def dotted(release: Release) -> str:
    return f"{release[0]}.{release[1]}"


def driver_runs(release: Release, driver_cuda: Release, ptx: bool) -> bool:
    """Whether programs of a toolkit run on a driver that knows CUDA `driver_cuda`.

    NVIDIA, "CUDA Compatibility": a driver runs what every older toolkit built (backward compatibility). From CUDA 11 on it
    also runs what newer toolkits of the same major release built (minor version compatibility: 11.x from driver 450, 12.x from
    525, 13.x from 580), except for PTX, which the driver has to compile itself. `ptx` says that the build holds some; the
    builds here hold code for their cards alone, unless a card's capability is unknown.
    """
    return release <= driver_cuda or (release[0] == driver_cuda[0] >= 11 and not ptx)


def choose(
    system: str,
    cards: Cards,
    nvccs: Sequence[Nvcc],
    hosts: Sequence[HostCompiler],
    *,
    machine: str = "x86_64",
    glibc: Release | None = None,
    manager: str | None = None,
    cores: int = 1,
) -> Toolchain | str:
    """The toolkit that knows every card and that the driver runs, or the sentence that says what is missing.

    The system's toolkits come before PyPI's; of each, those that the driver knows before those that it runs by minor version
    compatibility; then the newest. `hosts` begins with the compiler that is taken by default. `glibc` is None on systems
    without it (there PyPI's wheels do not run). `manager` is the distribution's package manager (a key of COMPILER_PACKAGES),
    `cores` what the build has. Without effects.
    """
    wheels = WHEELS if system == "Linux" and machine in ("x86_64", "aarch64") and glibc is not None else ()
    ptx = "" in cards.capabilities
    codes = {capability.replace(".", "") for capability in cards.capabilities if capability}
    driver_cuda = cards.driver_cuda

    def preference(nvcc: Nvcc) -> tuple[bool, bool, Release]:
        return not nvcc.package, driver_cuda is None or nvcc.release <= driver_cuda, nvcc.release

    every = sorted((*(nvcc for nvcc in nvccs if nvcc.cublas), *wheels), key=preference, reverse=True)
    run = [
        nvcc
        for nvcc in every
        if codes <= nvcc.codes
        and (not nvcc.package if driver_cuda is None else driver_runs(nvcc.release, driver_cuda, ptx))
    ]
    if not run:
        return no_toolkit(system, cards, nvccs, bool(wheels))
    compile_here = [nvcc for nvcc in run if nvcc.glibc is None or glibc is None or glibc <= nvcc.glibc]
    if not compile_here:
        return no_headers(cards, run[0], glibc)
    for nvcc in compile_here:
        for host in hosts:
            if nvcc.accepts(host):
                return toolchain(system, cards, nvcc, host, host == hosts[0], cores)
    return no_host(system, compile_here[0], hosts, manager)


def toolchain(system: str, cards: Cards, nvcc: Nvcc, host: HostCompiler, usual: bool, cores: int) -> Toolchain:
    """The build's settings for a toolkit and a host compiler that fit; `usual` where the compiler is the one taken anyhow."""
    environment = {"CUDACXX": nvcc.path}
    root = WHEEL_FOLDER if nvcc.package else Path(nvcc.path).parent.parent.as_posix()
    # ggml looks for the toolkit before CUDACXX counts, and would take the libraries and headers of the nvcc on PATH.
    arguments = ["-DGGML_CUDA=ON", f"-DCUDAToolkit_ROOT={root}", *architectures(cards)]
    if system == "Windows":
        if not usual:  # CMake takes the newest Visual Studio by itself
            environment["CMAKE_GENERATOR"] = visual_studio(host.version)
    else:
        libraries = f"{root}/lib" if nvcc.package else f"{root}/lib64"
        environment["CUDAHOSTCXX"] = host.path
        # llama-cpp-python's libraries look for others beside themselves alone, and CUDA's folder may not be known to the loader.
        arguments.append(f'-DCMAKE_SHARED_LINKER_FLAGS_RELEASE=-Wl,-rpath,"{libraries}"')
        if cards.libcuda:
            arguments.append(f"-DCUDA_cuda_driver_LIBRARY={cards.libcuda}")
        else:  # no library of the driver to link with; costs only memory pools that grow in place
            arguments.append("-DGGML_CUDA_NO_VMM=ON")
        if nvcc.package:
            # CMake looks for libcudart.so, and the wheels hold libcudart.so.13 alone; nvcc.profile says lib64, the folder is lib.
            environment["LIBRARY_PATH"] = libraries
            arguments += [
                f"-D{variable}={libraries}/lib{name}.so.13"
                for variable, name in (
                    ("CUDA_CUDART", "cudart"),
                    ("CUDA_cudart_LIBRARY", "cudart"),
                    ("CUDA_cublas_LIBRARY", "cublas"),
                    ("CUDA_cublasLt_LIBRARY", "cublasLt"),
                )
            ]
    known = sorted(set(filter(None, cards.capabilities)), key=number)
    fetch = " (600 MB to download, 1.1 GB kept)" if nvcc.package else ""
    target = f"compute capability {' and '.join(known)}" if known else "the GPUs that the driver names"
    return Toolchain(
        reason=f"{nvcc.name}{fetch} builds for {target} ({listed(cards.names)}), in about {minutes(cards, cores)} minutes",
        identity=f"{nvcc.package or nvcc.path} {nvcc.release} {host}",
        cmake_args=tuple(arguments),
        environment=environment,
        packages=(nvcc.package,) if nvcc.package else (),
    )


def architectures(cards: Cards) -> tuple[str, ...]:
    """The code for the GPUs that are here alone: ("8.9", "12.0") -> -DCMAKE_CUDA_ARCHITECTURES=89-real;120-real.

    Not `native`, which CMake knows only since 3.24. Where the driver does not tell, llama.cpp's own choice holds.
    """
    if not cards.capabilities or "" in cards.capabilities:
        return ()
    codes = sorted({capability.replace(".", "") for capability in cards.capabilities}, key=int)
    return ("-DCMAKE_CUDA_ARCHITECTURES=" + ";".join(f"{code}-real" for code in codes),)


def minutes(cards: Cards, cores: int) -> int:
    """How long the build takes; the several architectures of llama.cpp's own choice count as six."""
    count = 6 if "" in cards.capabilities else len(set(cards.capabilities))
    return max(1, round(BUILD_CORE_MINUTES * count / cores))


def number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))


def listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(set(names))) or "NVIDIA GPU"


def visual_studio(msvc: int) -> str:
    """CMake's generator for _MSC_VER."""
    if msvc >= 1950:
        return "Visual Studio 18 2026"
    return "Visual Studio 17 2022" if msvc >= 1930 else "Visual Studio 16 2019"


def first_release(capability: str) -> Release:
    """The first toolkit that knows a GPU; for one that is newer than this file, the newest toolkit that this file knows."""
    return FIRST_RELEASE.get(capability, (11, 0) if number(capability) <= (9, 0) else WHEELS[0].release)


def no_toolkit(system: str, cards: Cards, nvccs: Sequence[Nvcc], wheels: bool) -> str:
    """No toolkit that is here, or that PyPI has, knows the cards and runs on the driver: what would."""
    known = sorted(filter(None, cards.capabilities), key=number)
    first = max(map(first_release, known), default=(11, 0))
    old_card = bool(known) and number(known[0]) < (7, 5)
    what = listed(cards.names) + (f" (compute capability {' and '.join(dict.fromkeys(known))})" if known else "")
    here = listed(f"{nvcc.name}{'' if nvcc.cublas else ' without cuBLAS'}" for nvcc in nvccs)
    have = f", and here is {here}" if nvccs else ", and no CUDA toolkit is here"
    if known and number(known[0]) < (5, 0):
        return f"{what} is too old: CUDA 12, which llama.cpp is built with, starts at compute capability 5.0."
    if old_card and first >= (13, 0):
        return f"No CUDA toolkit knows all of {what}: build for Vulkan with RIGBENCH_LLAMA_BUILD=vulkan."
    driver = f"the NVIDIA driver {cards.driver or ''}".rstrip()
    if cards.driver_cuda is None:
        return (
            f"{what}: {driver} does not say which CUDA it runs{have}: make nvidia-smi work (reinstall the driver), "
            "and run this again."
        )
    if cards.driver_cuda[0] < max(first[0], 11):
        major = max(first[0], 12 if old_card else 13)
        return (
            f"{what}: {driver} is too old, it runs CUDA {dotted(cards.driver_cuda)} at most: update it to "
            f"{FIRST_DRIVER[major]} or newer, and run this again."
        )
    last = (12, 9) if old_card or cards.driver_cuda[0] < 13 else None
    if cards.driver_cuda[0] < 12:
        last = (11, 8)
    if "" in cards.capabilities and last and last > cards.driver_cuda:
        last = cards.driver_cuda  # the build holds PTX
    version_text = f"{dotted(last)}" if last else f"{dotted(max(first, (12, 0)))} or newer"
    newer_driver = (
        ""
        if old_card or last is None or not wheels
        else (f"update {driver} to 580 or newer (CUDA 13 then comes from PyPI by itself), or ")
    )
    if system == "Windows":
        version = f" --version {dotted(last)}" if last else ""
        how = f"with Visual Studio's C++ tools installed first, winget install Nvidia.CUDA{version}"
    else:
        how = f"install the CUDA toolkit {version_text} from NVIDIA (developer.nvidia.com/cuda-toolkit-archive)"
    verb = "need" if len(set(cards.names)) > 1 else "needs"
    return f"{what} {verb} the CUDA toolkit {version_text}{have}: {newer_driver}{how}, and run this again."


def no_headers(cards: Cards, nvcc: Nvcc, glibc: Release | None) -> str:
    """The toolkits that fit do not compile with this C library."""
    assert glibc is not None and nvcc.glibc is not None
    old_card = any(capability and number(capability) < (7, 5) for capability in cards.capabilities)
    if old_card:
        fix = "build for Vulkan with RIGBENCH_LLAMA_BUILD=vulkan, or in a container of Ubuntu 24.04"
    elif cards.driver_cuda is not None and cards.driver_cuda[0] >= 13:
        fix = "install the CUDA toolkit 13.2 or newer from NVIDIA (developer.nvidia.com/cuda-toolkit-archive)"
    else:
        fix = "update the NVIDIA driver to 580 or newer (CUDA 13 then comes from PyPI by itself)"
    return (
        f"{nvcc.name} does not compile with glibc {dotted(glibc)}, {dotted(nvcc.glibc)} is the newest that it takes: "
        f"{fix}, and run this again."
    )


def no_host(system: str, nvcc: Nvcc, hosts: Sequence[HostCompiler], manager: str | None) -> str:
    """The toolkit that fits takes none of the C++ compilers that are here."""
    if system == "Windows":
        there = "and there is none here" if not hosts else "and a newer one is here"
        return (
            f"{nvcc.name} needs the C++ tools of Visual Studio 2022, {there}: winget install "
            'Microsoft.VisualStudio.2022.BuildTools --override "--passive --add Microsoft.VisualStudio.Workload.VCTools '
            '--includeRecommended", then install CUDA again, and run this again.'
        )
    install = COMPILER_PACKAGES.get(manager or "", "install g++-{0}").format(nvcc.gcc or 13)
    if not hosts:
        return f"{nvcc.name} needs a C++ compiler, and there is none here: {install}, and run this again."
    names = {"gcc": "GCC", "clang": "Clang"}
    there = listed(f"{names[host.kind]} {host.version}" for host in hosts)
    limit = f"GCC {nvcc.gcc} is the newest that {nvcc.name} takes"
    return f"{limit}, and here is {there}: {install}, and run this again."


def here() -> Toolchain | str | None:
    """See `choose`, of this machine; None where no NVIDIA driver answers."""
    system = platform.system()
    cards = None if system == "Darwin" else nvidia_gpus()
    if cards is None:
        return None
    library, version = platform.libc_ver()
    glibc = release_of(version) if library == "glibc" else None
    tools = choose(
        system,
        cards,
        system_nvccs(),
        host_compilers(),
        machine=platform.machine(),
        glibc=glibc,
        manager=next(filter(shutil.which, COMPILER_PACKAGES), None),
        cores=os.cpu_count() or 1,
    )
    own = os.environ.get("LIBRARY_PATH")
    if isinstance(tools, Toolchain) and own and "LIBRARY_PATH" in tools.environment:
        return replace(
            tools,
            environment={**tools.environment, "LIBRARY_PATH": f"{tools.environment['LIBRARY_PATH']}:{own}"},
        )
    return tools


def nvidia_gpus() -> Cards | None:
    """The NVIDIA GPUs whose driver answers; None where none does."""
    smi = shutil.which("nvidia-smi") or "/usr/lib/wsl/lib/nvidia-smi"
    for fields in (
        "compute_cap,name,driver_version",
        "name,driver_version",
    ):  # drivers before 2021 do not know the first
        text = answer([smi, f"--query-gpu={fields}", "--format=csv,noheader"])
        if text and (cards := parse_query(text)):
            return replace(cards, driver_cuda=cuda_of(answer([smi]) or "", cards.driver), libcuda=find_libcuda())
    folder = Path("/proc/driver/nvidia")
    names = [text for path in sorted(folder.glob("gpus/*/information")) if (text := read(path))]
    if not names:
        return None
    models = tuple(match[1] if (match := re.search(r"Model:\s*(.+)", text)) else "NVIDIA GPU" for text in names)
    kernel = re.search(r"NVRM version:.*?\s(\d+\.\d[\d.]*)\s", read(folder / "version"))
    driver = kernel[1] if kernel else None
    return Cards(("",) * len(models), models, cuda_of("", driver), driver, find_libcuda())


def parse_query(text: str) -> Cards | None:
    """nvidia-smi's answer to --query-gpu=compute_cap,name,driver_version or name,driver_version; None where it names no card."""
    rows = [line.strip().rsplit(", ", 1) for line in text.splitlines()]
    cards = [row[0] for row in rows if len(row) == 2]
    if not cards:
        return None
    split = [re.match(r"(?:(\d+\.\d+)?\S*, )?(.+)", card) for card in cards]
    capabilities = tuple((match and match[1]) or "" for match in split)
    names = tuple(match[2] if match else "NVIDIA GPU" for match in split)
    return Cards(capabilities, names, None, rows[0][-1])


def cuda_of(smi: str, driver: str | None) -> Release | None:
    """The CUDA that a driver runs: from the head of nvidia-smi's table, else the first release of its driver branch."""
    if head := re.search(r"CUDA (?:UMD )?Version\s*:\s*(\d+\.\d+)", smi):
        return release_of(head[1])
    branch = re.match(r"\d+", driver or "")
    if not branch:
        return None
    return max((major for major, first in FIRST_DRIVER.items() if int(branch[0]) >= first), default=10), 0


def release_of(text: str) -> Release | None:
    """ "13.0.88" -> (13, 0)."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def find_libcuda() -> str | None:
    """The driver's library that programs load, where the linker can take it from."""
    known = answer(["/sbin/ldconfig", "-p"]) or ""
    paths = re.findall(r"libcuda\.so\.1 \(libc6,(?:x86-64|AArch64)[^)]*\) => (\S+)", known)
    paths += [f"{folder}/libcuda.so.1" for folder in ("/usr/lib/wsl/lib", "/usr/lib64", "/run/opengl-driver/lib")]
    return next((path for path in paths if Path(path).is_file()), None)


def system_nvccs() -> tuple[Nvcc, ...]:
    """The CUDA toolkits that are installed: the one that CUDACXX names alone, else those of PATH and the usual folders."""
    if os.environ.get("CUDACXX"):
        paths = [shutil.which(os.environ["CUDACXX"])]
    else:
        roots = [os.environ[name] for name in ("CUDA_PATH", "CUDA_HOME", "CONDA_PREFIX") if os.environ.get(name)]
        programs = os.environ.get("PROGRAMFILES", "C:/Program Files")
        folders = [
            ("/usr/local", "cuda*"),
            ("/opt", "cuda*"),
            (f"{programs}/NVIDIA GPU Computing Toolkit/CUDA", "v*"),
        ]
        roots += [str(path) for folder, pattern in folders for path in sorted(Path(folder).glob(pattern))]
        paths = [shutil.which("nvcc"), *(shutil.which(f"{root}/bin/nvcc") for root in roots)]
    unique = {Path(path).resolve(): path for path in reversed(paths) if path}
    nvccs = [describe_nvcc(path) for path in unique.values()]
    return tuple(nvcc for nvcc in nvccs if nvcc is not None)


def describe_nvcc(path: str) -> Nvcc | None:
    """What the toolkit of `path` says of itself; None where it does not run."""
    version = parse_nvcc_version(answer([path, "--version"]) or "")
    if version is None:
        return None
    codes = frozenset(re.findall(r"sm_(\d+)\b", answer([path, "--list-gpu-code"]) or ""))
    roots = {Path(path).parent.parent, Path(path).resolve().parent.parent}
    folders = [folder for root in roots for folder in (root / "include", *root.glob("targets/*/include"))]
    config = next((text for folder in folders if (text := read(folder / "crt/host_config.h"))), "")
    maths = next((text for folder in folders if (text := read(folder / "crt/math_functions.h"))), "")
    cublas = any((folder / "cublas_v2.h").is_file() for folder in folders)
    gcc, clang, msvc = parse_host_config(config)
    return Nvcc(path, version, codes, gcc, clang, msvc, newest_glibc(maths), cublas)


def parse_nvcc_version(text: str) -> Release | None:
    """`nvcc --version` -> (13, 0)."""
    match = re.search(r"release (\d+\.\d+)", text)
    return release_of(match[1]) if match else None


def parse_host_config(text: str) -> tuple[int | None, int | None, int | None]:
    """crt/host_config.h -> the newest GCC, Clang and _MSC_VER that the toolkit takes."""

    def newest(pattern: str, beyond: int) -> int | None:
        values = [int(value) for value in re.findall(pattern, text)]
        return max(values) - beyond if values else None

    return (
        newest(r"#if __GNUC__ > (\d+)", 0),
        newest(r"#if \(__clang_major__ >= (\d+)\)", 1),
        newest(r"#if _MSC_VER < \d+ \|\| _MSC_VER >= (\d+)", 1),
    )


def newest_glibc(text: str) -> Release | None:
    """crt/math_functions.h -> the newest glibc whose math.h agrees with it; None where it agrees with all that are known.

    glibc 2.41 declares cospi and sinpi, 2.42 rsqrt, with `noexcept`. A toolkit that declares them without it does not compile
    with them. Distributions fix their own copies, so it is the text that counts and not the version.
    """
    if re.search(r"\bcospi\(double x\);", text):
        return (2, 40)
    return (2, 41) if re.search(r"\brsqrt\(double x\);", text) else None


def host_compilers() -> tuple[HostCompiler, ...]:
    """The C++ compilers that nvcc could call, the one that it would take by itself first."""
    if platform.system() == "Windows":
        return visual_studios()
    own = [os.environ[name] for name in ("CUDAHOSTCXX", "NVCC_CCBIN") if os.environ.get(name)]
    gcc = ["g++", *(f"g++-{version}" for version in range(20, 8, -1))]
    clang = ["clang++", *(f"clang++-{version}" for version in range(26, 11, -1))]
    paths = dict.fromkeys(path for name in (*own, *gcc, *clang) if (path := shutil.which(name)))
    compilers = [describe_host(path) for path in paths]
    return tuple(compiler for compiler in compilers if compiler is not None)


def describe_host(path: str) -> HostCompiler | None:
    text = answer([path, "--version"]) or ""
    version = re.match(r"\d+", answer([path, "-dumpversion"]) or "")
    return HostCompiler(path, "clang" if "clang" in text else "gcc", int(version[0])) if version else None


def visual_studios() -> tuple[HostCompiler, ...]:
    """Every Visual Studio with C++ tools, the newest first."""
    programs = os.environ.get("PROGRAMFILES(X86)", "C:/Program Files (x86)")
    command = [
        f"{programs}/Microsoft Visual Studio/Installer/vswhere.exe",
        "-products",
        "*",
        "-property",
        "installationVersion",
    ]
    command += ["-requires", "Microsoft.VisualStudio.Component.VC.Tools.*"]
    versions = filter(None, map(release_of, (answer(command) or "").splitlines()))
    first = {16: 1920, 17: 1930, 18: 1950}
    return tuple(
        HostCompiler("", "msvc", first[major] + minor)
        for major, minor in sorted(versions, reverse=True)
        if major in first
    )
