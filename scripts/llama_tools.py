"""llama.cpp's own llama-bench and llama-batched-bench, made to load the very libraries that the Python package loads.

    .venv/bin/python scripts/llama_tools.py             # builds them (about 2 minutes on 2 cores) and says where they are
    .venv/bin/python scripts/llama_tools.py --server    # llama-server too, without its web page (some 6 minutes)

Only the tools and llama.cpp's helpers are compiled, from the source in llama-cpp-python's package; libllama
and libggml are those in site-packages. So a difference between the tools' figures and ours is not one of builds.
"""

from __future__ import annotations

import filecmp
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rigbench.paths import cache_dir

TOOLS = ("llama-bench", "llama-batched-bench")
SERVER = "llama-server"

CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.21)
project(llama_tools C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_BUILD_RPATH "${ENGINE_LIB}")
set(BUILD_SHARED_LIBS OFF)
set(LLAMA_BUILD_COMMON ON)
set(LLAMA_BUILD_NUMBER 0)
set(LLAMA_BUILD_COMMIT "packaged")
function(llama_add_compile_flags)  # llama.cpp's warnings, which are its developers' business
endfunction()
function(license_add_file)
endfunction()
foreach(name IN ITEMS ggml-base ggml llama)
    find_library(LIB_${name} ${name} PATHS "${ENGINE_LIB}" NO_DEFAULT_PATH REQUIRED)
    add_library(${name} SHARED IMPORTED GLOBAL)
    set_target_properties(${name} PROPERTIES IMPORTED_LOCATION "${LIB_${name}}" IMPORTED_IMPLIB "${LIB_${name}}")
    target_include_directories(${name} INTERFACE "${LLAMA_CPP}/include" "${LLAMA_CPP}/ggml/include")
    target_compile_definitions(${name} INTERFACE GGML_SHARED GGML_BACKEND_SHARED LLAMA_SHARED)
endforeach()
target_link_libraries(ggml INTERFACE ggml-base)
target_link_libraries(llama INTERFACE ggml)
add_subdirectory(${LLAMA_CPP}/vendor vendor EXCLUDE_FROM_ALL)
add_subdirectory(${LLAMA_CPP}/common common EXCLUDE_FROM_ALL)
add_subdirectory(${LLAMA_CPP}/tools/llama-bench llama-bench)
add_subdirectory(${LLAMA_CPP}/tools/batched-bench batched-bench)
set(N_ASSETS 0)  # llama-server without its web page, which is built with npm or downloaded
set(USE_GZIP false)
foreach(file IN ITEMS ui.h ui.cpp)
    configure_file(${LLAMA_CPP}/tools/ui/${file}.in ${CMAKE_BINARY_DIR}/ui/${file} @ONLY)
endforeach()
add_library(llama-ui STATIC EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/ui/ui.cpp)
target_include_directories(llama-ui PUBLIC ${CMAKE_BINARY_DIR}/ui)
add_custom_target(llama-ui-assets)
add_subdirectory(${LLAMA_CPP}/tools/mtmd mtmd EXCLUDE_FROM_ALL)
add_subdirectory(${LLAMA_CPP}/tools/server server EXCLUDE_FROM_ALL)
"""


@dataclass(frozen=True, slots=True)
class Flags:
    """What both sides run with, under llama.cpp's names; `options` gives them to rigbench's backend."""

    threads: int
    n_batch: int = 2048
    n_ubatch: int = 512
    flash_attn: str = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    kv_unified: bool = False
    n_gpu_layers: int = -1

    def words(self) -> list[str]:
        """For both tools; -1 layers are `all` to one and -1 to the other, so they are not among these."""
        words = ["-t", self.threads, "-b", self.n_batch, "-ub", self.n_ubatch, "-fa", self.flash_attn]
        return [str(word) for word in [*words, "-ctk", self.type_k, "-ctv", self.type_v]]


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs, and the folder of the libraries that they load."""

    bench: Path
    batched: Path
    engine_lib: Path
    version: str
    server: Path | None = None


def fail(sentence: str) -> NoReturn:
    """End with one sentence and exit code 3: this machine cannot."""
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr)
    sys.exit(3)


def build_tools(source: Path | None = None, *, server: bool = False) -> Tools:
    """Build what is not built yet. `source` is an unpacked source package; with None, pip downloads it."""
    targets = (*TOOLS, SERVER) if server else TOOLS
    package = importlib.util.find_spec("llama_cpp")
    if package is None or package.origin is None:
        fail("llama-cpp-python is not installed in this Python: run scripts/test once, and then .venv/bin/python this.")
        raise AssertionError
    engine_lib = Path(package.origin).parent / "lib"
    version = importlib.metadata.version("llama_cpp_python")
    folder = cache_dir() / "llama-tools" / f"{version}-{sys.platform}"
    if shutil.which("cmake") is None:
        fail("cmake is not on PATH: pip install cmake ninja, with .venv/bin on PATH, and run this again.")
    llama_cpp = (source or unpacked_source(folder, version)) / "vendor/llama.cpp"
    (folder / "project").mkdir(parents=True, exist_ok=True)
    (folder / "project/CMakeLists.txt").write_text(CMAKE_LISTS, encoding="utf-8")
    build = folder / "build"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "LLAMA_CPP": llama_cpp.as_posix(),
        "ENGINE_LIB": engine_lib.as_posix(),
        "LLAMA_OPENSSL": "OFF",
        "LLAMA_SUBPROCESS": "OFF",
    }
    log = folder / "build.log"
    print(f"Building {' and '.join(targets)} of llama-cpp-python {version}: minutes the first time", flush=True)
    with log.open("wb") as output:
        configure = [
            "cmake",
            *generator,
            "-S",
            folder / "project",
            "-B",
            build,
            *(f"-D{k}={v}" for k, v in settings.items()),
        ]
        compile_ = [
            "cmake",
            "--build",
            build,
            "--config",
            "Release",
            "--parallel",
            str(os.cpu_count() or 1),
            "--target",
            *targets,
        ]
        for command in (configure, compile_):
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode != 0:
                fail(f"the tools do not build; the reason is at the end of {log}.")
    programs = [next(build.glob(f"bin/**/{name}{'.exe' if os.name == 'nt' else ''}")) for name in targets]
    return Tools(programs[0], programs[1], engine_lib, version, programs[2] if server else None)


