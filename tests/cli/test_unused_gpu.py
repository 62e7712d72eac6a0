"""A GPU that the engine's build does not use is named wherever a person looks, and flagged in the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from rigbench.cli.main import app
from rigbench.run import engines
from rigbench.telemetry import adapters
from rigbench.telemetry.adapters import Adapter
from rigbench_backends.base import Probe

pytest.importorskip("llama_cpp")

RADEON = Adapter("amd", "AMD Radeon RX 7900 XTX", False)
SENTENCE = "AMD Radeon RX 7900 XTX is here, but this build of the engine computes on the processor"


@pytest.fixture
def rigbench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """The command line in a machine with a Radeon that this machine's llama.cpp does not know."""
    adapters.adapters.cache_clear()
    monkeypatch.setattr(adapters, "linux_adapters", lambda root: (RADEON,))
    monkeypatch.chdir(tmp_path)
    yield lambda *words: CliRunner().invoke(app, [*words])
    adapters.adapters.cache_clear()


def test_plan_run_and_doctor_say_it_and_the_row_is_flagged(rigbench: Callable[..., Result], tmp_path: Path) -> None:
    words = ("smoke", "-b", "llama_cpp", "-m", "synthetic:tiny:F16")
    assert f"! {SENTENCE}" in rigbench("plan", *words).output
    assert SENTENCE in json.loads(rigbench("plan", *words, "--json").stdout)["unused_gpus"][0]
    run = rigbench("run", *words, "--no-telemetry")
    assert run.exit_code == 0 and f"! {SENTENCE}" in run.stderr and "gpu_unused" in run.stdout
    document = json.loads(next(tmp_path.glob("results/*/*.json")).read_text())
    for case in document["cases"]:
        assert case["flags"][0]["name"] == "gpu_unused"
        assert "scripts/quickstart builds llama.cpp for the GPU" in case["flags"][0]["evidence"]
    doctor = rigbench("doctor")
    assert f"! {SENTENCE}" in doctor.output


@pytest.mark.parametrize(
    ("probe", "cards", "sentence"),
    [
        (Probe(True, device="cpu", gpu_fix="do this"), [RADEON], f"{SENTENCE}: do this"),
        (
            Probe(True, device="cpu", gpu_fix="do this", device_error="no CUDA-capable device is detected"),
            [Adapter("nvidia", "NVIDIA GeForce RTX 4090", False)],
            "NVIDIA GeForce RTX 4090 is here, but this build of the engine computes on the processor "
            "(no CUDA-capable device is detected): do this",
        ),
        (
            Probe(True, device="cpu", gpu_fix="do this"),
            [RADEON, RADEON],
            "2 GPUs are here (AMD Radeon RX 7900 XTX, AMD Radeon RX 7900 XTX), but this build of the engine computes on the "
            "processor: do this",
        ),
        (Probe(True, device="vulkan", gpus=("Radeon",), gpu_fix="do this"), [RADEON], None),  # it is used
        (Probe(True, device="cpu", gpus=("Radeon",), gpu_fix="do this"), [RADEON], None),  # n_gpu_layers = 0: asked for
        (Probe(True, device="cpu"), [RADEON], None),  # a backend that knows nothing of GPUs
        (Probe(True, device="sim", gpu_fix="do this"), [RADEON], None),
        (Probe(True, device="cpu", gpu_fix="do this"), [Adapter("intel", "Intel UHD Graphics 770", True)], None),
        (Probe(True, device="cpu", gpu_fix="do this"), [], None),
    ],
)
def test_the_sentence(probe: Probe, cards: list[Adapter], sentence: str | None) -> None:
    assert engines.unused_gpu(probe, cards) == sentence
