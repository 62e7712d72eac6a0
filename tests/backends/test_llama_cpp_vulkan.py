"""llama.cpp on a Vulkan device, through the worker: the one GPU path that runs without a GPU, on Mesa's software device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from environments import engine_python

pytestmark = pytest.mark.slow
MODEL = "synthetic:tiny:Q4_0"
EMBEDDING_BYTES = 512 * 256 * 18 // 32
"""The tokens' embeddings, which llama.cpp keeps on the processor: vocabulary x width, 18 bytes per 32 values of Q4_0."""
ROUNDING_BYTES = 32 << 10
"""llama.cpp's log rounds each of a handful of buffers to 0.01 MiB."""


def document(folder: Path, *options: str, devices: str = "0") -> dict[str, Any]:
    """`devices`: which of the machine's Vulkan devices ggml takes; without it none that is a processor."""
    words = ["run", "smoke", "-b", "llama_cpp", "-m", MODEL, "--python", str(engine_python("vulkan")), *options]
    done = subprocess.run(
        [sys.executable, "-m", "rigbench.cli.main", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "GGML_VK_VISIBLE_DEVICES": devices},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path = folder / done.stdout.rstrip().splitlines()[-1].removeprefix("result: ")
    valid = subprocess.run(
        [sys.executable, "-m", "rigbench.cli.main", "validate", str(path)], capture_output=True, text=True, check=False
    )
    assert valid.returncode == 0, valid.stdout
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def assert_measured(content: dict[str, Any], devices: int, layers: str) -> None:
    """Every case has its rates, on `devices` Vulkan devices that hold `layers` of all layers."""
    engine = content["engines"][0]
    assert engine["device"] == "vulkan" and engine["resolved"]["n_gpu_layers"] == layers
    assert len(engine["device_names"]) == devices and engine["device_names"] == engine["detail"]["gpus"]
    assert len(content["summary"]) == len(content["cases"]) == 2
    for case in content["cases"]:
        assert case["error"] is None and all(len(request["unit_us"]) > 1 for request in case["requests"])
        assert "gpu_unused" not in {flag["name"] for flag in case["flags"]}
    for row in content["summary"]:
        assert row["user_tps"] > 0 and row["output_tps"] > 0
        assert row["ceiling_tps"] is None or row["user_tps"] <= row["ceiling_tps"] * 1.005
    if "llvmpipe" in engine["device_names"][0]:  # it computes on the processor
        assert content["bandwidth"][0]["read_bytes_per_s"] is None and content["bandwidth"][0]["reason"]
        assert all(row["ceiling_tps"] is None for row in content["summary"])


def assert_whole_on_devices(content: dict[str, Any]) -> None:
    """All weights but the embeddings, the whole cache, and of the buffers for computing what is not the processor's."""
    for case in content["cases"]:
        memory = case["engine_memory"]
        bytes_there = memory["weights_bytes"] - EMBEDDING_BYTES + memory["kv_cache_bytes"]
        assert (
            bytes_there - ROUNDING_BYTES
            < memory["device_peak_bytes"]
            < bytes_there + memory["compute_bytes"] + ROUNDING_BYTES
        )


def test_all_layers_and_some_on_a_vulkan_device(tmp_path: Path) -> None:
    whole = document(tmp_path)
    assert_measured(whole, 1, "5/5")  # four layers and the output
    assert_whole_on_devices(whole)
    some = document(tmp_path, "-O", "n_gpu_layers=2")
    assert_measured(some, 1, "2/5")
    for of_some, of_all in zip(some["cases"], whole["cases"], strict=True):
        assert of_some["engine_memory"]["kv_cache_bytes"] == of_all["engine_memory"]["kv_cache_bytes"]
        assert 0 < of_some["engine_memory"]["device_peak_bytes"] < of_all["engine_memory"]["device_peak_bytes"]


def test_two_vulkan_devices(tmp_path: Path) -> None:
    """The same one twice: ggml takes it for two, and llama.cpp spreads the layers."""
    content = document(tmp_path, devices="0,0")
    assert_measured(content, 2, "5/5")
    assert_whole_on_devices(content)


def test_without_layers_on_the_device_it_is_the_processor(tmp_path: Path) -> None:
    content = document(tmp_path, "-O", "n_gpu_layers=0")
    assert content["engines"][0]["device"] == "cpu"
    assert content["engines"][0]["detail"]["gpus"]  # it is there, and was not asked for
    assert not set(content["engines"][0]["device_names"]) & set(content["engines"][0]["detail"]["gpus"])
    for case in content["cases"]:
        assert "gpu_unused" not in {flag["name"] for flag in case["flags"]}
        assert case["engine_memory"]["device_peak_bytes"] is None  # llama.cpp would compute long prompts there
