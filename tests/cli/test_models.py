"""`rigbench models`: making a model for the engine that is to open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigbench.cli import models
from rigbench.errors import InputError


@pytest.mark.parametrize(
    ("quant", "format", "file"),
    [
        ("Q8_0", "", "tiny-Q8_0.gguf"),
        ("F16", "", "tiny-F16.gguf"),
        ("F16", "mlx", "tiny-F16"),
        ("BF16", "safetensors", "tiny-BF16"),
        ("4bit", "", "tiny-4bit"),
    ],
)
def test_a_synthetic_model_in_the_format_asked_for(
    quant: str,
    format: str,
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    models.make("tiny", quant, format)
    path = tmp_path / "models" / "synthetic" / file
    assert path.exists()
    assert capsys.readouterr().out.strip() == f"model: {path}"


@pytest.mark.parametrize(
    ("shape", "quant"), [("synthetic:tiny:Q8_0", ""), ("tiny:Q8_0", ""), ("synthetic:tiny", "Q8_0")]
)
def test_a_shape_as_run_takes_it(
    shape: str, quant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    models.make(shape, quant, "")
    assert capsys.readouterr().out.strip().endswith("tiny-Q8_0.gguf")


def test_two_quantisations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="leave out Q4_0"):
        models.make("synthetic:tiny:Q8_0", "Q4_0", "")


def test_a_format_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGBENCH_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="--format 'onnx': choose one of gguf, mlx, safetensors"):
        models.make("tiny", "F16", "onnx")
