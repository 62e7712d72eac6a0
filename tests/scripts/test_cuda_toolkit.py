"""Which CUDA toolkit builds for which cards, driver, C library and host compiler, and the sentence where none does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import cuda_toolkit

    yield cuda_toolkit
    sys.modules.pop("cuda_toolkit", None)


# Recorded limits: --list-gpu-code and the headers of each toolkit.
TOOLKITS: dict[str, dict[str, Any]] = {
    "12.0": {
        "codes": "50 52 53 60 61 62 70 72 75 80 86 87 89 90",
        "gcc": 12,
        "clang": 14,
        "msvc": 1939,
        "glibc": (2, 40),
    },
    "12.9": {
        "codes": "50 52 53 60 61 62 70 72 75 80 86 87 89 90 100 101 103 120 121",
        "gcc": 14,
        "clang": 19,
        "msvc": 1949,
        "glibc": (2, 40),
    },
    "13.0": {
        "codes": "75 80 86 87 88 89 90 100 103 110 120 121",
        "gcc": 15,
        "clang": 20,
        "msvc": 1949,
        "glibc": (2, 41),
    },
}
CARDS = {
    "4090": ("8.9", "NVIDIA GeForce RTX 4090"),
    "5090": ("12.0", "NVIDIA GeForce RTX 5090"),
    "P40": ("6.1", "Tesla P40"),
    "K80": ("3.7", "Tesla K80"),
    "Thor": ("11.0", "NVIDIA Thor"),
    "next": ("14.0", "NVIDIA GeForce RTX 7090"),
    "?": ("", "NVIDIA GeForce RTX 3090"),
}
DRIVERS = {
    "470": (11, 4),
    "535": (12, 2),
    "570": (12, 8),
    "575": (12, 9),
    "580": (13, 0),
    "600": (13, 5),
    "440": (10, 2),
}
PYPI_13_0 = "cuda-toolkit[nvcc,cudart,cublas,cccl]==13.0.3.0"
PYPI_13_5 = "cuda-toolkit[nvcc,cudart,cublas,cccl]==13.5.0"


def cards(cuda: ModuleType, names: str, driver: str, libcuda: str | None = "/usr/lib/libcuda.so.1") -> Any:
    rows = [CARDS[name] for name in names.split()]
    capabilities, models = zip(*rows, strict=True)
    return cuda.Cards(capabilities, models, DRIVERS.get(driver), driver, libcuda)


def nvccs(cuda: ModuleType, releases: str) -> list[Any]:
    """`releases` as "12.0 13.0"; "13.0!" is one without cuBLAS."""
    result = []
    for word in releases.split():
        release = word.rstrip("!")
        facts = {**TOOLKITS[release], "codes": frozenset(TOOLKITS[release]["codes"].split())}
        path = f"/usr/local/cuda-{release}/bin/nvcc"
        result.append(cuda.Nvcc(path, cuda.release_of(release), cublas=word == release, **facts))
    return result


def hosts(cuda: ModuleType, names: str) -> list[Any]:
    """`names` as "gcc-13 clang-18", or "msvc-1944"."""
    split = [name.split("-") for name in names.split()]
    return [cuda.HostCompiler(f"/usr/bin/{kind}-{version}", kind, int(version)) for kind, version in split]


@pytest.mark.parametrize(
    ("names", "driver", "releases", "compilers", "glibc", "compiler", "package", "host"),
    [
        pytest.param("4090", "580", "13.0", "gcc-13", (2, 39), "13.0", None, "gcc-13", id="the system's fits"),
        pytest.param("4090", "580", "12.0 12.9", "gcc-13", (2, 39), "12.9", None, "gcc-13", id="newest of the system"),
        pytest.param("4090", "575", "12.9 13.0", "gcc-13", (2, 39), "12.9", None, "gcc-13", id="driver older than the newest"),
        pytest.param("4090", "570", "12.9", "gcc-13", (2, 39), "12.9", None, "gcc-13", id="minor version compatibility"),
        pytest.param("4090", "570", "12.9 12.0", "gcc-12", (2, 39), "12.0", None, "gcc-12", id="driver's own before compatible"),
        pytest.param("5090", "580", "12.0", "gcc-13", (2, 39), None, PYPI_13_0, "gcc-13", id="5090 and apt's 12.0"),
        pytest.param("5090", "600", "12.0", "gcc-13", (2, 39), None, PYPI_13_5, "gcc-13", id="newest of PyPI"),
        pytest.param("4090", "580", "", "gcc-13", (2, 39), None, PYPI_13_0, "gcc-13", id="no toolkit"),
        pytest.param("4090", "580", "13.0!", "gcc-13", (2, 39), None, PYPI_13_0, "gcc-13", id="toolkit without cuBLAS"),
        pytest.param("4090", "580", "", "gcc-16", (2, 39), None, PYPI_13_5, "gcc-16", id="GCC 16 takes a newer toolkit"),
        pytest.param("4090", "580", "", "gcc-13", (2, 42), None, PYPI_13_5, "gcc-13", id="so does glibc 2.42"),
        pytest.param("4090", "580", "12.9", "gcc-14", (2, 41), None, PYPI_13_0, "gcc-14", id="12.9 with glibc 2.41"),
        pytest.param("4090", "580", "12.9", "gcc-15", (2, 39), None, PYPI_13_0, "gcc-15", id="12.9 and GCC 15"),
        pytest.param("P40", "580", "12.9", "gcc-15 gcc-14", (2, 39), "12.9", None, "gcc-14", id="an older GCC is here"),
        pytest.param("4090", "580", "13.0", "gcc-16 clang-20", (2, 39), "13.0", None, "clang-20", id="Clang in place of GCC"),
        pytest.param("P40", "580", "13.0 12.9", "gcc-13", (2, 39), "12.9", None, "gcc-13", id="P40 beside 13.0"),
        pytest.param("5090 4090", "580", "13.0", "gcc-13", (2, 39), "13.0", None, "gcc-13", id="two cards"),
        pytest.param("5090 P40", "580", "13.0 12.9 12.0", "gcc-13", (2, 39), "12.9", None, "gcc-13", id="two ages of cards"),
        pytest.param("?", "580", "", "gcc-16 gcc-15", (2, 39), None, PYPI_13_0, "gcc-15", id="unknown card: no newer PTX"),
        pytest.param("4090", "", "12.9", "gcc-13", (2, 39), "12.9", None, "gcc-13", id="unknown driver"),
    ],
)  # fmt: skip
def test_choice(
    cuda: ModuleType,
    names: str,
    driver: str,
    releases: str,
    compilers: str,
    glibc: tuple[int, int],
    compiler: str | None,
    package: str | None,
    host: str,
) -> None:
    toolchain = cuda.choose(
        "Linux", cards(cuda, names, driver), nvccs(cuda, releases), hosts(cuda, compilers), glibc=glibc
    )
    assert not isinstance(toolchain, str), toolchain
    path = f"/usr/local/cuda-{compiler}/bin/nvcc" if compiler else "{packages}/nvidia/cu13/bin/nvcc"
    assert toolchain.environment["CUDACXX"] == path
    assert toolchain.packages == ((package,) if package else ())
    assert toolchain.environment["CUDAHOSTCXX"] == f"/usr/bin/{host}"


ARCHIVE = "from NVIDIA (developer.nvidia.com/cuda-toolkit-archive), and run this again."
UPDATE = (
    "update the NVIDIA driver {} to 580 or newer (CUDA 13 then comes from PyPI by itself), or install the CUDA toolkit"
)


@pytest.mark.parametrize(
    ("system", "names", "driver", "releases", "compilers", "glibc", "manager", "sentence"),
    [
        pytest.param(
            "Linux", "4090", "535", "", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 4090 (compute capability 8.9) needs the CUDA toolkit 12.9, and no CUDA toolkit is here: "
            f"{UPDATE.format(535)} 12.9 {ARCHIVE}",
            id="driver of CUDA 12, no toolkit",
        ),
        pytest.param(
            "Linux", "4090", "570", "13.0", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 4090 (compute capability 8.9) needs the CUDA toolkit 12.9, and here is nvcc 13.0 of this "
            f"system: {UPDATE.format(570)} 12.9 {ARCHIVE}",
            id="driver older than the toolkit",
        ),
        pytest.param(
            "Linux", "P40", "580", "13.0", "gcc-13", (2, 39), None,
            "Tesla P40 (compute capability 6.1) needs the CUDA toolkit 12.9, and here is nvcc 13.0 of this system: "
            f"install the CUDA toolkit 12.9 {ARCHIVE}",
            id="P40 and 13.0",
        ),
        pytest.param(
            "Linux", "P40 5090", "580", "12.0", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 5090 and Tesla P40 (compute capability 6.1 and 12.0) need the CUDA toolkit 12.9, and here is "
            f"nvcc 12.0 of this system: install the CUDA toolkit 12.9 {ARCHIVE}",
            id="two ages of cards",
        ),
        pytest.param(
            "Linux", "P40 Thor", "580", "12.9 13.0", "gcc-13", (2, 39), None,
            "No CUDA toolkit knows all of NVIDIA Thor and Tesla P40 (compute capability 6.1 and 11.0): build for Vulkan with "
            "RIGBENCH_LLAMA_BUILD=vulkan.",
            id="no toolkit knows both",
        ),
        pytest.param(
            "Linux", "K80", "470", "", "gcc-13", (2, 39), None,
            "Tesla K80 (compute capability 3.7) is too old: CUDA 12, which llama.cpp is built with, starts at compute "
            "capability 5.0.",
            id="Kepler",
        ),
        pytest.param(
            "Linux", "4090", "440", "12.0 13.0", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 4090 (compute capability 8.9): the NVIDIA driver 440 is too old, it runs CUDA 10.2 at most: "
            "update it to 580 or newer, and run this again.",
            id="driver too old for anything",
        ),
        pytest.param(
            "Linux", "5090", "470", "12.9", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 5090 (compute capability 12.0): the NVIDIA driver 470 is too old, it runs CUDA 11.4 at most: "
            "update it to 580 or newer, and run this again.",
            id="driver too old for the card",
        ),
        pytest.param(
            "Linux", "?", "575", "13.0", "gcc-13", (2, 39), None,
            f"NVIDIA GeForce RTX 3090 needs the CUDA toolkit 12.9, and here is nvcc 13.0 of this system: {UPDATE.format(575)} "
            f"12.9 {ARCHIVE}",
            id="capability unknown",
        ),
        pytest.param(
            "Linux", "?", "535", "12.9", "gcc-13", (2, 39), None,
            f"NVIDIA GeForce RTX 3090 needs the CUDA toolkit 12.2, and here is nvcc 12.9 of this system: {UPDATE.format(535)} "
            f"12.2 {ARCHIVE}",
            id="capability unknown: the driver cannot compile newer PTX",
        ),
        pytest.param(
            "Linux", "next", "600", "13.0", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 7090 (compute capability 14.0) needs the CUDA toolkit 13.5 or newer, and here is nvcc 13.0 of "
            f"this system: install the CUDA toolkit 13.5 or newer {ARCHIVE}",
            id="a card newer than this program",
        ),
        pytest.param(
            "Linux", "4090", "", "", "gcc-13", (2, 39), None,
            "NVIDIA GeForce RTX 4090 (compute capability 8.9): the NVIDIA driver does not say which CUDA it runs, and no CUDA "
            "toolkit is here: make nvidia-smi work (reinstall the driver), and run this again.",
            id="driver unknown",
        ),
        pytest.param(
            "Linux", "4090", "580", "", "gcc-13", None, None,
            "NVIDIA GeForce RTX 4090 (compute capability 8.9) needs the CUDA toolkit 12.0 or newer, and no CUDA toolkit is "
            f"here: install the CUDA toolkit 12.0 or newer {ARCHIVE}",
            id="no glibc, so not PyPI's wheels",
        ),
        pytest.param(
            "Linux", "P40", "580", "12.9", "gcc-15 clang-20", (2, 39), "apt-get",
            "GCC 14 is the newest that nvcc 12.9 of this system takes, and here is Clang 20 and GCC 15: sudo apt install "
            "g++-14, and run this again.",
            id="GCC too new",
        ),
        pytest.param(
            "Linux", "4090", "580", "", "gcc-17", (2, 39), "dnf",
            "GCC 15 is the newest that nvcc 13.0 from PyPI takes, and here is GCC 17: sudo dnf install gcc15-c++, and run "
            "this again.",
            id="GCC too new for PyPI's",
        ),
        pytest.param(
            "Linux", "4090", "580", "", "", (2, 39), "pacman",
            "nvcc 13.0 from PyPI needs a C++ compiler, and there is none here: sudo pacman -S gcc15, and run this again.",
            id="no host compiler",
        ),
        pytest.param(
            "Linux", "P40", "580", "12.9", "gcc-14", (2, 41), None,
            "nvcc 12.9 of this system does not compile with glibc 2.41, 2.40 is the newest that it takes: build "
            "for Vulkan with RIGBENCH_LLAMA_BUILD=vulkan, or in a container of Ubuntu 24.04, and run this again.",
            id="glibc too new, old card",
        ),
        pytest.param(
            "Linux", "4090", "575", "12.9", "gcc-14", (2, 41), None,
            "nvcc 12.9 of this system does not compile with glibc 2.41, 2.40 is the newest that it takes: update "
            "the NVIDIA driver to 580 or newer (CUDA 13 then comes from PyPI by itself), and run this again.",
            id="glibc too new, driver too",
        ),
        pytest.param(
            "Windows", "4090", "580", "", "msvc-1944", None, None,
            "NVIDIA GeForce RTX 4090 (compute capability 8.9) needs the CUDA toolkit 12.0 or newer, and no CUDA toolkit is "
            "here: with Visual Studio's C++ tools installed first, winget install Nvidia.CUDA, and run this again.",
            id="Windows",
        ),
        pytest.param(
            "Windows", "P40", "570", "", "msvc-1944", None, None,
            "Tesla P40 (compute capability 6.1) needs the CUDA toolkit 12.9, and no CUDA toolkit is here: with Visual Studio's "
            "C++ tools installed first, winget install Nvidia.CUDA --version 12.9, and run this again.",
            id="Windows, old card",
        ),
        pytest.param(
            "Windows", "4090", "580", "12.9", "msvc-1950", None, None,
            "nvcc 12.9 of this system needs the C++ tools of Visual Studio 2022, and a newer one is here: winget install "
            'Microsoft.VisualStudio.2022.BuildTools --override "--passive --add Microsoft.VisualStudio.Workload.VCTools '
            '--includeRecommended", then install CUDA again, and run this again.',
            id="Windows, Visual Studio too new",
        ),
    ],
)  # fmt: skip
def test_sentence(
    cuda: ModuleType,
    system: str,
    names: str,
    driver: str,
    releases: str,
    compilers: str,
    glibc: tuple[int, int] | None,
    manager: str | None,
    sentence: str,
) -> None:
    answer = cuda.choose(
        system,
        cards(cuda, names, driver),
        nvccs(cuda, releases),
        hosts(cuda, compilers),
        glibc=glibc,
        manager=manager,
    )
    assert answer == sentence


def test_settings_of_the_system_toolkit(cuda: ModuleType) -> None:
    """ggml looks for the toolkit before CUDACXX counts, so the root is given too; the driver's library is linked by its path."""
    toolchain = cuda.choose(
        "Linux",
        cards(cuda, "5090 4090 4090", "600"),
        nvccs(cuda, "13.0"),
        hosts(cuda, "gcc-13"),
        glibc=(2, 39),
        cores=8,
    )
    assert toolchain.environment == {
        "CUDACXX": "/usr/local/cuda-13.0/bin/nvcc",
        "CUDAHOSTCXX": "/usr/bin/gcc-13",
    }
    assert toolchain.cmake_args == (
        "-DGGML_CUDA=ON",
        "-DCUDAToolkit_ROOT=/usr/local/cuda-13.0",
        "-DCMAKE_CUDA_ARCHITECTURES=89-real;120-real",
        '-DCMAKE_SHARED_LINKER_FLAGS_RELEASE=-Wl,-rpath,"/usr/local/cuda-13.0/lib64"',
        "-DCUDA_cuda_driver_LIBRARY=/usr/lib/libcuda.so.1",
    )
    assert toolchain.reason.startswith(
        "nvcc 13.0 of this system builds for compute capability 8.9 and 12.0 "
        "(NVIDIA GeForce RTX 4090 and NVIDIA GeForce RTX 5090), in about "
    )


