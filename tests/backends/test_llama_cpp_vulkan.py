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


def document(folder: Path, *options: str) -> dict[str, Any]:
    words = ["run", "smoke", "-b", "llama_cpp", "-m", MODEL, "--python", str(engine_python("vulkan")), *options]
    done = subprocess.run(
        [sys.executable, "-m", "rigbench.cli.main", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "GGML_VK_VISIBLE_DEVICES": os.environ.get("GGML_VK_VISIBLE_DEVICES", "0")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path = folder / done.stdout.rstrip().splitlines()[-1].removeprefix("result: ")
    valid = subprocess.run(
        [sys.executable, "-m", "rigbench.cli.main", "validate", str(path)], capture_output=True, text=True, check=False
    )
    assert valid.returncode == 0, valid.stdout
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize("layers", [-1, 2])
def test_layers_on_a_vulkan_device(layers: int, tmp_path: Path) -> None:
    content = document(tmp_path, "-O", f"n_gpu_layers={layers}")
    engine = content["engines"][0]
    assert engine["device"] == "vulkan" and len(engine["device_names"]) == 1 and engine["detail"]["gpus"]
    for case in content["cases"]:
        assert case["error"] is None and all(len(request["unit_us"]) > 1 for request in case["requests"])
        assert case["engine_memory"]["kv_cache_bytes"] > 0
        assert "gpu_unused" not in {flag["name"] for flag in case["flags"]}
    for row in content["summary"]:
        assert row["user_tps"] > 0 and row["output_tps"] > 0
        assert row["ceiling_tps"] is None or row["user_tps"] <= row["ceiling_tps"] * 1.005
    if "llvmpipe" in engine["device_names"][0]:  # it computes on the processor
        assert content["bandwidth"][0]["read_bytes_per_s"] is None and content["bandwidth"][0]["reason"]


def test_without_layers_on_the_device_it_is_the_processor(tmp_path: Path) -> None:
    content = document(tmp_path, "-O", "n_gpu_layers=0")
    assert content["engines"][0]["device"] == "cpu"
    assert content["engines"][0]["detail"]["gpus"]  # it is there, and was not asked for
    for case in content["cases"]:
        assert "gpu_unused" not in {flag["name"] for flag in case["flags"]}
