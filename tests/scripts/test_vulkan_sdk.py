"""What llama.cpp's Vulkan build needs, and the sentence for each part that is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def vulkan_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import vulkan_sdk

    yield vulkan_sdk
    sys.modules.pop("vulkan_sdk", None)


def test_a_machine_with_everything_needs_nothing_more(vulkan_sdk: ModuleType) -> None:
    parts = vulkan_sdk.Parts(True, True, (1, 4, 309), "/usr/bin/glslc", True)
    tools = vulkan_sdk.choose("Linux", parts)
    assert tools.cmake_args == ("-DGGML_VULKAN=ON", "-DVulkan_GLSLC_EXECUTABLE=/usr/bin/glslc")
    assert tools.packages == () and tools.reason == "Vulkan 1.4.309 of this system"


def test_debian_12_gets_what_its_headers_lack(vulkan_sdk: ModuleType) -> None:
    parts = vulkan_sdk.Parts(True, True, (1, 3, 239), "/usr/bin/glslc", False)
    tools = vulkan_sdk.choose("Linux", parts)
    assert "-DRIGBENCH_VULKAN_COMPAT=ON" in tools.cmake_args
    assert "-DSPIRV-Headers_DIR={packages}/cmeel.prefix/share/cmake/SPIRV-Headers" in tools.cmake_args
    assert tools.packages == (vulkan_sdk.SPIRV_HEADERS,)
    newer = vulkan_sdk.choose("Linux", replace(parts, headers=(1, 3, 272)))
    assert "-DRIGBENCH_VULKAN_COMPAT=ON" not in newer.cmake_args
    assert newer.identity != tools.identity


def test_what_the_headers_or_glslc_leave_out_is_said(vulkan_sdk: ModuleType) -> None:
    parts = vulkan_sdk.Parts(True, True, (1, 4, 309), "/usr/bin/glslc", True)
    for old in (replace(parts, matrices=False), replace(parts, headers=(1, 3, 254))):
        assert "too old for cooperative matrices: a newer Vulkan SDK" in vulkan_sdk.choose("Linux", old).reason
    assert "too old" not in vulkan_sdk.choose("Linux", replace(parts, headers=(1, 3, 255))).reason


def test_another_glslc_is_another_build(vulkan_sdk: ModuleType) -> None:
    parts = vulkan_sdk.Parts(True, True, (1, 4, 309), "/usr/bin/glslc", True, glslc_version="shaderc 2023.2")
    newer = replace(parts, glslc_version="shaderc 2025.1")
    assert vulkan_sdk.choose("Linux", parts).identity != vulkan_sdk.choose("Linux", newer).identity


def test_windows_takes_all_from_the_sdk(vulkan_sdk: ModuleType) -> None:
    parts = vulkan_sdk.Parts(True, True, (1, 4, 309), "C:\\VulkanSDK\\1.4.309.0\\Bin\\glslc.exe", True)
    tools = vulkan_sdk.choose("Windows", parts)
    assert tools.cmake_args == (
        "-DGGML_VULKAN=ON",
        "-DVulkan_GLSLC_EXECUTABLE=C:/VulkanSDK/1.4.309.0/Bin/glslc.exe",
    )


@pytest.mark.parametrize(
    ("lacking", "system", "sentence"),
    [
        (
            {"loader": False, "driver": False, "headers": None, "glslc": None},
            "Linux",
            "Vulkan lacks a driver, the loader, the headers and the shader compiler glslc here: sudo apt install "
            "libvulkan-dev glslc mesa-vulkan-drivers, then run this again",
        ),
        ({"glslc": None, "manager": "dnf"}, "Linux", "lacks the shader compiler glslc here: sudo dnf install"),
        ({"headers": None, "manager": "pacman"}, "Linux", "lacks the headers here: sudo pacman -S vulkan-headers"),
        ({"driver": False, "manager": "zypper"}, "Linux", "lacks a driver here: sudo zypper install"),
        ({"loader": False, "manager": None}, "Linux", "lacks the loader here: install Vulkan's loader"),
        (
            {"headers": None},
            "Windows",
            "winget install KhronosGroup.VulkanSDK, open a new terminal, then run this again",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_command(
    vulkan_sdk: ModuleType, lacking: dict[str, object], system: str, sentence: str
) -> None:
    parts = vulkan_sdk.Parts(True, True, (1, 4, 309), "/usr/bin/glslc", True, "apt-get")
    answer = vulkan_sdk.choose(system, replace(parts, **lacking))
    assert isinstance(answer, str) and sentence in answer and "\n" not in answer


def test_what_is_here_is_read_from_the_file_system(vulkan_sdk: ModuleType, tmp_path: Path) -> None:
    headers = tmp_path / "usr/include/vulkan"
    headers.mkdir(parents=True)
    (headers / "vulkan_core.h").write_text(
        "// comment\n#define VK_HEADER_VERSION 239\n\n"
        "#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, 3, VK_HEADER_VERSION)\n"
    )

    def parts(**environment: str) -> object:
        programs = {"glslc": "/usr/bin/glslc", "dnf": "/usr/bin/dnf"}
        return vulkan_sdk.parts_here(
            programs.get,
            tmp_path,
            environment,
            lambda words: "shaderc 2023.2\n" if words[1:] == ["--version"] else None,
        )

    assert parts().headers is None  # the C headers alone
    (headers / "vulkan.hpp").touch()
    assert (parts().headers, parts().glslc, parts().manager) == ((1, 3, 239), "/usr/bin/glslc", "dnf")
    assert not parts().driver and not parts().spirv_headers
    driver = tmp_path / "usr/share/vulkan/icd.d/radeon_icd.x86_64.json"
    driver.parent.mkdir(parents=True)
    driver.write_text("{}")
    spirv = tmp_path / "usr/share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"
    spirv.parent.mkdir(parents=True)
    spirv.touch()
    assert parts().driver and parts().spirv_headers
    driver.unlink()
    assert not parts(VK_DRIVER_FILES=str(driver)).driver
    driver.write_text("{}")
    assert parts(VK_DRIVER_FILES=str(driver)).driver
    assert not parts(VK_DRIVER_FILES=str(tmp_path / "none.json")).driver  # the loader then looks nowhere else
    assert (parts().glslc_version, parts().matrices) == ("shaderc 2023.2", False)


def test_a_driver_in_the_home_folder(vulkan_sdk: ModuleType, tmp_path: Path) -> None:
    driver = tmp_path / "home/me/.local/share/vulkan/icd.d/radeon_icd.json"
    driver.parent.mkdir(parents=True)
    driver.write_text("{}")
    assert vulkan_sdk.drivers(tmp_path, {"HOME": "/home/me"}) == [driver]
    assert vulkan_sdk.drivers(tmp_path, {"HOME": "/home/you"}) == []


def test_the_sdk_goes_before_the_system(vulkan_sdk: ModuleType, tmp_path: Path) -> None:
    programs = {"glslc": "/usr/bin/glslc", "/sdk/bin/glslc": "/sdk/bin/glslc"}
    for environment, glslc in (({"VULKAN_SDK": "/sdk"}, "/sdk/bin/glslc"), ({}, "/usr/bin/glslc")):
        assert vulkan_sdk.parts_here(programs.get, tmp_path, environment, lambda _: "").glslc == glslc


def test_glslc_is_asked_about_cooperative_matrices(vulkan_sdk: ModuleType) -> None:
    import shutil

    glslc = shutil.which("glslc")
    if glslc is None:
        pytest.skip("no glslc here")
    assert vulkan_sdk.compiles(glslc, "#version 460\nvoid main() {}\n", vulkan_sdk.answer)
    assert not vulkan_sdk.compiles(
        glslc, "#version 460\n#extension GL_none : require\nvoid main() {}\n", vulkan_sdk.answer
    )


def test_the_types_that_old_headers_lack_compile(tmp_path: Path) -> None:
    """As llama.cpp uses them, against this machine's headers, whatever their age."""
    import shutil
    import subprocess

    if not Path("/usr/include/vulkan/vulkan.hpp").exists() or not shutil.which("g++"):
        pytest.skip("no Vulkan headers here")
    source = tmp_path / "a.cpp"
    source.write_text(
        "#include <vulkan/vulkan.hpp>\n#include <vector>\nint main() {\n  VkBool32 on = 1;\n"
        '  std::vector<vk::LayerSettingEXT> s = {{"a", "b", vk::LayerSettingTypeEXT::eBool32, 1, &on}};\n'
        "  vk::LayerSettingsCreateInfoEXT info(s);\n"
        "  vk::InstanceCreateInfo i({}, nullptr, 0, nullptr, 0, nullptr);\n  i.pNext = &info;\n  return info.settingCount - 1;\n}\n"
    )
    command = ["g++", "-std=c++17", f"-I{SCRIPTS / 'vulkan_compat'}", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
