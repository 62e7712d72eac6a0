"""A run on an NVIDIA card, its libcuda played, leaves a document that holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rigbench_backends
from fake_cuda import FakeCuda
from plugin_folder import plugin_folder
from rigbench.ceilings import cuda
from rigbench.cli.main import app
from rigbench.documents import store

PLUGIN = '''
"""llama.cpp on the processor, which says that it computes on an NVIDIA card."""
from dataclasses import replace
from rigbench_backends import llama_cpp

class Backend(llama_cpp.LlamaCppBackend):
    name = "oncuda"

    def open(self, model, options):
        session = super().open(model, options)
        session.info = replace(session.info, device="cuda", device_names=("NVIDIA Test",))
        return session

    def probe(self, options=None):
        return replace(super().probe(options), device="cuda", devices=("CUDA0: NVIDIA Test",))

BACKEND = Backend()
'''


def test_the_bandwidth_of_a_cuda_device_is_the_engine_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")
    folder = plugin_folder(tmp_path / "plugin", "rigbench.backends", "oncuda", "BACKEND", PLUGIN)
    monkeypatch.syspath_prepend(folder)
    known = rigbench_backends.BUILT_IN | {"oncuda": "oncuda_plugin:BACKEND"}
    monkeypatch.setattr(rigbench_backends, "registry", lambda: known)  # this process may have read the real one before
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    driver = cuda.Driver(FakeCuda())
    monkeypatch.setattr(cuda, "Driver", lambda: driver)
    words = ["run", "smoke", "-b", "oncuda", "-m", "synthetic:tiny:F16", "--no-telemetry"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    path = next(tmp_path.glob("results/*/*.json"))
    document = store.read(path)
    assert [engine.device for engine in document.engines] == ["cuda"]
    assert [(each.device, round((each.read_bytes_per_s or 0) / 1e9)) for each in document.bandwidth] == [("cuda", 800)]
    checked = CliRunner().invoke(app, ["validate", str(path)])
    assert checked.exit_code == 0, checked.output
