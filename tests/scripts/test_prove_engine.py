"""The real engine computes tiny models in a process of its own; one that dies, lies or hangs in there is not proved."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PYTHON = Path(sys.executable)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama.cpp is not installed")


@pytest.fixture
def engine_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import engine_build

    yield engine_build
    for name in ("engine_build", "toolchain"):
        sys.modules.pop(name, None)


def script(folder: Path, line: str) -> Path:
    """The real proof, except that llama.cpp's decode does `line` from the sixth call on: in the first model, with 4 users."""
    path = folder / "prove.py"
    path.write_text(f"""
import ctypes, os, signal, sys, time
sys.path.insert(0, {str(SCRIPTS)!r})
import prove_engine
from llama_cpp import llama_cpp as lib
decode, calls = lib.llama_decode, []
def broken(context, batch):
    calls.append(batch)
    if len(calls) > 5:
        {line}
    return decode(context, batch)
lib.llama_decode = broken
prove_engine.main(sys.argv[1])
""")
    return path


def test_the_engine_of_this_environment_computes(engine_build: ModuleType) -> None:
    import llama_cpp

    proof = engine_build.prove(PYTHON, "cpu")
    assert proof == engine_build.Proof(folder=Path(llama_cpp.__file__).parent)


@pytest.mark.parametrize(
    ("line", "failure", "crash"),
    [
        pytest.param("ctypes.string_at(0)", "crashes here (SIGSEGV, F16, 4 users, on ", True, id="segv"),
        pytest.param("os.kill(os.getpid(), signal.SIGILL)", "crashes here (SIGILL, F16, 4 users, on ", True, id="ill"),
        pytest.param("os.abort()", "crashes here (SIGABRT, F16, 4 users, on ", True, id="abort"),
        pytest.param("return -3", "does not compute here (llama_decode gives -3, F16, 4 users, on ", False, id="code"),
        pytest.param(
            "ctypes.memset(lib.llama_get_logits(context), 255, 4), setattr(lib, 'llama_decode', lambda *_: 0); return 0",
            "does not compute here (the logits are not finite numbers, F16, 4 users, on ",
            False,
            id="nan",
        ),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_engine_that_fails_in_a_decode(
    engine_build: ModuleType, tmp_path: Path, line: str, failure: str, crash: bool
) -> None:
    proof = engine_build.prove(PYTHON, "cpu", script(tmp_path, line))
    assert proof.failure is not None and proof.failure.startswith(failure)
    assert proof.crash == crash and proof.loads


def test_an_engine_that_hangs(engine_build: ModuleType, tmp_path: Path) -> None:
    proof = engine_build.prove(PYTHON, "cpu", script(tmp_path, "time.sleep(600)"), limit_s=8)
    assert proof.failure == "did not compute a tiny model within 8 s" and not proof.crash


def test_an_engine_that_does_not_load(engine_build: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "prove.py"
    path.write_text("raise ImportError('libgomp.so.1: no such file')")
    proof = engine_build.prove(PYTHON, "cpu", path)
    assert proof.failure == "does not load here (ImportError: libgomp.so.1: no such file)" and not proof.loads


def test_a_gpu_build_that_sees_no_gpu_says_why(engine_build: ModuleType, tmp_path: Path) -> None:
    report = {
        "devices": [["CPU", "a processor", False]],
        "error": "ggml_cuda_init: driver too old",
        "folder": "/llama_cpp",
    }
    path = tmp_path / "prove.py"
    path.write_text(f"print('''{json.dumps(report)}''')")
    assert engine_build.prove(PYTHON, "cuda", path).failure == "sees no GPU here (ggml_cuda_init: driver too old)"
    assert engine_build.prove(PYTHON, "cpu", path).failure is None
    report["devices"] = [["CUDA0", "NVIDIA GeForce RTX 4090", True]]
    path.write_text(f"print('''{json.dumps(report)}''')")
    assert engine_build.prove(PYTHON, "cuda", path).failure is None


def test_the_models_take_the_way_of_real_ones(tmp_path: Path) -> None:
    """Each has the rows and columns that AMX (rows of 256, 32 columns) and the repacked kernels want."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import prove_engine
    finally:
        sys.path.remove(str(SCRIPTS))
    from rigbench.models.formats.gguf import read_gguf

    kinds = {"F16": "F16", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_K_M": "Q4_K"}
    assert prove_engine.PROMPT_TOKENS >= 4 * 16
    for quant in prove_engine.QUANTS:
        tensors = read_gguf(prove_engine.write_model(tmp_path, quant)).tensors
        weights = [tensor for tensor in tensors if tensor.name.startswith("blk.0") and len(tensor.dims) == 2]
        assert weights and all(row % 256 == 0 and columns % 32 == 0 for row, columns in (w.dims for w in weights))
        assert kinds[quant] in {tensor.kind for tensor in weights}