def test_settings_of_the_wheels(cuda: ModuleType) -> None:
    """The wheels hold libcudart.so.13 where CMake looks for libcudart.so, so each library is given by its path."""
    toolchain = cuda.choose("Linux", cards(cuda, "4090", "580", None), (), hosts(cuda, "gcc-13"), glibc=(2, 39))
    folder = "{packages}/nvidia/cu13"
    assert toolchain.environment == {
        "CUDACXX": f"{folder}/bin/nvcc",
        "CUDAHOSTCXX": "/usr/bin/gcc-13",
        "LIBRARY_PATH": f"{folder}/lib",
    }
    assert toolchain.cmake_args == (
        "-DGGML_CUDA=ON",
        f"-DCUDAToolkit_ROOT={folder}",
        "-DCMAKE_CUDA_ARCHITECTURES=89-real",
        f'-DCMAKE_SHARED_LINKER_FLAGS_RELEASE=-Wl,-rpath,"{folder}/lib"',
        "-DGGML_CUDA_NO_VMM=ON",
        f"-DCUDA_CUDART={folder}/lib/libcudart.so.13",
        f"-DCUDA_cudart_LIBRARY={folder}/lib/libcudart.so.13",
        f"-DCUDA_cublas_LIBRARY={folder}/lib/libcublas.so.13",
        f"-DCUDA_cublasLt_LIBRARY={folder}/lib/libcublasLt.so.13",
    )