def unpacked_source(folder: Path, version: str) -> Path:
    """llama-cpp-python's source package, downloaded and unpacked into `folder` once."""
    source = folder / f"llama_cpp_python-{version}"
    if (source / "vendor/llama.cpp/CMakeLists.txt").exists():
        return source
    print(f"Downloading the source package of llama-cpp-python {version} (77 MB)", flush=True)
    archives = folder / "archive"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", archives]
    if subprocess.run([*command, f"llama-cpp-python=={version}"], capture_output=True, check=False).returncode != 0:
        fail(
            f"pip cannot download llama-cpp-python {version} as a source package: check the network and pip's settings."
        )
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return source


def loaded_libraries(tools: Tools) -> list[Path]:
    """The llama.cpp libraries that llama-bench loads, as the system's loader tells. [] where it cannot be asked."""
    asking = {"linux": ["ldd"], "darwin": ["otool", "-L"]}.get(sys.platform)
    if asking is None:
        return []
    output = subprocess.run(
        [*asking, tools.bench], capture_output=True, text=True, env=environment(tools), check=True
    ).stdout
    names = re.findall(r"(\S*lib(?:llama|ggml)[^\s]*)(?: => (\S+))?", output)
    return [Path((path or name).replace("@rpath", str(tools.engine_lib))) for name, path in names]


def say_libraries(tools: Tools) -> None:
    """Print that the tools and the package share their libraries, and end if they do not.

    A wheel holds no links: `libllama.so`, which Python opens, and `libllama.so.0`, which the linker noted, are copies.
    """
    loaded = loaded_libraries(tools)
    strange = [path for path in loaded if path.resolve().parent != tools.engine_lib.resolve()]
    if strange or (not loaded and sys.platform != "win32"):
        fail(f"llama-bench loads {strange or 'nothing'}, not the libraries in {tools.engine_lib}.")
    for path in loaded:
        opened = path.with_name(path.name.split(".")[0] + path.suffixes[0])
        if opened.exists() and not filecmp.cmp(path, opened, shallow=False):
            fail(f"{path.name} and {opened.name} differ: install llama-cpp-python anew.")
    print(f"llama-bench loads the Python package's own {', '.join(path.name for path in loaded)}", flush=True)


def environment(tools: Tools) -> dict[str, str]:
    """The package's libraries before all others."""
    name = {"darwin": "DYLD_LIBRARY_PATH", "win32": "PATH"}.get(sys.platform, "LD_LIBRARY_PATH")
    return {**os.environ, name: os.pathsep.join(filter(None, [str(tools.engine_lib), os.environ.get(name)]))}


def run_tool(tools: Tools, command: list[str | Path]) -> str:
    """What the tool prints on stdout; its last words and an end if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tools), check=False)
    if done.returncode != 0:
        fail(f"{Path(command[0]).name} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")
    return done.stdout


def parse_bench(text: str) -> list[float]:
    """Tokens/s of each repetition, from `llama-bench -o json` with one test."""
    tests = json.loads(text)
    if len(tests) != 1:
        raise ValueError(f"one test was asked for and {len(tests)} came")
    return [float(rate) for rate in tests[0]["samples_ts"]]


def parse_batched(text: str) -> dict[int, dict[str, float]]:
    """users -> the line of `llama-batched-bench --output-format jsonl`, whose log may hold other lines beside."""
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {int(row["pl"]): row for row in rows}


def bench_tps(tools: Tools, model: Path, flags: Flags, *, prompt: int = 0, output: int = 0, depth: int = 0) -> float:
    """llama-bench once: tokens/s of `prompt` tokens of prefill or `output` tokens of decode, `depth` tokens deep."""
    words = [
        "-m",
        model,
        "-p",
        prompt,
        "-n",
        output,
        "-d",
        depth,
        "-r",
        1,
        "-ngl",
        flags.n_gpu_layers,
        "-o",
        "json",
    ]
    return parse_bench(run_tool(tools, [tools.bench, *map(str, words), *flags.words()]))[0]


def batched_tps(tools: Tools, model: Path, flags: Flags, *, users: int, prompt: int, output: int) -> float:
    """llama-batched-bench once: decode tokens/s of `users` users in all, each `prompt` tokens deep."""
    per_user = -(-(prompt + output) // 256) * 256  # the cells that rigbench's backend asks for
    layers = "all" if flags.n_gpu_layers < 0 else flags.n_gpu_layers
    words = [
        "-m",
        model,
        "-c",
        users * per_user,
        "-npp",
        prompt,
        "-ntg",
        output,
        "-npl",
        users,
        "-ngl",
        layers,
        "-fit",
        "off",
    ]
    unified = "--kv-unified" if flags.kv_unified else "--no-kv-unified"
    command = [tools.batched, *map(str, words), *flags.words(), unified, "--output-format", "jsonl"]
    return parse_batched(run_tool(tools, command))[users]["speed_tg"]


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--server"]
    say_libraries(built := build_tools(Path(words[0]) if words else None, server="--server" in sys.argv))
    print(*filter(None, (built.bench, built.batched, built.server)), sep="\n")