def test_settings_on_windows(cuda: ModuleType) -> None:
    """CMake takes the newest Visual Studio by itself; where the toolkit refuses it, the older one is named."""
    arguments = ("Windows", cards(cuda, "4090", "580"), nvccs(cuda, "12.9"))
    assert cuda.choose(*arguments, hosts(cuda, "msvc-1944")).environment == {"CUDACXX": "/usr/local/cuda-12.9/bin/nvcc"}
    older = cuda.choose(*arguments, hosts(cuda, "msvc-1951 msvc-1944"))
    assert older.environment["CMAKE_GENERATOR"] == "Visual Studio 17 2022"
    assert older.cmake_args == (
        "-DGGML_CUDA=ON",
        "-DCUDAToolkit_ROOT=/usr/local/cuda-12.9",
        "-DCMAKE_CUDA_ARCHITECTURES=89-real",
    )


def test_identity_changes_with_what_changes_the_build(cuda: ModuleType) -> None:
    def identity(releases: str, compilers: str) -> str:
        choice = cuda.choose(
            "Linux", cards(cuda, "4090", "580"), nvccs(cuda, releases), hosts(cuda, compilers), glibc=(2, 39)
        )
        return str(choice.identity)

    every = [identity("13.0", "gcc-13"), identity("12.9", "gcc-13"), identity("13.0", "gcc-12"), identity("", "gcc-13")]
    assert len(set(every)) == 4
    assert identity("13.0", "gcc-13") == every[0]


@pytest.mark.parametrize(
    ("release", "driver", "ptx", "runs"),
    [
        ((12, 9), (13, 0), True, True),  # an older major release: backward compatibility
        ((13, 0), (13, 0), True, True),
        ((13, 5), (13, 0), False, True),  # minor version compatibility
        ((13, 5), (13, 0), True, False),  # ... which leaves out PTX
        ((13, 0), (12, 9), False, False),
        ((10, 2), (10, 1), False, False),  # ... and begins with CUDA 11
        ((11, 8), (11, 4), False, True),
    ],
)
def test_driver(cuda: ModuleType, release: tuple[int, int], driver: tuple[int, int], ptx: bool, runs: bool) -> None:
    assert cuda.driver_runs(release, driver, ptx) is runs


@pytest.mark.parametrize(
    ("text", "capabilities", "names", "driver"),
    [
        ("8.9, NVIDIA GeForce RTX 4090, 580.65.06\n", ("8.9",), ("NVIDIA GeForce RTX 4090",), "580.65.06"),
        (
            "12.0, NVIDIA GeForce RTX 5090, 575.57.08\n6.1, Tesla P40, 575.57.08\n",
            ("12.0", "6.1"),
            ("NVIDIA GeForce RTX 5090", "Tesla P40"),
            "575.57.08",
        ),
        ("[N/A], NVIDIA Thor, 580.00\n", ("",), ("NVIDIA Thor",), "580.00"),
        ("GeForce GTX 1080 Ti, 440.33.01\n", ("",), ("GeForce GTX 1080 Ti",), "440.33.01"),  # without compute_cap
    ],
)
def test_nvidia_smi(
    cuda: ModuleType, text: str, capabilities: tuple[str, ...], names: tuple[str, ...], driver: str
) -> None:
    assert cuda.parse_query(text) == cuda.Cards(capabilities, names, None, driver)


def test_nvidia_smi_without_cards(cuda: ModuleType) -> None:
    assert cuda.parse_query("No devices were found\n") is None


SMI_HEAD = """
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 570.133.20             Driver Version: 570.133.20     CUDA Version: 12.8     |
|-----------------------------------------+------------------------+----------------------+
"""


@pytest.mark.parametrize(
    ("smi", "driver", "release"),
    [
        (SMI_HEAD, "570.133.20", (12, 8)),
        ("", "580.65.06", (13, 0)),
        ("", "535.183.01", (12, 0)),
        ("", "470.256.02", (11, 0)),
        ("", "440.33.01", (10, 0)),
        ("| NVIDIA-SMI 570.1  Driver Version: 570.1  CUDA Version: N/A |", "570.1", (12, 0)),
        ("", None, None),
    ],
)
def test_cuda_of_the_driver(cuda: ModuleType, smi: str, driver: str | None, release: tuple[int, int] | None) -> None:
    assert cuda.cuda_of(smi, driver) == release


NVCC_VERSION = """nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Wed_Aug_20_01:58:59_PM_PDT_2025
Cuda compilation tools, release 13.0, V13.0.88
Build cuda_13.0.r13.0/compiler.36424714_0
"""


def test_nvcc_version(cuda: ModuleType) -> None:
    assert cuda.parse_nvcc_version(NVCC_VERSION) == (13, 0)
    assert cuda.parse_nvcc_version("nvcc: command not found") is None


HOST_CONFIG = """
#if (__GRCO_CLANG_COMPILER__ == 1) && ((__clang_major__ < 16) || (__clang_major__ > 19))
#if defined(__GNUC__)
#if __GNUC__ > 14
#if (__clang_major__ >= 20) || (__clang_major__ < 3) || ((__clang_major__ == 3) &&  (__clang_minor__ < 3))
#if _MSC_VER < 1910 || _MSC_VER >= 1950
#if _MSC_VER >= 1500
"""  # crt/host_config.h of CUDA 12.9
MATHS = {  # crt/math_functions.h
    "12.9": "extern double   rsqrt(double x);\nextern double   cospi(double x);\n",
    "13.0": "extern double   rsqrt(double x);\nextern double   cospi(double x) __NV_IEC_60559_FUNCS_EXCEPTION_SPECIFIER;\n",
    "13.5": "extern double   rsqrt(double x) _NV_RSQRT_SPECIFIER;\nextern double   cospi(double x) __NV_IEC_60559_FUNCS;\n",
}


def test_limits_in_the_headers(cuda: ModuleType) -> None:
    assert cuda.parse_host_config(HOST_CONFIG) == (14, 19, 1949)
    assert cuda.parse_host_config("") == (None, None, None)
    assert [cuda.newest_glibc(MATHS[release]) for release in ("12.9", "13.0", "13.5")] == [(2, 40), (2, 41), None]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvcc is a shell script")
def test_a_toolkit_tells_its_limits(cuda: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laid out as NVIDIA's installer does, and named by CUDACXX."""
    program = tmp_path / "bin/nvcc"
    headers = tmp_path / "targets/x86_64-linux/include"
    (headers / "crt").mkdir(parents=True)
    program.parent.mkdir()
    codes = "--list-gpu-code) echo sm_75; echo sm_120;;"
    script = f"#!/bin/sh\ncase $1 in --version) cat <<'END'\n{NVCC_VERSION}END\n;; {codes} esac\n"
    program.write_text(script)
    program.chmod(0o755)
    (headers / "crt/host_config.h").write_text(HOST_CONFIG)
    (headers / "crt/math_functions.h").write_text(MATHS["13.0"])
    monkeypatch.setenv("CUDACXX", str(program))
    expected = cuda.Nvcc(str(program), (13, 0), frozenset({"75", "120"}), 14, 19, 1949, (2, 41), cublas=False)
    assert cuda.system_nvccs() == (expected,)
    (headers / "cublas_v2.h").touch()
    assert cuda.system_nvccs()[0].cublas


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has GCC or Clang on PATH where anything is built")
def test_the_compilers_of_this_machine(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`-dumpversion` of a stand-in; the one that CUDAHOSTCXX names comes first."""
    for name, version, banner in (
        ("g++", "13", "g++ (GCC) 13.3.0"),
        ("clang++-18", "18.1.3", "Ubuntu clang version 18"),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n[ $1 = -dumpversion ] && echo {version} || echo '{banner}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.delenv("CUDAHOSTCXX", raising=False)
    monkeypatch.delenv("NVCC_CCBIN", raising=False)
    gcc, clang = (
        cuda.HostCompiler(str(tmp_path / "g++"), "gcc", 13),
        cuda.HostCompiler(str(tmp_path / "clang++-18"), "clang", 18),
    )
    assert cuda.host_compilers()[0] == gcc
    assert clang in cuda.host_compilers()
    monkeypatch.setenv("CUDAHOSTCXX", "clang++-18")
    assert cuda.host_compilers()[:2] == (clang, gcc)
